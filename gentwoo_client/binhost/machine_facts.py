# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine's CPU can do, and what its compiler takes `native` for."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from gentwoo_client.binhost.compiler_flags import NATIVE, is_native, with_native

CPUINFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = ("flags", "Features")  # x86; ARM
_COMPILER_TIMEOUT = 30  # seconds


def instructions(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """What all CPUs of this machine have; empty where the system does not say."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":") for line in lines)
    sets = [frozenset(value.split()) for name, _, value in named if name.strip() in _INSTRUCTIONS]
    return frozenset.intersection(*sets) if sets else frozenset()


def explicit_flags(chost: str, cflags: str, eprefix: str = "") -> str:
    """Return `cflags` with `native` resolved by GCC; as they are where they hold none, or there is no GCC.

    Cache sizes (`--param`) are left out: they differ among CPUs that run the same code.
    """
    if not is_native(cflags):
        return cflags
    places = f"{eprefix}/usr/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    compiler = shutil.which(f"{chost}-gcc", path=places) or shutil.which("gcc", path=places)
    if compiler is None:
        return cflags
    native = [word for word in cflags.split() if word in NATIVE]
    try:
        done = subprocess.run(
            # -### says how the compiler proper would be called, and calls nothing.
            [compiler, *native, "-###", "-E", "-x", "c", os.devnull],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILER_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return cflags
    resolved = _machine_options(done.stderr)
    return with_native(cflags, resolved) if resolved else cflags


def _machine_options(output: str) -> list[str]:
    """The `-m…` of the line that calls the compiler proper."""
    for line in output.splitlines():
        if not line.startswith(" ") or "cc1" not in line:
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        return [word for word in words if word.startswith("-m") and word not in NATIVE]
    return []
