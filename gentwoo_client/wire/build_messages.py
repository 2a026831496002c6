# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON documents of builds on request, as pydantic models (see `wire.messages`).

    POST   /v1/builds                     BuildWish       → BuildState (201; 200 for a plan)
    GET    /v1/builds                                     → BuildList
    GET    /v1/builds/{id}?wait=&since=                   → BuildState
    GET    /v1/builds/{id}/events                         → events `state`: BuildState, `log`: LogLines
    DELETE /v1/builds/{id}                                → BuildState
    POST   /v1/builds/{id}/retry                          → BuildState
    GET    /v1/jobs/{id}                                  → JobState
    GET    /v1/jobs/{id}/log?offset=&wait=&attempt=       → text/plain; Log-Attempt, Log-Offset, Log-State
    POST   /v1/attempts?wait=             Claim           → Lease (201), or 204
    POST   /v1/attempts/{id}/heartbeat?wait=  Fencing     → Heartbeat
    POST   /v1/attempts/{id}/log          LogPiece        → LogEnd
    POST   /v1/attempts/{id}/publish      Publish         → Published
    POST   /v1/attempts/{id}/fail         Failed          → Heartbeat
    GET    /v1/builders                                   → BuilderList
    GET    /v1/metadata                                   → MetadataWanted
    POST   /v1/metadata                   MetadataMade    → MetadataTaken
    POST   /v1/targets/proposals          TargetProposal  → ProposalState (201; 200 where it was known)

A lease is renewed as soon as a heartbeat comes; with `wait` it is answered after so many seconds, or when the
attempt has to stop. Times are RFC 3339, durations whole seconds. A specification is the document of
`wire.builds`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from gentwoo_client.wire import limits
from gentwoo_client.wire.messages import Message

Count = Annotated[int, Field(ge=0, le=limits.INTEGER_MAX)]
Line = Annotated[str, StringConstraints(max_length=limits.LINE_LENGTH)]
Prose = Annotated[str, StringConstraints(max_length=limits.FAILURE_LENGTH)]
TargetName = Annotated[str, StringConstraints(min_length=1, max_length=limits.TARGET_NAME_LENGTH)]
Repository = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,127}$")]
MD5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
UploadName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]

PackageAnswer = Literal["published", "joined", "queued", "refused"]
PackageState = Literal[
    "published", "waiting", "queued", "building", "failed", "mismatch", "refused", "cancelled"
]
RequestState = Literal["planned", "open", "published", "incomplete", "cancelled"]
Refusal = Literal[
    "no-target", "no-builder", "parameter", "unknown", "bindist", "failed", "dependencies", "quota"
]
FailureKind = Literal["build", "fetch", "dependencies", "limit", "refused", "builder"]
JobStateName = Literal["waiting", "queued", "building", "published", "failed", "mismatch", "cancelled"]
AttemptStateName = Literal["leased", "published", "failed", "lost", "cancelled"]


