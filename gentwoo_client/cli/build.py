# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo build`: have packages built as this machine would build them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gentwoo_client.cli import requesting
from gentwoo_client.errors import DONE, FAILED
from gentwoo_client.settings import Settings

NAME = "build"
HELP = "have packages built by the collector as this machine would build them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Have the collector build what emerge would merge here for these packages, each with this machine's"
        " own USE flags and against what it has. What is published is not built again, and what is on its way"
        " for somebody else is joined. Nothing is installed: `gentwoo install` does that."
    )
    parser.add_argument("atoms", metavar="ATOM", nargs="+", help=requesting.ATOMS)
    add_options(parser)
    parser.epilog = (
        "examples:\n"
        "  gentwoo build --plan www-client/firefox\n"
        "  gentwoo build --no-wait @world\n\n"
        "Exits with 0 when all of it is there (with --no-wait: asked for), with 1 where something is not."
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `gentwoo set build` has as well."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plan", action="store_true", help="only say what is there and what would be built")
    how.add_argument("--wait", action="store_true", help="wait until it is built (the default)")
    how.add_argument(
        "--no-wait", action="store_true", help="leave; the next gentwoo command tells when it is there"
    )
    parser.add_argument(
        "--target", metavar="NAME", help="build for this target (default: the one set up here)"
    )
    parser.add_argument("--json", action="store_true", help="print the request as one JSON object on stdout")
    requesting.add_options(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from gentwoo_client.building.ordering import Mode

    wanted = requesting.find(arguments, settings, arguments.atoms, target=arguments.target)
    mode = Mode.PLAN if arguments.plan else Mode.LEAVE if arguments.no_wait else Mode.WAIT
    if wanted.is_nothing:
        print("{}" if arguments.json else "emerge would merge nothing.")
        return DONE
    done = requesting.order(arguments, settings, wanted, mode, installs=False)
    kept = [{"cpv": package.cpv, "reason": package.reason} for package in wanted.kept]
    if arguments.json:
        print(json.dumps({**(done["state"] or {}), "kept": kept}))
    return DONE if mode is Mode.PLAN else _code(done, mode)


def _code(done: dict[str, Any], mode: Any) -> int:
    state = done["state"]
    if state is None:
        return DONE
    ends = ("published",) if mode.value == "wait" else ("published", "waiting", "queued", "building")
    return DONE if all(package["state"] in ends for package in state["packages"]) else FAILED
