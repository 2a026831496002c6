# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking over a PKGDIR: a cold scan of all packages, and a rescan of what has not changed.

Ours is `bdcs import`, whole processes, into a target where signatures are optional: each package is copied,
read to its last byte, checked, listed, durably. Beside it `emaint binhost --fix` of the same PKGDIR, first
without an index, then with a complete one. Packages have 24 kB.

python -m benchmarks.rescan [--packages 10000]
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.table import Row, print_table
from tests.packages import make_gpkg
from tests.processes import environment
from tests.world import World

PACKAGES: Final = 4000
FILES: Final = 8  # in each package
FILE_SIZE: Final = 1900  # bytes, that cannot be compressed
ENVIRONMENT_SIZE: Final = 3000  # bytes
RATIO: Final = 1 / 6
RESCAN: Final = 1.0  # seconds, for 10,000
BDCS: Final = (sys.executable, "-m", "bdcs")
TARGET: Final = ("--chost", "x86_64-pc-linux-gnu", "--profile", "default", "--cflags=-O2")


def fill(pkgdir: Path, count: int) -> int:
    """Make the packages; return how many bytes one has."""
    source = random.Random(0)
    for number in range(count):
        name = f"package{number}"
        path = make_gpkg(
            pkgdir / f"app-misc/{name}/{name}-1.0-1.gpkg.tar",
            cpv=f"app-misc/{name}-1.0",
            metadata={
                "environment.bz2": source.randbytes(ENVIRONMENT_SIZE),
                "RDEPEND": " ".join(f"dev-libs/lib{source.randrange(1000)}:0=" for _ in range(12)),
            },
            image={f"usr/share/{name}/{part}": source.randbytes(FILE_SIZE) for part in range(FILES)},
        )
    return path.stat().st_size


def seconds(*command: str | Path, env: dict[str, str]) -> float:
    """How long a process takes, from start to end."""
    start = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(world: World, data: Path) -> dict[str, float]:
    """Scan twice, both of us in turns."""
    ours = environment(BDCS_DATA=str(data), BDCS_SIGNER=str(data / "nobody-signs"))
    portage = world.environment()
    subprocess.run([*BDCS, "schema", "upgrade"], env=ours, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [*BDCS, "target", "add", "here", *TARGET, "--signatures", "optional"],
        env=ours,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = {}
    for name in ("cold", "rescan"):
        found[f"portage {name}"] = seconds(world.portage_bin / "emaint", "--fix", "binhost", env=portage)
        found[name] = seconds(*BDCS, "import", world.pkgdir, "--target", "here", env=ours)
    return found


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Scan a PKGDIR, beside Portage.")
    parser.add_argument("--packages", type=int, default=PACKAGES, help=f"default: {PACKAGES}")
    count = parser.parse_args().packages
    with tempfile.TemporaryDirectory(prefix="gentwoo-rescan-") as directory:
        world = World.create(Path(directory) / "world")
        size = fill(world.pkgdir, count)
        found = measure(world, Path(directory) / "data")
    print_table(
        [
            Row(
                what=f"cold scan of {count:,} packages of {size:,} bytes",
                target="≤ 1/6 of emaint binhost --fix",
                measured=f"{found['cold']:.1f} s",
                beside=f"Portage {found['portage cold']:.1f} s",
                ratio=found["cold"] / found["portage cold"],
                is_met=found["cold"] <= found["portage cold"] * RATIO,
            ),
            Row(
                what=f"rescan of {count:,} unchanged packages",
                target="< 1 s (10,000)",
                measured=f"{found['rescan']:.2f} s",
                beside=f"Portage {found['portage rescan']:.1f} s",
                ratio=found["rescan"] / found["portage rescan"],
                is_met=found["rescan"] < RESCAN,
            ),
        ]
    )


if __name__ == "__main__":
    main()
