# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo history`: what emerge.log tells, read directly."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, GentwooError, NoPermission
from gentwoo_client.history import Format, JsonFormat, Selection, TableFormat, parse_moment, show
from gentwoo_client.repositories import Repositories
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.wire.atom import Atom

NAME = "history"
HELP = "show what was installed, removed and what failed, straight from emerge.log"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "atoms",
        metavar="ATOM",
        nargs="*",
        help="only these: dev-lang/python, python, '>=sys-devel/gcc-14', …",
    )
    parser.add_argument(
        "--log",
        dest="logs",
        metavar="FILE",
        action="append",
        default=[],
        help="a log to read instead of the one of the settings, also .gz, .bz2, .xz or .zst; "
        "several are read in order of time",
    )
    parser.add_argument("--since", metavar="TIME", help="nothing before")
    parser.add_argument("--until", metavar="TIME", help="nothing after; a date means the whole day")
    parser.add_argument(
        "--event",
        dest="events",
        action="append",
        default=[],
        choices=("install", "uninstall", "failure"),
        help="only these events (may be given several times)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one PackageStateChange a line, in the order of the log; `seq` counts all changes, "
        "those not asked for included",
    )
    parser.epilog = (
        "TIME is 2026-11-22, 2026-11-22T08:15 (local, or with an offset), Unix seconds,\n"
        "now, today, yesterday, or an age such as '3 days' or '2 weeks ago'."
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the history. Exit code 0 also if nothing matched, which is then said on stderr."""
    selection = _selection(arguments)
    logs = arguments.logs or [os.fspath(settings.log)]
    repositories = Repositories(settings.eprefix)
    form: Format
    if arguments.json:
        form, encoding = JsonFormat(selection, repositories), "utf-8"
    else:
        form = TableFormat(selection, repositories, colour=_wants_colour())
        encoding = sys.stdout.encoding
    try:
        shown = show(logs, form, _write, encoding=encoding)
    except OSError as error:
        _explain(error)
        raise
    if not shown:
        print("gentwoo: nothing in the log matches", file=sys.stderr)
    return DONE


def _write(text: bytes) -> None:
    # At once: a second process may write next.
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _selection(arguments: argparse.Namespace) -> Selection:
    atoms: tuple[Atom, ...] = ()
    if arguments.atoms:
        from gentwoo_client.wire.atom import Atom

        atoms = tuple(Atom.parse(text, allow_bare=True) for text in arguments.atoms)
    now = time.time()
    return Selection(
        atoms=atoms,
        since=None if arguments.since is None else parse_moment(arguments.since, now),
        until=None if arguments.until is None else parse_moment(arguments.until, now, end=True),
        events=frozenset(arguments.events),
    )


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _explain(error: OSError) -> None:
    """Turn a log that cannot be read into an error that says what to do."""
    if isinstance(error, FileNotFoundError):
        raise GentwooError(
            f"{error.filename}: there is no such log",
            advice="emerge writes it first when it merges something; --log FILE reads another",
        ) from None
    if isinstance(error, PermissionError):
        raise NoPermission(
            f"{error.filename}: you may not read this log",
            advice="it belongs to group portage: run this as a member of it, or as root",
        ) from None
    if isinstance(error, IsADirectoryError):
        raise GentwooError(f"{error.filename}: is a directory", advice="name the log in it") from None
