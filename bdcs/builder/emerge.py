# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines of emerge, and what its output says when it failed.

Sources and binaries of dependencies are fetched first, with the network and without building; then all is
built without it. emerge's exit status is 1 for nearly every failure, so causes come from its text. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bdcs.builder.portage_config import Wish
from gentwoo_client.wire.build_messages import FailureKind

_GENERAL: Final = (
    "--ignore-default-opts",
    "--color=n",
    "--nospinner",
    "--oneshot",
    "--verbose",
    "--quiet-build=n",
    "--autounmask=n",
    "--jobs=1",
    # A dependency is taken as the target has it, so long as its USE is what is demanded of it: which variant
    # machines chose is known for what is wished only, and one more variant would be built for nobody.
    "--binpkg-respect-use=n",
)
TAIL: Final = 256 << 10
"""Bytes of output, the last, that a cause is looked for in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why emerge failed."""

    kind: FailureKind
    text: str


def fetching(wish: Wish, bindings: Sequence[str]) -> list[str]:
    """Return the command that fetches what building needs; binaries go into PKGDIR."""
    return ["emerge", *_GENERAL, "--fetchonly", "--getbinpkg", *_without_own(wish), *bindings, wish.atom]


def reading(wish: Wish, bindings: Sequence[str]) -> list[str]:
    """Return the command that reads the ebuilds in question, and remembers what they say."""
    return ["emerge", *_GENERAL, "--pretend", *_without_own(wish), *bindings, wish.atom]


def held_back(output: str) -> bool:
    """Whether an ebuild was kept from running, as `output` tells."""
    return _HELD_BACK.search(output) is not None


def building(wish: Wish, bindings: Sequence[str]) -> list[str]:
    """Return the command that builds; what nothing depends on need not be installed."""
    action = ("--usepkg", "--buildpkg") if wish.has_dependencies else ("--buildpkgonly",)
    return ["emerge", *_GENERAL, *action, *_without_own(wish), *bindings, wish.atom]


def _without_own(wish: Wish) -> tuple[str, ...]:
    """The package itself is built, though the target may have a binary of it."""
    return (f"--usepkg-exclude={wish.specification.cpv.cp}",)


_HELD_BACK: Final = re.compile(r"ebuild\.sh: Permission denied|Permission denied: '[^'\n]*/ebuild\.sh'")
_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded|File size limit exceeded")
_PHASE: Final = re.compile(r"ERROR: ([^\s:]+)(?:::\S+)? failed \((\w+) phase\)")
_CAUSES: Final[Sequence[tuple[str, FailureKind, str]]] = (
    (r"there are no ebuilds to satisfy|there are no binary packages to satisfy", "dependencies", "unknown"),
    (r"have been masked|masked packages|\(masked by: ", "dependencies", "masked"),
    (r"REQUIRED_USE flag constraints", "dependencies", "USE conflict"),
    (
        r"USE changes are necessary|no ebuilds built with USE flags|Change USE:|Missing IUSE:",
        "dependencies",
        "USE conflict",
    ),
    (
        r"blocking each other|Multiple package instances within a single package slot",
        "dependencies",
        "conflict",
    ),
    (r"requires all dependencies to be merged|[Cc]ircular dependenc", "dependencies", "dependencies"),
    (
        r"isn't fetched but unable|Couldn't download|[Ff]etch(?:ing)? failed|[Ff]etch-?restricted"
        r"|fetch restriction turned on|Fetch Restriction: \d+ packages? \(\d+ unsatisfied\)|to fetch",
        "fetch",
        "fetch",
    ),
    (r"[Vv]erification failed|Invalid binary package|Digest verification failed", "fetch", "not as signed"),
)
_TELLING: Final = re.compile(
    r"^(?: \* ERROR|!!!|emerge: |- \S+/\S+::|.*masked by|.*Couldn't|.* not found|.*[Ee]rror:| \*   )"
)
_LINES: Final = 12


def cause_of(output: str, status: int) -> Cause:
    """Return why emerge failed, which printed `output` and ended with `status`."""
    if _FULL.search(output):
        return Cause(kind="limit", text=f"disk: no space was left\n{_excerpt(output)}")
    for pattern, kind, word in _CAUSES:
        if re.search(pattern, output):
            return Cause(kind=kind, text=f"{word}\n{_excerpt(output)}")
    failed = _PHASE.findall(output)
    if failed:
        package, phase = failed[-1]
        return Cause(kind="build", text=f"{package} failed in its {phase} phase\n{_excerpt(output)}")
    return Cause(kind="build", text=f"emerge ended with status {status}\n{_excerpt(output)}")


def _excerpt(output: str) -> str:
    """The lines that say most, else the last."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    telling = list(dict.fromkeys(line for line in lines if _TELLING.search(line)))
    return "\n".join((telling or lines)[-_LINES:])
