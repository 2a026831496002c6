# SPDX-License-Identifier: GPL-2.0-or-later
"""PackageStateChange: one thing that happened to one package on one machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from functools import lru_cache
from re import compile as pattern
from typing import Final, NoReturn, cast

from gentwoo_client.wire import limits
from gentwoo_client.wire.cpv import CPV, is_category, is_name, is_repository, is_version
from gentwoo_client.wire.errors import InvalidJSON, InvalidRecord, InvalidTime
from gentwoo_client.wire.json_text import check_extra

INSTALL: Final = "install"
UNINSTALL: Final = "uninstall"
FAILURE: Final = "failure"
EVENTS: Final = frozenset({INSTALL, UNINSTALL, FAILURE})

SOURCE: Final = "source"
BINARY: Final = "binary"

MANUAL: Final = "manual"
REPLACED: Final = "replaced"
BUILD: Final = "build"
FETCH: Final = "fetch"
INTERRUPTED: Final = "interrupted"
CAUSES_OF: Final[Mapping[str, frozenset[str | None]]] = {
    INSTALL: frozenset({None}),
    UNINSTALL: frozenset({MANUAL, REPLACED}),
    FAILURE: frozenset({BUILD, FETCH, INTERRUPTED, None}),
}
"""The causes that a record of each event may have."""

LIVE: Final = "live"
BACKFILL: Final = "backfill"
OBSERVED: Final = frozenset({LIVE, BACKFILL})

SYNCHRONIZED: Final = "synchronized"
UNSYNCHRONIZED: Final = "unsynchronized"
UNKNOWN: Final = "unknown"
CLOCKS: Final = frozenset({SYNCHRONIZED, UNSYNCHRONIZED, UNKNOWN})

TIME: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00"

_MINUTE = pattern(r"T([01][0-9]|2[0-3]):([0-5][0-9])")
_SECOND = pattern(r":([0-5][0-9])\+00:00")
_TIME_LENGTH = len("2026-11-22T00:33:45+00:00")
_EPOCH = date(1970, 1, 1).toordinal()
NOTHING: Mapping[str, object] = {}


def format_time(seconds: int) -> str:
    """Seconds since the epoch as RFC 3339, always in UTC: 2026-11-22T00:33:45+00:00. Raises `InvalidTime`."""
    if not 0 <= seconds <= limits.TIME_MAX:
        raise InvalidTime(f"{seconds} is not within the years 1970 to 9999")
    minutes, second = divmod(seconds, 60)
    day, minute = divmod(minutes, 1440)
    return f"{_format_day(day)}T{minute // 60:02}:{minute % 60:02}:{second:02}+00:00"


def parse_time(text: str) -> int:
    """Seconds since the epoch of a time that `format_time` could have written. Raises `InvalidTime`."""
    try:
        if len(text) == _TIME_LENGTH:
            return _parse_day(text[:10]) + _parse_minute(text[10:16]) + _parse_second(text[16:])
    except ValueError:
        pass
    raise InvalidTime(f"{text[:40]!r} is not a time like 2026-11-22T00:33:45+00:00")


def parse_times(texts: Sequence[str]) -> tuple[int, ...]:
    """What `parse_time` says of each of many. Raises `InvalidTime`."""
    if any(length != _TIME_LENGTH for length in set(map(len, texts))):
        raise InvalidTime("a time of another length than 2026-11-22T00:33:45+00:00")
    try:
        return tuple(
            [_parse_day(text[:10]) + _parse_minute(text[10:16]) + _parse_second(text[16:]) for text in texts]
        )
    except ValueError:
        raise InvalidTime("a time that is not like 2026-11-22T00:33:45+00:00") from None


# Times come by the hundred thousand and share their days: remembered parts make reading and writing them
# four times as fast as datetime does.


@lru_cache(maxsize=4096)
def _format_day(day: int) -> str:
    return date.fromordinal(_EPOCH + day).isoformat()


@lru_cache(maxsize=4096)
def _parse_day(text: str) -> int:
    """Seconds from the epoch to the beginning of a day, YYYY-MM-DD. Raises `ValueError`."""
    day = date.fromisoformat(text)
    if day.isoformat() != text or day.toordinal() < _EPOCH:
        raise ValueError(text)
    return (day.toordinal() - _EPOCH) * 86_400


@lru_cache(maxsize=1440)
def _parse_minute(text: str) -> int:
    """Seconds from midnight to a minute, THH:MM. Raises `ValueError`."""
    match = _MINUTE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return int(match[1]) * 3600 + int(match[2]) * 60


@lru_cache(maxsize=60)
def _parse_second(text: str) -> int:
    """The seconds of `:SS+00:00`. Raises `ValueError`."""
    match = _SECOND.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return int(match[1])


def _nothing() -> Mapping[str, object]:
    return NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageStateChange:
    """One record. Built directly it is not checked: what comes from outside enters by `from_json`."""

    seq: int
    """Per machine, from 1, without gaps."""
    event: str
    """`install`, `uninstall`, or `failure`: a merge that began and did not complete."""
    category: str
    name: str
    version: str
    """With its revision."""
    repository: str | None
    """Its name; None where neither log nor /var/db/pkg says."""
    install_type: str | None
    """`source` or `binary`; None for an uninstall, and where the log does not say."""
    cause: str | None
    """Why an uninstall or a failure happened: see `CAUSES_OF`."""
    replaces: str | None
    """The version that an install put out of its slot."""
    recorded_at: int
    """Unix seconds: wall time of the log's record that ended it."""
    time_delta: int | None
    """Seconds from start to end; None where the start was not seen, or the clock went backwards."""
    concurrency: float | None
    """Mean number of merges at work during this one, itself included; two decimals. None where unknown."""
    observed: str
    """`live`, or `backfill`: read before the process had once reached the end of the log."""
    clock: str
    """`synchronized`, `unsynchronized` or `unknown`; of backfill always `unknown`."""
    extra: Mapping[str, object] = field(default_factory=_nothing, hash=False)
    """Fields that this version does not know, kept as they came."""

    @property
    def cpv(self) -> CPV:
        """The package and version that the record is about."""
        return CPV(self.category, self.name, self.version)

    def to_json(self) -> dict[str, object]:
        """The record as on the wire: fields in their fixed order, unknown ones last."""
        return {
            "seq": self.seq,
            "event": self.event,
            "category": self.category,
            "name": self.name,
            "version": self.version,
            "repository": self.repository,
            "install_type": self.install_type,
            "cause": self.cause,
            "replaces": self.replaces,
            "recorded_at": format_time(self.recorded_at),
            "time_delta": self.time_delta,
            "concurrency": self.concurrency,
            "observed": self.observed,
            "clock": self.clock,
            **self.extra,
        }

    @classmethod
    def from_json(cls, mapping: Mapping[str, object]) -> "PackageStateChange":
        """The record that a decoded JSON object writes. Raises `InvalidRecord`, which names the field."""
        try:
            seq, event = mapping["seq"], mapping["event"]
            category, name, version = mapping["category"], mapping["name"], mapping["version"]
            repository, install_type = mapping["repository"], mapping["install_type"]
            cause, replaces = mapping["cause"], mapping["replaces"]
            recorded_at, time_delta = mapping["recorded_at"], mapping["time_delta"]
            concurrency, observed, clock = mapping["concurrency"], mapping["observed"], mapping["clock"]
        except KeyError as error:
            raise InvalidRecord(str(error.args[0]), "missing") from None
        except TypeError:
            raise InvalidRecord("record", "not an object") from None
        if type(seq) is not int or not 1 <= seq <= limits.INTEGER_MAX:
            _refuse("seq", "not an integer from 1")
        if type(category) is not str or not is_category(category):
            _refuse("category", "not a category by PMS")
        if type(name) is not str or not is_name(name):
            _refuse("name", "not a package name by PMS")
        if type(version) is not str or not is_version(version):
            _refuse("version", "not a version by PMS")
        if repository is not None and (type(repository) is not str or not is_repository(repository)):
            _refuse("repository", "not a repository name by PMS, or null")
        kind = _kind(event, install_type, cause, observed, clock)
        if replaces is not None:
            if type(replaces) is not str or not is_version(replaces):
                _refuse("replaces", "not a version by PMS, or null")
            if event != INSTALL:
                _refuse("replaces", "not null, yet this is not an install")
        if type(recorded_at) is not str:
            _refuse("recorded_at", "not a string")
        if time_delta is not None and (
            type(time_delta) is not int or not 0 <= time_delta <= limits.TIME_DELTA_MAX
        ):
            _refuse("time_delta", "not an integer from 0 to 2^31 - 1, or null")
        if concurrency is not None:
            concurrency = check_concurrency(concurrency)
        try:
            at = parse_time(recorded_at)
        except InvalidTime as error:
            raise InvalidRecord("recorded_at", error.detail) from None
        event, install_type, cause, observed, clock = kind
        extra = NOTHING if len(mapping) == len(FIELDS) else _extra(mapping)
        return make_record(
            seq, event, category, name, version, repository, install_type, cause,
            replaces, at, time_delta, concurrency, observed, clock, extra,
        )  # fmt: skip


