# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands whose output is of interest only where they fail."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from dev.places import ROOT


def quietly(
    *command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run `command` to its end, without input; return its exit code and what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout
