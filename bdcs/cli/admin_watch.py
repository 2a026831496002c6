# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs admin watch …`: what the operator wants to hear of."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bdcs.domain.watching import Topic
from bdcs.errors import EXIT_DONE, NoSuchWatch, WatchRefused
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bdcs.services.watches import Watch

HELP = "packages that the operator watches, by a feed and webhooks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with watches."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "add",
        help="watch a package; a webhook's secret is shown only now",
        description="Watch a package. Prints the feed's path, and the secret that messages are signed with.",
        allow_abbrev=False,
    )
    add.add_argument("package", metavar="PACKAGE", help="category/name")
    add.add_argument(
        "--topic",
        action="append",
        default=[],
        choices=[str(topic) for topic in Topic],
        help="what to hear of; may be repeated; all topics by default",
    )
    add.add_argument("--webhook", metavar="URL", help="an https address that is called")
    listing = actions.add_parser("list", help="what is watched, and how messages fare", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="print a JSON object for each")
    remove = actions.add_parser("remove", help="watch no longer", allow_abbrev=False)
    remove.add_argument("watch", metavar="ID", help="as `list` shows it")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from bdcs.cli.existing import existing_store
    from bdcs.store.store import transaction
    from gentwoo_client.wire.errors import ProtocolError

    with transaction(existing_store(settings, writing=arguments.action != "list")) as connection:
        try:
            text = _ACTIONS[arguments.action](connection, arguments, settings)
        except ProtocolError as error:
            raise WatchRefused(error.detail) from None
    if text:
        print(text)
    return EXIT_DONE


def _add(connection: Connection, arguments: argparse.Namespace, settings: Settings) -> str:
    from bdcs.domain.webhooks import Destinations, told_secret
    from bdcs.services import watches

    if arguments.webhook is not None:
        Destinations.of(settings.webhook_hosts).check_url(arguments.webhook)
    watch = watches.add(connection, None, arguments.package, arguments.topic, arguments.webhook, time.time())
    lines = [f"watch   {watch.id}", f"feed    /watch/{watch.feed}.atom"]
    if watch.secret is not None:
        lines.append(f"secret  {told_secret(watch.secret)}")
    return "\n".join(lines)


def _list(connection: Connection, arguments: argparse.Namespace, _settings: Settings) -> str:
    from bdcs.services import watches
    from bdcs.services.watch_requests import document_of

    found = watches.of(connection, None)
    if arguments.json:
        documents = [
            {**document_of(connection, watch), "feed": f"/watch/{watch.feed}.atom"} for watch in found
        ]
        return "\n".join(map(json.dumps, documents))
    return "\n".join(_line(connection, watch) for watch in found)


def _line(connection: Connection, watch: Watch) -> str:
    from bdcs.services import watches

    text = f"{watch.id}  {watch.package}  {','.join(sorted(watch.topics))}  /watch/{watch.feed}.atom"
    if watch.webhook is None:
        return text
    delivered = watches.delivered(connection, watch.id)
    return f"{text}  {watch.webhook}  {delivered.problem or f'{delivered.waiting} waiting'}"


def _remove(connection: Connection, arguments: argparse.Namespace, _settings: Settings) -> str:
    from bdcs.services import watches

    if not watches.remove(connection, None, arguments.watch):
        raise NoSuchWatch(arguments.watch)
    return f"{arguments.watch} is removed"


_ACTIONS: dict[str, Callable[[Connection, argparse.Namespace, Settings], str]] = {
    "add": _add,
    "list": _list,
    "remove": _remove,
}
