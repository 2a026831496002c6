# SPDX-License-Identifier: GPL-2.0-or-later
"""Publishing what an attempt built: its uploads as one generation, exactly once.

The attempt is looked at when publishing begins, and once more in the transaction that makes the packages
visible; whoever lost his lease in between publishes nothing. What is published already, under whatever
number, is dropped. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select, update

from bdcs.domain.admission import Origin
from bdcs.domain.build_policy import DEFAULT, BuildPolicy
from bdcs.domain.targets import Cause
from bdcs.domain.uploads import State
from bdcs.errors import BlobMissing, PackageRefused, StoreUnavailable
from bdcs.services import answers, build_digests, uploads
from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.intake import Candidate, Source
from bdcs.services.jobs import Attempt, Jobs, Touched, published_build
from bdcs.services.publishing import Builds, Publication, Publisher
from bdcs.services.uploads import Upload
from bdcs.store import tables
from bdcs.store.tables import builds, jobs, targets
from gentwoo_client.wire.builds import BuildSpecification, difference
from gentwoo_client.wire.errors import NotFound, RefusedPackage
from gentwoo_client.wire.tokens import Token

TIME: Final = 600
"""Seconds that publishing may take; so long the lease is."""
ATTEMPTS: Final = 3
"""How often others may publish the same meanwhile, before we give up."""
DROPPED: Final = "the same build was published already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What a builder hands over."""

    request: SignedRequest
    token: Token
    machine_id: int
    attempt: int
    fencing: int
    uploads: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """CPVs that were built as well and must not be passed on."""
    policy: BuildPolicy = DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    id: int
    target_id: int
    target: str
    digest: str
    cpv: str
    specification: BuildSpecification


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A package that was built, and which build it is where that was published before."""

    upload: Upload
    candidate: Candidate
    digest: str
    build: int | None


class _Overtaken(Exception):
    """Somebody published one of them meanwhile."""


def publish(
    publisher: Publisher, handover: Handover, *, url: Callable[[str, str], str | None]
) -> tuple[Answer, Touched]:
    """Publish it; return what the builder is told, and whom it concerned.

    Raises `NotFound`, `LeaseLost`, `RefusedPackage`, and what `Publisher.publish` raises.
    """
    with publisher.writing() as connection:
        book = Jobs(connection, publisher.now(), handover.policy)
        attempt = book.leased(handover.attempt, handover.fencing, handover.machine_id)
        book.renew(attempt, TIME)
        job = _job(connection, attempt)
        waiting = [_upload(connection, handover, job, name) for name in handover.uploads]
    for _ in range(ATTEMPTS):
        try:
            return _Publishing(publisher, handover, job, waiting, url).run()
        except _Overtaken:
            continue
    raise RefusedPackage("others published the same again and again")


class _Publishing:
    def __init__(
        self,
        publisher: Publisher,
        handover: Handover,
        job: _Job,
        waiting: Sequence[Upload],
        url: Callable[[str, str], str | None],
    ) -> None:
        self._publisher = publisher
        self._handover = handover
        self._job = job
        self._waiting = waiting
        self._url = url
        self._outcome: tuple[Answer, Touched] | None = None

    def run(self) -> tuple[Answer, Touched]:
        job, publisher = self._job, self._publisher
        actor = str(self._handover.token.sub)
        with publisher.begin(
            job.target, actor=actor, origin=Origin.UPLOAD, cause=Cause.PUBLISH
        ) as publication:
            members = self._members(publication)
            new = [member for member in members if member.build is None]
            if new:

                def also(connection: Connection, made: Builds) -> None:
                    self._outcome = self._finish(connection, members, made)

                try:
                    publication.commit([member.candidate for member in new], also=also)
                except PackageRefused as error:
                    raise RefusedPackage(str(error)) from error
            else:
                with publisher.writing() as connection:
                    self._outcome = self._finish(connection, members, {})
        with contextlib.suppress(StoreUnavailable):  # they are published: upkeep drops them later
            for upload in self._waiting:
                publisher.blobs.drop_upload(upload.id)
        assert self._outcome is not None
        return self._outcome

    def _members(self, publication: Publication) -> list[_Member]:
        members = []
        seen: set[str] = set()
        for upload in self._waiting:
            try:
                candidate = publication.take(_source(self._publisher, upload))
            except (PackageRefused, BlobMissing) as error:
                raise RefusedPackage(str(error)) from error
            digest = build_digests.digest_of(self._job.target, candidate.package.metadata)
            if digest in seen and digest != build_digests.NONE:
                raise RefusedPackage(f"{candidate.cpv} was handed over twice")
            seen.add(digest)
            with self._publisher.reading() as connection:
                build = _published(connection, self._job.target_id, digest)
            members.append(_Member(upload=upload, candidate=candidate, digest=digest, build=build))
        if not any(member.candidate.cpv == self._job.cpv for member in members):
            raise RefusedPackage(f"nothing of what was handed over is {self._job.cpv}")
        return members

    def _finish(
        self, connection: Connection, members: Sequence[_Member], made: Builds
    ) -> tuple[Answer, Touched]:
        """Write down what became of attempt and job, in the transaction that publishes."""
        handover, job = self._handover, self._job
        book = Jobs(connection, self._publisher.now(), handover.policy)
        attempt = book.leased(handover.attempt, handover.fencing, handover.machine_id)
        ids = {member.upload.id: member.build or made[member.candidate.source.name] for member in members}
        if _overtaken(connection, job.target_id, made.values()):
            raise _Overtaken
        _note(connection, members)
        build, differs = self._result(members, ids)
        book.succeed(attempt, build, differs, handover.left_out)
        book.finish_published(job.target_id)
        document = {
            "state": "mismatch" if differs else "published",
            "generation": _generation(connection, job.target_id),
            "packages": self._packages(connection, members, ids),
            "difference": list(differs),
        }
        answer = answers.once(
            connection,
            handover.request,
            handover.token,
            self._publisher.now(),
            lambda _connection: Answer(status=200, body=json.dumps(document)),
        )
        return answer, book.touched

    def _result(self, members: Sequence[_Member], ids: Mapping[str, int]) -> tuple[int, tuple[str, ...]]:
        """Return the build that answers the wish, or that should have, and how it differs from it."""
        for member in members:
            if member.digest == self._job.digest:
                return ids[member.upload.id], ()
        built = [member for member in members if member.candidate.cpv == self._job.cpv]
        metadata = built[0].candidate.package.metadata
        if built[0].digest == build_digests.NONE:
            return ids[built[0].upload.id], ("its metadata is not what PMS allows",)
        specification = BuildSpecification.from_metadata(self._job.target, metadata)
        differs = difference(specification, self._job.specification)
        return ids[built[0].upload.id], differs or ("it is another build",)

    def _packages(
        self, connection: Connection, members: Sequence[_Member], ids: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        rows = connection.execute(select(builds.c.id, builds.c.path).where(builds.c.id.in_(ids.values())))
        paths: dict[int, str] = {row.id: row.path for row in rows}
        return [
            {
                "upload": member.upload.id,
                "cpv": member.candidate.cpv,
                "url": self._url(self._job.target, paths[ids[member.upload.id]]),
                "new": member.build is None,
            }
            for member in members
        ]


def _job(connection: Connection, attempt: Attempt) -> _Job:
    row = connection.execute(
        select(jobs, targets.c.name.label("target"))
        .join(targets, targets.c.id == jobs.c.target_id)
        .where(jobs.c.id == attempt.job_id)
    ).one()
    return _Job(
        id=row.id,
        target_id=row.target_id,
        target=row.target,
        digest=row.digest,
        cpv=row.cpv,
        specification=BuildSpecification.from_json(json.loads(row.specification)),
    )


def _upload(connection: Connection, handover: Handover, job: _Job, name: str) -> Upload:
    """Return an upload of that builder for the job's target. Raises `NotFound`, `RefusedPackage`."""
    found = uploads.find(connection, name)
    if found is None or found.machine != str(handover.token.sub) or found.target != job.target:
        raise NotFound(f"this machine has sent no upload {name} for {job.target}")
    if found.state is not State.QUARANTINED or found.blob is None:
        raise RefusedPackage(f"upload {name} is {found.state} already")
    return found


