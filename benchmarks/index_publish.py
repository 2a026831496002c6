# SPDX-License-Identifier: GPL-2.0-or-later
"""Publishing one package into an index of 50,000, until both files of the index show it.

Ours: the package is read, its row and generation are committed (durably), the index is written. Not in it are
signing and making the package's own file durable, which take the same whatever the index holds.
Beside it Portage's `bintree.inject` of the same package, in a process that has loaded all modules and trusts
the index, which is ours. Entries are as large as real ones, 1.27 kB on average. Both are done several times;
the fastest run counts, since the only thing that a busy machine can do is to slow one down.
"""

import argparse
import hashlib
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bdcs.blobs.index_files import PACKED, PLAIN
from bdcs.blobs.target_lock import target_lock
from bdcs.domain import packages_index
from bdcs.domain.gpkg.reading import read_package
from bdcs.domain.targets import Cause
from bdcs.services import build_rows, generations
from bdcs.services.build_digests import digest_of
from bdcs.services.indexing import write_index
from bdcs.services.targets import Target
from bdcs.store.store import transaction
from benchmarks.table import Row, print_table
from gentwoo_client.wire.cpv import CPV
from tests.index_rows import START, IndexRows
from tests.packages import make_gpkg
from tests.world import World

ENTRIES: Final = 50_000
ROUNDS: Final = 12
PORTAGE_ROUNDS: Final = 3
SECONDS: Final = 0.100
RATIO: Final = 1 / 20
CATEGORIES: Final = [
    f"{first}-{second}"
    for first in ("app", "dev", "media", "net", "sys", "x11")
    for second in ("admin", "apps", "editors", "lang", "libs", "misc", "python", "util", "vcs", "video")
]
FLAGS: Final = "X alsa bzip2 cpu_flags_x86_avx2 dbus doc examples gtk introspection ipv6 jpeg nls png qt6 ssl"

INJECT: Final = """
import sys, time
import portage
from portage.versions import _pkg_str
bintree = portage.db[portage.settings["EROOT"]]["bintree"]
assert "pkgdir-index-trusted" in portage.settings.features
bintree.populate()
for word in sys.argv[1:]:
    cpv, path = word.split("=")
    start = time.perf_counter()
    injected = bintree.inject(_pkg_str(cpv), current_pkg_path=path)
    print(time.perf_counter() - start if injected else "not injected")
"""


def names(count: int) -> Iterator[str]:
    """So many CPVs, as they might be called."""
    choice = random.Random(1)
    for number in range(count):
        version = f"{choice.randrange(30)}.{choice.randrange(40)}.{choice.randrange(9)}"
        yield f"{CATEGORIES[number % len(CATEGORIES)]}/package{number // 3:05}-{version}-r{number % 3}"


def row(cpv: str, pool: list[str], choice: random.Random) -> dict[str, Any]:
    """The row of a build, with an entry like those of real packages."""
    parsed = CPV.parse(cpv)
    path = packages_index.path_of(parsed, 1)
    depend = [f">={atom}:0/{choice.randrange(90)}=" for atom in choice.sample(pool, choice.randrange(2, 12))]
    md5, sha1 = hashlib.md5(cpv.encode()).hexdigest(), hashlib.sha1(cpv.encode()).hexdigest()
    values = {
        "BDEPEND": " ".join(choice.sample(pool, 4)),
        "BUILD_ID": "1",
        "BUILD_TIME": str(START + choice.randrange(10**7)),
        "CHOST": "x86_64-pc-linux-gnu",
        "CPV": cpv,
        "DEFINED_PHASES": "compile configure install prepare test unpack",
        "DEPEND": " ".join(depend[:-1]),
        "EAPI": "8",
        "IUSE": FLAGS,
        "KEYWORDS": "~alpha amd64 arm arm64 ~hppa ppc ppc64 ~riscv ~sparc x86",
        "LICENSE": "GPL-2+ LGPL-2.1+",
        "MD5": md5,
        "PATH": path,
        "RDEPEND": " ".join(depend),
        "REQUIRES": "x86_64: libc.so.6 libm.so.6 libz.so.1",
        "SHA1": sha1,
        "SIZE": str(choice.randrange(10**4, 10**8)),
        "USE": "amd64 elibc_glibc kernel_linux " + " ".join(choice.sample(FLAGS.split(), 5)),
        "MTIME": str(START),
        "REPO": "gentoo",
    }
    return {
        **dict.fromkeys(("slot", "use", "iuse", "keywords", "license", "chost", "cflags", "repository"), ""),
        **dict.fromkeys(("size", "mtime", "build_time", "installed_size"), 1),
        "category": parsed.category,
        "name": parsed.name,
        "version": parsed.version,
        "cpv": cpv,
        "build_id": 1,
        "path": path,
        "md5": md5,
        "sha1": sha1,
        "entry": "\n".join(f"{key}: {value}" for key, value in values.items()),
    }


