# SPDX-License-Identifier: GPL-2.0-or-later
"""The event feed of a collector: what it tells a RabbitMQ of builds, publications and machines.

    {"id": "0b5c…", "at": "2026-11-22T16:24:00+00:00", "target": "amd64", "category": "app-misc", …}

Two topic exchanges: `gentwoo.events` is for everybody and says nothing of machines or of who asked for what;
`gentwoo.machines` is the operator's. An event is told at least once, and those of one routing key in the
order in which they happened; `id` tells repetitions. Members that this version does not know are passed over.

docs/events.md has the routing keys; the fields below are also what its schemas say.
"""

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Final, NoReturn, Self
from uuid import UUID

from gentwoo_client.wire import limits
from gentwoo_client.wire.cpv import is_category, is_name, is_repository, is_version
from gentwoo_client.wire.errors import InvalidTime, Malformed
from gentwoo_client.wire.records import format_time, parse_time
from gentwoo_client.wire.targets import is_target_name

PUBLIC: Final = "gentwoo.events"
"""The exchange of builds and publications."""
OPERATOR: Final = "gentwoo.machines"
"""The exchange of machines."""
KEY_SIZE: Final = 255
"""Bytes of a routing key (AMQP 0-9-1 §4.2.5.3, short strings)."""

_STATE = re.compile(r"[a-z]+(?:-[a-z]+)*")


def _doc(text: str, **schema: Any) -> dict[str, Any]:
    """What a field is, and what JSON Schema says of it beside its type."""
    return {"doc": text, "schema": schema}


_IDENTITY = _doc("tells repetitions: the same event has the same", format="uuid")
_WORD: Final = {"pattern": f"^{_STATE.pattern}$"}


