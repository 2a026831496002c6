# SPDX-License-Identifier: GPL-2.0-or-later
"""What a package must be to come into a target, and whether it keeps its BUILD_ID. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final

RESTRICTED: Final = ("bindist", "fetch")
"""Words of RESTRICT that forbid to pass on what was built, or what it was built from."""


class Origin(StrEnum):
    """How a build came; the words also stand in the table."""

    PUBLISH = "publish"
    IMPORT = "import"
    UPLOAD = "upload"


class Numbering(Enum):
    """What becomes of a package's BUILD_ID."""

    KEEP = "it keeps its own"
    ASSIGN = "it gets the next one that was never given out"
    REFUSE = "it cannot have its own, and must not be changed"


def objection(metadata: Mapping[str, str], *, chost: str, bindist: bool) -> str | None:
    """Return why a package of this `metadata` may not be in a target of that CHOST; None where it may.

    `bindist`: whether the target takes what must not be redistributed.
    """
    built_for = metadata.get("CHOST", "")
    if built_for != chost:
        return f"it is built for CHOST {built_for or '(none)'}, the target is {chost}"
    restricted = [word for word in RESTRICTED if word in metadata.get("RESTRICT", "").split()]
    if restricted and not bindist:
        return (
            f"its RESTRICT has {' and '.join(restricted)}: it must not be redistributed, and this target is"
            " not marked as one for your own machines (`bdcs target set NAME --bindist`)"
        )
    return None


def numbering(build_id: int | None, *, is_signed: bool, is_free: bool, will_sign: bool) -> Numbering:
    """Return what becomes of the BUILD_ID of a package that is `is_signed` already, or that we `will_sign`.

    `is_free`: no other build of the target has that number. A signed package cannot be changed; one without
    a number keeps none.
    """
    if is_signed:
        return Numbering.KEEP if is_free else Numbering.REFUSE
    if will_sign or build_id is None or not is_free:
        return Numbering.ASSIGN
    return Numbering.KEEP
