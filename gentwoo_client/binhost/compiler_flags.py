# SPDX-License-Identifier: GPL-2.0-or-later
"""What compiler flags mean for where a program runs, and when two sets of them mean the same. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gentwoo_client.binhost.instruction_sets import NOT_COUNTED, OPTIONS, baseline, is_x86, needed_by

NATIVE: Final = ("-march=native", "-mcpu=native", "-mtune=native")

# Options of the machine that change code but not where it runs.
_RUNS_EVERYWHERE = re.compile(
    r"-m(?:tune=.*|fpmath=.*|64|32|cmodel=.*|tls-dialect=.*|prefer-vector-width=.*|branch-cost=.*|indirect-branch.*"
    r"|function-return=.*|harden-sls=.*|stackrealign|(?:no-)?(?:omit-leaf-frame-pointer|red-zone|vzeroupper"
    r"|stack-arg-probe|accumulate-outgoing-args|push-args|ieee-fp|inline-all-stringops|cld|retpoline.*))"
)
# Of these the last one counts.
_LAST_COUNTS = {
    "O": re.compile(r"-O.*"),
    "march": re.compile(r"-march=.*"),
    "mtune": re.compile(r"-mtune=.*"),
    "mcpu": re.compile(r"-mcpu=.*"),
    "mfpmath": re.compile(r"-mfpmath=.*"),
    "lto": re.compile(r"-f(?:no-)?lto(?:=.*)?"),
    "g": re.compile(r"-g(?:gdb)?[0-3]?"),
}


@dataclass(frozen=True, slots=True)
class Unknown:
    """It cannot be told which instructions are needed; `reason` says why, as a phrase."""

    reason: str


def needed_instructions(chost: str, cflags: str) -> frozenset[str] | Unknown:
    """The instructions that programs built for `chost` with `cflags` may use, as /proc/cpuinfo has them."""
    words = cflags.split()
    if not is_x86(chost):
        named = [word for word in words if word.startswith(("-march=", "-mcpu="))]
        return Unknown(f"it is not known which CPUs run {named[-1]}") if named else frozenset()
    march = _last(words, "-march=") or baseline(chost)
    if march == "native":
        return Unknown("-march=native stands for the CPU that built its packages, whichever that was")
    needed = needed_by(march)
    if needed is None:
        return Unknown(f"it is not known which CPUs run -march={march}")
    return _with_options(needed, words)


def _with_options(needed: frozenset[str], words: Sequence[str]) -> frozenset[str] | Unknown:
    for word in words:
        if not word.startswith("-m") or word.startswith("-march=") or _RUNS_EVERYWHERE.fullmatch(word):
            continue
        is_denied, option = word.startswith("-mno-"), _option(word)
        if option in OPTIONS:
            instruction = frozenset({OPTIONS[option]})
            needed = needed - instruction if is_denied else needed | instruction
        elif not is_denied and option not in NOT_COUNTED:
            return Unknown(f"it is not known which CPUs run {word}")
    return needed


def means_the_same(chost: str, one: str, other: str) -> bool:
    """Whether two sets of flags give the same code: order, repetition and what is implied do not count."""
    return _normalized(chost, one) == _normalized(chost, other)


def with_native(cflags: str, resolved: Sequence[str]) -> str:
    """`cflags` with `resolved`, what the compiler made of them, in the place of what says `native`."""
    words = cflags.split()
    first = next((place for place, word in enumerate(words) if word in NATIVE), None)
    if first is None:
        return cflags
    before, after = words[:first], [word for word in words[first:] if word not in NATIVE]
    return " ".join([*before, *resolved, *after])


def is_native(cflags: str) -> bool:
    """Whether the flags leave to the compiler what they mean on this machine."""
    return any(word in NATIVE for word in cflags.split())


def _normalized(chost: str, cflags: str) -> frozenset[str]:
    last: dict[str, str] = {}
    others: list[str] = []
    for word in cflags.split():
        kind = next((kind for kind, pattern in _LAST_COUNTS.items() if pattern.fullmatch(word)), None)
        if kind is not None:
            last[kind] = word
        elif word != "-pipe":
            others.append(word)
    march = last.get("march", "").removeprefix("-march=")
    tune = last.get("mtune", "").removeprefix("-mtune=")
    if tune == march or (tune == "generic" and (not march or march.startswith("x86-64"))):
        last.pop("mtune", None)
    implied = needed_by(march or baseline(chost)) if is_x86(chost) else None
    return frozenset(last.values()) | (frozenset(others) if implied is None else _beyond(implied, others))


def _beyond(implied: frozenset[str], words: Sequence[str]) -> frozenset[str]:
    """What `words` say that -march does not imply; instructions as `+avx2` and `-avx2`."""
    said: dict[str, bool] = {}
    others: set[str] = set()
    for word in words:
        option = _option(word)
        if option in OPTIONS:
            said[OPTIONS[option]] = not word.startswith("-mno-")
        elif option not in NOT_COUNTED:
            others.add(word)
    differing = (name for name, is_on in said.items() if is_on != (name in implied))
    return frozenset(others) | {f"{'+' if said[name] else '-'}{name}" for name in differing}


def _option(word: str) -> str:
    """The name in `-mNAME` and `-mno-NAME`; empty for other words."""
    return word.removeprefix("-m").removeprefix("no-") if word.startswith("-m") else ""


def _last(words: Sequence[str], prefix: str) -> str | None:
    found = [word.removeprefix(prefix) for word in words if word.startswith(prefix)]
    return found[-1] if found else None