class Event:
    """What all of them have. Built directly they are not checked: what comes from outside enters below."""

    __slots__ = ()
    EXCHANGE: ClassVar[str]
    KIND: ClassVar[str]
    """The first word of its routing keys, and the property `type` of a message."""
    KEY: ClassVar[tuple[str, ...]]
    """The fields that make up its routing key, after the kind."""
    STATES: ClassVar[tuple[str, ...]]

    id: str
    at: int

    @property
    def key(self) -> str:
        """The routing key."""
        return _key(self.KIND, *(getattr(self, name) for name in self.KEY))

    def to_json(self) -> dict[str, object]:
        """The mapping that `from_json` reads."""
        document = {one.name: getattr(self, one.name) for one in _fields(type(self))}
        return {**document, "at": format_time(document["at"])}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The event that a decoded JSON object describes. Raises `Malformed`, which names the member."""
        if not isinstance(document, dict):
            _refuse(cls, "not an object")
        return cls(
            **{one.name: _CHECKS[one.name](cls, one.name, document.get(one.name)) for one in _fields(cls)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEvent(Event):
    """A job of a public target came into a state."""

    EXCHANGE = PUBLIC
    KIND = "build"
    KEY = ("target", "category", "name", "state")
    STATES = ("waiting", "queued", "building", "published", "failed", "mismatch", "cancelled")

    id: str = field(metadata=_IDENTITY)
    at: int = field(metadata=_doc("when it did", format="date-time"))
    target: str = field(metadata=_doc("name of the target"))
    category: str = field(metadata=_doc("category of the package"))
    name: str = field(metadata=_doc("its name"))
    version: str = field(metadata=_doc("its version, with revision"))
    repository: str = field(metadata=_doc("ebuild repository"))
    state: str = field(metadata=_doc(f"the state of the job now: {', '.join(STATES)}", **_WORD))
    job: int = field(metadata=_doc("number of the job, as in `/jobs/NUMBER`"))
    failure: str | None = field(metadata=_doc("why it ended without what was wished for, in a word", **_WORD))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationEvent(Event):
    """The index of a public target lists a package from now on, or no longer."""

    EXCHANGE = PUBLIC
    KIND = "publication"
    KEY = ("target", "category", "name", "state")
    STATES = ("published", "withdrawn")

    id: str = field(metadata=_IDENTITY)
    at: int = field(metadata=_doc("since when", format="date-time"))
    target: str = field(metadata=_doc("name of the target"))
    category: str = field(metadata=_doc("category of the package"))
    name: str = field(metadata=_doc("its name"))
    version: str = field(metadata=_doc("its version, with revision"))
    repository: str = field(metadata=_doc("ebuild repository"))
    state: str = field(metadata=_doc(f"what happened: {', '.join(STATES)}", **_WORD))
    build_id: int | None = field(metadata=_doc("BUILD_ID; null where the package has none"))
    path: str = field(metadata=_doc("where the file is, below `/binhost/TARGET/`"))
    size: int = field(metadata=_doc("bytes of the file"))
    generation: int = field(metadata=_doc("of the target's index: packages with the same appeared as one"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineEvent(Event):
    """Something happened to a machine; for the operator only."""

    EXCHANGE = OPERATOR
    KIND = "machine"
    KEY = ("state",)
    STATES = (
        "registered",
        "approved",
        "awaiting-approval",
        "quarantined",
        "refused",
        "forgotten",
    )

    id: str = field(metadata=_IDENTITY)
    at: int = field(metadata=_doc("when it did", format="date-time"))
    machine: str = field(metadata=_doc("UUID of the machine", format="uuid"))
    state: str = field(metadata=_doc(f"what happened: {', '.join(STATES)}", **_WORD))
    approved: bool = field(metadata=_doc("whether its records are taken now"))


MODELS: Final[Mapping[str, type[Event]]] = {
    model.KIND: model for model in (BuildEvent, PublicationEvent, MachineEvent)
}
"""All events, by their kinds."""


def event_of(kind: str, document: object) -> Event:
    """Return the event of that kind which a decoded JSON object describes. Raises `Malformed`."""
    if kind not in MODELS:
        raise Malformed(f"no event is called {kind[:40]!r}")
    return MODELS[kind].from_json(document)


def schema_of(model: type[Event]) -> dict[str, object]:
    """Return the JSON Schema (2020-12) of an event."""
    properties: dict[str, object] = {}
    for one in _fields(model):
        kind = _TYPES[one.name]
        of_kind = kind if isinstance(kind, str) else list(kind)
        schema = {"type": of_kind, "description": one.metadata["doc"], **one.metadata["schema"]}
        if of_kind == "integer":
            schema["minimum"] = 0
        properties[one.name] = schema
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{model.KIND} event",
        "description": (model.__doc__ or "").rstrip("."),
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _key(*words: str) -> str:
    """Join words by dots; a dot within one is written %2E. The longest are cut where it would be too long."""
    escaped = [word.replace(".", "%2E") for word in words]
    for longest in sorted(range(len(escaped)), key=lambda place: -len(escaped[place])):
        over = len(".".join(escaped)) - KEY_SIZE
        if over > 0:
            escaped[longest] = escaped[longest][: max(1, len(escaped[longest]) - over)]
    return ".".join(escaped)


def _fields(model: type[Event]) -> tuple[Field[Any], ...]:
    return fields(model)  # type: ignore[arg-type]  # each of MODELS is a dataclass


_TYPES: Final[Mapping[str, str | tuple[str, ...]]] = {
    **dict.fromkeys(("id", "at", "target", "category", "name", "version", "repository", "state"), "string"),
    **dict.fromkeys(("path", "machine"), "string"),
    **dict.fromkeys(("job", "size", "generation"), "integer"),
    "failure": ("string", "null"),
    "build_id": ("integer", "null"),
    "approved": "boolean",
}
"""What JSON has for each field, whichever model it is of."""


def _refuse(model: type[Event], reason: str) -> NoReturn:
    raise Malformed(f"{model.KIND} event: {reason}")


def _text(model: type[Event], name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > limits.LINE_LENGTH or not value.isprintable():
        _refuse(model, f"{name} is not a line of at most {limits.LINE_LENGTH} characters")
    return value


def _uuid(model: type[Event], name: str, value: object) -> str:
    try:
        return str(UUID(_text(model, name, value)))
    except ValueError:
        _refuse(model, f"{name} is not a UUID")


def _time(model: type[Event], name: str, value: object) -> int:
    try:
        return parse_time(_text(model, name, value))
    except InvalidTime as error:
        _refuse(model, f"{name}: {error}")


def _word(model: type[Event], name: str, value: object) -> str:
    word = _text(model, name, value)
    if not _STATE.fullmatch(word):
        _refuse(model, f"{name} is not a word")
    return word


def _word_or_none(model: type[Event], name: str, value: object) -> str | None:
    return None if value is None else _word(model, name, value)


def _number(model: type[Event], name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= limits.INTEGER_MAX:
        _refuse(model, f"{name} is not a whole number")
    return value


def _number_or_none(model: type[Event], name: str, value: object) -> int | None:
    return None if value is None else _number(model, name, value)


def _boolean(model: type[Event], name: str, value: object) -> bool:
    if not isinstance(value, bool):
        _refuse(model, f"{name} is neither true nor false")
    return value


def _that(is_one: Any) -> Any:
    def check(model: type[Event], name: str, value: object) -> str:
        text = _text(model, name, value)
        if not is_one(text):
            _refuse(model, f"{name} is none")
        return text

    return check


def _path(model: type[Event], name: str, value: object) -> str:
    path = _text(model, name, value)
    if not path or path.startswith("/") or ".." in path.split("/"):
        _refuse(model, f"{name} does not stay below the target")
    return path


_CHECKS: Final[Mapping[str, Any]] = {
    "id": _uuid,
    "at": _time,
    "target": _that(is_target_name),
    "category": _that(is_category),
    "name": _that(is_name),
    "version": _that(is_version),
    "repository": _that(lambda text: text == "" or is_repository(text)),
    "state": _word,
    "job": _number,
    "failure": _word_or_none,
    "build_id": _number_or_none,
    "path": _path,
    "size": _number,
    "generation": _number,
    "machine": _uuid,
    "approved": _boolean,
}
