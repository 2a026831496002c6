# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo why`: why emerge would compile a package here instead of taking a binary."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from gentwoo_client.errors import DONE, UsageError, printable
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.building.wanting import Wanted
    from gentwoo_client.wire.build_messages import PackageStatus

NAME = "why"
HELP = "tell why emerge would compile a package here: the difference to each binary that there is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Tell whether there is a binary that fits what emerge would build here, and if not, how each build of"
        " that version that is published differs from it. Asks the collector, and has nothing built."
    )
    parser.add_argument("atom", metavar="ATOM", help="app-misc/hello, or '=app-misc/hello-2.10'")
    parser.add_argument("--deep", action="store_true", help="also everything that would be merged with it")
    parser.add_argument(
        "--target", metavar="NAME", help="compare with this target (default: the one set up here)"
    )
    parser.add_argument(
        "--yes", action="store_true", help="never ask; agree to what is told to the collector"
    )
    parser.add_argument("--json", action="store_true", help="tell it as one JSON object on stdout")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Tell it; 0 also where there is no binary."""
    from dataclasses import replace

    from gentwoo_client.binhost.portage_facts import read_portage
    from gentwoo_client.building.ordering import Mode, Order, carry_out
    from gentwoo_client.building.wanting import find_wanted
    from gentwoo_client.privileges import do_as_owner
    from gentwoo_client.wire.build_messages import BuildState

    wanted = find_wanted(settings, [arguments.atom], target=arguments.target)
    if not arguments.deep:
        wanted = _only(wanted, arguments.atom)
    if wanted.is_nothing:
        raise UsageError(f"emerge would not merge {arguments.atom}", advice="name a package, not a set")
    order = Order(
        wanted=replace(wanted, atoms=()), mode=Mode.PLAN, yes=arguments.yes, quiet=arguments.json, silent=True
    )
    document = do_as_owner(settings.state_dir, lambda: carry_out(settings, order))["state"]
    takes = "getbinpkg" in read_portage(settings).features
    if arguments.json:
        print(json.dumps(_document(wanted, document, takes)))
        return DONE
    for package in wanted.kept:
        print(f"{package.cpv}\n  {package.reason}")
    if document is not None:
        for status in BuildState.model_validate(document).packages:
            print("\n".join([status.cpv, *(f"  {line}" for line in _lines(wanted, status, takes))]))
    return DONE


def _only(wanted: Wanted, text: str) -> Wanted:
    """What is wanted, without what would only be merged along with it."""
    from dataclasses import replace

    from gentwoo_client.wire.atom import Atom
    from gentwoo_client.wire.cpv import CPV
    from gentwoo_client.wire.errors import InvalidAtom

    try:
        atom = Atom.parse(text, allow_bare=True)
    except InvalidAtom:
        raise UsageError(f"{text} is no package", advice="with --deep a set may be named, too") from None
    atom = replace(atom, use=(), slot=None, subslot=None, slot_operator="", repository=None)
    return replace(
        wanted,
        specifications=tuple(one for one in wanted.specifications if atom.matches(one.cpv)),
        kept=tuple(one for one in wanted.kept if atom.matches(CPV.parse(one.cpv))),
    )


def _lines(wanted: Wanted, package: PackageStatus, takes: bool) -> list[str]:
    from gentwoo_client.building.plan_text import near_lines

    if package.state == "published":
        return [f"is published as wanted here: {printable(package.url or '')}", *_here(wanted, takes)]
    lines = near_lines(package.near)
    if not lines:
        lines = [f"no build of this version is published for {wanted.target}"]
    if package.answer == "refused":
        return [*lines, f"it would not be built: {printable(package.reason or 'refused')}"]
    on_its_way = package.answer == "joined"
    return [*lines, "it is being built as wanted here" if on_its_way else "`gentwoo install` has it built"]


def _here(wanted: Wanted, takes: bool) -> list[str]:
    """Whether emerge takes it; `takes`: it looks for binaries of its own accord."""
    if wanted.entry is None:
        return ["but Portage does not look there: `gentwoo binhost setup`"]
    if wanted.entry.target != wanted.target:
        return [f"but Portage takes packages of {wanted.entry.target} here"]
    if not takes:
        return ['emerge takes it with --getbinpkg, or always with FEATURES="getbinpkg" in make.conf']
    return ["emerge takes it"]


def _document(wanted: Wanted, state: dict[str, Any] | None, takes: bool) -> dict[str, Any]:
    return {
        "target": wanted.target,
        "setup": wanted.entry is not None and wanted.entry.target == wanted.target,
        "getbinpkg": takes,
        "packages": [] if state is None else state["packages"],
        "kept": [{"cpv": package.cpv, "reason": package.reason} for package in wanted.kept],
    }
