# SPDX-License-Identifier: GPL-2.0-or-later
"""What a builder says of a package that it is about to send, and what becomes of it. No I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import UUID

from bdcs.domain import admission

if TYPE_CHECKING:
    from bdcs.domain.gpkg.reading import Package

LIFE: Final = 7 * 86_400
"""Seconds that an upload waits to be published before it is dropped, and that it is known afterwards; unless
the operator says otherwise."""
MOST: Final = 500
"""Uploads of one machine that may wait at a time; likewise."""


class State(StrEnum):
    """What became of an upload; the words also stand in the table and on the wire."""

    QUARANTINED = "quarantined"
    PUBLISHED = "published"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The upload as the token of its request describes it."""

    machine: UUID
    target: str
    category: str
    pf: str
    size: int
    """Bytes."""
    sha512: str
    """Hexadecimal, lower case."""

    @property
    def id(self) -> str:
        """The same for the same file from the same machine for the same place: sent again it does nothing."""
        words = (str(self.machine), self.target, self.category, self.pf, self.sha512)
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]

    def objection(self, package: Package, *, chost: str, bindist: bool) -> str | None:
        """Return why `package` is not what was declared, or may not be in a target like that; else None."""
        for name in ("size", "sha512"):
            if getattr(package, name) != getattr(self, name):
                return f"the {name} of what arrived is not the one that was declared"
        if str(package.cpv) != f"{self.category}/{self.pf}":
            return f"it is {package.cpv}, and was sent as {self.category}/{self.pf}"
        return admission.objection(package.metadata, chost=chost, bindist=bindist)
