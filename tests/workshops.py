# SPDX-License-Identifier: GPL-2.0-or-later
"""A builder's workshop in a Prefix, without collector: real emerge in real bubblewrap.

place = Place.create(tmp_path)
place.world.ebuild("app-misc/alpha-1.0", iuse="foo")
result = place.build(wish("app-misc/alpha-1.0", iuse="foo", use=["foo"]))
result.packages[0].metadata["USE"], result.output, result.failure
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bdcs.builder.building import ATTEMPTS, DISTFILES, Binhost, BuildFailed, BuildRoot, Workshop
from bdcs.builder.emerge import Cause
from bdcs.builder.limits import Limits
from bdcs.builder.portage_config import Wish
from bdcs.domain.gpkg.reading import read_metadata
from dev.places import PORTAGE
from dev.prefix import COMMANDS, write_command
from gentwoo_client.wire.builds import BuildSpecification
from tests.world import World

PYTHON = Path(os.path.realpath(PORTAGE / "bin/python")).parent.parent
"""The installation of Python that Portage runs under; it may lie under root's home."""
READABLE = (PORTAGE, PYTHON)
NOWHERE = Binhost(url="http://127.0.0.1:9/binhost/none", keys=None)
CFLAGS = "-O2 -pipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A package that was built."""

    name: str
    metadata: Mapping[str, str]
    is_restricted: bool


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of a build."""

    packages: list[Packed] = field(default_factory=list)
    failure: Cause | None = None
    output: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A world to build in, and a builder's directory."""

    world: World
    workshop: Workshop

    @classmethod
    def create(cls, directory: Path, *, limits: Limits | None = None, group: str = "root") -> "Place":
        """Make both in `directory`."""
        world = World.create(directory / "world", group=group)
        for name in COMMANDS:
            write_command(world, name)
        data = directory / "builder"
        (data / ATTEMPTS).mkdir(parents=True)
        (data / DISTFILES).mkdir()
        build_root = BuildRoot(eprefix=world.root, readable=READABLE)
        return cls(world, Workshop(build_root, data, limits or Limits(), make_jobs=2))

    def limited(self, limits: Limits) -> "Place":
        """The same, with other limits."""
        return Place(self.world, replace(self.workshop, limits=limits))

    def build(self, wish: Wish, binhost: Binhost = NOWHERE, *, name: str = "1") -> Result:
        """Build to the end, whatever it is."""
        return asyncio.run(self.attempt(wish, binhost, name=name))

    async def attempt(self, wish: Wish, binhost: Binhost = NOWHERE, *, name: str = "1") -> Result:
        """Build; what is printed is in `output` of the result."""
        printed: list[bytes] = []
        result = Result()
        try:
            async with self.workshop.build(name, wish, binhost, printed.append) as built:
                for package in built:
                    with package.path.open("rb") as file:
                        metadata = read_metadata(file)
                    found = Packed(
                        name=str(package.cpv), metadata=metadata, is_restricted=package.is_restricted
                    )
                    result.packages.append(found)
        except BuildFailed as failure:
            result.failure = failure.cause
        result.output = b"".join(printed).decode(errors="replace")
        return result


def specification(
    cpv: str,
    *,
    iuse: str = "",
    use: Iterable[str] = (),
    bound: Mapping[str, str] | None = None,
    target: str = "amd64",
    **metadata: str,
) -> BuildSpecification:
    """What a machine wishes of an ebuild that `World.ebuild` wrote."""
    general = {"EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", "LICENSE": "public-domain"}
    values = {name.upper(): value for name, value in metadata.items()}
    return BuildSpecification.from_wish(
        target,
        cpv,
        {**general, "IUSE": iuse, "repository": "gentoo", **values},
        use=["amd64", *use],
        bound=bound or {},
    )


def wish(cpv: str, **facts: object) -> Wish:
    """The same, as the builder has it."""
    wished = specification(cpv, **facts)  # type: ignore[arg-type]
    return Wish.of(wished.to_json(), cflags=CFLAGS)


def sleepers(seconds: str) -> list[str]:
    """The numbers of the processes `sleep SECONDS`."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if Path("/proc", name, "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(name)
        except OSError:  # it has ended meanwhile
            continue
    return found