class Access(Message):
    """What opens a private target: the name and token that its operator made."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    token: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class BuildWish(Message):
    """Packages that a machine wants, each as its own Portage would build it."""

    target: TargetName
    packages: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=limits.PACKAGES_PER_REQUEST,
        description="Specifications, in the order of the machine's plan.",
    )
    atoms: list[Line] = Field(
        default_factory=list, max_length=limits.ATOMS_PER_REQUEST, description="What the user asked for."
    )
    commit: bool = Field(default=True, description="false: only say what would be.")
    retry: bool = Field(default=False, description="Try again what failed not long ago.")
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,64}$")] | None = Field(
        default=None,
        description="Chosen by the machine: the same again gets the request that it made before.",
    )
    access: Access | None = None
    parameters: dict[str, Any] | None = Field(
        default=None, description="Those of the machine (`wire.parameters`): held against the target."
    )


class TargetProposal(Message):
    """A target that a machine would like to have (`wire.proposals`)."""

    chost: Line
    arch: Line
    profile: Line = Field(description="Below `profiles/`.")
    cflags: Annotated[str, StringConstraints(max_length=limits.TARGET_FLAGS_LENGTH)]
    cpu: Line = Field(description="What a compiler calls the CPU; may be empty.")


class ProposalState(Message):
    """What becomes of it."""

    state: Literal["accepted", "waiting", "refused"]
    target: TargetName | None = Field(description="The target, of an accepted one.")
    reason: Line | None = Field(description="Why it is refused, where somebody says so.")


class NearMiss(Message):
    """A published build of that version that is not the one wished for."""

    cpv: Line
    url: str
    build_id: int | None
    difference: list[str] = Field(description="In words, one fact each.")


class PackageStatus(Message):
    """How one package of a request stands."""

    cpv: Line
    digest: str
    answer: PackageAnswer = Field(description="What was told when it was asked for.")
    state: PackageState
    url: str | None = Field(description="Of the package file, once it is published (also of a mismatch).")
    refusal: Refusal | None
    reason: str | None = Field(description="Why it is refused, or failed; of a mismatch, the difference.")
    near: list[NearMiss] = Field(description="Only in the answer to a wish, of what is not published.")
    job: int | None
    position: int | None = Field(description="In the queue of its target, from 1; null unless it is queued.")
    expected_seconds: int | None = Field(description="How long it takes to build; null where unknown.")
    finish_at: str | None = Field(description="When it is likely to be there; null where unknown.")
    left_out: list[Line] = Field(
        default_factory=list,
        description="CPVs that had to be built as well and must not be redistributed: not published.",
    )


class BuildState(Message):
    """A request, or a plan (`id` null) of one."""

    id: str | None
    target: TargetName
    state: RequestState
    atoms: list[Line]
    created_at: str
    finished_at: str | None
    finish_at: str | None = Field(description="When all of it is likely to be there; null where unknown.")
    listed_in: Count = Field(
        default=0,
        description="Seconds, at most, until the index lists what of it is published, once it has ended; 0:"
        " it does. After many publications in a row the index waits for more.",
    )
    version: str = Field(description="Changes whenever anything here does but predictions: for `since`.")
    packages: list[PackageStatus]


class BuildSummary(Message):
    """A request in a list."""

    id: str
    target: TargetName
    state: RequestState
    atoms: list[Line]
    created_at: str
    finished_at: str | None
    packages: Count
    ended: Count = Field(description="Packages that do not wait any more.")


class BuildList(Message):
    """Requests of the machine that asks, the newest first."""

    builds: list[BuildSummary]


class AttemptState(Message):
    """One builder's attempt at a job."""

    attempt: int
    number: int
    builder: str
    state: AttemptStateName
    started_at: str
    finished_at: str | None
    failure: str | None
    reason: str | None
    log_size: Count = Field(description="Bytes.")
    log_deleted_at: str | None = Field(
        default=None, description="Since when its log is gone; null while it is kept."
    )
    left_out: list[Line] = Field(
        default_factory=list, description="What it built as well and must not be redistributed."
    )


class JobState(Message):
    """What is, was or will be built."""

    job: int
    target: TargetName
    cpv: Line
    digest: str
    state: JobStateName
    specification: dict[str, Any]
    created_at: str
    finished_at: str | None
    failure: str | None
    reason: str | None
    failed_until: str | None
    url: str | None
    position: int | None
    expected_seconds: int | None
    finish_at: str | None
    needs: list[int] = Field(description="Jobs that must end before it.")
    attempts: list[AttemptState]


class LogLines(Message):
    """The event `log`: more of the log of a job. Its id is `ATTEMPT:OFFSET` of its end."""

    job: int
    attempt: int
    cpv: Line
    offset: Count = Field(description="Where `text` begins: bytes of the log in UTF-8.")
    text: str


class Claim(Message):
    """A builder wants work."""

    targets: list[TargetName] = Field(min_length=1, max_length=64)
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
    draining: bool = Field(default=False, description="Tells that it takes no more; there is no lease then.")


