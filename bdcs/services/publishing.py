# SPDX-License-Identifier: GPL-2.0-or-later
"""Publishing: from a file that somebody has to an entry in the index that clients read.

    publisher = Publisher.of(store=path, data=settings.data, signer=settings.signer)
    published = publisher.publish("amd64", [Path("alpha-1.0-1.gpkg.tar")], actor="admin")

The steps, in this order, for each file and then for all of them as one generation:

(1) a copy of its own, in a workspace, so that nobody changes it meanwhile; read to its last byte
(2) what the target demands of it; what was published already is recognised and left alone
(3) its BUILD_ID: reserved in the store, never given out twice
(4) written anew under that number, and signed by the signer
(5) what was written is read again, verified with the public key, and compared with what went in
(6) made durable
    … and holding the lock of the target, for which others wait:
(7) the number is still free
(8) the files appear under their names
(9) rows, memberships and the generation, in one transaction
(10) the index, on this host: of several collectors each other one writes its own before it next serves it

A kill between any two leaves no more than files that no row names, which `services.upkeep` removes, or an
index that is older than the rows, which the server's index keeper writes.

Everything here blocks; the server calls it in threads, of which any number may publish at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Connection, Engine

from bdcs import measures
from bdcs.blobs.blobs import Blobs, Placement
from bdcs.blobs.directory import Directory
from bdcs.blobs.index_files import IndexFiles
from bdcs.blobs.workspace import Workspace
from bdcs.domain.admission import Numbering, Origin
from bdcs.domain.targets import Cause
from bdcs.errors import BlobTaken, NoSuchKey, NoSuchTarget, PackageRefused, StoreFull, StoreUnavailable
from bdcs.services import build_rows, generations, intake, removals, targets
from bdcs.services.build_rows import Known
from bdcs.services.indexing import write_index
from bdcs.services.intake import Candidate, Demands, Finisher, Ready, Source
from bdcs.services.signing import SignerClient, known_keys, remember_keys
from bdcs.services.target_locks import Lock, holding, undisturbed
from bdcs.store.engine import Place, create_reader, create_writer
from bdcs.store.store import transaction

ADMINISTRATOR: Final = "admin"
ATTEMPTS: Final = 5
"""How often a number may be lost to a package that brought it along, before publishing gives up."""

Builds = Mapping[str, int]
"""The ids of builds, by the names of the files that they were made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeseenFile:
    """What would become of one file."""

    file: str
    cpv: str
    is_new: bool
    """Whether the target does not have it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile(ForeseenFile):
    """What became of one file; it is new where the target did not have it before."""

    build: int
    build_id: int | None
    path: str
    size: int
    signed_by: str | None

    def to_json(self) -> dict[str, object]:
        """What `bdcs publish --json` prints of it."""
        return {
            "file": self.file,
            "cpv": self.cpv,
            "build_id": self.build_id,
            "path": self.path,
            "size": self.size,
            "signed_by": self.signed_by,
            "new": self.is_new,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication did."""

    target: str
    generation: int
    """The newest of the target; not a new one where nothing was new."""
    files: tuple[PublishedFile, ...]

    @property
    def is_new(self) -> bool:
        """Whether anything was."""
        return any(file.is_new for file in self.files)

    def to_json(self) -> dict[str, object]:
        """What `bdcs publish --json` prints."""
        return {
            "target": self.target,
            "generation": self.generation,
            "files": [file.to_json() for file in self.files],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Publishes, for any number of threads."""

    writer: Engine
    reader: Engine
    blobs: Blobs
    data: Path
    """The directory in which indexes and locks of targets are."""
    signer: SignerClient
    now: Callable[[], float] = time.time
    _turn: threading.Lock = field(default_factory=threading.Lock)
    """The writer has one connection."""

    @classmethod
    def of(cls, *, store: Place, data: Path, signer: Path, blobs: Blobs | None = None) -> Self:
        """Make one for `store`, which exists; files are in `blobs`, by default below `data`.

        Raises `NoStore`, `NoPermission`.
        """
        return cls(
            reader=create_reader(store),
            writer=create_writer(store),
            blobs=blobs or Directory(data),
            data=data,
            signer=SignerClient(signer),
        )

    def close(self) -> None:
        """Let go of the store."""
        self.reader.dispose()
        self.writer.dispose()

    def publish(
        self,
        target: str,
        paths: Sequence[Path],
        *,
        actor: str = ADMINISTRATOR,
        again: bool = False,
    ) -> Published:
        """Publish files of this host as one generation of the target: all of them, or none.

        With `again` all of them must have been published there: they get new numbers and signatures, and take
        the place of what they were.

        Raises `NoSuchTarget`, `PackageRefused`, `BlobsFull`, `SignerUnavailable` and what else the signer
        says, `IndexNotWritten` (they are published, and the server will write the index), `OSError`.
        """
        sources = [Source.of(path) for path in paths]
        with self.begin(
            target, actor=actor, origin=Origin.PUBLISH, cause=Cause.PUBLISH, again=again
        ) as publication:
            return publication.commit([publication.take(source) for source in sources])

    @contextlib.contextmanager
    def begin(
        self, target: str, *, actor: str, origin: Origin, cause: Cause, again: bool = False
    ) -> Iterator[Publication]:
        """Give a publication, which nobody sees before its `commit`. Raises `NoSuchTarget`."""
        with self.reading() as connection:
            demands = Demands.of(connection, target, signer=self.signer.path, again=again)
        with self.blobs.workspace() as workspace:
            yield Publication(
                publisher=self,
                workspace=workspace,
                demands=demands,
                actor=actor,
                origin=origin,
                cause=cause,
            )

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the store."""
        with transaction(self.reader) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection whose changes are durable in the end, or never were."""
        with self._turn, transaction(self.writer) as connection:
            yield connection

    def remove(self, lock: Lock, target: str, paths: Sequence[str]) -> list[str]:
        """Remove files that no row names (`services.removals.remove`); the lock of the target is held."""
        return removals.remove(self.blobs, self.writing, lock, target, paths)

    def key_of(self, fingerprint: str) -> bytes:
        """Return a public key of the signer, asking it for one not known as it is. Raises `NoSuchKey`."""
        with self.reading() as connection:
            keys = known_keys(connection)
        # One that is known as expired has been extended since, or nothing could be signed with it.
        if fingerprint not in {key.fingerprint for key in keys if not key.is_expired(self.now())}:
            keys = self.signer.keys()
            with self.writing() as connection:
                remember_keys(connection, keys, self.now())
        for key in keys:
            if key.fingerprint == fingerprint:
                return key.public_key
        raise NoSuchKey(fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Some files on their way to become one generation."""

    publisher: Publisher
    workspace: Workspace
    demands: Demands
    actor: str
    origin: Origin
    cause: Cause

    def take(self, source: Source) -> Candidate:
        """Steps 1 and 2 but for what is known. Raises `PackageRefused`, `BlobsFull`, `OSError`."""
        return intake.take(self.workspace, self.demands, source)

    def commit(
        self,
        candidates: Sequence[Candidate],
        *,
        refused: Callable[[PackageRefused], None] | None = None,
        also: Callable[[Connection, Builds], None] | None = None,
    ) -> Published:
        """Publish the candidates: steps 2 to 10. Call this once.

        `refused` is told of each that cannot be published, and the others are; without it, that is raised and
        nothing is published. `also` is done in the transaction that makes the others visible. Raises the same
        as `Publisher.publish`.
        """
        with measures.publication():
            return self._commit(candidates, refused, also)

    def _commit(
        self,
        candidates: Sequence[Candidate],
        refused: Callable[[PackageRefused], None] | None,
        also: Callable[[Connection, Builds], None] | None,
    ) -> Published:
        ready: dict[Candidate, Ready] = {}
        known = self._known(candidates)
        for _ in range(ATTEMPTS):
            waiting = [one for one in _firsts(candidates) if one not in ready and not self._find(one, known)]
            new, lost = self._finish(waiting, known, ready.values())
            for error in lost.values():
                if refused is None:
                    raise error
                refused(error)
            candidates = [one for one in candidates if one.package.sha512 not in lost]
            self.publisher.blobs.settle(self._placements(new))
            ready.update((item.candidate, item) for item in new)
            with holding(self.publisher.reader, self._index) as lock:
                known = self._known(candidates)  # others may have been quicker
                ready = {one: item for one, item in ready.items() if self._is_free(item, known)}
                if all(one in ready or self._find(one, known) for one in _firsts(candidates)):
                    return self._appear(candidates, ready, known, also, lock)
        loser = next(one for one in candidates if one not in ready)
        reason = "its BUILD_ID was taken by others again and again; publish it once more"
        raise PackageRefused(loser.source.name, reason)

    def foresee(
        self, candidates: Sequence[Candidate], *, refused: Callable[[PackageRefused], None]
    ) -> tuple[ForeseenFile, ...]:
        """Return what `commit` would make of the candidates, as far as it can be known without doing it."""
        known = self._known(candidates)
        files = []
        taken = {build.path for builds in known.values() for build in builds}
        for candidate in candidates:
            is_new = self._find(candidate, known) is None
            if is_new and intake.numbering(candidate, self.demands, taken) is Numbering.REFUSE:
                refused(intake.number_is_taken(candidate, self.demands.target))
            else:
                files.append(ForeseenFile(file=candidate.source.name, cpv=candidate.cpv, is_new=is_new))
        return tuple(files)

    @property
    def _index(self) -> IndexFiles:
        return IndexFiles.of(self.publisher.data, self.demands.target.name)

    def _known(self, candidates: Sequence[Candidate]) -> Mapping[str, list[Known]]:
        with self.publisher.reading() as connection:
            cpvs = {candidate.cpv for candidate in candidates}
            return build_rows.of_cpvs(connection, self.demands.target, cpvs)

    def _find(self, candidate: Candidate, known: Mapping[str, list[Known]]) -> Known | None:
        """Return the build that the candidate is, if it was published before, and is not to be anew."""
        builds = () if self.demands.again else _builds_of(candidate, known)
        return max(builds, key=lambda build: (build.visible, build.id), default=None)

    def _is_free(self, item: Ready, known: Mapping[str, list[Known]]) -> bool:
        """Whether it is not known now, and no other build has its path."""
        paths = {build.path for build in known.get(item.candidate.cpv, ())}
        return item.path not in paths and self._find(item.candidate, known) is None

    def _finish(
        self, waiting: Sequence[Candidate], known: Mapping[str, list[Known]], ready: Iterable[Ready]
    ) -> tuple[list[Ready], dict[str, PackageRefused]]:
        """Do steps 3 to 5; return what is ready, and why others, by their SHA512, cannot be published."""
        finisher = Finisher(
            workspace=self.workspace,
            demands=self.demands,
            sign=self.publisher.signer.sign,
            key_of=self.publisher.key_of,
            now=self.publisher.now,
        )
        numbers = self._numbers(waiting, known, {item.path for item in ready})

        def finish(candidate: Candidate) -> Ready | PackageRefused:
            number = numbers[candidate]
            try:
                if self.demands.again and not _builds_of(candidate, known):
                    raise intake.is_not_known(candidate, self.demands.target)
                if number is Numbering.REFUSE:
                    raise intake.number_is_taken(candidate, self.demands.target)
                if number is Numbering.KEEP:
                    return finisher.keep(candidate)
                assert isinstance(number, int)
                return finisher.number(candidate, number)
            except PackageRefused as error:
                return error

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(finish, waiting))
        lost = {
            candidate.package.sha512: outcome
            for candidate, outcome in zip(waiting, outcomes, strict=True)
            if isinstance(outcome, PackageRefused)
        }
        return [outcome for outcome in outcomes if isinstance(outcome, Ready)], lost

    def _numbers(
        self, waiting: Sequence[Candidate], known: Mapping[str, list[Known]], taken: set[str]
    ) -> Mapping[Candidate, int | Numbering]:
        """Return the BUILD_ID that each candidate gets from us, KEEP or REFUSE; reserve what is given."""
        numbers: dict[Candidate, int | Numbering] = {}
        kept = []
        taken |= {build.path for builds in known.values() for build in builds}
        for candidate in waiting:
            numbers[candidate] = decision = intake.numbering(candidate, self.demands, taken)
            if decision is Numbering.KEEP:
                taken.add(intake.path_of(candidate, candidate.package.build_id))
                kept.append((candidate.cpv, candidate.package.build_id or 0))
        assigned = [candidate for candidate in waiting if numbers[candidate] is Numbering.ASSIGN]
        if assigned or kept:
            with self.publisher.writing() as connection:
                given = build_rows.reserve(
                    connection, self.demands.target, [candidate.cpv for candidate in assigned], kept
                )
            numbers.update(zip(assigned, given, strict=True))
        return numbers

    def _appear(
        self,
        candidates: Sequence[Candidate],
        ready: Mapping[Candidate, Ready],
        known: Mapping[str, list[Known]],
        also: Callable[[Connection, Builds], None] | None,
        lock: Lock,
    ) -> Published:
        """Do steps 8 to 10; the lock is held."""
        target = self.demands.target
        items = list(ready.values())
        try:
            self._place(self._placements(items), lock)
            with self.publisher.writing() as connection:
                lock.require(connection)
                removals.require_none(connection, lock, target.name, [item.path for item in items])
                published, changed = self._write(connection, candidates, ready, known, also)
        except Exception as error:  # not for a signal: it may have come just after everything was durable
            if isinstance(error, StoreUnavailable) and not isinstance(error, StoreFull):
                raise  # nobody knows whether it was stored: upkeep removes what no row names
            with contextlib.suppress(StoreUnavailable):  # then upkeep removes what no row names
                self.publisher.remove(lock, target.name, [item.path for item in items])
            raise
        if changed:
            with undisturbed(self.publisher.reader, self._index), self.publisher.reading() as connection:
                write_index(connection, targets.require(connection, target.name), self._index, changed)
        return published

    def _placements(self, items: Iterable[Ready]) -> list[Placement]:
        return [
            Placement(
                draft=item.draft,
                target=self.demands.target.name,
                path=item.path,
                is_immutable=item.build_id is not None,
            )
            for item in items
        ]

    def _place(self, placements: Sequence[Placement], lock: Lock) -> None:
        """Have them appear. The lock is held and no row names them: what has such a name is an orphan."""
        for _ in placements:
            try:
                return self.publisher.blobs.place(placements)
            except BlobTaken as error:
                if self.publisher.remove(lock, error.target, [error.path]):
                    raise StoreUnavailable(f"{error}; somebody is about to remove it") from error
        return self.publisher.blobs.place(placements)

    def _write(
        self,
        connection: Connection,
        candidates: Sequence[Candidate],
        ready: Mapping[Candidate, Ready],
        known: Mapping[str, list[Known]],
        also: Callable[[Connection, Builds], None] | None,
    ) -> tuple[Published, set[str]]:
        """Write rows and generation; return what became of the files, and the CPVs that changed."""
        target = targets.require(connection, self.demands.target.name)
        if target.id != self.demands.target.id:
            raise NoSuchTarget(target.name)  # it was removed meanwhile, and another made
        now = int(self.publisher.now())
        ids = build_rows.add(
            connection,
            target,
            [self._values(item, known) for item in ready.values()],
            origin=str(self.origin),
            published_at=now,
        )
        by_content = {
            candidate.package.sha512: _file_of(item, number)
            for (candidate, item), number in zip(ready.items(), ids, strict=True)
        }
        changed = {candidate.cpv for candidate in ready}
        replaced = {
            build.id for candidate in ready for build in _builds_of(candidate, known) if build.visible
        }
        back = {}
        for candidate in candidates:
            found = self._find(candidate, known)
            if found is not None and candidate.package.sha512 not in by_content:
                by_content[candidate.package.sha512] = _file_again(found)
                if not found.visible:
                    back[found.id] = found.cpv
        if ids or back:
            changed.update(back.values())
            target_generation = generations.advance(
                connection, target, [*ids, *back], replaced, cause=self.cause, actor=self.actor, now=now
            ).number
        else:
            target_generation = target.generation
        files = tuple(
            replace(by_content[candidate.package.sha512], file=candidate.source.name)
            for candidate in candidates
        )
        if also is not None:
            also(connection, {file.file: file.build for file in files})
        return Published(target=target.name, generation=target_generation, files=files), changed

    def _values(self, item: Ready, known: Mapping[str, list[Known]]) -> dict[str, object]:
        values = {**item.values, "actor": item.candidate.source.builder or self.actor}
        for build in _builds_of(item.candidate, known):
            if build.is_file_of(item.candidate.package):
                values["source"] = build.source  # it is what it was first made from
        return values


def _firsts(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates without those that are the same file as one before."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(candidate.package.sha512, candidate)
    return list(seen.values())


def _builds_of(candidate: Candidate, known: Mapping[str, list[Known]]) -> list[Known]:
    """Return the builds that the candidate is, or was made into, and whose files are there."""
    return [build for build in known.get(candidate.cpv, ()) if build.is_of(candidate.package)]


def _file_of(item: Ready, build: int) -> PublishedFile:
    return PublishedFile(
        file=item.candidate.source.name,
        cpv=item.candidate.cpv,
        build=build,
        build_id=item.build_id,
        path=item.path,
        size=item.package.size,
        signed_by=item.signed_by,
        is_new=True,
    )


def _file_again(build: Known) -> PublishedFile:
    """A file that was published before; it is new where it had been withdrawn."""
    return PublishedFile(
        file="",
        cpv=build.cpv,
        build=build.id,
        build_id=build.build_id,
        path=build.path,
        size=build.size,
        signed_by=build.signed_by,
        is_new=not build.visible,
    )
