# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol's JSON documents as pydantic models: for bytes that arrive, and for the collector's OpenAPI.

    head = parse_message(SegmentAnswer, body).head        # a small document; raises Malformed
    payload = parse_payload(parts.payload)                # a segment's payload after verify_parts

`parse_payload` accepts what `open_segment` accepts and understands the same, but gives records as columns. It
uses pydantic's JSON parser, and then `wire.columns` rather than the model `Record`, which takes several times
as long. Tests hold all of them to the same verdict.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from gentwoo_client.wire import cpv, identity, json_text, limits, records, segments
from gentwoo_client.wire.columns import Columns, columns_of
from gentwoo_client.wire.errors import InvalidBase64, InvalidJSON, InvalidKey, Malformed, TooLarge

__all__ = [
    "Head",
    "LeavingList",
    "LeavingPackage",
    "MachineState",
    "Message",
    "NewWatch",
    "ParsedPayload",
    "Problem",
    "Record",
    "Registration",
    "ReportLink",
    "SegmentAnswer",
    "SegmentPayload",
    "WatchList",
    "WatchRequest",
    "WatchState",
    "parse_message",
    "parse_payload",
]


def _anchored(expression: str) -> str:
    return f"^(?:{expression})$"


def _category(text: str) -> str:
    if not cpv.is_category(text):
        raise ValueError("not a category by PMS")
    return text


def _name(text: str) -> str:
    if not cpv.is_name(text):
        raise ValueError("not a package name by PMS")
    return text


def _version(text: str) -> str:
    if not cpv.is_version(text):
        raise ValueError("not a version by PMS")
    return text


def _time(text: str) -> str:
    records.parse_time(text)
    return text


def _two_decimals(value: float) -> float:
    if round(value, 2) != value:
        raise ValueError("more than two decimals")
    return value


def _public_key(text: str) -> str:
    try:
        identity.parse_public_key(text)
    except (InvalidBase64, InvalidKey) as error:
        raise ValueError(error.detail) from None
    return text


Category = Annotated[
    str,
    StringConstraints(pattern=_anchored(cpv.CATEGORY), max_length=limits.CATEGORY_LENGTH),
    AfterValidator(_category),
]
Name = Annotated[
    str, StringConstraints(pattern=_anchored(cpv.NAME), max_length=limits.NAME_LENGTH), AfterValidator(_name)
]
Version = Annotated[
    str,
    StringConstraints(pattern=_anchored(cpv.VERSION), max_length=limits.VERSION_LENGTH),
    AfterValidator(_version),
]
Repository = Annotated[
    str, StringConstraints(pattern=_anchored(cpv.REPOSITORY), max_length=limits.REPOSITORY_LENGTH)
]
Time = Annotated[
    str,
    StringConstraints(pattern=_anchored(records.TIME)),
    AfterValidator(_time),
    Field(json_schema_extra={"format": "date-time"}),
]
Machine = Annotated[
    str,
    StringConstraints(pattern=_anchored(identity.UUID)),
    Field(json_schema_extra={"format": "uuid"}),
]
Digest = Annotated[str, StringConstraints(pattern=_anchored(segments.DIGEST))]
Audience = Annotated[
    str,
    StringConstraints(pattern=_anchored(segments.AUDIENCE), max_length=limits.AUDIENCE_LENGTH),
]
Seq = Annotated[int, Field(ge=1, le=limits.INTEGER_MAX)]


