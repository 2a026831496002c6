# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs target log|diff|rollback|keep|withdraw`: a target's history, and what changes its newest state."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings

if TYPE_CHECKING:
    from bdcs.domain.builds import Build, Change, Difference
    from bdcs.services.generations import Generation

ACTOR = "admin"


def add_actions(action: Callable[..., argparse.ArgumentParser]) -> None:
    """Add these actions by `action(name, help text, run)`."""
    log = action("log", "list the generations of a target: each publication makes one", _log)
    log.add_argument("--limit", metavar="N", type=_positive, default=20, help="the newest N (default: 20)")
    log.add_argument("--all", action="store_true", help="all of them")
    _add_json(log)

    diff = action("diff", "show what came, went, or changed USE or version between two generations", _diff)
    diff.add_argument("before", metavar="A", type=_number, help="the older generation; 0: the empty one")
    diff.add_argument(
        "after", metavar="B", type=_number, nargs="?", help="the newer one (default: the newest)"
    )
    _add_json(diff)

    rollback = action("rollback", "make a new generation with the packages of an earlier one", _rollback)
    rollback.add_argument("generation", metavar="N", type=_positive, help="the earlier generation")
    _add_note(rollback)

    keep = action("keep", "keep the files of a generation from being deleted and pruned", _keep)
    keep.add_argument("generation", metavar="N", type=_positive, help="the generation")
    keep.add_argument("--off", action="store_true", help="no longer")

    withdraw = action("withdraw", "take packages out of the index; files stay for the grace time", _withdraw)
    withdraw.add_argument(
        "builds",
        metavar="BUILD",
        nargs="+",
        help="CATEGORY/NAME-VERSION, with -BUILD_ID behind it for only one of its builds",
    )
    _add_note(withdraw)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _add_note(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--note", metavar="TEXT", default="", help="why, for the log")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number of a generation")
    return int(text)


def _positive(text: str) -> int:
    if not _number(text):
        raise argparse.ArgumentTypeError("numbers begin with 1")
    return int(text)


def _log(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import generations, targets
    from bdcs.store.store import transaction

    with transaction(existing_store(settings)) as connection:
        target = targets.require(connection, arguments.name)
        found = generations.log(connection, target, None if arguments.all else arguments.limit)
    if arguments.json:
        _print_json({"target": target.name, "generations": [each.to_json() for each in found]})
    else:
        for generation in found:
            print(_line(generation))
    return EXIT_DONE


def _line(generation: Generation) -> str:
    from gentwoo_client.wire.records import format_time

    moved = f"+{generation.added} -{generation.removed}"
    words = [
        f"{generation.number:>6}  {format_time(generation.at)}  {generation.cause:<8}  {moved:<13}",
        f"{generation.builds:>6} packages",
        "  kept" if generation.kept else "",
        "" if generation.actor == ACTOR else f"  by {generation.actor}",
        f"  {generation.note}" if generation.note else "",
    ]
    return "".join(words)


def _diff(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import generations, targets
    from bdcs.store.store import transaction

    with transaction(existing_store(settings)) as connection:
        target = targets.require(connection, arguments.name)
        after = target.generation if arguments.after is None else arguments.after
        difference = generations.diff(connection, target, arguments.before, after)
    if arguments.json:
        _print_json(
            {
                "target": target.name,
                "before": arguments.before,
                "after": after,
                **difference_document(difference),
            }
        )
    else:
        for line in difference_lines(difference):
            print(line)
    return EXIT_DONE


def difference_document(difference: Difference) -> dict[str, Any]:
    """Return the difference as JSON has it."""
    return {
        "came": [_build_document(build) for build in difference.came],
        "went": [_build_document(build) for build in difference.went],
        "changed": [
            {
                "before": _build_document(change.before),
                "after": _build_document(change.after),
                "version_changed": change.is_other_version,
                "use_enabled": sorted(change.use_gained),
                "use_disabled": sorted(change.use_lost),
            }
            for change in difference.changed
        ],
    }


def _build_document(build: Build) -> dict[str, Any]:
    return {
        "cpv": build.cpv,
        "build_id": build.build_id,
        "slot": build.slot,
        "repository": build.repository,
        "use": sorted(build.use),
        "size": build.size,
        "build_time": build.build_time,
    }


def difference_lines(difference: Difference) -> list[str]:
    """Return the difference as people read it, a line each: `+` came, `-` went, `~` changed."""
    return [
        *(f"- {build}{_flags(build)}" for build in difference.went),
        *(f"+ {build}{_flags(build)}" for build in difference.came),
        *(f"~ {_change(change)}" for change in difference.changed),
    ]


def _flags(build: Build) -> str:
    return f"  USE={' '.join(sorted(build.use))}" if build.use else ""


def _change(change: Change) -> str:
    flags = [
        *(f"+{flag}" for flag in sorted(change.use_gained)),
        *(f"-{flag}" for flag in sorted(change.use_lost)),
    ]
    what = f"{change.before} → {change.after}"
    if flags:
        return f"{what}  USE: {' '.join(flags)}"
    return what if change.is_other_version else f"{what}  built again"


def _rollback(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import generations
    from bdcs.services.target_changes import changing

    engine = existing_store(settings, writing=True)
    with changing(engine, settings.data, arguments.name) as change:
        made = generations.rollback(
            change.connection, change.target, arguments.generation, actor=ACTOR, note=arguments.note
        )
    print(
        f"target {arguments.name}: generation {made.number} has the packages of generation"
        f" {arguments.generation}: {made.added} came, {made.removed} went"
    )
    return EXIT_DONE


def _keep(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import generations
    from bdcs.services.target_changes import changing

    engine = existing_store(settings, writing=True)
    with changing(engine, settings.data, arguments.name) as change:
        generations.keep(change.connection, change.target, arguments.generation, kept=not arguments.off)
        lost = generations.deleted_of(change.connection, change.target, arguments.generation)
    state = "no longer kept" if arguments.off else "kept"
    print(f"generation {arguments.generation} of target {arguments.name} is {state}")
    if lost and not arguments.off:
        print(f"… but {len(lost)} of its files are deleted already, so nobody can go back to it")
    return EXIT_DONE


def _withdraw(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.domain.targets import Cause
    from bdcs.services import generations
    from bdcs.services.target_changes import changing

    engine = existing_store(settings, writing=True)
    with changing(engine, settings.data, arguments.name) as change:
        chosen = generations.named(change.connection, change.target, arguments.builds)
        made = generations.advance(
            change.connection,
            change.target,
            [],
            [build.id for build in chosen],
            cause=Cause.WITHDRAW,
            actor=ACTOR,
            note=arguments.note,
        )
    for build in chosen:
        print(f"- {build}{_flags(build)}")
    print(f"target {arguments.name}: generation {made.number}")
    return EXIT_DONE


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2))
