# SPDX-License-Identifier: GPL-2.0-or-later
"""Running gpg and gpgv: data streamed to them, their status lines read, a hang ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bdcs.errors import GpgFailed

LIMIT: Final = 900.0
"""Seconds that one run may take; a package of some gigabytes takes less on any machine."""

_STATUS: Final = "[GNUPG:] "
_LONGEST_HOME: Final = 80
"""Bytes; the agent's socket lies in the home, and its whole path may have 108 (unix(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One run of a command that came to its end by itself."""

    returncode: int
    output: bytes
    messages: str
    """What it said on stderr, status lines (`--status-fd 2`) among it."""

    @property
    def statuses(self) -> list[list[str]]:
        """The words of each status line (doc/DETAILS of GnuPG), in their order."""
        lines = self.messages.splitlines()
        return [line.removeprefix(_STATUS).split() for line in lines if line.startswith(_STATUS)]

    @property
    def complaint(self) -> str:
        """What it said to people, in one line."""
        lines = [line for line in self.messages.splitlines() if line and not line.startswith(_STATUS)]
        return "; ".join(lines) or f"exit code {self.returncode}"


def run(command: str, *arguments: str | Path, data: Iterable[bytes] = (), home: Path) -> Finished:
    """Run gpg or gpgv with `data` on its stdin; its home directory is `home`.

    It gets a session of its own, so that Ctrl-C here does not end it, and next to nothing of our environment.
    Raises `GpgFailed` where it is not installed, is killed, or takes longer than `LIMIT`.
    """
    program = shutil.which(command)
    if program is None:
        raise GpgFailed(f"the command {command} is not installed", advice="install app-crypt/gnupg")
    argv = [program, "--homedir", str(home), "--status-fd", "2", *map(str, arguments)]
    with _memory_file() as output, _memory_file() as messages:
        returncode = _feed(argv, data, home, output, messages)
        if returncode < 0:
            raise GpgFailed(f"{command} was ended by {signal.Signals(-returncode).name}", advice="try again")
        return Finished(
            returncode=returncode,
            output=_content(output),
            messages=_content(messages).decode("utf-8", "replace"),
        )


def failed(what: str, done: Finished, home: Path) -> GpgFailed:
    """Return the error for a run that ended badly. `what` says what it was to do."""
    advice = ""
    if len(os.fsencode(home)) > _LONGEST_HOME:
        advice = f"gpg's agent needs a shorter path than {home}"
    return GpgFailed(f"{what}: {done.complaint}", advice=advice)


def end_daemons(home: Path) -> None:
    """End what gpg started for `home` (gpg-agent, keyboxd). Nothing happens where nothing runs."""
    gpgconf = shutil.which("gpgconf")
    if gpgconf is not None:
        argv = [gpgconf, "--homedir", str(home), "--kill", "all"]
        subprocess.run(argv, env=_environment(home), capture_output=True, check=False)


def _feed(argv: list[str], data: Iterable[bytes], home: Path, output: IO[bytes], messages: IO[bytes]) -> int:
    """Start `argv`, write `data` to it, and return its exit code. It is gone when this ends, come what may.

    Its output goes to files in memory: a pipe that nobody reads yet would hold it up.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=messages,
        env=_environment(home),
        cwd="/",
        start_new_session=True,
    )
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        assert process.stdin is not None
        try:
            for chunk in data:
                process.stdin.write(chunk)
        except BrokenPipeError:
            pass  # it ended early, and says why
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        return process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        watchdog.cancel()


def _environment(home: Path) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8"}


@contextlib.contextmanager
def _memory_file() -> Iterator[IO[bytes]]:
    with open(os.memfd_create("gpg"), "w+b", buffering=0) as file:
        yield file


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
