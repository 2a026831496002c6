# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups of a running collector, and what machines, builders and clients meet when one was restored."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bdcs.services.backing_up import back_up
from bdcs.services.restoring import BUILD_GAP, GAP, is_unfinished, put_back
from gentwoo_client.wire.builds import BuildSpecification
from tests.builds import CHOST, TARGET, HandBuilder, Wisher, specification
from tests.crashing import CrashLab
from tests.integration.test_uploader import add_records
from tests.packages import make_gpkg
from tests.peer import Peer, request
from tests.processes import BDCS, Collector, Machine, Process, run
from tests.publishing import Site
from tests.signing import Signer, running_signer, short_directory
from tests.waiting import until

pytestmark = pytest.mark.sqlite  # tests/engines/test_backup.py has the others

ALPHA, BETA, GAMMA = (specification(f"app-misc/{name}-1.0") for name in ("alpha", "beta", "gamma"))


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path / "collector") as started:
        yield started


def builder_of(collector: Collector, signatures: str) -> tuple[Wisher, HandBuilder]:
    """A target, a machine that wants packages of it, and a builder."""
    collector.bdcs(
        *("target", "add", TARGET, "--chost", CHOST, "--profile", "default/linux/amd64/23.0"),
        *("--cflags", "-O2", "--signatures", signatures),
    )
    wisher = Wisher(collector.url)
    wisher.register()
    return wisher, HandBuilder.approved(collector, TARGET)


def claimed(builder: HandBuilder) -> dict[str, Any]:
    lease = until(builder.claim)
    assert lease is not None
    return lease


def build(wisher: Wisher, builder: HandBuilder, wish: BuildSpecification) -> None:
    """Have a package built and published."""
    wisher.ask(wish)
    lease = claimed(builder)
    assert builder.act(lease, "log", offset=0, text="it builds\n").status == 200
    assert builder.build(lease).status == 200


def index(collector: Collector) -> Mapping[str, Any]:
    """TIMESTAMP of the index, and the paths in it."""
    text = request(collector.url, "GET", f"/binhost/{TARGET}/Packages").body.decode()
    fields = [line.partition(": ") for line in text.splitlines()]
    return {
        "time": next((int(value) for name, _, value in fields if name == "TIMESTAMP"), 0),
        "paths": {value for name, _, value in fields if name == "PATH"},
    }


def test_everything_is_in_it_and_goes_on_from_it(tmp_path: Path) -> None:
    """A machine, a builder and a client that are all ahead of the backup; and the signer's home."""
    with short_directory() as directory, running_signer(directory) as signer:
        fingerprint = signer.create_key("--name", "Packages")
        config = tmp_path / "bdcs.toml"
        config.write_text(f'signer = "{signer.socket}"\n')
        with Collector(tmp_path / "collector", options=["--config", str(config)]) as collector:
            _lose_and_restore(collector, signer, tmp_path)
        assert [key.fingerprint for key in signer.told()] == [fingerprint]
        assert (signer.home / "openpgp-revocs.d" / f"{fingerprint}.rev").exists()


def _lose_and_restore(collector: Collector, signer: Signer, tmp_path: Path) -> None:
    wisher, builder = builder_of(collector, "required")
    wisher.push(3)
    build(wisher, builder, ALPHA)
    one, two = tmp_path / "one", tmp_path / "two"
    collector.bdcs("backup", str(one), "--no-check")
    done = collector.bdcs("backup", str(two), "--link", str(one), "--json")
    made = json.loads(done.stdout)
    assert (made["packages"], made["logs"], made["linked"]) == (1, 1, 2)
    assert os.path.samefile(*(next(place.rglob("alpha*.gpkg.tar")) for place in (one, two)))
    assert not list(two.glob("binhost/*/Packages*"))
    assert "is there already" in collector.bdcs("backup", str(two), check=False).stderr

    wisher.push(2)
    build(wisher, builder, BETA)
    before = index(collector)
    assert len(before["paths"]) == 2
    wisher.ask(GAMMA)
    lease = claimed(builder)
    collector.kill()
    signer.stop()
    shutil.copytree(signer.home, signer.home.with_name("copy"), ignore=_sockets)
    shutil.rmtree(signer.home)
    signer.home.with_name("copy").rename(signer.home)
    signer.start()
    assert "is there already" in collector.bdcs("restore", str(two), check=False).stderr
    collector.data.rename(tmp_path / "lost")
    assert collector.bdcs("restore", str(two)).stdout.count("no differences") == 3
    collector.start()

    until(lambda: index(collector)["time"] > before["time"], what="an index that is later than any")
    assert builder.act(lease, "heartbeat").status == 404  # of that attempt nobody knows
    build(wisher, builder, BETA)
    (new,) = (path for path in index(collector)["paths"] if "beta" in path)
    assert new == f"app-misc/beta/beta-1.0-{BUILD_GAP + 1}.gpkg.tar"  # the old name is another file's
    answer = wisher.send(wisher.signed(wisher.payload(1)))
    assert (answer.status, answer.document["head"]["seq"]) == (409, 3)  # it says what it has
    assert len(collector.export()) == 3
    collector.bdcs("check")


