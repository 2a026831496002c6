# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs prune`."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from bdcs.domain.amounts import size_of, size_text
from bdcs.domain.targets import EVERY_TARGET
from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from bdcs.domain.retention import Rules, Verdict
    from bdcs.services.pruning import Pruning

HELP = "withdraw packages that nobody needs any more; or delete what is left of builds of long ago"

ACTOR = "admin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.description = (
        "Withdraw packages that no rule holds, in one generation of each target. Of each package and slot the"
        " newest versions stay, each in every choice of USE that it was built with; a build that a newer one"
        " of the same version and USE replaces does not, for Portage would not take it. What machines have"
        " installed stays, and what is in a generation that is kept (`bdcs target keep`). Files stay for the"
        " grace time (setting `grace`), since machines hold older indexes; until then `bdcs target rollback`"
        " brings them back. With --builds instead: delete logs, requests and jobs of builds whose time is"
        " over (settings `keep_logs`, `keep_failed_logs`, `keep_requests`), and forget builders that are long"
        " gone (`keep_builders`), as the server does every hour."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--target", metavar="NAME", help=f"the target, or `{EVERY_TARGET}`")
    what.add_argument("--builds", action="store_true", help="what is left of builds of long ago; no packages")
    parser.add_argument(
        "--keep",
        metavar="N",
        type=_count,
        default=2,
        help="keep the N newest versions of each package and slot (default: 2)",
    )
    parser.add_argument(
        "--installed",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep versions that a machine has installed, as machines recorded (default: yes)",
    )
    parser.add_argument(
        "--age",
        metavar="DAYS",
        type=_days,
        default=0.0,
        help="keep whatever was published in the last DAYS",
    )
    parser.add_argument(
        "--size",
        metavar="SIZE",
        type=_size,
        help="withdraw only what is needed for a target to become this small, as 20G; what is replaced goes"
        " first, then the oldest",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would go, and why")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Withdraw, and say what."""
    from bdcs.cli.existing import existing_store
    from bdcs.domain.retention import DAY, Rules

    if arguments.builds:
        return _prune_builds(arguments, settings)
    engine = existing_store(settings, writing=not arguments.dry_run)
    rules = Rules(versions=arguments.keep, age=int(arguments.age * DAY), size=arguments.size)
    done = [_prune(name, rules, arguments, engine, settings) for name in _names(engine, arguments.target)]
    if arguments.json:
        print(json.dumps({"targets": [_document(pruning) for pruning in done]}, indent=2))
        return EXIT_DONE
    for pruning in done:
        for line in _lines(pruning, rules):
            print(line)
    return EXIT_DONE


def _prune_builds(arguments: argparse.Namespace, settings: Settings) -> int:
    from contextlib import closing
    from dataclasses import asdict

    from bdcs.cli.existing import existing_store
    from bdcs.server.shared import logs_of
    from bdcs.services.build_upkeep import BuildUpkeep

    reader = existing_store(settings)
    upkeep = BuildUpkeep(
        reader=reader,
        writer=reader if arguments.dry_run else existing_store(settings, writing=True),
        logs=logs_of(settings),
        keeping=settings.keeping,
        now=time.time,
    )
    with closing(upkeep):
        dropped = upkeep.planned() if arguments.dry_run else upkeep.tidy()
    if arguments.json:
        print(json.dumps(asdict(dropped)))
    else:
        verb = "would be deleted" if arguments.dry_run else "were deleted"
        print(
            f"{dropped.logs} logs, {dropped.requests} requests, {dropped.jobs} jobs, {dropped.builders}"
            f" builders and {dropped.orphans} logs of nothing {verb}"
        )
    return EXIT_DONE


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number of versions")
    return int(text)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number of days")
    return days


def _size(text: str) -> int:
    try:
        return size_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _names(engine: Engine, name: str) -> list[str]:
    from bdcs.services import targets
    from bdcs.store.store import transaction

    with transaction(engine) as connection:
        if name == EVERY_TARGET:
            return [target.name for target in targets.listed(connection)]
        return [targets.require(connection, name).name]


def _prune(
    name: str, rules: Rules, arguments: argparse.Namespace, engine: Engine, settings: Settings
) -> Pruning:
    from bdcs.services import pruning, targets
    from bdcs.services.target_changes import changing
    from bdcs.store.store import transaction

    if arguments.dry_run:
        with transaction(engine) as connection:
            target = targets.require(connection, name)
            return pruning.plan(
                connection, target, rules, keep_installed=arguments.installed, now=time.time()
            )
    with changing(engine, settings.data, name) as change:
        return pruning.prune(
            change.connection,
            change.target,
            rules,
            keep_installed=arguments.installed,
            actor=ACTOR,
            now=time.time(),
        )


def _lines(pruning: Pruning, rules: Rules) -> list[str]:
    stays = sum(verdict.build.size for verdict in pruning.stayed)
    goes = sum(verdict.build.size for verdict in pruning.gone)
    lines = [
        f"- {verdict.build}  {size_text(verdict.build.size)}  {verdict.reason}" for verdict in pruning.gone
    ]
    what = "would go" if pruning.generation is None and pruning.gone else "went"
    made = f", generation {pruning.generation.number}" if pruning.generation else ""
    lines.append(
        f"target {pruning.target.name}: {len(pruning.gone)} packages, {size_text(goes)} {what};"
        f" {len(pruning.stayed)}, {size_text(stays)} stay{made}"
    )
    if rules.size is not None and stays > rules.size:
        lines.append(
            f"target {pruning.target.name}: that is more than {size_text(rules.size)}, but the rules hold it"
        )
    return lines


def _document(pruning: Pruning) -> dict[str, Any]:
    return {
        "target": pruning.target.name,
        "generation": pruning.generation.number if pruning.generation else None,
        "gone": [_verdict(verdict) for verdict in pruning.gone],
        "stayed": [_verdict(verdict) for verdict in pruning.stayed],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    from gentwoo_client.wire.records import format_time

    build = verdict.build
    return {
        "cpv": build.cpv,
        "build_id": build.build_id,
        "slot": build.slot,
        "use": sorted(build.use),
        "size": build.size,
        "published_at": format_time(build.published_at),
        "reason": verdict.reason,
    }
