# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo remove`: packages that nothing else needs."""

from __future__ import annotations

import argparse
import sys

from gentwoo_client.cli import requesting
from gentwoo_client.errors import UsageError
from gentwoo_client.settings import Settings

NAME = "remove"
HELP = "remove packages that nothing else needs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Remove packages by `emerge --depclean`, which keeps what others need and asks before it removes"
        " anything. Nobody is told but whom the daemon tells of every change."
    )
    parser.add_argument("atoms", metavar="ATOM", nargs="+", help="as emerge takes them")
    parser.add_argument("--yes", action="store_true", help="never ask; agree to what is removed")
    requesting.add_non_interactive(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it; the exit code is emerge's."""
    from gentwoo_client.building.emerging import check_may_merge, run_emerge

    check_may_merge(settings)
    if not arguments.yes and (arguments.non_interactive or not sys.stdin.isatty()):
        raise UsageError(
            "nobody is here to say whether to go on",
            advice="add --yes; `emerge --pretend --depclean` shows what would be removed",
        )
    asking = "--ask=n" if arguments.yes else "--ask=y"
    return run_emerge(settings, ["--depclean", asking, "--", *arguments.atoms])
