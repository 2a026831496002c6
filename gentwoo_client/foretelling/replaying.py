# SPDX-License-Identifier: GPL-2.0-or-later
"""How good the forecasts would have been: history replayed, each merge foretold from what was known then.

At its start only what had completed is known, and what else was at work; whether a merge is of a binary is
taken for known, as the list that emerge shows says it. Lists are foretold whole at their first start. What
the log decides later (failures) reaches the model when the log tells it. So a log cut anywhere gives the same
figures for what comes before the cut. The fleet's table alone is of today: what rests on it says so, and no
line of `--json` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gentwoo_client.foretelling.own_history import merge_of, moment, walk_through
from gentwoo_client.log.merges import Beginning, Happening
from gentwoo_client.log.tracker import LoggedChange
from gentwoo_client.prediction.accuracy import Errors, coverage, errors, half_width, is_scored
from gentwoo_client.prediction.averages import median
from gentwoo_client.prediction.fleet import FleetTable
from gentwoo_client.prediction.history import Estimated, Listed, Walk
from gentwoo_client.prediction.merges import SOURCE, TINY, Forecast, Merge

EMLOP: Final = "emlop: median of the last 15"
LOCAL: Final = "this machine's history"
BOTH: Final = "history and today's fleet *"
NEVER: Final = "never built here: today's fleet *"
SUMS: Final = "lists: sum of emlop's"
LISTS: Final = "lists: scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One line of the table."""

    name: str
    errors: Errors
    coverage: float | None = None
    half_width: float | None = None


@dataclass(slots=True, kw_only=True)
class _List:
    """The merges of one emerge, in the order of their starts."""

    started_at: int
    jobs: int
    size: int
    members: list[tuple[Merge, str]] = field(default_factory=list)
    completed: int = 0
    ended_at: int = 0
    foretold: float | None = None
    summed: float | None = None


def replay(
    happenings: Iterable[Happening], moves: Mapping[str, str], table: FleetTable | None = None
) -> Iterator[Estimated]:
    """Yield each merge that completed and was foretold, in the order of the log."""
    yield from walk_through(Walk(moves, table, compare=True), happenings)


def line(estimated: Estimated) -> dict[str, object]:
    """Return what `--accuracy --json` says of one merge."""
    forecast, merge = estimated.forecast, estimated.merge
    return {
        "recorded_at": moment(estimated.ended_at),
        "cpv": f"{merge.cp}-{merge.version}",
        "actual": estimated.seconds,
        "predicted": predicted(forecast),
        "low": forecast.low,
        "high": forecast.high,
        "method": forecast.method,
        "kind": merge.kind,
        "emlop": estimated.emlop,
    }


def predicted(forecast: Forecast) -> float:
    """Return the seconds to be shown: whole ones where the log's rounding is all that is left."""
    return round(forecast.seconds) if forecast.seconds < TINY else round(forecast.seconds, 1)


def methods(
    happenings: Sequence[Happening], moves: Mapping[str, str], table: FleetTable | None
) -> list[Method]:
    """Return the errors of each method; each compared on the same merges as far as it knows them."""
    local = [one for one in replay(happenings, moves) if is_scored(one)]
    lines = _lines(
        (EMLOP, [(one.emlop, one.seconds) for one in local if one.emlop is not None], []),
        (LOCAL, [(one.forecast.seconds, one.seconds) for one in local], local),
    )
    if table is not None:
        lines += _with_fleet(happenings, moves, table)
    lists = _foretold_lists(happenings, moves)
    lines += _lines(
        (SUMS, [(each.summed, each.ended_at - each.started_at) for each in lists if each.summed], []),
        (LISTS, [(each.foretold, each.ended_at - each.started_at) for each in lists if each.foretold], []),
    )
    return lines


def _lines(*named: tuple[str, list[tuple[float, int]], list[Estimated]]) -> list[Method]:
    lines = []
    for name, pairs, estimated in named:
        found = errors(pairs)
        if found is not None:
            lines.append(
                Method(
                    name=name,
                    errors=found,
                    coverage=coverage(estimated),
                    half_width=half_width(estimated),
                )
            )
    return lines


