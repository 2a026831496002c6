# SPDX-License-Identifier: GPL-2.0-or-later
"""What Portage's configuration and repositories say, as JSON. A program for Portage's own interpreter.

Nothing of ours imports this file, and it imports nothing of ours: `asking` runs it, whatever Python and
Portage a machine has. It reads one object from stdin and writes one to stdout:

    {"variables": ["CHOST"], "atoms": ["alpha"], "packages": [["app-misc/alpha-1.0", "gentoo"]]}

    {"eprefix": "", "variables": {"CHOST": "…"}, "atoms": {"alpha": ["app-misc/alpha-1.0", "gentoo"]},
     "packages": [{"cpv", "repository", "metadata", "use", "bound", "patched"}]}

`packages` are to be merged in this order, so `bound` takes those before one for installed, and those after it
for absent: on a builder, which begins with less, they are. Only Portage's public interface is used.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

# The directory of this file is put first by Python; none of our modules may stand for one of Portage's.
_OURS = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [path for path in sys.path if os.path.realpath(path) != _OURS]

import portage  # noqa: E402
from portage.dep import Atom, use_reduce  # noqa: E402
from portage.exception import PortageException  # noqa: E402
from portage.versions import best, cpv_getkey  # noqa: E402

METADATA = (
    "EAPI",
    "SLOT",
    "IUSE",
    "KEYWORDS",
    "LICENSE",
    "PROPERTIES",
    "RESTRICT",
    "DEPEND",
    "BDEPEND",
    "RDEPEND",
    "PDEPEND",
    "IDEPEND",
    "repository",
)
BINDING = ("DEPEND", "RDEPEND", "IDEPEND", "PDEPEND")


class Machine:
    """One configuration, its ebuilds and what is installed."""

    def __init__(self) -> None:
        trees = portage.db[portage.root]
        self.ebuilds = trees["porttree"].dbapi
        self.installed = trees["vartree"].dbapi
        self.settings = portage.config(clone=portage.settings)

    def variable(self, name: str) -> str:
        """The value of a variable of the configuration, with single blanks."""
        return " ".join(portage.settings.get(name, "").split())

    def find(self, text: str) -> list[str] | dict[str, str] | None:
        """The best visible package for an atom, with or without category; None where there is none."""
        try:
            atom = portage.dep_expand(text, mydb=self.ebuilds, settings=portage.settings)
            cpv = self.ebuilds.xmatch("bestmatch-visible", atom)
        except (PortageException, ValueError) as error:  # a ValueError where several categories have it
            return {"error": str(error)}
        return [str(cpv), str(getattr(cpv, "repo", ""))] if cpv else None

    def metadata(self, cpv: str, repository: str) -> dict[str, str]:
        """What the ebuild says of itself."""
        names = [name for name in METADATA if name in portage.auxdbkeys or name == "repository"]
        values = self.ebuilds.aux_get(cpv, names, myrepo=repository or None)
        return dict(zip(names, values, strict=True))

    def use(self, cpv: str, metadata: dict[str, str]) -> list[str]:
        """All flags that are enabled for a package: defaults, profile, package.use, masks and forces done."""
        self.settings.setcpv(cpv, mydb=metadata)
        enabled = {*self.settings.get("PORTAGE_USE", "").split(), self.settings.get("ARCH", "")}
        return sorted(enabled - {""})

    def is_patched(self, cpv: str, slot: str) -> bool:
        """Whether the machine's owner adds patches to the package, as `eapply_user` finds them."""
        root = os.path.join(portage.settings.get("PORTAGE_CONFIGROOT") or "/", "etc/portage/patches")
        package = cpv_getkey(cpv)
        without_revision, _, revision = cpv.rpartition("-r")
        if not revision.isdigit():
            without_revision, revision = cpv, "0"
        names = {package, cpv, without_revision, f"{without_revision}-r{revision}"}
        places = [os.path.join(root, name + end) for name in names for end in ("", f":{slot.split('/')[0]}")]
        return any(
            file.endswith((".patch", ".diff"))
            for place in filter(os.path.isdir, places)
            for file in os.listdir(place)
        )


class Planned:
    """Packages that are about to be merged, over those that are installed."""

    def __init__(self, machine: Machine, packages: Iterable[Sequence[str]]) -> None:
        self.machine = machine
        self.slots = {
            (cpv, metadata["repository"]): metadata["SLOT"]
            for cpv, repository in packages
            for metadata in (machine.metadata(cpv, repository),)
        }
        self.replaced = {(cpv_getkey(cpv), main_slot(slot)) for (cpv, _), slot in self.slots.items()}

    def bound(self, cpv: str, metadata: dict[str, str], use: Sequence[str]) -> dict[str, str]:
        """What each `:=` finds: `{"dev-libs/x:=": "0/1"}`, by the atom with its USE dependencies decided."""
        before = list(self.slots).index((cpv, metadata["repository"]))
        found = {}
        for name in BINDING:
            words = use_reduce(
                metadata.get(name, ""), uselist=use, eapi=metadata["EAPI"], flat=True, token_class=Atom
            )
            for atom in words:
                if isinstance(atom, Atom) and atom.slot_operator == "=" and not atom.blocker:
                    slot = self.slot(atom, before)
                    if slot:
                        found[str(atom)] = slot
        return found

    def slot(self, atom: Any, before: int) -> str | None:
        """SLOT/SUBSLOT of the best package that is there for `atom` after `before` merges; None for none."""
        slots = {}
        for cpv in self.machine.installed.match(atom):
            slot = self.machine.installed.aux_get(cpv, ["SLOT"])[0]
            if (cpv_getkey(cpv), main_slot(slot)) not in self.replaced:
                slots[str(cpv)] = slot
        for (cpv, repository), slot in list(self.slots.items())[:before]:
            if cpv_getkey(cpv) == atom.cp and cpv in self.matching(atom, repository):
                slots[cpv] = slot
        if not slots:
            return None
        main, _, sub = slots[str(best(list(slots)))].partition("/")
        return f"{main}/{sub or main}"

    def matching(self, atom: Any, repository: str) -> set[str]:
        """All ebuilds of a repository that `atom` names, with the USE that they would have here."""
        wanted = atom.with_repo(repository) if repository else atom
        return {str(cpv) for cpv in self.machine.ebuilds.xmatch("match-all", wanted)}


def main_slot(slot: str) -> str:
    """The slot without its sub-slot."""
    return slot.partition("/")[0]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The object to write."""
    machine = Machine()
    planned = Planned(machine, request["packages"])
    return {
        "eprefix": machine.variable("EPREFIX"),
        "variables": {name: machine.variable(name) for name in request["variables"]},
        "atoms": {atom: machine.find(atom) for atom in request["atoms"]},
        "packages": [describe(machine, planned, *package) for package in request["packages"]],
    }


def describe(machine: Machine, planned: Planned, cpv: str, repository: str) -> dict[str, Any]:
    """What is to be known of one package."""
    metadata = machine.metadata(cpv, repository)
    use = machine.use(cpv, metadata)
    return {
        "cpv": cpv,
        "repository": metadata["repository"],
        "metadata": metadata,
        "use": use,
        "bound": planned.bound(cpv, metadata, use),
        "patched": machine.is_patched(cpv, metadata["SLOT"]),
    }


def main() -> None:
    """Answer on what is stdout now; whatever Portage prints goes to stderr."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    document = answer(json.load(sys.stdin))
    with os.fdopen(stdout, "w") as file:
        json.dump(document, file)


if __name__ == "__main__":
    main()
