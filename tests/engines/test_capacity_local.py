# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of this host: real `bdcs serve`, `bdcs autoscale`, `bdcs builder` and emerge, and a kill."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.prefix import COMMANDS, write_command
from tests.binhost import Binhost, running_binhost
from tests.peer import JSON, Peer, request
from tests.processes import BDCS, Process
from tests.waiting import until
from tests.workshops import READABLE, specification
from tests.world import World

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

TARGET = "amd64"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What is built in, with three packages."""
    world = World.create(tmp_path_factory.mktemp("machine") / "world")
    for name in COMMANDS:
        write_command(world, name)
    for name in ("alpha", "beta", "gamma"):
        world.ebuild(f"app-misc/{name}-1.0")
    return world


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost")) as binhost:
        binhost.add_target(TARGET)
        yield binhost


@pytest.fixture
def builders(binhost: Binhost) -> Iterator[Path]:
    """Where their directories are; none outlives the test."""
    place = binhost.data / "builders"
    yield place
    for pid in pids(place):
        os.kill(pid, signal.SIGKILL)


def pids(place: Path) -> list[int]:
    """The builders that run."""
    found = []
    for slot in place.glob(f"{TARGET}-*"):
        try:
            pid = int((slot / "builder.lock").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):  # it has not begun, or has ended
            continue
        found += [pid] if str(slot) in words else []
    return found


def autoscale(binhost: Binhost, world: World, query: str) -> Process:
    config = binhost.collector.home / "autoscale.toml"
    settings = {
        "capacity": [f"{TARGET}=local:?{query}"],
        "capacity_wait": 1,
        "public_url": binhost.collector.url,
        "listen": binhost.collector.url.removeprefix("http://"),
        "builder_eprefix": str(world.root),
        "builder_options": ["--readable", *map(str, READABLE)],
    }
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    return Process(
        [*BDCS, "autoscale", "--interval", "1", "--config", config, "--data", binhost.data],
        log=binhost.collector.home / "autoscale.log",
    )


def call(peer: Peer, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {peer.token(method, path, body=body)}", **(JSON if body else {})}
    answer = request(peer.collector, method, path, body=body or None, headers=headers)
    assert answer.status < 300, (answer.status, answer.body)
    return answer.document


def test_builders_come_build_outlive_who_started_them_and_go(
    binhost: Binhost, world: World, builders: Path
) -> None:
    """Nobody builds; three packages are asked for; two builders come, and the autoscaler is killed.

    They build on. Another one takes over, finds them by their locks, and lets them go.
    """
    peer = Peer(binhost.collector.url)
    assert peer.register().status == 201
    wishes = [specification(f"app-misc/{name}-1.0").to_json() for name in ("alpha", "beta", "gamma")]
    body = json.dumps({"target": TARGET, "packages": wishes}).encode()

    def is_taken() -> dict[str, Any] | None:
        state = call(peer, "POST", "/v1/builds", body)
        return None if state["packages"][0]["refusal"] == "no-builder" else state

    with autoscale(binhost, world, "max=2&startup=1&idle=600") as first:
        state = until(is_taken, what="somebody who looks after the target")
        assert state is not None
        until(lambda: len(pids(builders)) == 2, what="two builders")
        first.kill()
    while state["state"] == "open":
        state = call(peer, "GET", f"/v1/builds/{state['id']}?wait=5&since={state['version']}")
    assert state["state"] == "published", state
    assert len(pids(builders)) == 2
    with autoscale(binhost, world, "max=2&startup=1&idle=0") as second:
        until(lambda: not pids(builders), what="builders that leave when nothing is to be done")
        second.until_printed("dismisses amd64-")
        assert second.stop() == 0
        assert "Traceback" not in second.output
    assert "Traceback" not in "".join(log.read_text() for log in builders.glob("*/builder.log"))
    assert binhost.collector.bdcs("check").returncode == 0
