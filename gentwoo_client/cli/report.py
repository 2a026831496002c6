# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo report`: a link to this machine's own page at the collector."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.collector_api import ReportLink
    from gentwoo_client.machine_key import MachineKey

NAME = "report"
HELP = "print a short-lived link to this machine's own page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`: it has none."""
    parser.description = (
        "Print a link to the page on which the collector shows this machine alone. Whoever has the "
        "link can read the page until it expires, so pass it on with care."
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the link on stdout, and when it expires on stderr; return 0."""
    from gentwoo_client.privileges import enter_state_directory
    from gentwoo_client.registration import open_registration

    enter_state_directory(settings.state_dir)
    registration, key = open_registration(settings)
    link = asyncio.run(_link(registration.collector, key))
    print(link.url)
    print(f"It works until {link.expires_at}.", file=sys.stderr)
    return DONE


async def _link(collector: str, key: MachineKey) -> ReportLink:
    from gentwoo_client.collector_api import CollectorAPI

    async with CollectorAPI(collector, key) as api:
        return await api.report_link()
