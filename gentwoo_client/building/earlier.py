# SPDX-License-Identifier: GPL-2.0-or-later
"""Which version comes before the one that is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gentwoo_client.errors import GentwooError, UsageError
from gentwoo_client.portage.asking import ask
from gentwoo_client.settings import Settings
from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.cpv import CPV, split_cpv
from gentwoo_client.wire.errors import InvalidAtom
from gentwoo_client.wire.version import compare_versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A version to go back to."""

    cpv: CPV
    installed: CPV


@dataclass(frozen=True, slots=True)
class _Installed:
    cpv: CPV
    slot: str
    """Without its sub-slot."""


def earlier_version(settings: Settings, text: str) -> Earlier:
    """The best visible version that `text` names and that is lower than the installed one of its slot.

    Raises `UsageError` for what is no atom, or is installed in several slots and names none; `GentwooError`
    where it is not installed, or nothing lower can be had.
    """
    atom = _atom(settings, text)
    name = f"{atom.category}/{atom.name}"
    installed = list(_installed(settings.eprefix, atom))
    if not installed:
        raise GentwooError(f"{name} is not installed", advice=f"`gentwoo install {text}`")
    if len(installed) > 1:
        slots = ", ".join(f"{name}:{one.slot}" for one in installed)
        raise UsageError(f"{name} is installed in several slots", advice=f"name one: {slots}")
    here = installed[0]
    wanted = atom
    if atom.version is None:
        wanted = replace(atom, operator="<", version=here.cpv.version)
    wanted = replace(wanted, slot=here.slot)
    found = ask(settings, atoms=[str(wanted)]).atoms[str(wanted)]
    parts = split_cpv(found[0]) if found else None
    if parts is None or compare_versions(parts[2], here.cpv.version) >= 0:
        raise GentwooError(
            f"nothing that is lower than {here.cpv} fits {wanted}, or all that does is masked",
            advice=f"see what `emerge --pretend --verbose '{wanted}'` says",
        )
    return Earlier(cpv=CPV(*parts), installed=here.cpv)


def _atom(settings: Settings, text: str) -> Atom:
    try:
        atom = Atom.parse(text, allow_bare=True)
    except InvalidAtom as error:
        raise UsageError(error.detail) from None
    if atom.blocker or atom.use or atom.slot_operator:
        raise UsageError(f"{text} is not simply a package")
    if atom.category is not None:
        return atom
    found = ask(settings, atoms=[atom.name]).atoms[atom.name]
    parts = split_cpv(found[0]) if found else None
    if parts is None:
        raise GentwooError(f"no package here is called {atom.name}", advice="name its category")
    return replace(atom, category=parts[0])


def _installed(eprefix: str, atom: Atom) -> Iterator[_Installed]:
    """What is installed of the package, in the slot that `atom` names if it names one."""
    directory = f"{eprefix}/var/db/pkg/{atom.category}"
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        parts = split_cpv(f"{atom.category}/{name}")
        if parts is None or parts[1] != atom.name:
            continue
        try:
            with open(f"{directory}/{name}/SLOT") as file:
                slot = file.readline(256).strip().partition("/")[0]
        except OSError:
            continue
        if atom.slot in (None, slot):
            yield _Installed(CPV(*parts), slot)
