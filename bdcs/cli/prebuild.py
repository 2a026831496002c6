# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs prebuild`: what is worth building before anyone asks, also beside a running server."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from bdcs.errors import EXIT_DONE, EXIT_REFUSED
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bdcs.services.prebuild import Coverage, Outlook, Pick

_Row = TypeVar("_Row")

HELP = "show what is worth building before anyone asks, and have it built"

SHOWN = 12
"""Flags of a variant that a line names."""
CURVE = 5
"""Builds of a package whose coverage a line tells."""
_DESCRIPTION = (
    "Lists builds that are not there, by what machines asked for within 90 days: the best first, which saves"
    " most compiling for the time that a builder spends on it. Figures are exact and for the operator alone;"
    " `/prebuild` shows those of a crowd. The setting `prebuild` has a server build them by itself while"
    " builders are idle."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.description = _DESCRIPTION
    parser.add_argument("--target", metavar="NAME", help="only what concerns this target")
    parser.add_argument(
        "--budget", metavar="MINUTES", type=_minutes, help="only what builders make in so much time together"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--coverage",
        action="store_true",
        help="list packages instead, with how many builds serve how many of the machines that asked",
    )
    what.add_argument(
        "--queue", action="store_true", help="have it built, behind everything that somebody asked for"
    )
    parser.add_argument(
        "--public", action="store_true", help="go by the figures that everybody may see, as the server does"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each line")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """List, or queue."""
    from bdcs.cli.existing import existing_store
    from bdcs.services import prebuild
    from bdcs.store.store import transaction

    with transaction(existing_store(settings)) as connection:
        found = _outlook(connection, settings, arguments)
    picks = found.picks if arguments.budget is None else prebuild.within(found, 60 * arguments.budget)
    if arguments.queue:
        return _queue(settings, picks)
    if arguments.coverage:
        _print(found.coverage, _coverage_document, _coverage_line, as_json=arguments.json)
    else:
        _print(picks, _pick_document, _pick_line, as_json=arguments.json)
    return EXIT_DONE


def _minutes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _outlook(connection: Connection, settings: Settings, arguments: argparse.Namespace) -> Outlook:
    from bdcs.domain.thresholds import Thresholds
    from bdcs.services import prebuild, prebuild_demand, targets

    now, thresholds = time.time(), Thresholds(settings.threshold)
    some = [targets.require(connection, arguments.target)] if arguments.target else targets.listed(connection)
    if arguments.public:
        places = prebuild.public_places(connection, thresholds, some)
    else:
        places = prebuild.exact_places(connection, prebuild_demand.demand(connection, now), some)
    return prebuild.outlook(connection, places, thresholds, now)


def _queue(settings: Settings, picks: Sequence[Pick]) -> int:
    """Queue what can be; of all others say that it is not."""
    from bdcs.cli.existing import existing_store
    from bdcs.services import prebuild_policy, targets
    from bdcs.services.jobs import Jobs
    from bdcs.services.verdicts import wishes_of
    from bdcs.store.store import transaction

    code = EXIT_DONE
    with transaction(existing_store(settings, writing=True)) as connection:
        book = Jobs(connection, time.time(), settings.build_policy)
        for pick in picks:
            target = targets.require(connection, pick.candidate.target.name)
            wishes = wishes_of([pick.candidate.specification])
            (verdict,) = prebuild_policy.queue(book, target, wishes, fleet=settings.threshold)
            told = str(verdict.answer) if verdict.refusal is None else f"not queued: {verdict.reason}"
            print(f"{pick.candidate.specification.cpv} for {target.name}: {told}")
            code = code if verdict.refusal is None else EXIT_REFUSED
    if not picks:
        print("nothing is to be built")
    return code


def _print(
    rows: Sequence[_Row],
    document: Callable[[_Row], dict[str, object]],
    line: Callable[[_Row], str],
    *,
    as_json: bool,
) -> None:
    for row in rows:
        print(json.dumps(document(row)) if as_json else line(row))
    if not rows and not as_json:
        print("nothing is to be said: too little was asked for, or all of it is there")


def _pick_document(pick: Pick) -> dict[str, object]:
    one = pick.candidate.specification
    return {
        "target": pick.candidate.target.name,
        "cpv": str(one.cpv),
        "slot": one.slot.partition("/")[0],
        "repository": one.repository,
        "use": list(one.use),
        "iuse": list(one.iuse),
        "digest": pick.candidate.digest,
        "machines": pick.machines,
        "likely": pick.likely,
        "build_seconds": pick.candidate.seconds,
        "saved_seconds": pick.saved,
        "known": pick.candidate.is_known,
    }


def _pick_line(pick: Pick) -> str:
    candidate = pick.candidate
    variant = candidate.variant
    flags = [*variant.enabled, *(f"-{flag}" for flag in variant.disabled)]
    more = f" and {len(flags) - SHOWN} more" if len(flags) > SHOWN else ""
    use = f"  USE={' '.join(flags[:SHOWN])!r}{more}" if flags else ""
    assumed = "" if candidate.is_known else " (assumed)"
    asked = (
        f"{pick.machines} asked" if pick.machines == pick.likely else f"{pick.machines}-{pick.likely} want it"
    )
    return (
        f"{candidate.specification.cpv}  {candidate.target.name}{use}  {asked},"
        f" saves {pick.saved / 3600:.1f} h, takes {candidate.seconds / 60:.1f} min{assumed}"
    )


def _coverage_document(coverage: Coverage) -> dict[str, object]:
    key = coverage.place.key
    return {
        "target": coverage.place.target.name,
        "package": f"{key.category}/{key.name}",
        "slot": key.slot,
        "repository": key.repository,
        "machines": coverage.place.machines,
        "variants": coverage.variants,
        "served": coverage.served,
        "curve": list(coverage.curve),
    }


def _coverage_line(coverage: Coverage) -> str:
    key, machines = coverage.place.key, coverage.place.machines
    curve = ", ".join(
        f"{number} serve{'s' if number == 1 else ''} {100 * served / machines:.0f} %"
        for number, served in enumerate(coverage.curve[:CURVE], 1)
    )
    return (
        f"{key.category}/{key.name}:{key.slot}  {coverage.place.target.name}  {machines} asked for"
        f" {coverage.variants} variant{'' if coverage.variants == 1 else 's'}:"
        f" {curve or 'none can be built'}; {100 * coverage.served / machines:.0f} % there now"
    )
