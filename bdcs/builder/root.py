# SPDX-License-Identifier: GPL-2.0-or-later
"""The throw-away tree that one attempt works in: what a build leaves there goes with it.

Root gets an overlay over the build root, on a tmpfs, in a mount namespace that a process of its own holds
open: when that process ends, and it ends with us, nothing of it is left on this machine, however we ended. An
ordinary user gets a copy, which lies in the attempt's directory; what a killed builder leaves of those is
removed when it starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bdcs.errors import BuildRootUnusable

_READY: Final = b"ready\n"
_MOUNT: Final = """\
set -e
mount -t tmpfs -o "size=$2,mode=755,nodev" tmpfs "$1"
cd "$1"
mkdir upper work merged packages
mkdir -m 1777 tmp
mount -t overlay -o "lowerdir=$3,upperdir=$1/upper,workdir=$1/work" overlay merged
echo ready
exec cat
"""
_NOT_COPIED: Final = ("var/cache/binpkgs", "var/cache/distfiles", "var/log", "var/tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrowAwayRoot:
    """An attempt's own tree, and the directories beside it. The paths are those of its mount namespace."""

    tree: Path
    packages: Path
    """Portage's PKGDIR."""
    temporary: Path
    """Portage's PORTAGE_TMPDIR."""
    holder: int | None
    """The process that holds the mount namespace; None where it is ours."""

    def seen(self, path: Path) -> Path:
        """Return where `path` is found from outside of the mount namespace (proc(5), /proc/PID/root)."""
        return path if self.holder is None else Path(f"/proc/{self.holder}/root{path}")

    def enter(self) -> tuple[str, ...]:
        """Return the words before a command that let it run in the mount namespace."""
        return () if self.holder is None else ("nsenter", f"--mount=/proc/{self.holder}/ns/mnt", "--")


@contextlib.asynccontextmanager
async def throw_away_root(source: Path, directory: Path, *, size: int) -> AsyncIterator[ThrowAwayRoot]:
    """Make a throw-away tree of `source` in the new directory `directory`; root's may take `size` bytes.

    Raises `BuildRootUnusable`.
    """
    await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True)
    try:
        if os.geteuid() == 0:
            async with _overlay(source, directory, size) as root:
                yield root
        else:
            yield await asyncio.to_thread(_copy, source, directory)
    finally:
        await asyncio.to_thread(remove_tree, directory)


@contextlib.asynccontextmanager
async def _overlay(source: Path, directory: Path, size: int) -> AsyncIterator[ThrowAwayRoot]:
    if set(",:\\") & set(f"{source}{directory}"):
        raise BuildRootUnusable(f"{source}: paths with a comma, a colon or a backslash cannot be mounted")
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--propagation", "private", "--"),
        *("sh", "-c", _MOUNT, "-", directory, str(size), source),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    try:
        if await holder.stdout.readline() != _READY:
            reason = (await holder.stderr.read()).decode(errors="replace").strip()
            raise BuildRootUnusable(f"no overlay over {source} can be mounted: {reason}")
        yield ThrowAwayRoot(
            tree=directory / "merged",
            packages=directory / "packages",
            temporary=directory / "tmp",
            holder=holder.pid,
        )
    finally:
        holder.stdin.close()
        await holder.wait()


def _copy(source: Path, directory: Path) -> ThrowAwayRoot:
    tree = directory / "tree"
    skipped = {str(source / name) for name in _NOT_COPIED}

    def ignored(place: str, names: list[str]) -> list[str]:
        return [name for name in names if os.path.join(place, name) in skipped]

    try:
        shutil.copytree(source, tree, symlinks=True, ignore=ignored)
    except (OSError, shutil.Error) as error:
        raise BuildRootUnusable(f"{source} cannot be copied: {error}") from error
    for name in _NOT_COPIED:
        (tree / name).mkdir(parents=True, exist_ok=True)
    packages, temporary = directory / "packages", directory / "tmp"
    packages.mkdir()
    temporary.mkdir()
    return ThrowAwayRoot(tree=tree, packages=packages, temporary=temporary, holder=None)


def remove_tree(directory: Path) -> None:
    """Remove `directory` and all in it, also what a build made unwritable."""
    for place, names, _ in os.walk(directory):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink() and path.stat().st_mode & stat.S_IRWXU != stat.S_IRWXU:
                path.chmod(stat.S_IRWXU)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
