# SPDX-License-Identifier: GPL-2.0-or-later
"""An outlook as text for people and as JSON."""

from __future__ import annotations

import time
from typing import Final

from gentwoo_client.foretelling.outlook import BOTH, FLEET, HISTORY, UNKNOWN, Ahead, Outlook
from gentwoo_client.foretelling.own_history import moment
from gentwoo_client.prediction.history import Estimated
from gentwoo_client.prediction.merges import BINARY

_DAY: Final = 86400
_BAR: Final = 24  # characters


def table(outlook: Outlook) -> list[str]:
    """Return a line for each merge, and what is to be said of all."""
    rows = [_cells(each, outlook.now) for each in outlook.ahead]
    names, lefts, ends, spans = (max((len(row[column]) for row in rows), default=0) for column in range(4))
    lines = [
        f"{row[0]:<{names}}  {row[1]:>{lefts}}  {row[2]:>{ends}}  {row[3]:<{spans}}  {row[4]}".rstrip()
        for row in rows
    ]
    return [*lines, *([""] if lines else []), *summary(outlook)]


def summary(outlook: Outlook) -> list[str]:
    """Return the lines about the whole list."""
    count = len(outlook.ahead) + outlook.unnamed
    what = f"{count} {'merge' if count == 1 else 'merges'}"
    if outlook.jobs != 1:
        what += f" with --jobs{f'={outlook.jobs}' if outlook.jobs else ''}"
    lines = [
        f"{what}: {span(outlook.seconds)} (80 %: {span(outlook.low)} to {span(outlook.high)}),"
        f" done {_clock(outlook.now + outlook.seconds, outlook.now)}"
    ]
    if outlook.unknown:
        lines.append(
            f"Nothing is known of {outlook.unknown} of them: counted as typical for this machine, so the"
            " total is a guess."
        )
    if any(each.source in (FLEET, BOTH) for each in outlook.ahead):
        how = f"by {outlook.calibrators} packages" if outlook.calibrators else "by nothing yet: a guess"
        lines.append(f"Figures of the fleet are scaled to this machine {how}.")
    return lines


def progress(outlook: Outlook, width: int) -> str:
    """Return one line: a bar, what is at work, and when all is done."""
    done, size = outlook.done, max(outlook.size, 1)
    filled = min(_BAR, round(_BAR * share_done(outlook)))
    at_work = ", ".join(
        f"{each.merge.name}-{each.merge.version}" for each in outlook.ahead if each.started_at
    )
    line = (
        f"[{'#' * filled}{'.' * (_BAR - filled)}] {done} of {size}, {span(outlook.seconds)} left,"
        f" done {_clock(outlook.now + outlook.seconds, outlook.now)}  {at_work}"
    )
    return line if len(line) <= width else f"{line[: width - 1]}…"


def outcome(done: Estimated) -> str:
    """Return what is said of a merge that completed."""
    name = f"{done.merge.cp}-{done.merge.version}"
    return f"{name} took {span(done.seconds)}, {span(done.forecast.seconds)} were expected"


def share_done(outlook: Outlook) -> float:
    """Return how much of the list is done, by number, those at work by their time."""
    at_work = 0.0
    for each in outlook.ahead:
        if each.started_at is not None:
            elapsed = max(0.0, outlook.now - each.started_at)
            at_work += elapsed / (elapsed + each.left)
    return min(1.0, (outlook.done + at_work) / max(outlook.size, 1))


def document(outlook: Outlook) -> dict[str, object]:
    """Return all of it for JSON."""
    return {
        "now": moment(outlook.now),
        "jobs": outlook.jobs,
        "packages": [_member(each, outlook.now) for each in outlook.ahead],
        "unnamed": outlook.unnamed,
        "total": {
            "merges": len(outlook.ahead) + outlook.unnamed,
            "done": outlook.done,
            "size": outlook.size,
            "unknown": outlook.unknown,
            "seconds": round(outlook.seconds),
            "low": round(outlook.low),
            "high": round(outlook.high),
            "finish_at": moment(outlook.now + outlook.seconds),
        },
        "calibrators": outlook.calibrators,
    }


def span(seconds: float) -> str:
    """Return a duration as h:mm:ss, or days and hours."""
    whole = round(seconds)
    if whole >= 2 * _DAY:
        return f"{whole // _DAY} days {whole % _DAY // 3600} h"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _member(each: Ahead, now: float) -> dict[str, object]:
    forecast = each.forecast
    return {
        "cpv": f"{each.merge.cp}-{each.merge.version}",
        "root": each.root,
        "kind": each.merge.kind,
        "seconds": None if forecast is None else round(forecast.seconds, 1),
        "low": None if forecast is None else forecast.low,
        "high": None if forecast is None else forecast.high,
        "left": None if forecast is None else round(each.left, 1),
        "started_at": None if each.started_at is None else moment(each.started_at),
        "finish_at": moment(now + each.ends_in),
        "source": each.source,
        "method": None if forecast is None else forecast.method,
        "merges": 0 if forecast is None else forecast.merges,
    }


def _cells(each: Ahead, now: float) -> tuple[str, str, str, str, str]:
    name = f"{each.merge.cp}-{each.merge.version}"
    if each.merge.kind == BINARY:
        name += " (binary)"
    if each.forecast is None:
        return name, "?", "", "", _SOURCES[UNKNOWN]
    forecast = each.forecast
    merges = f"{forecast.merges} {'merge' if forecast.merges == 1 else 'merges'} here"
    source = (
        merges
        if each.source == HISTORY
        else f"{merges} and the fleet"
        if forecast.merges
        else _SOURCES[FLEET]
    )
    return (
        name,
        span(each.left),
        _clock(now + each.ends_in, now),
        f"{span(forecast.low)} to {span(forecast.high)}",
        f"at work, {source}" if each.started_at else source,
    )


_SOURCES: Final = {UNKNOWN: "nothing known", FLEET: "the fleet, scaled to this machine"}


def _clock(at: float, now: float) -> str:
    """Return a time of day, with the date where it is not today."""
    local, today = time.localtime(at), time.localtime(now)
    form = "%H:%M" if local[:3] == today[:3] else "%Y-%m-%d %H:%M"
    return time.strftime(form, local)
