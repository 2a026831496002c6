# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo predict`: how long it will take, and when it is done."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gentwoo_client.errors import DONE, FAILED, GentwooError, NoPermission, UsageError
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    import argparse

    from gentwoo_client.foretelling.following import Follower
    from gentwoo_client.foretelling.outlook import Outlook
    from gentwoo_client.log.merges import Happening, MergeReader
    from gentwoo_client.prediction.fleet import FleetTable
    from gentwoo_client.prediction.history import Walk

NAME = "predict"
HELP = "say how long merges will take, and when they are done"

EVERY: Final = 1.0
"""Seconds between two looks at the log with --follow."""
BETWEEN: Final = 1.0
"""Seconds after the end of an emerge in which another may begin."""
LARGEST: Final = 64 << 20
"""Bytes of what `emerge --pretend` prints, at most."""
_WIDTH: Final = 79
_ENDLESS: Final = 10_000
_ERASE: Final = "\r\x1b[2K"
_JOBS = re.compile(r"(?:^|\s)(?:--jobs(?:[= ](\d+))?|-j\s?(\d+)?)(?=\s|$)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Say how long merges will take: those that `emerge --pretend` lists, piped here, or else those of the"
        " emerge that is at work. Each figure says where it comes from: this machine's own history, the fleet"
        " (scaled to this machine), or nowhere. The collector is never told what is asked."
    )
    parser.add_argument("-f", "--follow", action="store_true", help="follow the emerge at work to its end")
    parser.add_argument(
        "--log",
        dest="logs",
        metavar="FILE",
        action="append",
        default=[],
        help="a log to learn from instead of the one of the settings, also .gz, .bz2, .xz or .zst; several"
        " are read in order of time",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        help="how many at a time, for a piped list (default: as EMERGE_DEFAULT_OPTS says, else as the last"
        " emerge did); 0: without limit",
    )
    parser.add_argument(
        "--accuracy",
        action="store_true",
        help="replay the history and say how wrong each method would have been; with --json a line for each"
        " merge that was foretold",
    )
    parser.add_argument("--offline", action="store_true", help="do not ask the collector for a newer table")
    parser.add_argument("--collector", metavar="URL", help="use the table of this collector")
    parser.add_argument("--json", action="store_true", help="print JSON; with --follow an object a line")
    parser.epilog = (
        "examples:\n"
        "  emerge --pretend --update --deep @world | gentwoo predict\n"
        "  gentwoo predict -f\n"
        "  gentwoo predict --accuracy --log /var/log/emerge.log"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the outlook; exit code 1 where there is nothing to foretell."""
    if arguments.jobs is not None and arguments.jobs < 0:
        raise UsageError(f"--jobs: {arguments.jobs} is no number from 0")
    if arguments.accuracy:
        if arguments.follow:
            raise UsageError("--accuracy looks back, --follow ahead")
        return _accuracy(arguments, settings)
    plan = "" if arguments.follow else _piped()
    return _plan(arguments, settings, plan) if plan.strip() else _running(arguments, settings)


def _piped() -> str:
    """Return what is piped here; nothing from a terminal, or where stdin is closed."""
    if sys.stdin is None or sys.stdin.closed:
        return ""
    try:
        if sys.stdin.isatty():
            return ""
        content = sys.stdin.buffer.read(LARGEST)
    except (OSError, ValueError):
        return ""
    return content.decode("utf-8", "replace")


# What is ahead --------------------------------------------------------------------------------------------


def _plan(arguments: argparse.Namespace, settings: Settings, text: str) -> int:
    from gentwoo_client.foretelling.outlook import of_plan
    from gentwoo_client.portage.pretended import pretended_merges

    merges = pretended_merges(text)
    if not merges:
        raise GentwooError(
            "nothing would be merged, as far as what was piped here says",
            advice="pipe what `emerge --pretend` prints; without a pipe the emerge at work is looked at",
        )
    _, happenings, _ = _read_logs(arguments, settings)
    walk = _walked(arguments, settings, happenings)
    jobs = arguments.jobs if arguments.jobs is not None else _usual_jobs(happenings)
    outlook = of_plan(walk, merges, jobs=jobs, now=time.time())
    _print(outlook, as_json=arguments.json)
    return DONE


def _running(arguments: argparse.Namespace, settings: Settings) -> int:
    from gentwoo_client.foretelling.following import Follower

    reader, happenings, offset = _read_logs(arguments, settings)
    walk = _walked(arguments, settings, happenings)
    log = arguments.logs[-1] if arguments.logs else os.fspath(settings.log)
    follower = Follower(log, reader, walk, settings.eprefix, offset)
    outlook = follower.outlook(time.time())
    if outlook is None and not (arguments.follow and not follower.is_over()):
        message = "no emerge is at work"
        if arguments.json:
            print(f"gentwoo: {message}", file=sys.stderr)
            return FAILED
        raise GentwooError(message, advice="pipe a plan here: emerge --pretend … | gentwoo predict")
    if outlook is not None and not arguments.follow:
        _print(outlook, as_json=arguments.json)
        return DONE
    return _follow(follower, outlook, as_json=arguments.json)


def _follow(follower: Follower, current: Outlook | None, *, as_json: bool) -> int:
    """Show how it goes on until nothing is at work any more."""
    import json

    from gentwoo_client.foretelling.outlook_text import document, outcome, progress

    bar = sys.stdout.isatty() and not as_json
    idle_since: float | None = None
    shown: object = None
    while True:
        now = time.time()
        if current is not None:
            idle_since = None
            state = (current.done, tuple(each.merge for each in current.ahead if each.started_at))
            if bar:
                print(f"{_ERASE}{progress(current, _columns())}", end="", flush=True)
            elif as_json:
                print(json.dumps(document(current)), flush=True)
            elif state != shown:
                print(progress(current, _ENDLESS), flush=True)
            shown = state
        elif not follower.is_over():
            idle_since = None
        elif idle_since is None:
            idle_since = now
        elif now - idle_since >= BETWEEN:
            break
        select.select([], [], [], EVERY)
        for done in follower.news():
            if not as_json:
                print(f"{_ERASE if bar else ''}{outcome(done)}", flush=True)
        current = follower.outlook(time.time())
    if bar:
        print(_ERASE, end="")
    if not as_json:
        print("emerge has ended")
    return DONE


def _print(outlook: Outlook, *, as_json: bool) -> None:
    from gentwoo_client.foretelling.outlook_text import document, table

    if as_json:
        import json

        print(json.dumps(document(outlook)))
    else:
        print("\n".join(table(outlook)))


# What was -------------------------------------------------------------------------------------------------


def _accuracy(arguments: argparse.Namespace, settings: Settings) -> int:
    import json

    from gentwoo_client.foretelling import replaying

    _, happenings, _ = _read_logs(arguments, settings)
    moves = _moves(settings)
    if arguments.json:
        for estimated in replaying.replay(happenings, moves):
            sys.stdout.write(f"{json.dumps(replaying.line(estimated))}\n")
        return DONE
    print("\n".join(replaying.text(replaying.methods(happenings, moves, _table(arguments, settings)))))
    return DONE


def _read_logs(
    arguments: argparse.Namespace, settings: Settings
) -> tuple[MergeReader, Sequence[Happening], int]:
    """Return what the logs tell, who read them, and how far into the last. Older parts of the log count."""
    from gentwoo_client.foretelling.running import boot_time
    from gentwoo_client.log.files import in_order_of_time, read_blocks
    from gentwoo_client.log.merges import MergeReader
    from gentwoo_client.log.rotation import rotated_files

    if arguments.logs:
        logs = in_order_of_time(arguments.logs) if len(arguments.logs) > 1 else list(arguments.logs)
    else:
        logs = [*(part.path for part in rotated_files(os.fspath(settings.log))), os.fspath(settings.log)]
    reader, happenings, offset = MergeReader(), [], 0
    for number, log in enumerate(logs, 1):
        offset = 0
        try:
            for block in read_blocks(log):
                offset += len(block)
                happenings += reader.read(block)
        except FileNotFoundError as error:
            if arguments.logs:
                raise GentwooError(f"{error.filename}: there is no such log") from None
        except PermissionError as error:
            if number == len(logs) or arguments.logs:
                raise NoPermission(
                    f"{error.filename}: you may not read this log",
                    advice="it belongs to group portage: run this as a member of it, or as root",
                ) from None
    if not arguments.logs:
        reader.boot(boot_time())
    return reader, happenings, offset


def _walked(arguments: argparse.Namespace, settings: Settings, happenings: Sequence[Happening]) -> Walk:
    from gentwoo_client.foretelling.own_history import walk_quickly
    from gentwoo_client.prediction.history import Walk

    walk = Walk(_moves(settings))
    walk_quickly(walk, happenings)
    walk.consult(_table(arguments, settings))
    return walk


def _moves(settings: Settings) -> dict[str, str]:
    from gentwoo_client.foretelling.package_moves import package_moves

    return package_moves(settings.eprefix)


def _table(arguments: argparse.Namespace, settings: Settings) -> FleetTable | None:
    from gentwoo_client.foretelling.fleet_table import fleet_table

    return fleet_table(settings, offline=arguments.offline)


def _usual_jobs(happenings: Sequence[Happening]) -> int:
    """Return how many at a time emerge is likely to merge: as told in the environment, else as last time."""
    from gentwoo_client.log.merges import Beginning

    match = _JOBS.search(os.environ.get("EMERGE_DEFAULT_OPTS", ""))
    if match is not None:
        return int(match[1] or match[2] or 0)
    newest = next((each for each in reversed(happenings) if isinstance(each, Beginning)), None)
    return 1 if newest is None else newest.jobs


def _columns() -> int:
    try:
        return max(20, os.get_terminal_size(sys.stdout.fileno()).columns - 1)
    except (OSError, ValueError):
        return _WIDTH