def _source(publisher: Publisher, upload: Upload) -> Source:
    return Source(
        name=f"upload {upload.id}",
        open=lambda: publisher.blobs.open_upload(upload.id),
        mtime=upload.received_at,
    )


def _published(connection: Connection, target_id: int, digest: str) -> int | None:
    return None if digest == build_digests.NONE else published_build(connection, target_id, digest)


def _overtaken(connection: Connection, target_id: int, made: Collection[int]) -> bool:
    """Whether one of the builds that are just being made is there a second time."""
    mine = builds.alias()
    query = (
        select(builds.c.id)
        .join(mine, (mine.c.target_id == builds.c.target_id) & (mine.c.digest == builds.c.digest))
        .where(
            builds.c.target_id == target_id,
            builds.c.visible,
            builds.c.digest != build_digests.NONE,
            builds.c.id.not_in(made),
            mine.c.id.in_(made),
        )
    )
    return connection.execute(query.limit(1)).first() is not None


def _note(connection: Connection, members: Sequence[_Member]) -> None:
    """Write down what became of the uploads."""
    new = [member.upload.id for member in members if member.build is None]
    old = [member.upload.id for member in members if member.build is not None]
    which = tables.uploads.c.id
    published = {"state": str(State.PUBLISHED), "blob": None}
    connection.execute(update(tables.uploads).where(which.in_(new)).values(**published))
    dropped = {"state": str(State.REFUSED), "reason": DROPPED, "blob": None}
    connection.execute(update(tables.uploads).where(which.in_(old)).values(**dropped))


def _generation(connection: Connection, target_id: int) -> int:
    number: int = connection.execute(
        select(targets.c.generation).where(targets.c.id == target_id)
    ).scalar_one()
    return number
