# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo report`: a link to this machine's own page at the collector."""

from __future__ import annotations

import argparse
import asyncio
import sys

from gentwoo_client.errors import DONE
from gentwoo_client.settings import Settings

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

    enter_state_directory(settings.state_dir)
    return asyncio.run(_report(settings))


async def _report(settings: Settings) -> int:
    from gentwoo_client.collector_api import CollectorAPI
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.registration import open_registration

    async with Outbox.open(settings.state_dir) as outbox:
        registration, key = await open_registration(outbox, settings.state_dir, settings)
    async with CollectorAPI(registration.collector, key) as collector:
        link = await collector.report_link()
    print(link.url)
    print(f"It works until {link.expires_at}.", file=sys.stderr)
    return DONE
