# SPDX-License-Identifier: GPL-2.0-or-later
"""Running one command of an attempt: its output while it runs, and nothing left of it afterwards."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

_PIECE: Final = 64 << 10  # bytes
_LAST_WORDS: Final = 5.0  # seconds in which what was killed must have let go of its output


async def run(argv: Sequence[str], output: Callable[[bytes], None]) -> int:
    """Run `argv`, which is bubblewrap in the end, and return its exit status (minus a signal's number).

    Cancelled, it kills bubblewrap; the kernel then ends everything in its process namespace.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
        cwd="/",
    )
    assert process.stdout is not None
    try:
        # The end of the output is the end of all who could write to it.
        while piece := await process.stdout.read(_PIECE):
            output(piece)
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            async with asyncio.timeout(_LAST_WORDS):
                while await process.stdout.read(_PIECE):
                    pass
                await process.wait()
