# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of packages: Portage's own, one atom a line in `/etc/portage/sets/NAME`, which emerge knows as @NAME.

Editing keeps comments, blank lines and order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gentwoo_client.errors import GentwooError, NoPermission, UsageError
from gentwoo_client.privileges import command_as
from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.errors import InvalidAtom

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PORTAGES = frozenset(
    {
        "changed-deps",
        "deprecated-live-rebuild",
        "downgrade",
        "golang-rebuild",
        "installed",
        "live-rebuild",
        "module-rebuild",
        "preserved-rebuild",
        "profile",
        "rebuilt-binaries",
        "rust-rebuild",
        "security",
        "selected",
        "selected-packages",
        "selected-sets",
        "system",
        "unavailable",
        "unavailable-binaries",
        "world",
        "x11-module-rebuild",
    }
)


def check_name(name: str) -> str:
    """Return `name` without its `@`. Raises `UsageError` where no set of ours may have it."""
    plain = name.removeprefix("@")
    if not _NAME.fullmatch(plain) or plain.endswith("~"):
        raise UsageError(f"{name!r} is no name for a set", advice="letters, digits and any of “_.-”")
    if plain in _PORTAGES:
        raise UsageError(f"@{plain} is a set of Portage's own", advice="choose another name")
    return plain


def check_atom(text: str) -> str:
    """Return `text`, an atom as a set may have it, or `@NAME`. Raises `UsageError`."""
    if text.startswith("@") and _NAME.fullmatch(text[1:]):
        return text
    try:
        atom = Atom.parse(text)
    except InvalidAtom as error:
        raise UsageError(
            error.detail, advice="name it as CATEGORY/NAME; `emerge --search` finds it"
        ) from None
    if atom.blocker:
        raise UsageError(f"{text}: a set has no blockers")
    return text


def atoms_in(text: str) -> list[str]:
    """The atoms of a set's file, in order."""
    return list(_atoms(text.splitlines()))


def with_atoms(text: str, atoms: Sequence[str]) -> str:
    """The file with `atoms` at its end, but for those that it has."""
    known = set(atoms_in(text))
    new = [atom for atom in dict.fromkeys(atoms) if atom not in known]
    joint = "\n" if text and not text.endswith("\n") else ""
    return text + joint + "".join(f"{atom}\n" for atom in new)


def without_atoms(text: str, atoms: Sequence[str]) -> str:
    """The file without `atoms`. Raises `UsageError` where it does not have one of them."""
    known = set(atoms_in(text))
    for atom in atoms:
        if atom not in known:
            raise UsageError(
                f"{atom} is not in the set", advice=f"it has {', '.join(sorted(known)) or 'nothing'}"
            )
    return "".join(line for line in text.splitlines(keepends=True) if not set(_atoms([line])) & set(atoms))


def _atoms(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        words = line.partition("#")[0].split()
        yield from words[:1]


class Sets:
    """The sets below `configuration`, which is `/etc/portage`."""

    def __init__(self, configuration: Path) -> None:
        self._directory = configuration / "sets"

    def names(self) -> list[str]:
        """All of them, sorted. Raises `NoPermission`."""
        try:
            return sorted(
                path.name
                for path in self._directory.iterdir()
                if _NAME.fullmatch(path.name) and path.is_file()
            )
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise _refused(error) from None

    def read(self, name: str) -> str:
        """The text of a set. Raises `GentwooError` where there is none."""
        try:
            return self._path(name).read_text(errors="replace")
        except FileNotFoundError:
            known = ", ".join(self.names()) or "none yet"
            raise GentwooError(
                f"there is no set {name}", advice=f"`gentwoo set create {name} ATOM…`; there are: {known}"
            ) from None
        except PermissionError as error:
            raise _refused(error) from None

    def create(self, name: str, atoms: Sequence[str]) -> None:
        """Make a set. Raises `GentwooError` where there is one of that name."""
        if self._path(name).exists():
            raise GentwooError(f"there is a set {name} already", advice=f"`gentwoo set add {name} ATOM…`")
        self.write(name, with_atoms("", atoms))

    def write(self, name: str, text: str) -> None:
        """Give a set this text, whole or not at all. Raises `NoPermission`."""
        path = self._path(name)
        temporary = path.with_name(f".{name}.{os.getpid()}")  # Portage passes over names with a dot
        try:
            self._directory.mkdir(mode=0o755, exist_ok=True)
            temporary.write_text(text)
            temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
            temporary.replace(path)
        except PermissionError as error:
            raise _refused(error) from None
        finally:
            if os.access(self._directory, os.W_OK):
                temporary.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / check_name(name)


def _refused(error: PermissionError) -> NoPermission:
    return NoPermission(
        f"{error.filename}: sets of Portage belong to root", advice=f"use `{command_as('root')}`"
    )
