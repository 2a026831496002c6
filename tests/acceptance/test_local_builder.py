# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector's own builder: `bdcs serve --builder` beside real emerge."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.prefix import COMMANDS, write_command
from gentwoo_client.wire.builds import BuildSpecification
from tests.binhost import CFLAGS, Binhost, running_binhost
from tests.builders import listed
from tests.peer import JSON, Peer, request
from tests.processes import BDCS, Process, environment
from tests.waiting import until
from tests.workshops import READABLE, sleepers, specification
from tests.world import World

pytestmark = [pytest.mark.timeout(600)]

MARK = "16180339"
LISTENS = r"listening on (http://\S+)"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What is built in; its Portage is the one at hand."""
    world = World.create(tmp_path_factory.mktemp("machine") / "world")
    for name in COMMANDS:
        write_command(world, name)
    with (world.root / "etc/portage/make.conf").open("a") as file:
        file.write(f'CFLAGS="{CFLAGS}"\n')
    return world


def settings_for(world: World) -> dict[str, Any]:
    return {
        "builder": ["*"],
        "builder_eprefix": str(world.root),
        "builder_options": ["--readable", *map(str, READABLE)],
    }


@pytest.fixture(scope="module")
def binhost(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    """A collector that approves nobody by itself, without a target."""
    with running_binhost(tmp_path_factory.mktemp("binhost"), **settings_for(world)) as binhost:
        yield binhost


@pytest.fixture(scope="module")
def peer(binhost: Binhost) -> Peer:
    """Who asks."""
    peer = Peer(binhost.collector.url)
    assert peer.register().status == 201
    return peer


def server(binhost: Binhost) -> Process:
    assert binhost.collector.process is not None
    return binhost.collector.process


def builder_of(binhost: Binhost) -> int:
    """The process that builds, once it is there; the server has others for a moment."""

    def found() -> list[int]:
        return [pid for pid in server(binhost).children() if "builder" in command_line(pid)]

    return until(found, 120, what="the builder at work")[0]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:  # it has ended meanwhile
        return []


def call(peer: Peer, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {peer.token(method, path, body=body)}", **(JSON if body else {})}
    answer = request(peer.collector, method, path, body=body or None, headers=headers)
    assert answer.status < 300, (answer.status, answer.body)
    return answer.document


def asked(peer: Peer, wish: BuildSpecification) -> dict[str, Any]:
    """Ask for a package, as soon as somebody builds for its target."""
    body = json.dumps({"target": wish.target, "packages": [wish.to_json()]}).encode()

    def is_taken() -> dict[str, Any] | None:
        state = call(peer, "POST", "/v1/builds", body)
        return None if state["packages"][0]["refusal"] == "no-builder" else state

    state = until(is_taken, 120, what="a builder for it")
    assert state is not None
    return state


def published(peer: Peer, state: dict[str, Any]) -> bool:
    """Wait until what was asked for has ended; whether it is published."""
    while state["state"] == "open":
        state = call(peer, "GET", f"/v1/builds/{state['id']}?wait=5&since={state['version']}")
    return bool(state["state"] == "published")


def builders_of(binhost: Binhost) -> list[dict[str, Any]]:
    return list(json.loads(binhost.collector.bdcs("admin", "builders", "list", "--json").stdout)["builders"])


def test_it_waits_for_a_target_builds_and_survives_its_own_death(
    binhost: Binhost, world: World, peer: Peer
) -> None:
    """Nobody approves it but the collector; killed, it is there again; a new target is built for as well."""
    server(binhost).until_printed("no builder yet")
    binhost.add_target("here")
    binhost.add_target("other", cflags="-O3")
    world.ebuild("app-misc/alpha-1.0")
    wished = specification("app-misc/alpha-1.0", target="here")
    assert published(peer, asked(peer, wished)), server(binhost).output
    server(binhost).until_printed("target other is not built for here", 120)
    (approved,) = builders_of(binhost)
    assert approved["target"] == "here"
    machine = approved["machine"]

    os.kill(builder_of(binhost), signal.SIGKILL)
    server(binhost).until_printed("the builder ended, with exit code -9", 120)
    world.ebuild("app-misc/alpha-1.1")
    assert published(peer, asked(peer, specification("app-misc/alpha-1.1", target="here")))
    assert listed(peer) == {machine}, "it has the same key"

    binhost.add_target("here-too")
    wished = specification("app-misc/alpha-1.1", target="here-too")
    assert published(peer, asked(peer, wished)), server(binhost).output
    assert {entry["target"] for entry in builders_of(binhost)} == {"here", "here-too"}


def test_it_leaves_with_the_collector_and_gives_back_what_it_builds(
    binhost: Binhost, world: World, peer: Peer
) -> None:
    """… in the time that a service has to stop; when the collector is back, the build runs again."""
    if not builders_of(binhost):
        binhost.add_target("here")
    flag = world.root / "flag"
    world.ebuild("app-misc/slow-1.0", phases={"src_compile": f'[[ -e "${{EPREFIX}}/flag" ]] || sleep {MARK}'})
    state = asked(peer, specification("app-misc/slow-1.0", target="here"))
    until(lambda: sleepers(MARK), 120, what="the build at work")
    builder = builder_of(binhost)
    assert server(binhost).stop(timeout=60) == 0
    assert not sleepers(MARK)
    assert not Path(f"/proc/{builder}").exists()
    flag.touch()
    binhost.collector.start()
    assert published(peer, call(peer, "GET", f"/v1/builds/{state['id']}")), server(binhost).output
    attempts = call(peer, "GET", f"/v1/jobs/{state['packages'][0]['job']}")["attempts"]
    assert [attempt["state"] for attempt in attempts][-1] == "published"


def test_it_leaves_at_once_when_the_collector_is_killed(binhost: Binhost, world: World, peer: Peer) -> None:
    """… also in the midst of a build: else the next collector's could not begin until that has ended."""
    if not builders_of(binhost):
        binhost.add_target("here")
    flag = world.root / "second-flag"
    phase = f'[[ -e "${{EPREFIX}}/{flag.name}" ]] || sleep {MARK}'
    world.ebuild("app-misc/slow-1.1", phases={"src_compile": phase})
    state = asked(peer, specification("app-misc/slow-1.1", target="here"))
    until(lambda: sleepers(MARK), 120, what="the build at work")
    builder = builder_of(binhost)
    binhost.collector.kill()
    until(lambda: not sleepers(MARK), 120, what="the end of the build")
    until(lambda: not Path(f"/proc/{builder}").exists(), 120, what="the end of the builder")
    flag.touch()
    binhost.collector.start()
    assert published(peer, call(peer, "GET", f"/v1/builds/{state['id']}")), server(binhost).output
    attempts = call(peer, "GET", f"/v1/jobs/{state['packages'][0]['job']}")["attempts"]
    assert [attempt["state"] for attempt in attempts] == ["lost", "published"]


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        ("bwrap", "there is no bubblewrap"),
        ("emerge", "no emerge in"),
    ],
)
def test_without_what_a_builder_needs_the_collector_says_so_and_serves(
    world: World, tmp_path: Path, lacking: str, says: str
) -> None:
    programs, prefix = tmp_path / "programs", tmp_path / "prefix"
    programs.mkdir()
    (prefix / "usr/bin").mkdir(parents=True)
    if lacking != "bwrap":
        found = shutil.which("bwrap")
        assert found is not None
        (programs / "bwrap").symlink_to(found)
    options = ("--listen", "127.0.0.1:0", "--data", tmp_path / "data", "--builder")
    variables = environment(PATH=str(programs), BDCS_BUILDER_EPREFIX=str(prefix))
    with Process([*BDCS, "serve", *options], log=tmp_path / "log", env=variables) as process:
        process.until_printed(f"{says}.*goes on without one")
        url = process.until_printed(LISTENS)[1]
        assert request(url, "GET", "/livez").status == 200
        assert process.stop() == 0
