# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages that dependencies name (PMS §8.2), without working out what they ask for. Pure.

What stands below a USE conditional or in an any-of group may be needed or not, depending on flags and on
what else is there: that is kept apart. USE dependencies are left out, and so are blockers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.dependencies import ALL_OF, Nodes, parse
from gentwoo_client.wire.errors import InvalidAtom, InvalidDependency

PERHAPS: Final = "?"
"""Begins the written form of an atom that is needed with some flags, or as one of several."""
LONGEST: Final = 2000  # characters that are kept of what one version needs of one package


@dataclass(frozen=True, slots=True)
class Need:
    """One atom that something depends on."""

    atom: Atom
    perhaps: bool
    """Whether it is needed only with some flags, or as one of several."""

    @classmethod
    def read(cls, text: str) -> Need:
        """Return what `str` wrote. Raises `InvalidAtom`."""
        return cls(Atom.parse(text.removeprefix(PERHAPS)), text.startswith(PERHAPS))

    def __str__(self) -> str:
        return f"{PERHAPS if self.perhaps else ''}{self.atom}"


def needs(texts: Iterable[str]) -> dict[tuple[str, str], str]:
    """Return what dependencies, one text of each kind, need of each package, by category and name, as words.

    An atom that is needed in any case is not named as one that perhaps is, too. A text that cannot be read
    names nothing.
    """
    found: dict[tuple[str, str], dict[str, bool]] = {}
    for text in texts:
        for category, name, atom, perhaps in _named(_parsed(text), perhaps=False):
            atoms = found.setdefault((category, name), {})
            atoms[atom] = atoms.get(atom, True) and perhaps
    return {package: _written(atoms) for package, atoms in found.items()}


def _parsed(text: str) -> Nodes:
    try:
        return parse(text)
    except InvalidDependency:
        return ()


def _named(nodes: Nodes, *, perhaps: bool) -> Iterator[tuple[str, str, str, bool]]:
    """Yield category, name and text of each atom, and whether it may not be needed."""
    for node in nodes:
        if not isinstance(node, str):
            yield from _named(node.members, perhaps=perhaps or node.kind != ALL_OF)
        elif (atom := _atom(node.partition("[")[0])) is not None:
            yield *atom, perhaps


@lru_cache(maxsize=20_000)
def _atom(word: str) -> tuple[str, str, str] | None:
    """Category, name and text of an atom; None for a blocker, and for what is no atom."""
    try:
        atom = Atom.parse(word)
    except InvalidAtom:
        return None
    return None if atom.blocker or atom.category is None else (atom.category, atom.name, str(atom))


def _written(atoms: dict[str, bool]) -> str:
    kept = " ".join(sorted(f"{PERHAPS if perhaps else ''}{atom}" for atom, perhaps in atoms.items()))
    return kept if len(kept) <= LONGEST else kept[:LONGEST].rpartition(" ")[0]
