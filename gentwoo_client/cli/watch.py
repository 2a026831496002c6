# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo watch`: hear of packages by an Atom feed, and by a webhook."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, printable
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.collector_api import CollectorAPI

NAME = "watch"
HELP = "hear of failures, new versions and removals of packages"
TOPICS = ("failures", "adoption", "removal")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with watches."""
    parser.description = (
        "Have the collector tell what becomes of packages: by an Atom feed whose address only this machine is"
        " told, and by a webhook. A watch belongs to the machine's key. Unlike all else here, it tells the"
        " collector what interests you."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="watch a package; a webhook's secret is shown only now")
    add.add_argument("package", metavar="PACKAGE", help="category/name")
    add.add_argument(
        "--topic", action="append", default=[], choices=TOPICS, help="what to hear of; all topics by default"
    )
    add.add_argument("--webhook", metavar="URL", help="an https address that is called")
    listing = actions.add_parser("list", help="what is watched, and how messages fare")
    remove = actions.add_parser("remove", help="watch no longer")
    remove.add_argument("watch", metavar="ID", help="as `list` shows it")
    for action in (add, listing):
        action.add_argument("--json", action="store_true", help="print the collector's answer as JSON")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it; return 0."""
    from gentwoo_client.privileges import enter_state_directory
    from gentwoo_client.registration import open_registration

    enter_state_directory(settings.state_dir)
    registration, key = open_registration(settings)

    async def do() -> None:
        from gentwoo_client.collector_api import CollectorAPI

        async with CollectorAPI(registration.collector, key) as api:
            await _ACTIONS[arguments.action](api, arguments)

    asyncio.run(do())
    return DONE


async def _add(api: CollectorAPI, arguments: argparse.Namespace) -> None:
    watch = await api.add_watch(arguments.package, arguments.topic, arguments.webhook)
    if arguments.json:
        print(json.dumps(watch))
        return
    for label, name in (("Watch", "id"), ("Feed", "feed"), ("Secret", "secret")):
        if watch.get(name) is not None:
            print(f"{label + ':':<9}{printable(str(watch[name]))}")
    if watch.get("secret") is not None:
        print("The secret is not shown again; messages are signed with it.")


async def _list(api: CollectorAPI, arguments: argparse.Namespace) -> None:
    document = await api.watches()
    if arguments.json:
        print(json.dumps(document))
        return
    watches = document.get("watches")
    if not isinstance(watches, list) or not watches:
        print("Nothing is watched. `gentwoo watch add PACKAGE` begins.")
        return
    print(f"Feed: {printable(str(document.get('feed')))}")
    for watch in watches:
        if isinstance(watch, dict):
            print(printable(_line(watch)))


def _line(watch: dict[str, object]) -> str:
    topics = watch.get("topics")
    words = ",".join(map(str, topics)) if isinstance(topics, list) else ""
    text = f"{watch.get('id')}  {watch.get('package')}  {words}"
    if watch.get("webhook") is None:
        return text
    fares = watch.get("problem") or (
        f"last at {watch['delivered_at']}" if watch.get("delivered_at") else "nothing sent yet"
    )
    return f"{text}  {watch['webhook']}: {fares}"


async def _remove(api: CollectorAPI, arguments: argparse.Namespace) -> None:
    await api.remove_watch(arguments.watch)
    print(f"{arguments.watch} is removed.")


_ACTIONS: dict[str, Callable[[CollectorAPI, argparse.Namespace], Awaitable[None]]] = {
    "add": _add,
    "list": _list,
    "remove": _remove,
}