def filled(data: Path, count: int, store: str = "sqlite:") -> IndexRows:
    """A target with so many packages, and its index."""
    rows = IndexRows.create(data, store, header={"ARCH": "amd64", "IUSE_IMPLICIT": "prefix"})
    choice = random.Random(2)
    cpvs = sorted(names(count))
    pool = [cpv.rpartition("-r")[0] for cpv in cpvs[::50]]
    with transaction(rows.engine) as connection:
        target = rows.target_in(connection)
        made = [row(cpv, pool, choice) for cpv in cpvs]
        add(connection, target, made, now=START)
    assert rows.write()
    return rows


def add(connection: Any, target: Target, made: list[dict[str, Any]], *, now: float) -> None:
    """Write down builds and make them the next generation."""
    common = {
        "origin": "publish",
        "actor": "admin",
        "published_at": int(now),
        "source": None,
        "signed_by": None,
    }
    ids = build_rows.add(connection, target, [{**one, **common} for one in made])
    generations.advance(connection, target, ids, [], cause=Cause.PUBLISH, actor="admin", now=now)


def new_package(path: Path, number: int) -> tuple[str, Path]:
    """Make a package that is not in the index; return its CPV and its file."""
    cpv = f"{CATEGORIES[number * 7 % len(CATEGORIES)]}/package0{number}77x-1.{number}"
    return cpv, make_gpkg(path.with_suffix(".gpkg.tar"), cpv=cpv)


def publish(rows: IndexRows, package: Path, now: float) -> float:
    """Publish one package; return how many seconds it took."""
    start = time.perf_counter()
    read = read_package(package)
    path = packages_index.path_of(read.cpv, 1)
    text = packages_index.entry(read, path=path, build_id=1, mtime=int(now))
    values = build_rows.values_of(
        read,
        path=path,
        build_id=1,
        mtime=int(now),
        entry=text,
        source=read.sha512,
        signed_by=None,
        digest=digest_of("amd64", read.metadata),
    )
    common = {"origin": "publish", "actor": "admin", "published_at": int(now)}
    with target_lock(rows.files.directory):
        with transaction(rows.engine) as connection:
            target = rows.target_in(connection)
            ids = build_rows.add(connection, target, [values], **common)
            generations.advance(connection, target, ids, [], cause=Cause.PUBLISH, actor="admin", now=now)
        with transaction(rows.engine) as connection:
            assert write_index(connection, target, rows.files, [str(read.cpv)], now=now)
    return time.perf_counter() - start


def inject(world: World, packages: list[tuple[str, Path]]) -> list[float]:
    """Let Portage take packages into its PKGDIR; return how many seconds each took."""
    done = subprocess.run(
        [world.portage_bin / "python", "-c", INJECT, *(f"{cpv}={path}" for cpv, path in packages)],
        env={**world.environment(), "FEATURES": "pkgdir-index-trusted"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=ENTRIES, help=f"in the index (default: {ENTRIES:,})")
    entries = parser.parse_args().entries
    with tempfile.TemporaryDirectory() as scratch:
        packages = [new_package(Path(scratch, f"new-{number}"), number) for number in range(ROUNDS)]
        for_portage = [
            new_package(Path(scratch, f"theirs-{number}"), number) for number in range(PORTAGE_ROUNDS)
        ]
        rows = filled(Path(scratch, "data"), entries)
        sizes = [rows.files.path(name).stat().st_size for name in (PLAIN, PACKED)]
        world = World.create(Path(scratch, "world"))
        for name in (PLAIN, PACKED):
            shutil.copy2(rows.files.path(name), world.pkgdir / name)
        # In turns, or the one might meet a quieter machine than the other.
        ours = [
            publish(rows, path, START + 10 + 10 * number) for number, (_, path) in enumerate(packages[::2])
        ]
        theirs = inject(world, for_portage)
        later = START + 1000
        ours += [publish(rows, path, later + 10 * number) for number, (_, path) in enumerate(packages[1::2])]
        assert rows.agrees()
    print(
        f"{entries:,} entries: {sizes[0]:,} bytes plain, {sizes[1]:,} packed; "
        f"ours median {statistics.median(ours) * 1000:.0f} ms, slowest {max(ours) * 1000:.0f} ms\n"
    )
    best, peer = min(ours), min(theirs)
    print_table(
        [
            Row(
                what=f"publish one package into an index of {entries:,}",
                target="<= 100 ms",
                measured=f"{best * 1000:.1f} ms",
                ratio=best / SECONDS,
                is_met=best <= SECONDS,
            ),
            Row(
                what="… beside Portage",
                target="<= 1/20 of bintree.inject",
                measured=f"{best * 1000:.1f} ms",
                beside=f"{peer * 1000:,.0f} ms",
                ratio=best / peer,
                is_met=best / peer <= RATIO,
            ),
        ]
    )


if __name__ == "__main__":
    main()
