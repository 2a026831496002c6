# SPDX-License-Identifier: GPL-2.0-or-later
"""Building one package in a throw-away root: from a wish to the packages that came of it.

    workshop = Workshop(BuildRoot(eprefix=prefix), data, Limits(), make_jobs=2)
    async with workshop.build("1", wish, binhost, output) as built:
        …                                # the files are there until the block ends

Without dependencies there is most likely nothing to fetch, and a package that says nothing of sources in its
repository's cache is built right away; should it need some after all, they are fetched then.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import hashlib
import os
import pwd
import re
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bdcs.builder import emerge, portage_config, process
from bdcs.builder.emerge import Cause
from bdcs.builder.limits import Group, Limits, control_group, resource_limits
from bdcs.builder.portage_config import Places, Wish
from bdcs.builder.root import ThrowAwayRoot, throw_away_root
from bdcs.builder.sandbox import Sandbox
from bdcs.domain.admission import RESTRICTED
from bdcs.domain.gpkg.reading import read_metadata
from bdcs.errors import BuildRootUnusable, InvalidPackage
from gentwoo_client.wire.cpv import CPV

SUFFIX: Final = ".gpkg.tar"
ATTEMPTS: Final = "attempts"
DISTFILES: Final = "distfiles"
KEYS: Final = "keys"

Output = Callable[[bytes], None]


class BuildFailed(Exception):
    """There is no package; `cause` says why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.text)
        self.cause = cause


class EbuildHeldBack(BuildFailed):
    """An ebuild wanted to run while there was a network."""


EBUILD_SH: Final = (
    "lib/portage/bin/ebuild.sh",
    "usr/lib/portage/bin/ebuild.sh",
    "usr/lib/portage/*/ebuild.sh",
)
"""Where Portage has the program that all code of ebuilds runs in: from PyPI, in a Prefix, on Gentoo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRoot:
    """The system that is built in, which no build changes."""

    root: Path = Path("/")
    eprefix: Path | None = None
    """The Gentoo Prefix that is built in instead; `root` is then the system around it."""
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    """Directories that builds find empty."""

    @property
    def source(self) -> Path:
        """What a throw-away tree is made of."""
        return self.eprefix or self.root

    def runners(self) -> list[Path]:
        """Return the programs, as seen inside, without which no ebuild runs. Raises `BuildRootUnusable`."""
        trees = {self.root: Path("/"), **{path: path for path in (self.eprefix, *self.readable) if path}}
        found = [
            inside / program.relative_to(tree)
            for tree, inside in trees.items()
            for pattern in EBUILD_SH
            for program in tree.glob(pattern)
        ]
        if not found:
            raise BuildRootUnusable(f"{self.source}: there is no ebuild.sh where Portage would have it")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Binhost:
    """Where dependencies are taken from as binaries."""

    url: str
    keys: Path | None
    """The GnuPG home with the keys that they are signed with; None where no signature is looked at."""
    demands_signatures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One package that was built."""

    path: Path
    cpv: CPV
    size: int
    """Bytes."""
    sha512: str
    is_restricted: bool
    """Whether it must not be redistributed."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Builds packages, several at once if need be; its own files are below `data`."""

    build_root: BuildRoot
    data: Path
    limits: Limits
    make_jobs: int

    async def check(self) -> None:
        """See that a throw-away root can be made, and that emerge is in it. Raises `BuildRootUnusable`."""
        for program in ("bwrap", "prlimit", "unshare", "nsenter"):
            if shutil.which(program) is None:
                raise BuildRootUnusable(f"there is no {program}: install bubblewrap and util-linux")
        said: list[bytes] = []
        async with throw_away_root(
            self.build_root.source, self.data / ATTEMPTS / "check", size=self.limits.disk
        ) as root:
            places = places_in(self.build_root)
            environment = portage_config.environment(places, cflags="", make_jobs=1, user=None)
            sandbox = sandbox_of(self, root, None, has_network=False)
            argv = sandbox.command(("sh", "-c", "command -v emerge"), environment)
            status = await process.run([*root.enter(), *argv], said.append)
        if status:
            text = b"".join(said).decode(errors="replace").strip() or "there is no emerge in it"
            raise BuildRootUnusable(f"{self.build_root.source} cannot be built in: {text}")

    @contextlib.asynccontextmanager
    async def build(
        self, name: str, wish: Wish, binhost: Binhost, output: Output
    ) -> AsyncIterator[tuple[Built, ...]]:
        """Build; the wished package comes first. What emerge prints goes to `output`.

        `name` names the attempt, and its directory until it ends. Raises `BuildFailed`, `BuildRootUnusable`.
        """
        directory = self.data / ATTEMPTS / name
        async with (
            throw_away_root(self.build_root.source, directory, size=self.limits.disk) as root,
            control_group(f"{group_prefix(self.data)}{name}", self.limits) as group,
        ):
            yield await _Attempt(self, root, group, wish, binhost, output).build()


