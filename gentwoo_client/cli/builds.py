# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo builds`: what this machine asked for, and the logs of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, CollectorRefused, GentwooError, TryLater
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.building.request import Builds
    from gentwoo_client.machine_key import MachineKey
    from gentwoo_client.registration import Registration
    from gentwoo_client.wire.build_messages import BuildState, PackageStatus

NAME = "builds"
HELP = "show what this machine asked for; logs, cancel, retry"

_ACTIONS = {
    "show": "how a request stands, package by package",
    "log": "print the log of a build",
    "cancel": "give a request up; what nobody else waits for is not built",
    "retry": "have built again what failed of a request",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    parser.description = "Show what this machine asked for, the newest first; without ACTION all of it."
    parser.add_argument("--json", action="store_true", help="tell it as one JSON object on stdout")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, text in _ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text.capitalize() + ".", allow_abbrev=False)
        action.add_argument("id", metavar="ID", help="of the request, as `gentwoo builds` shows it")
        if name == "log":
            action.add_argument(
                "package", metavar="PACKAGE", nargs="?", help="app-misc/hello, where it has several"
            )
            action.add_argument("-f", "--follow", action="store_true", help="go on until the build has ended")
            action.add_argument("--attempt", metavar="N", type=int, help="not the last attempt but this one")
        else:
            # SUPPRESS: else the action's default would overrule what stood before it.
            action.add_argument(
                "--json", action="store_true", default=argparse.SUPPRESS, help="the same as JSON"
            )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from gentwoo_client.privileges import enter_state_directory
    from gentwoo_client.registration import open_registration

    enter_state_directory(settings.state_dir)
    registration, key = open_registration(settings)
    try:
        return asyncio.run(_run(arguments, settings, registration, key))
    except CollectorRefused as error:
        if error.reason != "not-found":
            raise
        raise GentwooError(
            f"this machine made no request {arguments.id}", advice="`gentwoo builds` lists them"
        ) from None


async def _run(
    arguments: argparse.Namespace, settings: Settings, registration: Registration, key: MachineKey
) -> int:
    from gentwoo_client.building.request import Builds
    from gentwoo_client.collector_api import CollectorAPI

    async with CollectorAPI(registration.collector, key) as api:
        builds = Builds(api)
        if arguments.action is None:
            return await _list(arguments, builds)
        if arguments.action == "log":
            return await _log(arguments, builds)
        if arguments.action == "cancel":
            state = await builds.cancel(arguments.id)
            _not_awaited(settings, arguments.id)
        else:
            state = await (builds.retry if arguments.action == "retry" else builds.state)(arguments.id)
        _show(arguments, state)
        return DONE


async def _list(arguments: argparse.Namespace, builds: Builds) -> int:
    from gentwoo_client.building.plan_text import summary_rows

    mine = await builds.mine()
    if arguments.json:
        print(json.dumps({"builds": [build.model_dump(mode="json") for build in mine]}))
        return DONE
    for number, created_at, state, ended, target, atoms in summary_rows(mine):
        print(f"{number:<12}{created_at:<27}{state:<12}{ended:>9}  {target:<16}{atoms}")
    if not mine:
        print("This machine asked for nothing yet: `gentwoo build ATOM…`.")
    return DONE


def _show(arguments: argparse.Namespace, state: BuildState) -> None:
    from gentwoo_client.building.plan_text import left_out_lines, state_words

    if arguments.json:
        print(json.dumps(state.model_dump(mode="json")))
        return
    print(f"Request {state.id} for {state.target}: {state.state}")
    for package in state.packages:
        print(f"  {package.cpv}: {state_words(package)}")
        for line in left_out_lines(package.left_out):
            print(f"    {line}")


def _not_awaited(settings: Settings, request: str) -> None:
    """Who cancels it need not be told."""
    from gentwoo_client.building import notifications

    with notifications.changing(settings.state_dir) as memory:
        memory.awaited.pop(request, None)


async def _log(arguments: argparse.Namespace, builds: Builds) -> int:
    """Print the log, and with --follow what comes, also where the collector restarts meanwhile."""
    from gentwoo_client.building.plan_text import left_out_lines
    from gentwoo_client.building.request import WAIT

    package = _logged(await builds.state(arguments.id), arguments.package)
    assert package.job is not None
    offset, attempt = 0, arguments.attempt
    while True:
        try:
            wait = WAIT if arguments.follow else 0
            piece = await builds.log(package.job, offset=offset, wait=wait, attempt=attempt)
        except TryLater:
            if not arguments.follow:
                raise
            await asyncio.sleep(1)
            continue
        except CollectorRefused as error:
            if error.reason != "not-found":
                raise
            raise GentwooError(f"there is no log: {error}") from None
        sys.stdout.write(_for_terminal(piece.text))
        sys.stdout.flush()
        if attempt is None and piece.attempt is not None:
            attempt = piece.attempt
        offset = piece.offset
        if piece.is_over if arguments.follow else not piece.text:
            break
    for line in left_out_lines(await _left_out(builds, package.job, attempt)):
        print(f"gentwoo: {line}", file=sys.stderr)
    return DONE


async def _left_out(builds: Builds, job: int, attempt: int | None) -> list[str]:
    """What an attempt built besides and did not publish; that it cannot be asked for is no error."""
    try:
        tried = (await builds.job(job)).attempts
    except (TryLater, CollectorRefused):
        return []
    return [cpv for one in tried if one.attempt == attempt for cpv in one.left_out]


def _logged(state: BuildState, text: str | None) -> PackageStatus:
    """The package whose log is meant: the one named, else the one that is built or failed."""
    found = [package for package in state.packages if package.job is not None]
    if text is not None:
        found = [package for package in found if text in (package.cpv, _cp(package))]
    order = ("building", "failed", "mismatch", "cancelled", "published", "queued", "waiting")
    found.sort(key=lambda package: order.index(package.state) if package.state in order else len(order))
    if not found:
        names = ", ".join(package.cpv for package in state.packages if package.job is not None) or "none"
        raise GentwooError("nothing of that request was built here", advice=f"there are logs of: {names}")
    if len(found) > 1 and text is None:
        others = ", ".join(package.cpv for package in found[1:])
        print(f"gentwoo: the log of {found[0].cpv}; there are also {others}", file=sys.stderr)
    return found[0]


def _cp(package: PackageStatus) -> str:
    from gentwoo_client.wire.cpv import split_cpv

    parts = split_cpv(package.cpv)
    return f"{parts[0]}/{parts[1]}" if parts else package.cpv


def _for_terminal(text: str) -> str:
    """What others printed: without what could command a terminal."""
    if not sys.stdout.isatty():
        return text
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
