# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs admin machines …`: who is registered, and what is to become of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from bdcs.domain.machines import State
from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bdcs.services.machines import Machine

HELP = "machines that registered here"

_ACTIONS = {
    "list": "all machines: UUID, state, records, when it registered",
    "show": "one machine",
    "approve": "let a machine that awaits approval send",
    "refuse": "let a machine that awaits approval never send; it is told so",
    "quarantine": "let a machine send nothing more; what it sent stays, and is no longer counted",
    "release": "end a quarantine",
    "forget": "erase everything of a machine, for ever",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with machines."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in _ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == "list":
            action.add_argument(
                "--state", choices=[str(state) for state in State], help="only machines in it"
            )
        else:
            action.add_argument("uuid", type=UUID, help="the machine's UUID")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from bdcs.cli.existing import existing_store
    from bdcs.store.store import transaction

    writing = arguments.action not in ("list", "show")
    with transaction(existing_store(settings, writing=writing)) as connection:
        if arguments.action == "list":
            _list(connection, arguments.state)
        else:
            _ON_ONE[arguments.action](connection, arguments.uuid)
    return EXIT_DONE


def _list(connection: Connection, state: str | None) -> None:
    from bdcs.services.machines import listed

    def show(machine: Machine) -> None:
        if state in (None, machine.state):
            print(_line(machine))

    listed(connection, show)


def _line(machine: Machine) -> str:
    from gentwoo_client.wire.records import format_time

    return f"{machine.uuid}  {machine.state:<17}  {machine.head_seq:>9}  {format_time(machine.registered_at)}"


def _show(connection: Connection, uuid: UUID) -> None:
    from gentwoo_client.wire.records import format_time

    machine = _require(connection, uuid)
    print(f"machine     {machine.uuid}")
    print(f"state       {machine.state}")
    print(f"registered  {format_time(machine.registered_at)}")
    print(f"records     {machine.head_seq}")
    print(f"segment     {machine.head_segment or 'none'}")


def _put_into(state: State) -> Callable[[Connection, UUID], None]:
    def put(connection: Connection, uuid: UUID) -> None:
        from bdcs.services.machines import set_state

        set_state(connection, uuid, state)
        print(f"{uuid} is {state}")

    return put


def _forget(connection: Connection, uuid: UUID) -> None:
    from bdcs.services.forgetting import forget

    machine = _require(connection, uuid)
    forget(connection, machine)
    print(f"{uuid} is forgotten, with {machine.head_seq} records")


def _require(connection: Connection, uuid: UUID) -> Machine:
    from bdcs.errors import NoSuchMachine
    from bdcs.services.machines import find

    machine = find(connection, uuid)
    if machine is None:
        raise NoSuchMachine(str(uuid))
    return machine


_ON_ONE: dict[str, Callable[[Connection, UUID], None]] = {
    "show": _show,
    "approve": _put_into(State.APPROVED),
    "refuse": _put_into(State.REFUSED),
    "quarantine": _put_into(State.QUARANTINED),
    "release": _put_into(State.APPROVED),
    "forget": _forget,
}
