# SPDX-License-Identifier: GPL-2.0-or-later
"""What is on a machine now, as its records tell it.

An `installations` row says by its flags that the version is there now, and in which published figures this
machine is counted for it. A row that is not present but still counted stays until figures are published anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from bdcs.domain.codes import INSTALL, UNINSTALL

PRESENT: Final = 1
COUNTED_VERSION: Final = 2  # counted in the published figure of the version
COUNTED_PACKAGE: Final = 4  # counted in the published figure of the package
COUNTED: Final = COUNTED_VERSION | COUNTED_PACKAGE
AWAY: Final = 8  # of a machine that counts nowhere just now: it is quarantined, say
SETTLED: Final = (PRESENT | COUNTED, PRESENT | AWAY)
"""Flags of what agrees with the figures that are published; the store's index of all others has them too."""

P = TypeVar("P")  # what stands for a package: its number, or its name
V = TypeVar("V")  # … for a version
R = TypeVar("R")  # … for a repository


def effects(
    changes: Iterable[tuple[int, int, P, V, V | None, R | None, int]],
) -> dict[tuple[int, P, V], tuple[int, R | None] | None]:
    """Fold changes, in order, into what they leave.

    Per machine, package and version: when it arrived and from which repository, or None where it is gone.

    A change is (event, machine, package, version, replaced version, repository, recorded_at). A failure
    changes nothing: Portage leaves what was installed alone until the new package is complete.
    """
    outcome: dict[tuple[int, P, V], tuple[int, R | None] | None] = {}
    for event, machine, package, version, replaces, repository, recorded_at in changes:
        if event == INSTALL:
            if replaces is not None and replaces != version:
                outcome[machine, package, replaces] = None
            outcome[machine, package, version] = (recorded_at, repository)
        elif event == UNINSTALL:
            outcome[machine, package, version] = None
    return outcome