def test_a_real_machine_sends_again_what_a_restored_collector_lacks(
    collector: Collector, tmp_path: Path
) -> None:
    """And `cp -a` does for `bdcs restore`: a store knows that it is a backup, until it is served from."""
    home = tmp_path / "machine"
    home.mkdir()
    (home / "emerge.log").touch()
    lines = (f'collector = "{collector.url}"', f'log = "{home}/emerge.log"', f'state_dir = "{home}/state"')
    machine = Machine(home, "\n".join([*lines, 'repositories = ["*"]']))
    machine.register()
    add_records(home / "state", 1)
    machine.gentwoo("push")
    collector.bdcs("backup", str(tmp_path / "backup"))
    add_records(home / "state", 2, 3)
    machine.gentwoo("push")
    exported = collector.export()
    collector.kill()
    shutil.rmtree(collector.data)
    shutil.copytree(tmp_path / "backup", collector.data)
    collector.start()
    add_records(home / "state", 4)
    machine.gentwoo("push")
    again = collector.export()
    assert [record["seq"] for record in again] == [1, 2, 3, 4]
    assert [record["name"] for record in again[:3]] == [record["name"] for record in exported]
    # Whoever exports goes on with `--since`, and misses nothing of what came again.
    assert [record["id"] for record in again] == [1, GAP + 2, GAP + 3, GAP + 4]
    collector.stop()
    collector.start()
    add_records(home / "state", 5)
    machine.gentwoo("push")
    assert collector.export()[-1]["id"] == GAP + 5  # one gap, not another at each start
    collector.bdcs("check", "--only", "records")


def test_pushes_and_publications_go_on_while_it_is_made(collector: Collector, tmp_path: Path) -> None:
    """Whatever the moment, the copy is sound: of each push it has all or nothing."""
    wisher, builder = builder_of(collector, "optional")
    peer = Peer(collector.url)
    peer.register()
    argv = (*BDCS, "backup", str(tmp_path / "backup"), "--data", str(collector.data))
    with Process(argv, log=tmp_path / "backup.log") as process:
        build(wisher, builder, ALPHA)
        while process.is_running():
            assert peer.push(5).status == 200
        assert process.wait() == 0, process.output
        assert process.output.count("no differences") == 3
    (file,) = (collector.data / "packages").rglob("alpha*.gpkg.tar")
    file.unlink()  # by hand: nothing that says that it is whole may come of this
    done = collector.bdcs("backup", str(tmp_path / "another"), check=False)
    assert (done.returncode, "has no file" in done.stderr) == (1, True)
    assert not list(tmp_path.glob("*another*"))


def test_a_restore_that_is_killed_is_seen_and_begun_again(collector: Collector, tmp_path: Path) -> None:
    wisher, builder = builder_of(collector, "optional")
    wisher.push(2)
    build(wisher, builder, ALPHA)
    backup = tmp_path / "backup"
    collector.bdcs("backup", str(backup), "--no-check")
    collector.stop()
    place, begun = ["services/restoring.py"], []
    with CrashLab("bdcs") as lab:
        steps = lab.run(restoring(backup, tmp_path / "whole"), places=place).steps
        for step in range(1, steps * 7 // 8, steps // 8):
            data = tmp_path / f"killed-{step}"
            assert lab.run(restoring(backup, data), places=place, step=step).was_killed
            if is_unfinished(data):
                begun.append(data)
            else:
                assert (data / "bdcs.sqlite").exists() == (data / "packages").exists()
    killed = begun[len(begun) // 2]
    refused = run([*BDCS, "serve", "--data", killed, "--listen", "127.0.0.1:0"], check=False)
    assert refused.returncode == 78
    assert "has not been put in place" in refused.stderr
    shutil.rmtree(collector.data)
    killed.rename(collector.data)
    assert collector.bdcs("restore", str(backup)).stdout.count("no differences") == 3
    collector.start()
    assert len(collector.export()) == 2


def test_a_full_disk_is_named_and_a_restore_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """It is full while the database is copied, and while package files are; needs root, to mount one."""
    site = Site.create(tmp_path / "data")
    site.add_target(TARGET, signatures="optional")
    package = make_gpkg(tmp_path / "alpha.gpkg.tar", image={"a": os.urandom(1 << 20)})
    site.publisher.publish(TARGET, [package])
    site.publisher.close()
    disk = tmp_path / "disk"
    disk.mkdir()

    def backed_up(destination: Path) -> None:
        store = site.data / "bdcs.sqlite"
        back_up(store, site.data, destination, link=None, packages=True, progress=lambda _done, _total: None)

    backed_up(tmp_path / "backup")
    run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk])
    try:
        for size in ("256k", "1280k"):
            run(["mount", "-o", f"remount,size={size}", disk])
            with pytest.raises(OSError, match="No space left") as caught:
                backed_up(disk / "backup")
            assert caught.value.filename == str(disk / "backup")
            assert list(disk.iterdir()) == []
        data = disk / "data"
        data.mkdir()
        with pytest.raises(OSError, match="No space left") as caught:
            put_back(tmp_path / "backup", data)
        assert (caught.value.filename, is_unfinished(data)) == (str(data), True)
        run(["mount", "-o", "remount,size=16m", disk])
        put_back(tmp_path / "backup", data)
        assert not is_unfinished(data)
        (restored,) = (data / "packages").rglob("alpha*.gpkg.tar")
        assert (
            restored.read_bytes()
            == site.file(TARGET, str(restored.relative_to(data / "packages" / TARGET))).read_bytes()
        )
    finally:
        run(["umount", disk])


def restoring(backup: Path, data: Path) -> list[str | Path]:
    return ["restore", backup, "--no-check", "--data", data]


def _sockets(where: str, names: list[str]) -> list[str]:
    """Those of agents are nothing to keep."""
    return [name for name in names if (Path(where) / name).is_socket()]
