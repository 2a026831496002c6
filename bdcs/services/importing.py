# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking over a directory of packages, such as the PKGDIR that Portage filled: all that is new in it becomes
one generation.

What was read once and has not changed since (path, size, time of change) is not read again. One bad file is
no reason to leave out the others: it is reported, and read again the next time.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select

from bdcs.blobs.workspace import Draft
from bdcs.domain.admission import Origin
from bdcs.domain.gpkg.reading import Package
from bdcs.domain.targets import Cause
from bdcs.errors import PackageRefused
from bdcs.services import intake
from bdcs.services.intake import Candidate, Demands, Source
from bdcs.services.publishing import ADMINISTRATOR, Builds, Publication, Publisher
from bdcs.services.targets import Target
from bdcs.store.tables import scanned_files
from bdcs.store.upserts import upsert

SUFFIXES: Final = (".gpkg.tar", ".xpak", ".tbz2")
"""How the names of packages end; what Portage leaves behind when it is killed ends otherwise, or is empty."""
ALONE: Final = 40
"""So many files are read in this process; more of them by one process for each processor."""
CHUNK: Final = 16  # files that a process is given at a time
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

Progress = Callable[[int, int], None]
"""Is told how many files were read, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One file that may be a package."""

    path: Path
    """Absolute."""
    relative: str
    """Below the directory that is taken over."""
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did, or with `dry_run` would do."""

    target: str
    generation: int
    """The newest; not a new one where nothing was new."""
    published: int
    known: int
    """Files that were published before, though not read from there, or not in this state."""
    unchanged: int
    """Files that were not read again."""
    refused: tuple[PackageRefused, ...]

    def to_json(self) -> dict[str, object]:
        """What `bdcs import --json` prints."""
        return {
            "target": self.target,
            "generation": self.generation,
            "published": self.published,
            "known": self.known,
            "unchanged": self.unchanged,
            "refused": [{"file": error.file, "reason": error.reason} for error in self.refused],
        }


def scan(directory: Path) -> Iterator[Found]:
    """Yield all files below `directory` that may be packages; links are not followed. Raises `OSError`."""
    waiting = [(os.fspath(directory), "")]
    while waiting:
        place, below = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        waiting.append((entry.path, f"{below}{entry.name}/"))
                elif entry.name.endswith(SUFFIXES) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_size:  # an empty file is a name that Portage reserved
                        yield Found(
                            path=Path(entry.path),
                            relative=f"{below}{entry.name}",
                            size=status.st_size,
                            mtime_ns=status.st_mtime_ns,
                        )


def import_directory(
    publisher: Publisher,
    directory: Path,
    target: str,
    *,
    refused: Callable[[PackageRefused], None],
    progress: Progress,
    dry_run: bool = False,
) -> Imported:
    """Publish what is new below `directory`; tell `refused` of each file that cannot be.

    With `dry_run` everything is read and judged, and nothing kept. Raises `NoSuchTarget`, `BlobsFull`, what
    the signer says, `IndexNotWritten`, `OSError` where the directory cannot be read.
    """
    directory = directory.resolve(strict=True)
    errors: list[PackageRefused] = []

    def refuse(error: PackageRefused) -> None:
        errors.append(error)
        refused(error)

    with publisher.begin(
        target, actor=ADMINISTRATOR, origin=Origin.IMPORT, cause=Cause.IMPORT
    ) as publication:
        found = list(scan(directory))
        changed = _changed(publisher, publication.demands.target, directory, found)
        candidates = []
        for done, outcome in enumerate(_read(publication, changed, is_copied=not dry_run), 1):
            if isinstance(outcome, PackageRefused):
                refuse(outcome)
            else:
                candidates.append(outcome)
            progress(done, len(changed))
        if dry_run:
            files = publication.foresee(candidates, refused=refuse)
            generation = publication.demands.target.generation
        elif candidates:
            remember = partial(_remember, publication.demands.target, changed)
            published = publication.commit(candidates, refused=refuse, also=remember)
            files, generation = published.files, published.generation
        else:
            files, generation = (), publication.demands.target.generation
    return Imported(
        target=target,
        generation=generation,
        published=sum(file.is_new for file in files),
        known=sum(not file.is_new for file in files),
        unchanged=len(found) - len(changed),
        refused=tuple(errors),
    )


def _changed(publisher: Publisher, target: Target, directory: Path, found: Sequence[Found]) -> list[Found]:
    """Return those that were not read in this state before, in the order in which they were built."""
    table = scanned_files
    query = select(table.c.path, table.c.size, table.c.mtime_ns).where(
        table.c.target_id == target.id, table.c.path.startswith(f"{directory}/", autoescape=True)
    )
    with publisher.reading() as connection:
        seen = {path: (size, mtime_ns) for path, size, mtime_ns in connection.execute(query)}
    changed = [one for one in found if seen.get(str(one.path)) != (one.size, one.mtime_ns)]
    return sorted(changed, key=lambda one: (one.mtime_ns, one.relative))


def _remember(target: Target, found: Sequence[Found], connection: Connection, builds: Builds) -> None:
    """Note what was read, and which build it became."""
    rows = [
        {
            "target_id": target.id,
            "path": str(one.path),
            "size": one.size,
            "mtime_ns": one.mtime_ns,
            "build": builds[str(one.path)],
        }
        for one in found
        if str(one.path) in builds
    ]
    statement = upsert(scanned_files)
    changes = {name: statement.excluded[name] for name in ("size", "mtime_ns", "build")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["target_id", "path"], set_=changes), rows
    )


# Reading, which takes nearly all of the time, and is done by several processes: threads would wait for the
# interpreter.


Outcome = tuple[Package, str | None] | PackageRefused
"""What a file is and who signed it, or why it cannot be published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads one file: a copy of it that it makes, or with `is_copied` false the file itself."""

    demands: Demands
    is_copied: bool

    def __call__(self, found: Found, copy: Path) -> Outcome:
        source = _source(found)
        try:
            if self.is_copied:
                package, signed_by = intake.take_to(copy, self.demands, source)
            else:
                package, signed_by = intake.judge(self.demands, source.name, found.path)
        except PackageRefused as error:
            return error
        except OSError as error:
            return PackageRefused(source.name, error.strerror or str(error))
        if not _is_its_name(found.relative, package):
            return PackageRefused(source.name, f"its name is not that of {package.cpv}, which it holds")
        return replace(package, metadata=dict(package.metadata)), signed_by


_reader: _Reader
"""Of a process that only reads."""


def _read(
    publication: Publication, found: Sequence[Found], *, is_copied: bool
) -> Iterator[Candidate | PackageRefused]:
    """Read all of `found`; yield in their order what each is, or why it cannot be published."""
    reader = _Reader(demands=publication.demands, is_copied=is_copied)
    copies = [publication.workspace.path() for _ in found]
    with contextlib.ExitStack() as ending:
        outcomes: Iterator[Outcome]
        if len(found) <= ALONE:
            outcomes = map(reader, found, copies)
        else:
            outcomes = ending.enter_context(_readers(reader)).map(_read_one, found, copies, chunksize=CHUNK)
        for one, copy, outcome in zip(found, copies, outcomes, strict=True):
            if isinstance(outcome, PackageRefused):
                yield outcome
            else:
                package, signed_by = outcome
                yield Candidate(source=_source(one), draft=Draft(copy), package=package, signed_by=signed_by)


@contextlib.contextmanager
def _readers(reader: _Reader) -> Iterator[ProcessPoolExecutor]:
    # Forked, not spawned: they begin at once, and have everything imported.
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(mp_context=context, initializer=_begin_to_read, initargs=(reader, os.getpid()))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _source(found: Found) -> Source:
    path = found.path
    return Source(
        name=str(path), open=lambda: intake.open_file(path), mtime=max(1, found.mtime_ns // 1_000_000_000)
    )


def _begin_to_read(reader: _Reader, parent: int) -> None:
    """Begin a process that leaves Ctrl-C to its parent, and does not outlive it."""
    global _reader
    _reader = reader
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died already
        os._exit(1)


def _read_one(found: Found, copy: Path) -> Outcome:
    return _reader(found, copy)


def _is_its_name(relative: str, package: Package) -> bool:
    """Whether Portage would keep the package under that name: CATEGORY/PF or CATEGORY/PN/PF-BUILD_ID.

    Directories above may be left out, so that a part of a PKGDIR can be taken over.
    """
    cpv = package.cpv
    *directories, name = relative.split("/")
    names = {cpv.pf} if package.build_id is None else {cpv.pf, f"{cpv.pf}-{package.build_id}"}
    places: tuple[list[str], ...] = ([], [cpv.category], [cpv.name], [cpv.category, cpv.name])
    return directories in places and name in {f"{stem}{suffix}" for stem in names for suffix in SUFFIXES}