class LeasedTarget(Message):
    """The target that is built for."""

    name: TargetName
    chost: str
    profile: str
    cflags: str
    cpu: str
    toolchain: str
    bindist: bool
    signatures: Literal["required", "optional"]
    url: str = Field(description="Portage's sync-uri.")


class LeasedJob(Message):
    """What is to be built."""

    job: int
    cpv: Line
    digest: str
    repository: str
    specification: dict[str, Any]
    listed_in: Count = Field(
        default=0,
        description="Seconds, at most, until the index lists what it needs and others have just built.",
    )


class Lease(Message):
    """An attempt at a job, for as long as the lease is renewed."""

    attempt: int
    fencing: int
    lease: int = Field(description="Seconds until the next heartbeat must have come.")
    job: LeasedJob
    target: LeasedTarget


class Fencing(Message):
    """Says which attempt it is that acts."""

    fencing: int
    release: bool = Field(default=False, description="Gives the job back: another builder may take it.")


class Heartbeat(Message):
    """Whether the attempt may go on."""

    lease: int = Field(description="Seconds; 0 where it may not.")
    cancelled: bool


class LogPiece(Message):
    """More of the log, from `offset` (bytes in UTF-8) on; sent again it changes nothing."""

    fencing: int
    offset: Count
    text: Annotated[str, StringConstraints(max_length=limits.LOG_PIECE_LENGTH)]


class LogEnd(Message):
    """How far the log has come."""

    size: Count = Field(description="Bytes; go on here.")
    cancelled: bool


class Publish(Message):
    """The attempt succeeded: these uploads are to be published, as one."""

    fencing: int
    uploads: list[UploadName] = Field(min_length=1, max_length=limits.UPLOADS_PER_ATTEMPT)
    left_out: list[Line] = Field(
        default_factory=list,
        max_length=limits.UPLOADS_PER_ATTEMPT,
        description="Packages that had to be built as well and must not be redistributed.",
    )


class PublishedPackage(Message):
    """What became of one upload."""

    upload: str
    cpv: Line
    url: str
    new: bool = Field(description="false: that build was there already, and this one was dropped.")


class Published(Message):
    """What became of an attempt."""

    state: Literal["published", "mismatch"]
    generation: int
    packages: list[PublishedPackage]
    difference: list[str]


class Failed(Message):
    """The attempt failed."""

    fencing: int
    kind: FailureKind
    text: Prose


class Builder(Message):
    """A builder that asked for work not long ago."""

    machine: str = Field(description="UUID.")
    name: str
    targets: list[TargetName]
    seen_at: str
    draining: bool
    jobs: list[int] = Field(description="What it builds now.")


class BuilderList(Message):
    """All builders."""

    builders: list[Builder]


class EbuildWanted(Message):
    """An ebuild that the collector knows nothing of, since its repository has no cache entry of it."""

    cpv: Line
    md5: MD5 = Field(description="Of the ebuild: who has another one of that name is not asked.")


class RepositoryWanted(Message):
    """Ebuilds of one repository, the first of many perhaps."""

    repository: Repository
    ebuilds: list[EbuildWanted]


class MetadataWanted(Message):
    """What builders are asked to make cache entries of, in their sandboxes."""

    repositories: list[RepositoryWanted]


class MadeEntry(Message):
    """A cache entry as Portage makes it (md5-dict)."""

    cpv: Line
    md5: MD5 = Field(description="Of the ebuild that it was made of.")
    text: Annotated[str, StringConstraints(max_length=limits.ENTRY_LENGTH)]


class MetadataMade(Message):
    """Cache entries that a builder made."""

    repository: Repository
    entries: list[MadeEntry] = Field(min_length=1, max_length=limits.ENTRIES_AT_ONCE)


class RefusedEntry(Message):
    """An entry that was not taken."""

    cpv: Line
    reason: str


class MetadataTaken(Message):
    """What became of them."""

    taken: Count
    refused: list[RefusedEntry]
