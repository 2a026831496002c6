# SPDX-License-Identifier: GPL-2.0-or-later
"""What a target of the binhost may be called and say of itself, and when its index is dated."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from bdcs.domain.packages_index import STEP, checked_header, is_due
from bdcs.errors import TargetRefused
from gentwoo_client.wire import limits
from gentwoo_client.wire.targets import is_chost, is_flags, is_profile, is_target_name

EVERY_TARGET: Final = "all"  # what commands take for all of them
EVERY_FITTING: Final = "*"  # in place of names: those that Portage of the collector's host would build for
HEADER_KEYS: Final = ("ARCH", "IUSE_IMPLICIT", "USE_EXPAND", "USE_EXPAND_HIDDEN", "USE_EXPAND_IMPLICIT")
"""Keys of the index's header that Portage merges into the settings of a client without a profile."""
VALUES_PREFIX: Final = "USE_EXPAND_VALUES_"
"""… and so are the values of each variable in USE_EXPAND_IMPLICIT, under this prefix."""
FROM_THE_TARGET: Final = frozenset({"CHOST", "PROFILE", "repository"})
"""Header keys that follow from other settings: nobody may give them."""


_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_NATIVE = re.compile(r"-m(?:arch|cpu|tune)=native\b")


class Signatures(StrEnum):
    """Whether every package of a target is signed; the words also stand in the table and on the wire."""

    REQUIRED = "required"
    OPTIONAL = "optional"


class Cause(StrEnum):
    """What made a generation."""

    PUBLISH = "publish"
    IMPORT = "import"
    WITHDRAW = "withdraw"
    PRUNE = "prune"
    ROLLBACK = "rollback"


def check(setting: str, value: str) -> str:
    """Return `value`, blanks folded, if a target may have it as its `setting`; a name stays as it is.

    Raises `TargetRefused`.
    """
    text = value if setting == "name" else " ".join(value.split())
    is_valid, wanted = _RULES.get(setting, (_is_line, "one printable line"))
    if not is_valid(text):
        raise TargetRefused(f"{setting} {value!r} is not {wanted}")
    if setting == "cflags" and _NATIVE.search(text):
        raise TargetRefused(
            f"cflags {value!r}: “native” means another CPU on each machine; name one"
            " (app-misc/resolve-march-native says what it is here)"
        )
    return text


def check_header(header: Mapping[str, str]) -> Mapping[str, str]:
    """Return the keys of an index's header, blanks folded, without empty ones.

    Raises `TargetRefused`, `InvalidHeader`.
    """
    for key in FROM_THE_TARGET & header.keys():
        raise TargetRefused(f"{key} of the index follows from the target's other settings")
    checked = checked_header(header)
    return MappingProxyType({key: checked[key] for key in sorted(checked) if checked[key]})


def next_index_time(now: int, previous: int, previous_at: int) -> int:
    """Return the TIMESTAMP of a generation made at `now`, where that of the one before was `previous`.

    It is never earlier than the clock and always at least `STEP` later than that of the last index
    that anybody may have seen, also where the clock went back. An index that is not due waits; until it is,
    further generations join it under the same TIMESTAMP. `previous_at`: when the generation before was made.
    """
    was_written = is_due(now, previous) or is_due(previous_at, previous)
    return max(now, previous + STEP) if was_written else previous


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and is_target_name(text) and text != EVERY_TARGET


def _is_line(text: str) -> bool:
    return text.isprintable() and len(text) <= limits.TARGET_LINE_LENGTH


_RULES: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "name": (
        _is_name,
        "a name: lower-case letters, digits, “.”, “_” and “-”, a letter or digit first; not “keys” or “all”",
    ),
    "chost": (is_chost, "a CHOST such as x86_64-pc-linux-gnu"),
    "profile": (is_profile, "a profile below profiles/, such as default/linux/amd64/23.0"),
    "cflags": (is_flags, "a list of compiler flags (letters, digits, blanks and any of +=_.,:/@%-)"),
}
