# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo downgrade`: an earlier version of an installed package, as a binary."""

from __future__ import annotations

import argparse

from gentwoo_client.cli import requesting
from gentwoo_client.settings import Settings

NAME = "downgrade"
HELP = "go back to an earlier version of a package, as a binary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Install an earlier version of a package than the one that is installed in the same slot: the next"
        " lower one that is not masked, or the one that ATOM names. Built and installed as `gentwoo install`"
        " does it. The next upgrade takes the newer one again, unless you mask it."
    )
    parser.add_argument("atom", metavar="ATOM", help="app-misc/hello, or '=app-misc/hello-2.10'")
    requesting.add_install_options(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from gentwoo_client.building.earlier import earlier_version

    chosen = earlier_version(settings, arguments.atom)
    print(f"{chosen.cpv} in place of {chosen.installed}.")
    return requesting.install(
        arguments, settings, [f"={chosen.cpv}"], "--oneshot", nothing="emerge would merge nothing."
    )
