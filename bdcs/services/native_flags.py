# SPDX-License-Identifier: GPL-2.0-or-later
"""What `-march=native` means on this host: a target has to name its CPU, since others differ."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

from bdcs.services import programs

NATIVE: Final = frozenset({"-march=native", "-mcpu=native", "-mtune=native"})


def explicit_flags(chost: str, cflags: str) -> str:
    """Return `cflags` with what GCC takes for `native` here; unchanged where there is no GCC to ask.

    Sizes of caches (`--param`) are left out: they would tell equal CPUs apart.
    """
    words = cflags.split()
    native = [word for word in words if word in NATIVE]
    compiler = shutil.which(f"{chost}-gcc") or shutil.which("gcc")
    if not native or compiler is None:
        return cflags
    # -### prints the call of the compiler proper, with everything resolved, and runs nothing.
    command = [compiler, "-###", *native, "-E", "-x", "c", os.devnull]
    try:
        done = programs.ask(command)
    except (OSError, subprocess.TimeoutExpired):
        return cflags
    resolved = list(_machine_flags(done.stderr))
    if not resolved:
        return cflags
    place = words.index(native[0])
    others = [word for word in words[place:] if word not in NATIVE]
    return " ".join([*words[:place], *resolved, *others])


def _machine_flags(calls: str) -> Iterator[str]:
    """Yield the flags that choose instructions in the first call of cc1."""
    for line in calls.splitlines():
        if line.startswith(" ") and "cc1" in line:
            yield from (word for word in shlex.split(line) if word.startswith("-m") and word not in NATIVE)
            return
