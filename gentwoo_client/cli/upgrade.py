# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo upgrade`: newer versions as binaries, of some packages or of all."""

from __future__ import annotations

import argparse

from gentwoo_client.cli import requesting
from gentwoo_client.errors import UsageError
from gentwoo_client.settings import Settings

NAME = "upgrade"
HELP = "upgrade packages, or all of the system, as binaries"

_UPDATE = ("--update", "--deep", "--changed-use")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Upgrade packages and what they need, or with --all the whole system (@world), as `gentwoo install`"
        " does: what is not there as a binary is built first. emerge is run with"
        f" {' '.join(_UPDATE)}; named packages are not added to @world."
    )
    parser.add_argument("atoms", metavar="ATOM", nargs="*", help=requesting.ATOMS)
    parser.add_argument("--all", action="store_true", help="everything: @world")
    requesting.add_install_options(parser)
    parser.epilog = "examples:\n  gentwoo upgrade www-client/firefox\n  gentwoo upgrade --all --yes --no-wait"


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    if arguments.all == bool(arguments.atoms):
        raise UsageError("name packages, or --all; one of both")
    options = _UPDATE if arguments.all else (*_UPDATE, "--oneshot")
    atoms = ["@world"] if arguments.all else arguments.atoms
    return requesting.install(arguments, settings, atoms, *options, nothing="There is nothing to upgrade.")
