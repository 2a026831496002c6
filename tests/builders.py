# SPDX-License-Identifier: GPL-2.0-or-later
"""A real `bdcs builder` that builds in a world, beside a real collector.

with running_builder(binhost, world, directory, "amd64") as builder:
    …                                    # it is approved, and waits for work
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dev.prefix import COMMANDS, write_command
from tests.binhost import Binhost
from tests.peer import Peer, request
from tests.processes import BDCS, Process
from tests.waiting import until
from tests.workshops import READABLE
from tests.world import World

APPROVE = r"run: (?:bdcs )?(admin builders approve (\S+) --target \S+)"
READY = r"builds for"


def start_builder(
    binhost: Binhost, world: World, directory: Path, *targets: str, name: str = "b1"
) -> Process:
    """Start one, whose state is in `directory`; it may wait to be approved."""
    for command in COMMANDS:
        if not (world.root / "usr/bin" / command).exists():
            write_command(world, command)
    directory.mkdir(parents=True, exist_ok=True)
    options = [word for target in targets for word in ("--target", target)]
    return Process(
        [
            *(*BDCS, "builder", "--collector", binhost.collector.url, "--name", name, *options),
            *("--eprefix", world.root, "--readable", *READABLE, "--data", directory / "state"),
        ],
        log=directory / f"{name}.log",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def approve(binhost: Binhost, builder: Process, *targets: str) -> str:
    """Approve a builder that says it waits for that; return its UUID."""
    uuid = builder.until_printed(APPROVE, 60)[2]
    for target in targets:
        binhost.collector.bdcs("admin", "builders", "approve", uuid, "--target", target)
    return uuid


def listed(peer: Peer) -> set[str]:
    """The UUIDs of builders that ask for work, as that machine is told."""
    headers = {"Authorization": f"Bearer {peer.token('GET', '/v1/builders', body=b'')}"}
    document = request(peer.collector, "GET", "/v1/builders", headers=headers).document
    return {builder["machine"] for builder in document["builders"]}


@contextlib.contextmanager
def running_builder(
    binhost: Binhost, world: World, directory: Path, *targets: str, name: str = "b1"
) -> Iterator[Process]:
    """Run one that is approved."""
    with start_builder(binhost, world, directory, *targets, name=name) as builder:
        uuid = approve(binhost, builder, *targets)
        peer = Peer(binhost.collector.url)
        peer.register()
        until(lambda: uuid in listed(peer), what="the builder asking for work")
        yield builder
        assert "Traceback" not in builder.output, builder.output
