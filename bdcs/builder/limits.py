# SPDX-License-Identifier: GPL-2.0-or-later
"""How much one attempt may take, and how that is enforced.

Time and output are measured by the builder itself. Of root's builds the disk is limited in all: it is the
size of the file system that the attempt works on. An ordinary user cannot have such a file system: there each
single file may be no larger (`prlimit --fsize`), and nothing limits what many files add up to. Memory and
processes belong to a control group where one can be made (version 2, or 1 with its own hierarchies), else
each process has a limit of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GIB: Final = 1 << 30
_LOOKS: Final = 100
_PAUSE: Final = 0.02  # seconds between two looks whether all processes of a group are gone
CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that one attempt may take."""

    time: float = 12 * 3600.0
    """Seconds, fetching included."""
    disk: int = 16 * GIB
    """Bytes of everything that a build of root's writes; of each file where the builder is another user."""
    memory: int | None = None
    """Bytes; None for as much as there is."""
    processes: int = 8192
    """Processes and threads at once, where there are control groups."""
    log: int = 256 << 20
    """Bytes of output."""


def resource_limits(limits: Limits, *, has_group: bool) -> tuple[str, ...]:
    """Return the words before a command that give its processes limits (prlimit of util-linux)."""
    words = ["prlimit", "--core=0", f"--fsize={limits.disk}"]
    if limits.memory is not None and not has_group:
        words.append(f"--data={limits.memory}")
    return (*words, "--")


@dataclass(frozen=True, slots=True)
class Group:
    """A control group, in one directory (version 2) or in one of each controller (version 1)."""

    directories: tuple[Path, ...]

    def enter(self) -> tuple[str, ...]:
        """Return the words before a command that put it into the group."""
        files = [str(directory / "cgroup.procs") for directory in self.directories]
        return (
            "sh",
            "-c",
            'for file in $1; do echo $$ > "$file"; done; shift; exec "$@"',
            "-",
            " ".join(files),
        )

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel had to end a process of it for want of memory."""
        for directory in self.directories:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    facts = dict(line.split() for line in (directory / name).read_text().splitlines())
                    if int(facts.get("oom_kill", 0)):
                        return True
        return False

    def remove(self) -> bool:
        """Remove it; return whether it is gone, which takes until all its processes are."""
        for directory in self.directories:
            with contextlib.suppress(OSError):
                directory.rmdir()
        return not any(directory.exists() for directory in self.directories)


@contextlib.asynccontextmanager
async def control_group(name: str, limits: Limits, top: Path = CGROUPS) -> AsyncIterator[Group | None]:
    """Make a group `name` with these limits; yields None where that is not possible."""
    group = _make_group(name, limits, top)
    try:
        yield group
    finally:
        for _ in range(_LOOKS):
            if group is None or group.remove():
                break
            await asyncio.sleep(_PAUSE)


def remove_groups(prefix: str, top: Path = CGROUPS) -> None:
    """Remove groups that a killed builder left; their names begin with `prefix`."""
    is_second = (top / "cgroup.controllers").exists()
    places = [_own_group(top)] if is_second else [top / "memory", top / "pids"]
    for place in places:
        Group(tuple(place.glob(f"{prefix}*"))).remove()


def _make_group(name: str, limits: Limits, top: Path) -> Group | None:
    wanted = {"pids.max": ("pids", str(limits.processes))}
    if (top / "cgroup.controllers").exists():
        if limits.memory is not None:
            wanted["memory.max"] = ("memory", str(limits.memory))
        settings = {_own_group(top) / name / file: value for file, (_, value) in wanted.items()}
    else:
        if limits.memory is not None:
            wanted["memory.limit_in_bytes"] = ("memory", str(limits.memory))
        settings = {top / controller / name / file: value for file, (controller, value) in wanted.items()}
    group = Group(tuple(dict.fromkeys(path.parent for path in settings)))
    try:
        for directory in group.directories:
            directory.mkdir(exist_ok=True)
        for path, value in settings.items():
            # A file that is not there would be made on a plain directory: it has to be the kernel's.
            with open(os.open(path, os.O_WRONLY), "w") as file:
                file.write(value)
    except OSError:
        group.remove()
        return None
    return group


def _own_group(top: Path) -> Path:
    """Return the group beside our own, which systemd delegates to a service (Delegate=yes)."""
    line = Path("/proc/self/cgroup").read_text().strip().rpartition("\n")[2]
    return top / line.removeprefix("0::/")
