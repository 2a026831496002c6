# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that are about to leave their repository: the document of `GET /v1/leaving`.

    {"leaving": [{"atom": "app-misc/old", "reason": "no upstream", "leaves_on": "2026-12-24", …}]}

It is the same for everybody, so that no machine has to say what it has. Members that this version does not
know are passed over; what could command a terminal is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Self

from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.errors import Malformed

MOST: Final = 2000
"""Atoms of one list."""
REASON_LENGTH: Final = 500  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """One of them."""

    atom: Atom
    reason: str
    leaves_on: str | None
    """A day, as ISO 8601 writes it; None where it is not known."""
    machines: int | None
    """With the package in any version, as published; None where that is not shown."""

    def to_json(self) -> dict[str, object]:
        """The mapping that `from_json` reads."""
        return {
            "atom": str(self.atom),
            "reason": self.reason,
            "leaves_on": self.leaves_on,
            "machines": self.machines,
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The entry that a decoded JSON object describes. Raises `Malformed`."""
        if not isinstance(document, Mapping):
            raise Malformed("an entry of the list of leaving packages is no object")
        machines = document.get("machines")
        if machines is not None and (type(machines) is not int or machines < 0):
            raise Malformed("`machines` is no number")
        atom, reason, day = document.get("atom"), document.get("reason"), document.get("leaves_on")
        if not isinstance(atom, str) or not isinstance(reason, str):
            raise Malformed("`atom` and `reason` are texts")
        return cls(
            atom=Atom.parse(atom),
            reason=checked_reason(reason),
            leaves_on=None if day is None else checked_day(day),
            machines=machines,
        )


def leaving_from_json(document: object) -> tuple[Leaving, ...]:
    """The list that a decoded JSON document has. Raises `Malformed`."""
    entries = document.get("leaving") if isinstance(document, Mapping) else None
    if not isinstance(entries, list) or len(entries) > MOST:
        raise Malformed("not a list of leaving packages")
    return tuple(map(Leaving.from_json, entries))


def checked_reason(text: str) -> str:
    """Return `text`. Raises `Malformed` unless it is one printable line."""
    if len(text) > REASON_LENGTH or not text.isprintable():
        raise Malformed(f"a reason is a line of at most {REASON_LENGTH} printable characters")
    return text


def checked_day(text: object) -> str:
    """Return `text`. Raises `Malformed` unless it is a day, such as 2026-12-24."""
    try:
        if isinstance(text, str) and date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise Malformed(f"{str(text)[:40]!r} is no day such as 2026-12-24")