FIELDS: Final = tuple(field.name for field in fields(PackageStateChange) if field.name != "extra")
"""The fields of the wire, in their order."""

_KNOWN = frozenset(FIELDS)
_Kind = tuple[str, str | None, str | None, str, str]
KINDS: Mapping[object, _Kind] = {
    kind: kind
    for event in EVENTS
    for install_type in ((None,) if event == UNINSTALL else (None, SOURCE, BINARY))
    for cause in CAUSES_OF[event]
    for observed in OBSERVED
    for clock in (CLOCKS if observed == LIVE else (UNKNOWN,))
    for kind in ((event, install_type, cause, observed, clock),)
}
"""Every agreeing choice of event, install_type, cause, observed and clock: one look replaces nine checks."""


class _Draft:
    """The same slots as a record, without the guard that makes setting each cost a function call."""

    __slots__ = (*FIELDS, "extra")
    seq: int
    event: str
    category: str
    name: str
    version: str
    repository: str | None
    install_type: str | None
    cause: str | None
    replaces: str | None
    recorded_at: int
    time_delta: int | None
    concurrency: float | None
    observed: str
    clock: str
    extra: Mapping[str, object]


def make_record(
    seq: int,
    event: str,
    category: str,
    name: str,
    version: str,
    repository: str | None,
    install_type: str | None,
    cause: str | None,
    replaces: str | None,
    recorded_at: int,
    time_delta: int | None,
    concurrency: float | None,
    observed: str,
    clock: str,
    extra: Mapping[str, object] = NOTHING,
) -> PackageStateChange:
    """`PackageStateChange(...)`, unchecked like it, at an eighth of its cost: for records by the 100,000."""
    draft = _Draft()
    draft.seq = seq
    draft.event = event
    draft.category = category
    draft.name = name
    draft.version = version
    draft.repository = repository
    draft.install_type = install_type
    draft.cause = cause
    draft.replaces = replaces
    draft.recorded_at = recorded_at
    draft.time_delta = time_delta
    draft.concurrency = concurrency
    draft.observed = observed
    draft.clock = clock
    draft.extra = extra
    draft.__class__ = PackageStateChange  # type: ignore[assignment]  # the layout is the same: equal slots
    return cast(PackageStateChange, draft)


