# SPDX-License-Identifier: GPL-2.0-or-later
"""What `bdcs check` found that is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SHOWN: Final = 20  # differences that are kept with their text


@dataclass(slots=True)
class Differences:
    """How many there are, and of what kind the first ones are."""

    differences: int = 0
    first: list[str] = field(default_factory=list)
    """The first few differences."""

    def differ(self, text: str) -> None:
        """Count one difference."""
        self.differences += 1
        if len(self.first) < SHOWN:
            self.first.append(text)
