# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo set`: sets of packages, which emerge knows as @NAME."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, UsageError
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.building.sets import Sets

NAME = "set"
HELP = "make sets of packages and have them built"

_ACTIONS = {
    "create": "make a set, with these packages if any are named",
    "add": "put packages into a set",
    "remove": "take packages out of a set",
    "list": "show all sets, or what is in one",
    "build": "have a set built, as `gentwoo build @NAME` does",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    parser.description = (
        "Make sets of packages and have them built. They are Portage's own: files of atoms in"
        " /etc/portage/sets, known to emerge and to every command here as @NAME. Comments in them stay."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in _ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text.capitalize() + ".", allow_abbrev=False)
        action.add_argument("name", metavar="NAME", nargs="?" if name == "list" else None)
        if name in ("create", "add", "remove"):
            action.add_argument("atoms", metavar="ATOM", nargs="*" if name == "create" else "+")
        if name == "list":
            action.add_argument("--json", action="store_true", help="tell it as one JSON object on stdout")
        if name == "build":
            from gentwoo_client.cli import build

            build.add_options(action)
    parser.epilog = (
        "examples:\n"
        "  gentwoo set create desktop www-client/firefox app-office/libreoffice\n"
        "  gentwoo set build desktop --no-wait\n"
        "  gentwoo install @desktop"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from gentwoo_client.building.sets import Sets, check_atom, check_name
    from gentwoo_client.building.wanting import configuration

    name = None if arguments.name is None else check_name(arguments.name)
    atoms = [check_atom(atom) for atom in getattr(arguments, "atoms", ())]
    sets = Sets(configuration(settings))
    if arguments.action == "list":
        return _list(arguments, sets, name)
    assert name is not None
    if arguments.action == "build":
        return _build(arguments, settings, sets, name)
    return _change(arguments.action, sets, name, atoms)


def _list(arguments: argparse.Namespace, sets: Sets, name: str | None) -> int:
    from gentwoo_client.building.sets import atoms_in

    names = sets.names() if name is None else [name]
    found = {one: atoms_in(sets.read(one)) for one in names}
    if arguments.json:
        print(json.dumps(found))
    elif name is not None:
        print("\n".join(found[name]), end="\n" if found[name] else "")
    elif not found:
        print("There are no sets yet.")
    else:
        for one, atoms in found.items():
            print(f"@{one}: {len(atoms):,} packages")
    return DONE


def _change(action: str, sets: Sets, name: str, atoms: list[str]) -> int:
    from gentwoo_client.building.sets import atoms_in, with_atoms, without_atoms

    if action == "create":
        sets.create(name, atoms)
    else:
        change = with_atoms if action == "add" else without_atoms
        sets.write(name, change(sets.read(name), atoms))
    print(f"@{name} has {len(atoms_in(sets.read(name))):,} packages.")
    return DONE


def _build(arguments: argparse.Namespace, settings: Settings, sets: Sets, name: str) -> int:
    from gentwoo_client.building.sets import atoms_in
    from gentwoo_client.cli import build

    if not atoms_in(sets.read(name)):
        raise UsageError(f"@{name} is empty", advice=f"`gentwoo set add {name} ATOM…`")
    arguments.atoms = [f"@{name}"]
    return build.run(arguments, settings)