def _refuse(name: str, reason: str) -> NoReturn:
    raise InvalidRecord(name, reason)


def _kind(event: object, install_type: object, cause: object, observed: object, clock: object) -> _Kind:
    """The five, typed, if they agree with each other."""
    try:
        return KINDS[event, install_type, cause, observed, clock]
    except (KeyError, TypeError):  # TypeError: an array or an object is no key
        pass
    if not isinstance(event, str) or event not in EVENTS:
        _refuse("event", "not install, uninstall or failure")
    if install_type is not None and (event == UNINSTALL or install_type not in (SOURCE, BINARY)):
        _refuse("install_type", f"not one that an event {event} may have")
    if observed not in (LIVE, BACKFILL):
        _refuse("observed", "not live or backfill")
    if clock not in (SYNCHRONIZED, UNSYNCHRONIZED, UNKNOWN):
        _refuse("clock", "not synchronized, unsynchronized or unknown")
    if observed == BACKFILL and clock != UNKNOWN:
        _refuse("clock", "not unknown, yet this is backfill")
    _refuse("cause", f"not one that an event {event} may have")


def check_concurrency(value: object) -> float:
    """`value` as a float. JSON does not tell 1 from 1.0, so integers are as good. Raises `InvalidRecord`."""
    if (type(value) is not float and type(value) is not int) or not 0 <= value <= limits.CONCURRENCY_MAX:
        _refuse("concurrency", "not a number from 0 to 10,000, or null")
    return _two_decimals(value)


@lru_cache(maxsize=4096)
def _two_decimals(value: float) -> float:
    if round(value, 2) != value:
        _refuse("concurrency", "more than two decimals")
    return float(value)


def _extra(mapping: Mapping[str, object]) -> Mapping[str, object]:
    extra = {name: value for name, value in mapping.items() if name not in _KNOWN}
    try:
        check_extra(extra)
    except InvalidJSON as error:
        raise InvalidRecord(next(iter(extra)), error.detail) from None
    return extra