class Message(BaseModel):
    """One JSON document. Members that this version does not know are kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)


class Record(Message):
    """A PackageStateChange: one thing that happened to one package on one machine."""

    seq: Seq = Field(description="Per machine, from 1, without gaps.")
    event: Literal["install", "uninstall", "failure"]
    category: Category
    name: Name
    version: Version = Field(description="With its revision.")
    repository: Repository | None = Field(description="Null where neither log nor /var/db/pkg says.")
    install_type: Literal["source", "binary"] | None = Field(description="Null for an uninstall.")
    cause: Literal["manual", "replaced", "build", "fetch", "interrupted"] | None = Field(
        description="Of an uninstall: manual or replaced. Of a failure: build, fetch, interrupted or null."
    )
    replaces: Version | None = Field(description="Of an install: the version that left the same slot.")
    recorded_at: Time = Field(description="Wall time of the log's record that ended it.")
    time_delta: Annotated[int, Field(ge=0, le=limits.TIME_DELTA_MAX)] | None = Field(
        description="Whole seconds from start to end; null where unknown."
    )
    concurrency: (
        Annotated[float, Field(ge=0, le=limits.CONCURRENCY_MAX), AfterValidator(_two_decimals)] | None
    ) = Field(description="Mean number of merges at work, itself included; two decimals.")
    observed: Literal["live", "backfill"]
    clock: Literal["synchronized", "unsynchronized", "unknown"]

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.install_type is not None and self.event == records.UNINSTALL:
            raise ValueError("install_type is not null, yet this is an uninstall")
        if self.cause not in records.CAUSES_OF[self.event]:
            raise ValueError("cause is not one that this event may have")
        if self.replaces is not None and self.event != records.INSTALL:
            raise ValueError("replaces is not null, yet this is not an install")
        if self.observed == records.BACKFILL and self.clock != records.UNKNOWN:
            raise ValueError("clock is not unknown, yet this is backfill")
        json_text.check_extra(self.model_extra or {})
        return self


class SegmentPayload(Message):
    """The payload of a segment, as its signature covers it."""

    machine: Machine = Field(description="The machine's UUID.")
    audience: Audience = Field(description="The collector's public_url.")
    first_seq: Seq
    prev: Digest | None = Field(description="Digest of the previous segment; null for the first.")
    created_at: Time = Field(description="By the machine's clock.")
    records: list[Record] = Field(min_length=1, max_length=limits.RECORDS_PER_SEGMENT)


class Registration(Message):
    """What a machine sends to become known: its public key and nothing else."""

    public_key: Annotated[str, AfterValidator(_public_key)] = Field(
        description="Raw Ed25519 public key, base64url without padding."
    )

    @property
    def key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return identity.parse_public_key(self.public_key)


class Head(Message):
    """How far a machine's chain has come at the collector."""

    seq: Annotated[int, Field(ge=0, le=limits.INTEGER_MAX)] = Field(description="0 before the first record.")
    segment: Digest | None = Field(description="Digest of the last segment; null before the first.")


class SegmentAnswer(Message):
    """The answer to a segment: everything up to `head` is durable."""

    head: Head


class MachineState(Message):
    """What the collector knows of the machine that asks."""

    machine: Machine
    state: Literal["approved", "awaiting-approval", "quarantined", "refused"]
    head: Head


class ReportLink(Message):
    """A link to the machine's own page, for a short time."""

    url: str
    expires_at: Time


class WatchRequest(Message):
    """What a machine sends to hear of a package."""

    package: Annotated[str, StringConstraints(max_length=limits.LINE_LENGTH)] = Field(
        description="`category/name`."
    )
    topics: list[str] = Field(
        default=[], max_length=16, description="`failures`, `adoption`, `removal`; none: all of them."
    )
    webhook: Annotated[str, StringConstraints(max_length=limits.LINE_LENGTH)] | None = Field(
        default=None, description="An https URL that is called; null: the feed alone."
    )


class WatchState(Message):
    """One watch, and what became of its messages."""

    id: str
    package: str
    topics: list[str]
    webhook: str | None
    created_at: Time
    waiting: Annotated[int, Field(ge=0)] = Field(description="Messages that are on their way.")
    delivered_at: Time | None = Field(description="When the last message arrived.")
    problem: str | None = Field(description="Why the newest message that was tried has not arrived.")


class NewWatch(WatchState):
    """A watch that was just added; its secret is told only now."""

    feed: str = Field(description="Atom feed of all watches of this machine.")
    secret: str | None = Field(description="That messages are signed with; null without a webhook.")


class WatchList(Message):
    """All watches of a machine."""

    feed: str | None = Field(description="Null: there are none.")
    watches: list[WatchState]


