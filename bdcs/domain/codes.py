# SPDX-License-Identifier: GPL-2.0-or-later
"""The small numbers that stand in the tables for the words of a record. What a number means never changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EVENT: Final[Mapping[str, int]] = {"install": 0, "uninstall": 1, "failure": 2}
INSTALL_TYPE: Final[Mapping[str | None, int | None]] = {None: None, "source": 0, "binary": 1}
CAUSE: Final[Mapping[str | None, int | None]] = {
    None: None,
    "manual": 0,
    "replaced": 1,
    "build": 2,
    "fetch": 3,
    "interrupted": 4,
}
OBSERVED: Final[Mapping[str, int]] = {"live": 0, "backfill": 1}
CLOCK: Final[Mapping[str, int]] = {"synchronized": 0, "unknown": 1, "unsynchronized": 2}

EVENT_WORD: Final = {code: word for word, code in EVENT.items()}
INSTALL_TYPE_WORD: Final = {code: word for word, code in INSTALL_TYPE.items()}
CAUSE_WORD: Final = {code: word for word, code in CAUSE.items()}
OBSERVED_WORD: Final = {code: word for word, code in OBSERVED.items()}
CLOCK_WORD: Final = {code: word for word, code in CLOCK.items()}

INSTALL: Final = EVENT["install"]
UNINSTALL: Final = EVENT["uninstall"]
FAILURE: Final = EVENT["failure"]
