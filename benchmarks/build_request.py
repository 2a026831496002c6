# SPDX-License-Identifier: GPL-2.0-or-later
"""A large request: a machine asks for 3,000 packages that depend on each other, none of which is published.

What counts is what the collector computes, reading and digests included, and not what other work on the
machine makes of it; then how long a builder waits for one of the jobs that came of it.
"""

import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.build_hit import processor_time
from benchmarks.table import Row, print_table
from gentwoo_client.wire.builds import BuildSpecification
from tests.builds import TARGET, HandBuilder, Wisher
from tests.ebuild_repositories import Tree
from tests.processes import Collector
from tests.shelf import Shelf

PACKAGES: Final = 3000
NEAR: Final = 400
"""How far back a package's dependencies lie in the plan."""
REQUEST: Final = 4.0  # seconds
CLAIM: Final = 50.0  # ms
CLAIMS: Final = 20
FLAGS: Final = tuple(f"flag{number}" for number in range(60)) + tuple(
    f"python_targets_python3_{number}" for number in range(10, 15)
)
CATEGORIES: Final = ("dev-libs", "dev-python", "app-misc", "media-libs", "net-libs", "kde-frameworks")

Ebuild = tuple[str, dict[str, str]]
"""A CPV, and what its ebuild says."""


def plan(chance: random.Random) -> list[Ebuild]:
    """Return ebuilds, each after what it depends on."""
    names = [f"{chance.choice(CATEGORIES)}/package{number}x" for number in range(PACKAGES)]
    return [
        (f"{name}-{number % 9}.{number % 13}", metadata(names[max(0, number - NEAR) : number], chance))
        for number, name in enumerate(names)
    ]


def metadata(others: list[str], chance: random.Random) -> dict[str, str]:
    """What an ebuild says that may depend on `others`."""
    iuse = sorted(chance.sample(FLAGS, chance.randint(3, 25)))

    def depend(count: int) -> str:
        return " ".join(spelled(chance.choice(others), iuse, chance) for _ in range(count) if others)

    return {
        "EAPI": "8",
        "SLOT": f"0/{chance.randint(1, 7)}",
        "KEYWORDS": "amd64 ~arm64 x86",
        "IUSE": " ".join(iuse),
        "LICENSE": "GPL-2+ LGPL-2.1",
        "RESTRICT": "!test? ( test )",
        "DEPEND": depend(12),
        "RDEPEND": depend(15),
        "BDEPEND": depend(5),
    }


def spelled(package: str, iuse: list[str], chance: random.Random) -> str:
    """One dependency, in one of the ways in which ebuilds write them."""
    kind = chance.random()
    if kind < 0.3:
        return f">={package}-1.0:0=[{iuse[0]}?,abi_x86_32(-)?,abi_x86_64(-)?]"
    if kind < 0.5:
        return f"{chance.choice(iuse)}? ( {package}:= )"
    if kind < 0.51:
        return f"|| ( {package} virtual/other )"
    return package if kind < 0.75 else f">={package}-{chance.randint(0, 2)}"


def document_of(ebuilds: list[Ebuild], chance: random.Random) -> dict[str, Any]:
    """What the machine sends."""
    specifications = []
    for cpv, values in ebuilds:
        use = ["amd64", *chance.sample(values["IUSE"].split(), 2)]
        named = {**values, "repository": "gentoo"}
        specifications.append(BuildSpecification.from_wish(TARGET, cpv, named, use=use, bound={}).to_json())
    return {"target": TARGET, "packages": specifications, "atoms": ["@world"]}


def repository(home: Path, ebuilds: list[Ebuild]) -> Path:
    """Write a repository that has all of them; return its place."""
    tree = Tree.create(home / "repository")
    for cpv, values in ebuilds:
        tree.add(cpv, **values)
    return tree.root


def ask(machine: Wisher, document: dict[str, Any], pid: int) -> tuple[float, float]:
    """Ask for all; return the seconds that it took, and that the collector computed."""
    before, started = processor_time(pid), time.perf_counter()
    answer = machine.send_json("POST", "/v1/builds", document)
    took = time.perf_counter() - started
    answers = {package["answer"] for package in answer.document["packages"]}
    assert (answer.status, answers) == (201, {"queued"}), (answer.status, answers)
    return took, processor_time(pid) - before


def claim(builder: HandBuilder) -> float:
    """Take a job, and give it back; return the milliseconds until it was there."""
    started = time.perf_counter()
    lease = builder.claim()
    took = (time.perf_counter() - started) * 1000
    assert lease is not None
    builder.act(lease, "heartbeat", release=True)
    return took


def main() -> None:
    """Measure and print."""
    chance = random.Random(3)
    ebuilds = plan(chance)
    document = document_of(ebuilds, chance)
    with tempfile.TemporaryDirectory() as directory, Collector(Path(directory) / "c") as collector:
        Shelf(collector.data).add_target(TARGET, signatures="optional")
        place = repository(Path(directory), ebuilds)
        collector.bdcs("repository", "add", "gentoo", "--location", str(place))
        collector.bdcs("repository", "sync", "gentoo")
        builder = HandBuilder.approved(collector, TARGET)
        machine = Wisher(collector.url)
        machine.register()
        assert collector.process is not None
        took, computed = ask(machine, document, collector.process.pid)
        claims = sorted(claim(builder) for _ in range(CLAIMS))
    size = len(json.dumps(document)) / 1e6
    print_table(
        [
            Row(
                what=f"request for {PACKAGES} packages that are to be built ({size:.1f} MB)",
                target=f"<= {REQUEST:.0f} s computing",
                measured=f"{computed:.1f} s ({took:.1f} s to the answer)",
                is_met=computed <= REQUEST,
            ),
            Row(
                what=f"… and a builder takes one of them, median of {CLAIMS}",
                target=f"<= {CLAIM:.0f} ms",
                measured=f"{claims[CLAIMS // 2]:.0f} ms",
                is_met=claims[CLAIMS // 2] <= CLAIM,
            ),
        ]
    )
    print(f"load: {os.getloadavg()[0]:.1f}\n")


if __name__ == "__main__":
    main()