def group_prefix(data: Path) -> str:
    """How the names of control groups begin of the builder with this directory."""
    return f"bdcs-builder-{hashlib.sha256(bytes(data)).hexdigest()[:12]}-"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One build, in its throw-away root."""

    workshop: Workshop
    root: ThrowAwayRoot
    group: Group | None
    wish: Wish
    binhost: Binhost
    output: Output

    async def build(self) -> tuple[Built, ...]:
        tree = self.root.seen(self.root.tree)
        portage_config.write(tree / "etc/portage", portage_config.files(self.wish))
        if self.workshop.build_root.eprefix is None:
            _copy_names(tree)
        bindings = missing_bindings(tree, self.wish.specification.built_against)
        will_fetch = self.wish.has_dependencies or _may_have_sources(tree, self.wish)
        if will_fetch:
            await self._fetch(bindings)
        try:
            return await self._build(bindings)
        except BuildFailed as failure:
            if will_fetch or failure.cause.kind != "fetch":
                raise
        self._say("it has sources, which are fetched now")
        await self._fetch(bindings)
        return await self._build(bindings)

    async def _fetch(self, bindings: Sequence[str]) -> None:
        """Fetch with the network, where no ebuild can run; what emerge has to ask of one, it asks before."""
        self._say("fetching, with the network")
        binhost = self.binhost
        environment = portage_config.fetching_from(binhost.url, signed=binhost.demands_signatures)
        fetch = partial(self._emerge, emerge.fetching(self.wish, bindings), environment, has_network=True)
        try:
            await fetch()
        except EbuildHeldBack:
            self._say("reading ebuilds that have no cache, without network")
            with contextlib.suppress(BuildFailed):  # what is wrong shows when it is fetched again
                await self._emerge(emerge.reading(self.wish, bindings), {}, has_network=False)
            self._say("fetching again, with the network")
            await fetch()

    async def _build(self, bindings: Sequence[str]) -> tuple[Built, ...]:
        self._say("building, without network")
        before = set(packages_in(self.root.seen(self.root.packages)))
        await self._emerge(emerge.building(self.wish, bindings), {}, has_network=False)
        return await asyncio.to_thread(self._collect, before)

    def _collect(self, before: set[Path]) -> tuple[Built, ...]:
        """What lies in PKGDIR and was not fetched."""
        try:
            found = [
                examined(path)
                for path in packages_in(self.root.seen(self.root.packages))
                if path not in before
            ]
        except InvalidPackage as error:
            raise BuildFailed(Cause(kind="build", text=f"emerge left a broken package: {error}")) from error
        wished = self.wish.specification.cpv
        own = [built for built in found if built.cpv == wished]
        if len(own) != 1:
            raise BuildFailed(
                Cause(kind="build", text=f"emerge left {len(own)} packages of {wished} instead of one")
            )
        return (*own, *(built for built in found if built.cpv != wished))

    async def _emerge(self, argv: Sequence[str], more: Mapping[str, str], *, has_network: bool) -> None:
        """Run emerge in the sandbox. Raises `BuildFailed` where it fails."""
        places = places_in(self.workshop.build_root)
        environment = {
            **portage_config.environment(
                places,
                cflags=self.wish.cflags,
                make_jobs=self.workshop.make_jobs,
                user=own_user(),
            ),
            **portage_config.verifying_with(places, has_keys=self.binhost.keys is not None),
            **more,
        }
        sandbox = sandbox_of(self.workshop, self.root, self.binhost.keys, has_network=has_network)
        tail = _Tail()

        def heard(piece: bytes) -> None:
            tail.add(piece)
            self.output(piece)

        status = await process.run(
            [
                *(self.group.enter() if self.group is not None else ()),
                *resource_limits(self.workshop.limits, has_group=self.group is not None),
                *self.root.enter(),
                *sandbox.command(argv, environment),
            ],
            heard,
        )
        if status:
            is_held_back = has_network and emerge.held_back(tail.text())
            failure = EbuildHeldBack if is_held_back else BuildFailed
            raise failure(self._cause(tail.text(), status))

    def _cause(self, output: str, status: int) -> Cause:
        if self.group is not None and self.group.ran_out_of_memory():
            return Cause(kind="limit", text="memory: the kernel ended a process for want of it")
        return emerge.cause_of(output, status)

    def _say(self, what: str) -> None:
        self.output(f">>> builder: {what}\n".encode())


def places_in(build_root: BuildRoot) -> Places:
    """Where Portage finds things inside."""
    return Places(eprefix="" if build_root.eprefix is None else str(build_root.eprefix))


def sandbox_of(workshop: Workshop, root: ThrowAwayRoot, keys: Path | None, *, has_network: bool) -> Sandbox:
    """Return what emerge sees while it fetches, with the network, or while it builds, without."""
    build_root, data, places = workshop.build_root, workshop.data, places_in(workshop.build_root)
    writable = {places.packages: root.packages, places.temporary: root.temporary}
    read_only = {} if keys is None else {places.keys: keys}
    (writable if has_network else read_only)[places.distfiles] = data / DISTFILES
    if has_network:  # it is emerge's alone: neither an ebuild's metadata nor its pkg_nofetch runs
        read_only |= {str(program): Path(os.devnull) for program in build_root.runners()}
    return Sandbox(
        tree=root.tree,
        seen=root.seen(root.tree),
        eprefix=build_root.eprefix,
        root=build_root.root,
        readable=build_root.readable,
        hidden=tuple(path.resolve() for path in (data, *build_root.hidden)),
        writable=writable,
        read_only=read_only,
        is_root=os.geteuid() == 0,
        has_network=has_network,
    )


class _Tail:
    """The end of what was printed."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        while self._size - len(self._pieces[0]) > emerge.TAIL:
            self._size -= len(self._pieces.popleft())

    def text(self) -> str:
        return b"".join(self._pieces).decode(errors="replace")