class LeavingPackage(Message):
    """A package, or versions of it, that are about to leave their repository."""

    atom: str
    reason: str
    leaves_on: str | None = Field(description="A day; null: not known.")
    machines: Annotated[int, Field(ge=0)] | None = Field(
        description="With the package in any version, rounded; null: not shown."
    )


class LeavingList(Message):
    """The same for everybody: no machine has to say what it has."""

    leaving: list[LeavingPackage]


class Problem(Message):
    """A problem document (RFC 9457); `wire.errors.from_document` makes the error of it."""

    type: str = Field(description="urn:gentwoo:problem: and the problem's name.")
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    advice: str = Field(description="What to do next.")
    head: Head | None = Field(default=None, description="Of gap and fork: the head of the machine's chain.")
    retry_after: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Of too-many-requests and unavailable: seconds, as in Retry-After."
    )
    limit: str | None = Field(
        default=None, description="Of too-many-requests: the collector's setting that says how many."
    )
    allowed: int | None = Field(default=None, description="Of too-many-requests: how many that are.")
    field: str | None = Field(default=None, description="Of malformed: the member that is wrong.")


_Message = TypeVar("_Message", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedPayload(segments.Frame):
    """A segment's payload with its records as columns."""

    columns: Columns


def parse_payload(payload: bytes) -> ParsedPayload:
    """The segment that a decoded payload writes; its signature must have been verified.

    Raises `InvalidJSON`, `InvalidSegment`, `InvalidRecord` and `TooLarge`, as `segments.parse_payload` does.
    """
    return _parse_plain(payload) or _parse_any(payload)


def _parse_plain(payload: bytes) -> ParsedPayload | None:
    """The payload, if it is surely right and written as our own client writes, without unknown members."""
    try:
        members = from_json(payload, allow_inf_nan=False)
    except (ValueError, RecursionError):
        return None
    if not _has_each_member_once(payload, members):
        return None
    frame = segments.frame_members(members)
    columns = columns_of(members["records"], frame["first_seq"])
    return None if columns is None else ParsedPayload(**frame, columns=columns)


def _parse_any(payload: bytes) -> ParsedPayload:
    """The payload, whatever it is, by the one parser that says what is wrong."""
    members = json_text.load_object(payload)
    segment = segments.segment_from_members(members)
    return ParsedPayload(**segments.frame_members(members), columns=Columns.of(segment.records))


def _has_each_member_once(payload: bytes, members: object) -> bool:
    """Whether `payload` surely repeats no member; pydantic's parser keeps the last one silently.

    Without whitespace and escapes each member's name is followed by `":`, so that their number cannot exceed
    the count of it. False for what has unknown members, too: it goes the slow way, which is equivalent.
    """
    if not isinstance(members, dict) or _is_ambiguous(payload):
        return False
    listed = members.get("records")
    if not isinstance(listed, list) or len(listed) > limits.RECORDS_PER_SEGMENT:
        return False
    expected = len(segments.FIELDS) + len(listed) * len(records.FIELDS)
    return payload.count(b'":') == expected


def _is_ambiguous(text: bytes) -> bool:
    """Whether `text` has escapes or whitespace. Written out: a loop takes longer than all five looks."""
    return b" " in text or b"\\" in text or b"\t" in text or b"\n" in text or b"\r" in text


def parse_message(model: type[_Message], body: bytes, *, size: int = limits.REQUEST_SIZE) -> _Message:
    """The document of type `model` that `body` writes.

    Raises `TooLarge` beyond `size` bytes; `InvalidJSON` on what two libraries could read differently, or on
    unknown members beyond the limits; `Malformed` on anything else that the model refuses.
    """
    if len(body) > size:
        raise TooLarge(f"more than {size} bytes")
    json_text.load_object(body)  # pydantic's own parser lets duplicate members pass
    try:
        message = model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "document"
        raise Malformed(f"{place}: {first['msg']}") from None
    _check_extra_of(message)
    return message


def _check_extra_of(message: Message) -> None:
    try:
        json_text.check_extra(message.model_extra or {})
    except InvalidJSON as error:
        raise InvalidJSON(f"{type(message).__name__}: {error.detail}") from None
