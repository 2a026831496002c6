# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that a command of the operator's starts and stops.

    COMMAND POOL                 says what there is
    COMMAND POOL NUMBER          has so many be there, then says what there is

On standard input it gets {"pool": …, "targets": […], "wanted": NUMBER or null, "dismiss": [NAMES]}, the same
in the environment as BDCS_POOL, BDCS_TARGETS, BDCS_WANTED and BDCS_DISMISS (blanks between). It prints
{"wanted": NUMBER} and, where it knows the builders by their names, "members": [NAMES]: only then is it told
whom to dismiss, who are idle and get no more work; else who goes has to end his work after SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

from bdcs.capacity.drivers import Fleet
from bdcs.errors import CapacityRefused, CapacityUnavailable

SECONDS: Final = 60
"""Time that it has by default."""
MOST: Final = 1 << 20  # bytes that are read of what it prints
LATER: Final = 75
"""Its exit code for: not now (EX_TEMPFAIL of sysexits.h)."""


class Command:
    """One command, for one pool."""

    def __init__(self, program: str, pool: str, targets: Sequence[str], *, timeout: str | None) -> None:
        """`timeout`: seconds in which it has to end."""
        self._program = program
        self._pool = pool
        self._targets = targets
        try:
            self._seconds = SECONDS if timeout is None else int(timeout)
        except ValueError:
            raise CapacityRefused(f"command: timeout {timeout!r} is no number of seconds") from None

    async def look(self) -> Fleet:
        """Return what it says."""
        return self._fleet(await self._run(None, ()))

    async def resize(self, wanted: int, _spare: Sequence[str] = ()) -> None:
        """Have it see to that."""
        await self._run(wanted, ())

    async def dismiss(self, names: Sequence[str]) -> None:
        """Have it see to that they go."""
        fleet = await self.look()
        leaving = sorted(set(names) & (fleet.members or frozenset()))
        await self._run(max(0, fleet.wanted - len(leaving)), leaving)

    async def tend(self) -> None:
        """Nothing is to be done."""

    async def close(self) -> None:
        """Nothing is open."""

    async def _run(self, wanted: int | None, leaving: Sequence[str]) -> Any:
        """Return what it prints. Raises `CapacityUnavailable`, `CapacityRefused`."""
        number = [] if wanted is None else [str(wanted)]
        told = {
            "pool": self._pool,
            "targets": list(self._targets),
            "wanted": wanted,
            "dismiss": list(leaving),
        }
        environment = {
            **os.environ,
            "BDCS_POOL": self._pool,
            "BDCS_TARGETS": " ".join(self._targets),
            "BDCS_WANTED": "".join(number),
            "BDCS_DISMISS": " ".join(leaving),
        }
        # Files, since a builder that it leaves running holds a pipe open for as long as it lives.
        with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
            code = await self._end_code(number, environment, json.dumps(told).encode(), printed, said)
            output, errors = (_beginning(file) for file in (printed, said))
        if code:
            reason = " ".join(errors.decode(errors="replace").split())[-300:]
            kind = CapacityUnavailable if code == LATER else CapacityRefused
            raise kind(f"{self._program} ended with {code}: {reason}")
        try:
            return json.loads(output)
        except ValueError:
            raise CapacityRefused(f"{self._program} printed no JSON: {output[:200]!r}") from None

    async def _end_code(
        self,
        number: Sequence[str],
        environment: Mapping[str, str],
        told: bytes,
        printed: IO[bytes],
        said: IO[bytes],
    ) -> int:
        """Run the command to its end, and return its exit code."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(self._program, self._pool, *number),
                stdin=asyncio.subprocess.PIPE,
                stdout=printed,
                stderr=said,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise CapacityRefused(f"{self._program}: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._seconds):
                await process.communicate(told)
        except TimeoutError:
            raise CapacityUnavailable(f"{self._program} did not end within {self._seconds} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode or 0

    def _fleet(self, document: Any) -> Fleet:
        wanted = document.get("wanted") if isinstance(document, dict) else None
        members = document.get("members") if isinstance(document, dict) else None
        is_list = isinstance(members, list) and all(isinstance(name, str) for name in members)
        if type(wanted) is not int or wanted < 0 or not (members is None or is_list):
            raise CapacityRefused(f"{self._program} did not say what there is: {str(document)[:200]}")
        return Fleet(wanted=wanted, members=None if members is None else frozenset(members))


def _beginning(file: IO[bytes]) -> bytes:
    """Return what was written to a file, of very much the beginning."""
    file.seek(0)
    return file.read(MOST)
