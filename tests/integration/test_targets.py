# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs target …`, and `bdcs admin tokens|builders …`: as an administrator uses them, on a real store."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from bdcs.blobs.blobs import Placement
from bdcs.blobs.directory import Directory
from bdcs.blobs.target_lock import target_lock
from bdcs.services import builders, machines, targets, tokens
from bdcs.store import tables
from bdcs.store.store import transaction
from tests.index_rows import NAME, IndexRows, made
from tests.peer import Peer
from tests.processes import BDCS, Collector, environment, run
from tests.waiting import until
from tests.world import World

SETTINGS = (
    "--chost",
    "x86_64-pc-linux-gnu",
    "--profile",
    "default/linux/amd64/23.0",
    "--cflags",
    "-O2 -pipe",
)


class Administrator:
    """Runs `bdcs` on one data directory."""

    def __init__(self, data: Path, **env: str) -> None:
        self.data = data
        self.env = environment(**env)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run it; return what it said on stdout, or on stderr where it is to end with `code`."""
        done = run([*BDCS, *arguments, "--data", self.data], env=self.env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def bdcs(tmp_path: Path) -> Administrator:
    administrator = Administrator(tmp_path / "data")
    administrator("schema", "upgrade")
    return administrator


@pytest.fixture(scope="module")
def with_one(tmp_path_factory: pytest.TempPathFactory) -> Administrator:
    """With one target, which the tests of a refusal leave as it is."""
    administrator = Administrator(tmp_path_factory.mktemp("refusals") / "data")
    administrator("schema", "upgrade")
    administrator("target", "add", "amd64", *SETTINGS)
    return administrator


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[IndexRows]:
    created = IndexRows.create(tmp_path)
    yield created
    created.engine.dispose()


def test_a_target_is_made_shown_changed_and_removed(bdcs: Administrator) -> None:
    assert bdcs("target", "list") == ""
    said = bdcs("target", "add", "amd64-v3", *SETTINGS, "--arch", "amd64", "--cpu", "x86-64-v3")
    assert "/binhost/amd64-v3/" in said
    assert "bdcs publish FILE… --target amd64-v3" in said
    (target,) = bdcs.json("target", "list")["targets"]
    assert target["name"] == "amd64-v3"
    assert target["signatures"] == "required"
    assert (target["private"], target["bindist"], target["builds"], target["size"]) == (False, False, 0, 0)
    assert target["header"] == {"ARCH": "amd64"}
    assert "x86_64-pc-linux-gnu  default/linux/amd64/23.0" in bdcs("target", "list")

    bdcs("target", "set", "amd64-v3", "--private", "--signatures", "optional", "--header", "TTL=60")
    shown = bdcs.json("target", "show", "amd64-v3")
    assert (shown["private"], shown["signatures"]) == (True, "optional")
    assert shown["header"] == {"ARCH": "amd64", "TTL": "60"}
    bdcs("target", "set", "amd64-v3", "--no-private", "--header", "TTL=", "--description", "for all")
    shown = bdcs.json("target", "show", "amd64-v3")
    assert (shown["private"], shown["header"], shown["description"]) == (False, {"ARCH": "amd64"}, "for all")
    text = bdcs("target", "show", "amd64-v3")
    assert "for all" in text
    assert "none yet" in text

    bdcs("target", "remove", "amd64-v3")
    assert bdcs.json("target", "list") == {"targets": []}
    assert not (bdcs.data / "binhost/amd64-v3").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["add", "keys", *SETTINGS], 2, "not “keys”"),
        (["add", "Amd64", *SETTINGS], 2, "lower-case"),
        (["add", "other"], 2, "--chost and --profile and --cflags"),
        (["add", "other", *SETTINGS, "--cflags", "-O2;reboot"], 2, "cflags"),
        (["add", "other", *SETTINGS, "--cflags", "-march=native"], 2, "resolve-march-native"),
        (["add", "other", *SETTINGS, "--header", "TIMESTAMP=1"], 78, "TIMESTAMP"),
        (["add", "other", *SETTINGS, "--header", "CHOST"], 2, "KEY=VALUE"),
        (["add", "amd64", *SETTINGS], 1, "there is a target amd64 already"),
        (["add", "other", *SETTINGS, "--from-portage", "/nonexistent"], 1, "portageq"),
        (["show", "other"], 1, "there are amd64"),
        (["set", "amd64"], 2, "nothing to set"),
        (["remove", "other"], 1, "no target other"),
        (["log", "other"], 1, "no target other"),
        (["diff", "amd64", "1"], 1, "no generation 1"),
        (["rollback", "amd64", "1"], 1, "no generation 1"),
        (["rollback", "amd64", "0"], 2, "numbers begin with 1"),
        (["keep", "amd64", "x"], 2, "no number"),
        (["withdraw", "amd64", "dev-libs/alpha-1"], 1, "no build dev-libs/alpha-1"),
    ],
)
def test_what_is_refused_says_why(bdcs: Administrator, arguments: list[str], code: int, words: str) -> None:
    bdcs("target", "add", "amd64", *SETTINGS)
    assert words in bdcs("target", *arguments, code=code)
    assert [target["name"] for target in bdcs.json("target", "list")["targets"]] == ["amd64"]


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def test_a_target_after_the_example_of_this_host(tmp_path: Path) -> None:
    world = World.create(tmp_path / "world")
    append(world.root / "etc/portage/make.conf", 'CFLAGS="-O2  -pipe"\n')
    append(
        world.repository / "profiles/default/make.defaults",
        'USE_EXPAND="ELIBC PYTHON_TARGETS"\nUSE_EXPAND_IMPLICIT="ARCH ELIBC"\nUSE_EXPAND_UNPREFIXED="ARCH"\n'
        'USE_EXPAND_VALUES_ARCH="amd64 x86"\nUSE_EXPAND_VALUES_ELIBC="glibc\n\tmusl"\n',
    )
    bdcs = Administrator(tmp_path / "data", **world.environment())
    bdcs("schema", "upgrade")
    portage = str(world.portage_bin)
    bdcs("target", "add", "like-me", "--from-portage", portage, "--cpu", "x86-64-v2")
    shown = bdcs.json("target", "show", "like-me")
    assert (shown["chost"], shown["profile"], shown["cflags"]) == (
        "x86_64-pc-linux-gnu",
        "default",
        "-O2 -pipe",
    )
    assert shown["cpu"] == "x86-64-v2"
    assert shown["header"] == {
        "ARCH": "amd64",
        "ELIBC": "glibc",
        "IUSE_IMPLICIT": "amd64 prefix prefix-guest",
        "USE_EXPAND": "ELIBC PYTHON_TARGETS",
        "USE_EXPAND_IMPLICIT": "ARCH ELIBC",
        "USE_EXPAND_UNPREFIXED": "ARCH",
        "USE_EXPAND_VALUES_ARCH": "amd64 x86",
        "USE_EXPAND_VALUES_ELIBC": "glibc musl",
    }
    bdcs("target", "add", "not-quite", "--from-portage", portage, "--cflags", "-O3", "--arch", "x86")
    shown = bdcs.json("target", "show", "not-quite")
    assert (shown["cflags"], shown["header"]["ARCH"]) == ("-O3", "x86")


def test_native_is_named_after_this_host(tmp_path: Path) -> None:
    world = World.create(tmp_path / "world")
    append(world.root / "etc/portage/make.conf", 'CFLAGS="-O2 -march=native -mtune=native -pipe"\n')
    bdcs = Administrator(tmp_path / "data", **world.environment())
    bdcs("schema", "upgrade")
    bdcs("target", "add", "here", "--from-portage", str(world.portage_bin))
    cflags = bdcs.json("target", "show", "here")["cflags"]
    assert re.fullmatch(r"-O2 -march=\S+ .*-mtune=\S+ -pipe", cflags)
    assert "native" not in cflags
    assert "param" not in cflags


def test_the_history_of_a_target(rows: IndexRows) -> None:
    bdcs = Administrator(rows.data)
    first = made("dev-libs/alpha-1.0") | {"use": "amd64 ssl", "iuse": "ssl gtk"}
    rows.publish([first, made("dev-libs/beta-1")])
    rows.publish([made("dev-libs/alpha-1.1") | {"use": "amd64 gtk", "iuse": "ssl gtk"}], [1])
    rows.write()
    newest, oldest = bdcs.json("target", "log", NAME)["generations"]
    assert (newest["generation"], newest["added"], newest["removed"], newest["builds"]) == (2, 1, 1, 2)
    assert (oldest["generation"], oldest["cause"]) == (1, "publish")
    assert oldest["at"] == "2023-11-14T22:13:20+00:00"
    assert bdcs("target", "log", NAME, "--limit", "1").startswith(
        "     2  2023-11-14T22:13:20+00:00  publish"
    )
    assert (
        bdcs("target", "diff", NAME, "1") == "~ dev-libs/alpha-1.0-1 → dev-libs/alpha-1.1-1  USE: +gtk -ssl\n"
    )
    assert bdcs("target", "diff", NAME, "0", "1") == (
        "+ dev-libs/alpha-1.0-1  USE=ssl\n+ dev-libs/beta-1-1\n"
    )
    (change,) = bdcs.json("target", "diff", NAME, "1", "2")["changed"]
    assert (change["before"]["cpv"], change["after"]["cpv"]) == ("dev-libs/alpha-1.0", "dev-libs/alpha-1.1")
    assert (change["version_changed"], change["use_enabled"], change["use_disabled"]) == (
        True,
        ["gtk"],
        ["ssl"],
    )


def paths(rows: IndexRows) -> list[str]:
    text = rows.files.path("Packages").read_text()
    return [line.rpartition("/")[2] for line in text.splitlines() if line.startswith("PATH:")]


def test_the_index_follows_every_change(rows: IndexRows) -> None:
    bdcs = Administrator(rows.data)
    rows.publish([made("dev-libs/alpha-1.0"), made("dev-libs/beta-1"), made("dev-libs/beta-1", 2)])
    rows.write()
    timestamps = [rows.files.timestamp()]
    withdrawn = bdcs(
        "target", "withdraw", NAME, "dev-libs/beta-1-2", "dev-libs/alpha-1.0", "--note", "broken"
    )
    assert withdrawn == "- dev-libs/alpha-1.0-1\n- dev-libs/beta-1-2\ntarget amd64: generation 2\n"
    assert paths(rows) == ["beta-1-1.gpkg.tar"]
    assert "broken" in bdcs("target", "log", NAME)
    timestamps.append(rows.files.timestamp())
    said = bdcs("target", "rollback", NAME, "1", "--note", "was not it")
    assert "generation 3 has the packages of generation 1: 2 came, 0 went" in said
    assert paths(rows) == ["alpha-1.0-1.gpkg.tar", "beta-1-1.gpkg.tar", "beta-1-2.gpkg.tar"]
    timestamps.append(rows.files.timestamp())
    bdcs("target", "set", NAME, "--header", "USE_EXPAND=PYTHON_TARGETS")
    assert "USE_EXPAND: PYTHON_TARGETS" in rows.files.path("Packages").read_text()
    timestamps.append(rows.files.timestamp())
    assert timestamps == sorted(set(timestamps))
    bdcs("target", "set", NAME, "--signatures", "optional")
    assert "3 of its packages are not signed" in bdcs("target", "set", NAME, "--signatures", "required")
    assert rows.files.timestamp() == timestamps[-1]
    assert rows.agrees()


def test_going_back_to_deleted_files_names_them(rows: IndexRows) -> None:
    bdcs = Administrator(rows.data)
    rows.publish([made("dev-libs/alpha-1.0")])
    rows.publish(removed=[1])
    rows.write()
    with transaction(rows.engine) as connection:
        connection.execute(tables.builds.update().values(deleted_at=1))
    said = bdcs("target", "rollback", NAME, "1", code=1)
    assert "dev-libs/alpha-1.0-1" in said
    assert "1 of its files are deleted already" in bdcs("target", "keep", NAME, "1")
    assert rows.target.generation == 2


def test_a_target_with_files_is_removed_by_force_only(rows: IndexRows) -> None:
    bdcs = Administrator(rows.data)
    blobs = Directory(rows.data)
    rows.publish([made("dev-libs/alpha-1.0")])
    with blobs.workspace() as workspace:
        draft = workspace.create()
        draft.finish(1)
        path = made("dev-libs/alpha-1.0")["path"]
        blobs.place([Placement(draft=draft, target=NAME, path=path)])
    rows.write()
    assert "--force" in bdcs("target", "remove", NAME, code=1)
    assert paths(rows)
    bdcs("target", "remove", NAME, "--force")
    assert blobs.targets() == []
    assert not rows.files.directory.exists()
    with transaction(rows.engine) as connection:
        for table in (tables.builds, tables.memberships, tables.generations, tables.targets):
            assert connection.execute(select(table)).all() == []
    bdcs("target", "add", NAME, *SETTINGS)
    with transaction(rows.engine) as connection:
        assert targets.require(connection, NAME).id == 2


@pytest.mark.sqlite  # of the lock in a shared store, tests/engines/test_target_locks.py
def test_changes_wait_for_whoever_holds_the_target(rows: IndexRows) -> None:
    rows.publish([made("dev-libs/alpha-1.0")])
    rows.publish(removed=[1])
    rows.write()
    with target_lock(rows.files.directory):
        command = [*BDCS, "target", "rollback", NAME, "1"]
        environ = environment(BDCS_DATA=str(rows.data))
        waiting = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
        lock = os.stat(rows.files.directory / ".lock").st_ino
        until(lambda: f":{lock} " in waiting_locks(), what="the command waits for the lock")
        assert rows.target.generation == 2
    assert waiting.wait(30) == 0
    assert rows.target.generation == 3
    assert paths(rows) == ["alpha-1.0-1.gpkg.tar"]


def waiting_locks() -> str:
    """The locks that somebody waits for, as the kernel lists them."""
    lines = Path("/proc/locks").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if "->" in line)


def test_tokens_open_private_targets(bdcs: Administrator) -> None:
    bdcs("target", "add", "mine", *SETTINGS, "--private")
    token = bdcs("admin", "tokens", "create", "laptop", "--target", "mine").strip()
    assert len(token) == 32
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")
    assert bdcs.json("admin", "tokens", "list", "--target", "mine")["tokens"][0]["name"] == "laptop"
    assert "has a token laptop already" in bdcs(
        "admin", "tokens", "create", "laptop", "--target", "mine", code=1
    )
    assert "no name for a token" in bdcs("admin", "tokens", "create", "a:b", "--target", "mine", code=2)
    assert bdcs.json("target", "show", "mine")["tokens"] == ["laptop"]
    rows = IndexRows.create(bdcs.data)
    with transaction(rows.engine) as connection:
        mine, other = targets.require(connection, "mine"), targets.require(connection, NAME)
        assert tokens.accepts(connection, mine, "laptop", token)
        assert not tokens.accepts(connection, mine, "laptop", token[:-1])
        assert not tokens.accepts(connection, mine, "laptop", "")
        assert not tokens.accepts(connection, mine, "desktop", token)
        assert not tokens.accepts(connection, other, "laptop", token)
        stored = connection.execute(select(tables.tokens.c.hash)).scalar_one()
        assert token.encode() not in stored
    bdcs("admin", "tokens", "revoke", "laptop", "--target", "mine")
    assert "no token laptop" in bdcs("admin", "tokens", "revoke", "laptop", "--target", "mine", code=1)
    with transaction(rows.engine) as connection:
        assert not tokens.accepts(connection, mine, "laptop", token)
    rows.engine.dispose()


def test_builders_are_approved_for_a_target_each(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        peer = Peer(collector.url)
        peer.register()
        machine = str(peer.machine)

        def bdcs(*arguments: str) -> str:
            return collector.bdcs(*arguments).stdout

        bdcs("target", "add", "amd64", *SETTINGS)
        bdcs("target", "add", "arm64", *SETTINGS)
        approve = ("admin", "builders", "approve", machine, "--target", "amd64")
        assert f"{machine} may upload to amd64" in bdcs(*approve)
        assert "may already" in bdcs(*approve)
        (builder,) = json.loads(bdcs("admin", "builders", "list", "--json"))["builders"]
        assert (builder["machine"], builder["target"]) == (machine, "amd64")
        assert bdcs("admin", "builders", "list", "--target", "arm64") == ""
        assert json.loads(bdcs("target", "show", "amd64", "--json"))["builders"] == [machine]
        refused = collector.bdcs("admin", "builders", "revoke", machine, "--target", "arm64", check=False)
        assert (refused.returncode, "is no builder of target arm64" in refused.stderr) == (1, True)
        unknown = "00000000-0000-8000-8000-000000000000"
        refused = collector.bdcs("admin", "builders", "approve", unknown, "--target", "amd64", check=False)
        assert (refused.returncode, f"no machine {unknown}" in refused.stderr) == (1, True)
        assert "no longer" in bdcs("admin", "builders", "revoke", machine, "--target", "amd64")
        bdcs(*approve)
        bdcs("admin", "machines", "forget", machine)
        assert bdcs("admin", "builders", "list") == ""


def test_what_a_forgotten_machine_built_stays_without_its_name(rows: IndexRows) -> None:
    uuid = UUID("11111111-1111-8111-8111-111111111111")
    with transaction(rows.engine) as connection:
        connection.execute(
            tables.machines.insert().values(
                uuid=str(uuid), public_key=b"k", state="approved", registered_at=1, head_seq=0
            )
        )
    rows.publish([{**made("dev-libs/alpha-1.0"), "actor": str(uuid)}, made("dev-libs/beta-1")])
    with transaction(rows.engine) as connection:
        target = rows.target_in(connection)
        assert builders.approve(connection, target, uuid, now=5)
        machine = machines.find(connection, uuid)
        assert machine is not None
        assert builders.is_approved(connection, target, machine)
    Administrator(rows.data)("admin", "machines", "forget", str(uuid))
    with transaction(rows.engine) as connection:
        actors = connection.scalars(select(tables.builds.c.actor).order_by(tables.builds.c.id)).all()
        assert actors == [builders.FORGOTTEN, "admin"]
        assert builders.listed(connection) == []
