# SPDX-License-Identifier: GPL-2.0-or-later
"""Many records field by field: how a collector checks and stores them by the ten thousand.

What is the same in hundreds of records is looked at once, and what has to be done for each is done by
functions written in C. `columns_of` answers only where everything is surely right; who gets None asks
`PackageStateChange.from_json`, which knows what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import Any, Final, Self

from gentwoo_client.wire import limits
from gentwoo_client.wire.cpv import is_category, is_name, is_repository, is_version
from gentwoo_client.wire.errors import InvalidRecord, InvalidTime
from gentwoo_client.wire.records import (
    FIELDS,
    INSTALL,
    KINDS,
    NOTHING,
    PackageStateChange,
    check_concurrency,
    make_record,
    parse_times,
)

FEW: Final = 4
"""So many records are sooner looked at one by one."""
_FIELDS_OF: Final = attrgetter(*FIELDS, "extra")


@dataclass(slots=True)
class Columns:
    """Records, each field of `PackageStateChange` a sequence of its own, in its order; all of one length."""

    seq: Sequence[int]
    event: Sequence[str]
    category: Sequence[str]
    name: Sequence[str]
    version: Sequence[str]
    repository: Sequence[str | None]
    install_type: Sequence[str | None]
    cause: Sequence[str | None]
    replaces: Sequence[str | None]
    recorded_at: Sequence[int]
    time_delta: Sequence[int | None]
    concurrency: Sequence[float | None]
    observed: Sequence[str]
    clock: Sequence[str]
    extra: Sequence[Mapping[str, object]]

    @classmethod
    def of(cls, records: Sequence[PackageStateChange]) -> Self:
        """The columns of `records`, at least one."""
        return cls(*zip(*map(_FIELDS_OF, records), strict=True))

    def __len__(self) -> int:
        return len(self.seq)

    def records(self) -> Iterator[PackageStateChange]:
        """The records, one after the other."""
        return map(make_record, *_FIELDS_OF(self))


def columns_of(records: Sequence[Any], first_seq: int) -> Columns | None:
    """The columns of decoded JSON objects that have no unknown members; None unless all are surely valid."""
    try:
        if 0 < len(records) <= FEW:
            return _checked_singly(first_seq, records)
        return _checked(first_seq, *zip(*map(_VALUES, records), strict=True))
    except (KeyError, TypeError, ValueError, InvalidRecord, InvalidTime):
        return None


_VALUES: Final = itemgetter(*FIELDS)
_INTEGER: Final = frozenset({int})
_INTEGER_OR_NULL: Final = frozenset({int, type(None)})


def _checked_singly(first_seq: int, records: Sequence[Any]) -> Columns | None:
    columns = Columns.of(tuple(map(PackageStateChange.from_json, records)))
    return columns if columns.seq == tuple(range(first_seq, first_seq + len(records))) else None


def _checked(
    first_seq: int,
    seq: tuple[Any, ...],
    event: tuple[Any, ...],
    category: tuple[Any, ...],
    name: tuple[Any, ...],
    version: tuple[Any, ...],
    repository: tuple[Any, ...],
    install_type: tuple[Any, ...],
    cause: tuple[Any, ...],
    replaces: tuple[Any, ...],
    recorded_at: tuple[Any, ...],
    time_delta: tuple[Any, ...],
    concurrency: tuple[Any, ...],
    observed: tuple[Any, ...],
    clock: tuple[Any, ...],
) -> Columns | None:
    # A set holds one of 1, 1.0 and true only, so types are looked at first where these could be confused.
    durations = set(time_delta) - {None}
    replacements = set(zip(event, replaces, strict=True))
    is_right = (
        set(map(type, seq)) == _INTEGER
        and seq == tuple(range(first_seq, first_seq + len(seq)))
        and seq[-1] <= limits.INTEGER_MAX
        and KINDS.keys() >= set(zip(event, install_type, cause, observed, clock, strict=True))
        and all(map(is_category, set(category)))
        and all(map(is_name, set(name)))
        and all(map(is_version, set(version)))
        and all(map(is_repository, set(repository) - {None}))
        and all(old is None or (what == INSTALL and is_version(old)) for what, old in replacements)
        and _INTEGER_OR_NULL.issuperset(map(type, time_delta))
        and (not durations or (min(durations) >= 0 and max(durations) <= limits.TIME_DELTA_MAX))
    )
    if not is_right:
        return None
    for _, value in set(zip(map(type, concurrency), concurrency, strict=True)):
        if value is not None:
            check_concurrency(value)
    return Columns(
        seq=seq,
        event=event,
        category=category,
        name=name,
        version=version,
        repository=repository,
        install_type=install_type,
        cause=cause,
        replaces=replaces,
        recorded_at=parse_times(recorded_at),
        time_delta=time_delta,
        concurrency=concurrency,
        observed=observed,
        clock=clock,
        extra=tuple(repeat(NOTHING, len(seq))),
    )
