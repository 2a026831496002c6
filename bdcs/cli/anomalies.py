# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs anomalies`."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from bdcs.errors import EXIT_DONE, EXIT_REFUSED
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bdcs.domain.anomalies import Finding
    from bdcs.services.quarantine import Aside

HELP = "find implausible machines and packages, and set them aside"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--quarantine",
        metavar="NAME",
        nargs="+",
        help="have machines (UUID) or packages (category/name) count nowhere in public; nothing is erased",
    )
    what.add_argument("--release", metavar="NAME", nargs="+", help="have them count again")
    what.add_argument("--quarantined", action="store_true", help="list what is set aside, and why")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, with --quarantine")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each line")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Look, and print what was found; or set aside, or release."""
    from bdcs.cli.existing import existing_store
    from bdcs.store.store import transaction

    writing = bool(arguments.quarantine or arguments.release)
    with transaction(existing_store(settings, writing=writing)) as connection:
        if writing:
            _change(connection, arguments)
            return EXIT_DONE
        if arguments.quarantined:
            _show_aside(connection, as_json=arguments.json)
            return EXIT_DONE
        return _find(connection, settings, as_json=arguments.json)


def _change(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import quarantine

    for name in arguments.quarantine or ():
        quarantine.set_aside(connection, name, arguments.reason, time.time())
        print(f"{name} is set aside")
    for name in arguments.release or ():
        quarantine.release(connection, name)
        print(f"{name} counts again")


def _show_aside(connection: Connection, *, as_json: bool) -> None:
    from bdcs.services import quarantine

    for aside in quarantine.listed(connection):
        print(json.dumps(_aside_document(aside)) if as_json else _aside_line(aside))


def _aside_document(aside: Aside) -> dict[str, object]:
    from gentwoo_client.wire.records import format_time

    since = None if aside.since is None else format_time(aside.since)
    return {"name": aside.name, "reason": aside.reason, "since": since}


def _aside_line(aside: Aside) -> str:
    from gentwoo_client.wire.records import format_time

    since = "–" if aside.since is None else format_time(aside.since)
    return f"{aside.name}  {since}  {aside.reason or '(no reason given)'}"


def _find(connection: Connection, settings: Settings, *, as_json: bool) -> int:
    from bdcs.domain.thresholds import Thresholds
    from bdcs.services import anomalies

    found = anomalies.find(connection, Thresholds(settings.threshold))
    for finding in found:
        name = anomalies.name_of(connection, finding)
        print(
            json.dumps(_document(name, finding))
            if as_json
            else f"{name}  {finding.kind:<8}  {finding.reason}"
        )
    if not as_json and not found:
        print("nothing is implausible")
    return EXIT_REFUSED if found else EXIT_DONE


def _document(name: str, finding: Finding) -> dict[str, object]:
    kind = "package" if finding.is_package else "machine"
    return {kind: name, "kind": str(finding.kind), "reason": finding.reason, "facts": finding.facts}
