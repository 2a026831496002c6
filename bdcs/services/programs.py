# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of this host that are asked something: nothing goes in, and what they print comes back."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final

TIMEOUT: Final = 60.0  # seconds


def ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, whatever its exit code.

    Raises `OSError` where it cannot be run, `subprocess.TimeoutExpired` after `TIMEOUT`.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
        check=False,
    )
