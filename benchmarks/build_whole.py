# SPDX-License-Identifier: GPL-2.0-or-later
"""From a request to a package that can be installed, cold: a tiny one, real emerge in the builder's sandbox.

Ours is what is left when the time of emerge itself is taken away: that is measured in the same run, once more
for each package, by the same command in the same world, without collector, sandbox and throw-away root. And
how soon a build that is cancelled is gone: from the request to the end of its last process.
"""

import os
import select
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.table import Row, print_table
from tests.binhost import Binhost, running_binhost
from tests.builders import running_builder
from tests.builds import TARGET, Wisher
from tests.waiting import until
from tests.workshops import sleepers, specification
from tests.world import World

TIMES: Final = 5
WHOLE: Final = 5.0  # seconds
OURS: Final = 1.0  # seconds
CANCELLED: Final = 2.0  # seconds
MARK: Final = "16180339"


def whole(machine: Wisher, cpv: str) -> float:
    """Ask for a package; return the seconds until it can be installed."""
    started = time.perf_counter()
    state = machine.ask(specification(cpv))
    while state["state"] == "open":
        state = machine.state(state["id"], f"?wait=30&since={state['version']}")
    took = time.perf_counter() - started
    assert state["state"] == "published", state
    return took


def emerge_alone(world: World, cpv: str) -> float:
    """Build it as the builder does, and only that; return the seconds."""
    started = time.perf_counter()
    world.emerge("--oneshot", "--buildpkgonly", "--verbose", f"={cpv}::gentoo", env={"NOCOLOR": "true"})
    return time.perf_counter() - started


def cancelled(machine: Wisher, cpv: str) -> float:
    """Ask for what takes for ever, and cancel it at work; return the seconds until it is gone."""
    state = machine.ask(specification(cpv))
    (sleeper,) = until(lambda: sleepers(MARK), 60)
    with open(os.pidfd_open(int(sleeper)), "rb") as process:
        started = time.perf_counter()
        answer = machine.send_json("DELETE", f"/v1/builds/{state['id']}")
        assert answer.document["state"] == "cancelled"
        assert select.select([process], [], [], 60)[0]
        return time.perf_counter() - started


def measure(binhost: Binhost, home: Path) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of all, of emerge alone, and to the end of what was cancelled."""
    world = World.create(home / "w")
    machine = Wisher(binhost.collector.url)
    machine.register()
    cpvs = [f"app-misc/tiny{number}x-1.0" for number in range(TIMES + 1)]
    for cpv in cpvs:
        world.ebuild(cpv)
    world.ebuild("app-misc/sleepy-1.0", phases={"src_compile": f"sleep {MARK}"})
    with running_builder(binhost, world, home / "b", TARGET):
        whole(machine, cpvs[0])  # what is done once: the key, the first import
        pairs = [(whole(machine, cpv), emerge_alone(world, cpv)) for cpv in cpvs[1:]]
        ends = []
        for _ in range(TIMES):
            ends.append(cancelled(machine, "app-misc/sleepy-1.0"))
            until(lambda: not sleepers(MARK), 60)
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs], ends


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        with running_binhost(home / "c") as binhost:
            binhost.add_target(TARGET)
            all_of_it, alone, ends = measure(binhost, home)
    took, theirs = statistics.median(all_of_it), statistics.median(alone)
    ours = statistics.median(one - other for one, other in zip(all_of_it, alone, strict=True))
    gone = statistics.median(ends)
    print_table(
        [
            Row(
                what=f"request to installable, cold, median of {TIMES}",
                target=f"<= {WHOLE:.0f} s",
                measured=f"{took:.2f} s",
                beside=f"emerge alone {theirs:.2f} s",
                ratio=took / theirs,
                is_met=took <= WHOLE,
            ),
            Row(
                what="… of which ours",
                target=f"<= {OURS:.0f} s",
                measured=f"{ours:.2f} s",
                is_met=ours <= OURS,
            ),
            Row(
                what="a cancelled build is gone",
                target=f"<= {CANCELLED:.0f} s",
                measured=f"{gone:.2f} s (at most {max(ends):.2f})",
                is_met=max(ends) <= CANCELLED,
            ),
        ]
    )
    print(f"load: {os.getloadavg()[0]:.1f}\n")


if __name__ == "__main__":
    main()
