# SPDX-License-Identifier: GPL-2.0-or-later
"""A target that a machine would like to have: what its packages were to be built for. Pure.

    {"chost": "x86_64-pc-linux-gnu", "arch": "amd64", "profile": "default/linux/amd64/23.0",
     "cflags": "-O2 -march=znver3", "cpu": "znver3"}

What is accepted ends up in the environment of builds on machines of somebody else, so it is held to the rules
of `wire.parameters`, and nothing but these members may be there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from gentwoo_client.wire.errors import InvalidParameter
from gentwoo_client.wire.parameters import check_arch, check_chost, check_flags, check_profile

FIELDS: Final = ("chost", "arch", "profile", "cflags", "cpu")

_CPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,63}")
_NATIVE = re.compile(r"=native\b")
_LAST_COUNTS: Final = (
    re.compile(r"-O.*"),
    re.compile(r"-march=.*"),
    re.compile(r"-mtune=.*"),
    re.compile(r"-mcpu=.*"),
    re.compile(r"-mfpmath=.*"),
    re.compile(r"-f(?:no-)?lto(?:=.*)?"),
    re.compile(r"-g(?:gdb)?[0-3]?"),
)
"""Flags of GCC of which each overrules those of its kind before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The parameters of a target. From outside they enter by `from_json`."""

    chost: str
    arch: str
    profile: str
    """Relative to `profiles/` of its repository."""
    cflags: str
    """Without `native`, and without flags that a later one overrules."""
    cpu: str
    """What the compiler calls the CPU, as `znver3`; empty where the flags name none."""

    def to_json(self) -> dict[str, str]:
        """The mapping that `from_json` reads."""
        return {name: getattr(self, name) for name in FIELDS}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The proposal that a decoded JSON object holds. Raises `InvalidParameter`, which names one."""
        if not isinstance(document, dict):
            _refuse("proposal", "not an object")
        for name in document:
            if name not in FIELDS:
                _refuse(str(name)[:100], "nothing that a target is proposed with")
        return cls(
            chost=check_chost(_text(document, "chost")),
            arch=check_arch(_text(document, "arch")),
            profile=check_profile(_text(document, "profile")),
            cflags=_cflags(_text(document, "cflags")),
            cpu=_cpu(_text(document, "cpu")),
        )

    def digest(self) -> str:
        """What is the same for proposals of the same target: neither order nor `-pipe` make another one."""
        flags = sorted({*self.cflags.split()} - {"-pipe"})
        said = json.dumps([self.chost, self.arch, self.profile, flags], separators=(",", ":"))
        return hashlib.sha256(said.encode()).hexdigest()


def settled(cflags: str) -> str:
    """Return the flags without those that a later one of their kind overrules."""
    words: list[str] = []
    for word in cflags.split():
        kind = next((kind for kind in _LAST_COUNTS if kind.fullmatch(word)), None)
        if kind is not None:
            words = [before for before in words if not kind.fullmatch(before)]
        words.append(word)
    return " ".join(words)


def cpu_of(cflags: str) -> str:
    """Return what the flags call the CPU; empty where they name none."""
    named = [word.removeprefix("-march=") for word in cflags.split() if word.startswith("-march=")]
    return named[-1] if named and _CPU.fullmatch(named[-1]) else ""


def _cflags(text: str) -> str:
    flags = check_flags("cflags", text)
    if _NATIVE.search(flags):
        _refuse("cflags", "native stands for the CPU of whoever compiles")
    if not flags:
        _refuse("cflags", "there are none, and packages are built with some")
    return settled(flags)


def _cpu(text: str) -> str:
    if text and (not _CPU.fullmatch(text) or text == "native"):
        _refuse("cpu", f"{text[:100]!r} is no CPU of a compiler")
    return text


def _text(document: Mapping[str, object], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str):
        _refuse(field, "not a string")
    return value


def _refuse(field: str, reason: str) -> NoReturn:
    raise InvalidParameter(field, reason)
