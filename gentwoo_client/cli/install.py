# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo install`: packages as binaries, built first where there are none that fit."""

from __future__ import annotations

import argparse

from gentwoo_client.cli import requesting
from gentwoo_client.settings import Settings

NAME = "install"
HELP = "install packages as binaries, having built what is not there"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Install packages as `emerge --getbinpkg` does, but first have the collector build what is not there,"
        " as this machine would build it. Shows what comes as a binary, what has to be built and how long"
        " that takes, asks, waits, and runs emerge. `gentwoo binhost setup` must have been run once."
    )
    parser.add_argument("atoms", metavar="ATOM", nargs="+", help=requesting.ATOMS)
    parser.add_argument("--oneshot", action="store_true", help="do not add them to @world")
    requesting.add_install_options(parser)
    parser.epilog = "examples:\n  gentwoo install app-misc/hello\n  gentwoo install --yes --no-wait @my-set"


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    options = ["--oneshot"] if arguments.oneshot else []
    return requesting.install(
        arguments, settings, arguments.atoms, *options, nothing="emerge would merge nothing."
    )