def missing_bindings(tree: Path, built_against: Mapping[str, str]) -> list[str]:
    """Return atoms for what a package is to be built against and `tree` does not have installed.

    `built_against` says SLOT/SUBSLOT by CATEGORY/NAME:SLOT.
    """
    missing = []
    for name, slot in built_against.items():
        package = name.rpartition(":")[0]
        if slot not in set(_installed_slots(tree, package)):
            missing.append(f"{package}:{slot}")
    return missing


def _installed_slots(tree: Path, package: str) -> Iterator[str]:
    """SLOT/SUBSLOT of each installed version, by Portage's database in /var/db/pkg."""
    category, name = package.split("/")
    for entry in (tree / "var/db/pkg" / category).glob(f"{name}-*"):
        if re.fullmatch(re.escape(name) + r"-[0-9].*", entry.name):
            with contextlib.suppress(OSError):
                slot, _, subslot = (entry / "SLOT").read_text().strip().partition("/")
                yield f"{slot}/{subslot or slot}"


def _may_have_sources(tree: Path, wish: Wish) -> bool:
    """Whether the repository's own cache says so; False where it has none."""
    wished = wish.specification
    entry = tree / "var/db/repos" / wished.repository / "metadata/md5-cache" / str(wished.cpv)
    try:
        return any(line.startswith("SRC_URI=") for line in entry.read_text(errors="replace").splitlines())
    except OSError:
        return False


def packages_in(directory: Path) -> list[Path]:
    """Return the packages below `directory`: neither reserved names (empty files) nor temporary ones."""
    found = [path for path in directory.rglob(f"*{SUFFIX}") if path.is_file() and not path.is_symlink()]
    return sorted(path for path in found if path.stat().st_size)


def examined(path: Path) -> Built:
    """Return what the package at `path` is. Raises `InvalidPackage`."""
    with path.open("rb") as file:
        metadata = read_metadata(file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha512").hexdigest()
        size = file.tell()
    return Built(
        path=path,
        cpv=CPV.parse(f"{metadata['CATEGORY']}/{metadata['PF']}"),
        size=size,
        sha512=digest,
        is_restricted=not set(RESTRICTED).isdisjoint(metadata.get("RESTRICT", "").split()),
    )


def _copy_names(tree: Path) -> None:
    """Let a whole system know the names of this network, and none of the passwords."""
    for name in ("resolv.conf", "hosts"):
        with contextlib.suppress(FileNotFoundError):
            text = Path("/etc", name).read_bytes()
            (tree / "etc" / name).unlink(missing_ok=True)
            (tree / "etc" / name).write_bytes(text)
    for name in ("shadow", "gshadow", "shadow-", "gshadow-"):
        path = tree / "etc" / name
        if path.is_file():
            path.write_text("".join(map(_without_password, path.read_text().splitlines(keepends=True))))


def _without_password(line: str) -> str:
    fields = line.split(":")
    return ":".join([fields[0], "*", *fields[2:]]) if len(fields) > 2 else line


def own_user() -> tuple[str, str] | None:
    """Return name and group of the ordinary user that we are; None for root."""
    if os.geteuid() == 0:
        return None
    entry = pwd.getpwuid(os.geteuid())
    return entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name