def _with_fleet(happenings: Sequence[Happening], moves: Mapping[str, str], table: FleetTable) -> list[Method]:
    estimated = [
        one for one in replay(happenings, moves, table) if one.merge.kind == SOURCE and one.seconds >= TINY
    ]
    known = [one for one in estimated if one.own]
    new = [one for one in estimated if not one.own]
    return _lines(
        (BOTH, [(one.forecast.seconds, one.seconds) for one in known], known),
        (NEVER, [(one.forecast.seconds, one.seconds) for one in new], new),
    )


# Lists ----------------------------------------------------------------------------------------------------


def _foretold_lists(happenings: Sequence[Happening], moves: Mapping[str, str]) -> list[_List]:
    """Return the lists of two and more that were merged to their end, foretold at their first start."""
    starts = _lists(happenings)
    walk = Walk(moves, compare=True)
    durations: dict[tuple[str, str], list[int]] = {}
    for index, happening in enumerate(happenings):
        if index in starts:
            _foretell_list(walk, starts[index], durations)
        for _ in walk_through(walk, (happening,)):
            pass
        if isinstance(happening, LoggedChange) and happening.event == "install" and happening.time_delta:
            key = (f"{happening.category}/{happening.name}", happening.install_type or SOURCE)
            durations.setdefault(key, []).append(happening.time_delta)
    return list(starts.values())


def _lists(happenings: Sequence[Happening]) -> dict[int, _List]:
    """Return whole lists, by the index of their first start. Those that overlap another are left out."""
    found: dict[int, _List] = {}
    current: _List | None = None
    first = 0
    for index, happening in enumerate(happenings):
        if isinstance(happening, Beginning):
            if happening.place == 1 or current is None or happening.size != current.size:
                current = _List(started_at=happening.at, jobs=happening.jobs, size=happening.size)
                first = index
            current.members.append((merge_of(happening), happening.root))
        elif current is not None and happening.event == "install":
            key = (Merge(happening.category, happening.name, happening.version), happening.root or "/")
            if key in current.members:
                position = current.members.index(key)
                current.members[position] = (key[0]._replace(kind=happening.install_type or SOURCE), key[1])
                current.completed += 1
                current.ended_at = happening.at
                if current.completed == current.size == len(current.members) >= 2:
                    found[first] = current
    return {index: each for index, each in found.items() if each.ended_at > each.started_at}


def _foretell_list(walk: Walk, each: _List, durations: Mapping[tuple[str, str], list[int]]) -> None:
    listed = [Listed(merge, each.started_at) for merge, _ in each.members]
    forecasts, _, plan = walk.foretell_list(listed, jobs=each.jobs, now=each.started_at)
    if sum(forecast is not None for forecast in forecasts) < 0.8 * len(forecasts):
        return
    each.foretold = plan.total
    typical = walk.model.typical or 0.0
    each.summed = sum(
        median(durations.get((merge.cp, merge.kind), [typical])[-15:]) for merge, _ in each.members
    )


def text(lines: Sequence[Method]) -> list[str]:
    """Return the table for people."""
    if not lines:
        return ["No merge here was built before, so there is nothing to compare."]
    width = max(len(method.name) for method in lines)
    head = f"{'':<{width}}  merges  mean %  median %  factor  ×1.5   ×2  bias  80 % holds  width"
    rows = [head]
    for method in lines:
        found = method.errors
        row = (
            f"{method.name:<{width}}  {found.merges:>6}  {100 * found.mean:>6.1f}  {100 * found.median:>8.1f}"
            f"  {found.factor:>6.2f}  {found.within_half:>4.2f} {found.within_double:>4.2f}"
            f"  {found.bias:>4.2f}"
        )
        if method.coverage is not None and method.half_width is not None:
            row += f"  {100 * method.coverage:>8.0f} %  ×{method.half_width:.2f}"
        rows.append(row)
    if any(method.name in (BOTH, NEVER) for method in lines):
        rows.append("* looks ahead: the fleet's table of today was fitted with what came later, here as well")
    return rows
