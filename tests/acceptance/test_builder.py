# SPDX-License-Identifier: GPL-2.0-or-later
"""A builder at a real collector: from a wish to a package that emerge installs; failures, kills."""

import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gentwoo_client.wire.builds import BuildSpecification
from tests.binhost import Binhost, Taker, running_binhost
from tests.builders import approve, running_builder, start_builder
from tests.peer import JSON, Peer, request
from tests.processes import Process
from tests.waiting import until
from tests.workshops import sleepers, specification

pytestmark = [pytest.mark.timeout(400)]

TARGET = "amd64"
MARK = "27182818"
LEASE = 20  # seconds


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost"), lease=LEASE) as binhost:
        binhost.add_target(TARGET)
        yield binhost


@pytest.fixture(scope="module")
def machine(binhost: Binhost, tmp_path_factory: pytest.TempPathFactory) -> Taker:
    """A machine, whose world the builder builds in as well: packages are of one EPREFIX."""
    taker = Taker.create(tmp_path_factory.mktemp("machine") / "world", binhost.verify_home)
    taker.use(binhost.url(TARGET), FEATURES="binpkg-request-signature")
    return taker


@pytest.fixture(scope="module")
def peer(binhost: Binhost) -> Peer:
    """Who asks."""
    peer = Peer(binhost.collector.url)
    assert peer.register().status == 201
    return peer


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The builder's directory, over all its lives."""
    return tmp_path_factory.mktemp("builder")


@pytest.fixture(scope="module")
def builder(binhost: Binhost, machine: Taker, state: Path) -> Iterator[Process]:
    with running_builder(binhost, machine.world, state, TARGET) as builder:
        yield builder
        assert builder.stop() == 0, builder.output


def ask(peer: Peer, *wishes: BuildSpecification) -> dict[str, Any]:
    """POST a request; the state of it."""
    body = json.dumps({"target": TARGET, "packages": [wish.to_json() for wish in wishes]}).encode()
    return call(peer, "POST", "/v1/builds", body)


def call(peer: Peer, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {peer.token(method, path, body=body)}", **(JSON if body else {})}
    answer = request(peer.collector, method, path, body=body or None, headers=headers)
    assert answer.status < 300, (answer.status, answer.body)
    return answer.document


def ended(peer: Peer, state: dict[str, Any], timeout: float = 90) -> dict[str, Any]:
    """Wait until a request is not open any more."""
    deadline = time.monotonic() + timeout
    while state["state"] == "open":
        assert time.monotonic() < deadline, state
        state = call(peer, "GET", f"/v1/builds/{state['id']}?wait=5&since={state['version']}")
    return state


def states(state: dict[str, Any]) -> dict[str, str]:
    return {package["cpv"]: package["state"] for package in state["packages"]}


def log_of(peer: Peer, job: int) -> str:
    path = f"/v1/jobs/{job}/log?offset=0"
    headers = {"Authorization": f"Bearer {peer.token('GET', path, body=b'')}"}
    return request(peer.collector, "GET", path, headers=headers).body.decode()


def test_what_is_asked_for_is_built_and_installs(
    binhost: Binhost, machine: Taker, peer: Peer, builder: Process
) -> None:
    """… signed, with the USE that was asked for; and what is asked for again is there at once."""
    cpv = "app-misc/alpha-1.0"
    machine.world.ebuild(cpv, iuse="one +two")
    wished = specification(cpv, iuse="one +two", use=["one"])
    asked = ask(peer, wished)
    done = ended(peer, asked)
    assert states(done) == {cpv: "published"}, (done, builder.output)
    (package,) = done["packages"]
    assert "Creating binpkg" in log_of(peer, package["job"])
    machine.emerge("--getbinpkgonly", "app-misc/alpha", USE="one -two")
    assert machine.world.is_installed(cpv)
    again = ask(peer, wished)
    assert again["packages"][0]["answer"] == "published"
    until(lambda: "published, 1 packages" in builder.output, 60, what="the builder to say so")
    assert "nobody wants it any more" not in builder.output


def test_a_failure_is_told_with_its_log(machine: Taker, peer: Peer, builder: Process) -> None:
    machine.world.ebuild("app-misc/broken-1.0", phases={"src_compile": 'die "it does not compile"'})
    done = ended(peer, ask(peer, specification("app-misc/broken-1.0")))
    (package,) = done["packages"]
    assert package["state"] == "failed"
    assert "compile phase" in package["reason"]
    assert "it does not compile" in log_of(peer, package["job"])


def test_cancelled_it_is_gone(machine: Taker, peer: Peer, builder: Process) -> None:
    """All its processes end (how soon: benchmarks/build_whole.py), and the builder does the next one."""
    machine.world.ebuild("app-misc/sleepy-1.0", phases={"src_compile": f"sleep {MARK}"})
    machine.world.ebuild("app-misc/after-1.0")
    asked = ask(peer, specification("app-misc/sleepy-1.0"))
    (sleeper,) = until(lambda: sleepers(MARK), 60, what="the build at work")
    with open(os.pidfd_open(int(sleeper)), "rb") as process:
        cancelled = call(peer, "DELETE", f"/v1/builds/{asked['id']}")
        assert cancelled["state"] == "cancelled"
        job = call(peer, "GET", f"/v1/jobs/{cancelled['packages'][0]['job']}")
        assert [attempt["state"] for attempt in job["attempts"]] == ["cancelled"]
        assert select.select([process], [], [], 60)[0], "it goes on"
    done = ended(peer, ask(peer, specification("app-misc/after-1.0")))
    assert states(done) == {"app-misc/after-1.0": "published"}, builder.output
    assert not sleepers(MARK)


def test_killed_its_build_runs_again_and_is_published_once(
    binhost: Binhost, machine: Taker, peer: Peer, tmp_path: Path
) -> None:
    """A second builder takes over when the lease ends; the first one is gone without a trace."""
    binhost.add_target("other")
    world, cpv = machine.world, "app-misc/slow-1.0"
    flag = world.root / "flag"
    world.ebuild(cpv, phases={"src_compile": f'[[ -e "${{EPREFIX}}/flag" ]] || sleep {MARK}'})
    wished = specification(cpv, target="other")
    body = json.dumps({"target": "other", "packages": [wished.to_json()]}).encode()
    first = start_builder(binhost, world, tmp_path, "other", name="first")
    with first:
        approve(binhost, first, "other")
        asked = until(lambda: asked_for(peer, body), 30)
        assert asked is not None
        until(lambda: sleepers(MARK), 60, what="the build at work")
        first.process.send_signal(signal.SIGKILL)
        first.wait()
    until(lambda: not sleepers(MARK), what="the end of all that it started")
    flag.touch()
    with start_builder(binhost, world, tmp_path, "other", name="second") as second:
        done = ended(peer, asked, 200)
        assert states(done) == {cpv: "published"}, second.output
        listed = request(peer.collector, "GET", "/v1/targets/other/packages").document["packages"]
        assert len(listed) == 1
        assert second.stop() == 0
    flag.unlink()
    shutil.rmtree(tmp_path / "state")


def asked_for(peer: Peer, body: bytes) -> dict[str, Any] | None:
    """The request, once there is a builder for it."""
    state = call(peer, "POST", "/v1/builds", body)
    return state if state["state"] == "open" else None
