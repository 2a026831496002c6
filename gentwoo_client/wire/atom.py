# SPDX-License-Identifier: GPL-2.0-or-later
"""Package dependency atoms (PMS §8.3): `>=dev-lang/python-3.11:3.11::gentoo[ssl]` and its parts."""

import re
from dataclasses import dataclass
from typing import Self

from gentwoo_client.wire import limits
from gentwoo_client.wire.cpv import CATEGORY, CPV, NAME, REPOSITORY, VERSION, is_category, is_name, is_version
from gentwoo_client.wire.errors import InvalidAtom
from gentwoo_client.wire.version import Version, compare_versions

_SLOT = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"  # PMS §3.1.3
_FLAG = r"[A-Za-z0-9][A-Za-z0-9+_@-]*"  # PMS §3.1.4
_USE_DEP = rf"[!-]?{_FLAG}(?:\((?:\+|-)\))?[?=]?"
_ATOM = re.compile(
    r"(?P<blocker>!{0,2})(?P<operator><=|>=|[<=~>]|)"
    rf"(?:(?P<category>{CATEGORY})/)?"
    rf"(?:(?P<name>{NAME}?)-(?P<version>{VERSION})(?P<glob>\*?)|(?P<unversioned>{NAME}))"
    rf"(?::(?:(?P<slot>{_SLOT})(?:/(?P<subslot>{_SLOT}))?)?(?P<slot_operator>[*=]?))?"
    rf"(?:::(?P<repository>{REPOSITORY}))?"
    rf"(?:\[(?P<use>{_USE_DEP}(?:,{_USE_DEP})*)\])?"
)
_USE_FORM = re.compile(r"-?[^!?=-][^?=]*|!?[^!?=-][^?=]*[?=]")  # [-flag] or [flag], [!flag?], [!flag=]


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """One atom. USE dependencies are kept but never matched: nothing here knows the flags of a package."""

    blocker: str = ""
    """`!`, `!!` or empty."""
    operator: str = ""
    """`<`, `<=`, `=`, `~`, `>=`, `>`, `=*` (a version that begins so), or empty: any version."""
    category: str | None
    """None only for a bare name."""
    name: str
    version: str | None = None
    slot: str | None = None
    subslot: str | None = None
    slot_operator: str = ""
    """`*`, `=` or empty."""
    repository: str | None = None
    use: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, *, allow_bare: bool = False) -> Self:
        """The atom that `text` writes; `allow_bare`: also without category. Raises `InvalidAtom`."""
        match = _ATOM.fullmatch(text) if len(text) <= limits.ATOM_LENGTH else None
        if match is None:
            raise InvalidAtom(f"{text[:100]!r} is not an atom")
        part = match.groupdict()
        operator = "=*" if part["glob"] and part["operator"] == "=" else part["operator"]
        atom = cls(
            blocker=part["blocker"],
            operator=operator,
            category=part["category"],
            name=part["name"] or part["unversioned"],
            version=part["version"],
            slot=part["slot"],
            subslot=part["subslot"],
            slot_operator=part["slot_operator"] or "",
            repository=part["repository"],
            use=tuple(part["use"].split(",")) if part["use"] else (),
        )
        reason = atom._why_invalid(allow_bare=allow_bare)
        if part["glob"] and operator != "=*":
            reason = "only = goes with *"
        if part["slot"] is None and ":" in text.replace("::", "") and not part["slot_operator"]:
            reason = "an empty slot"
        if reason:
            raise InvalidAtom(f"{text[:100]!r} is not an atom: {reason}")
        return atom

    def _why_invalid(self, *, allow_bare: bool) -> str:
        """What the grammar alone does not see; empty where nothing is wrong."""
        if self.category is None and not allow_bare:
            return "the category is missing"
        if self.category is not None and not is_category(self.category):
            return "the category is too long"
        if not is_name(self.name):
            return "not a package name"
        if self.version is not None and not is_version(self.version):
            return "the version is too long"
        if (self.version is None) != (self.operator == ""):
            return "operator and version go together"
        if self.slot is not None and self.slot_operator == "*":
            return "a slot and :* exclude each other"
        if not all(_USE_FORM.fullmatch(flag) for flag in self.use):
            return "not a USE dependency"
        return ""

    def __str__(self) -> str:
        operator = self.operator[:1] if self.operator == "=*" else self.operator
        text = f"{self.blocker}{operator}{'' if self.category is None else self.category + '/'}{self.name}"
        if self.version is not None:
            text += f"-{self.version}{'*' if self.operator == '=*' else ''}"
        if self.slot is not None or self.slot_operator:
            subslot = "" if self.subslot is None else f"/{self.subslot}"
            text += f":{self.slot or ''}{subslot}{self.slot_operator}"
        if self.repository is not None:
            text += f"::{self.repository}"
        return text + (f"[{','.join(self.use)}]" if self.use else "")

    def matches(self, cpv: CPV, *, slot: str | None = None, repository: str | None = None) -> bool:
        """Whether `cpv`, in `slot` (SLOT, or SLOT/SUBSLOT) of `repository`, is one that the atom names.

        A blocker matches what it blocks. An unknown slot or repository (None) never matches an atom that
        demands one; an unknown sub-slot is the slot's own name (PMS §7.2).
        """
        if self.name != cpv.name or self.category not in (None, cpv.category):
            return False
        if self.repository is not None and self.repository != repository:
            return False
        return self._matches_slot(slot) and self._matches_version(cpv.version)

    def _matches_slot(self, slot: str | None) -> bool:
        if self.slot is None:
            return True
        if slot is None:
            return False
        main, _, sub = slot.partition("/")
        return self.slot == main and self.subslot in (None, sub or main)

    def _matches_version(self, version: str) -> bool:
        if self.version is None:
            return True
        if self.operator == "=*":
            return _begins_with(version, self.version)
        if self.operator == "~":
            return compare_versions(_without_revision(version), _without_revision(self.version)) == 0
        order = compare_versions(version, self.version)
        return {"<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">": order > 0}[
            self.operator
        ]


def _begins_with(version: str, start: str) -> bool:
    """`=…*` as Portage has it: a prefix that ends where a part of the version ends, zeros before it aside."""
    version, start = _without_leading_zeros(version), _without_leading_zeros(start)
    rest = version.removeprefix(start)
    if len(rest) == len(version):
        return False
    return not rest or rest[0] in "._-" or rest[0].isdigit() != start[-1].isdigit()


def _without_revision(version: str) -> str:
    return Version.parse(version).without_revision


def _without_leading_zeros(version: str) -> str:
    stripped = version.lstrip("0")
    return stripped if stripped[:1].isdigit() else "0" + stripped
