# SPDX-License-Identifier: GPL-2.0-or-later
"""Root file systems in layers (overlayfs): each test gets a whole one for itself, and nothing is copied.

A root is mounted in the mount namespace of the container that runs in it (`MOUNT`), so that it is gone with
its container, however that ends, and is never seen by what removes directories.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

MOUNT = 'mount -t overlay -o "$2" overlay "$1"\n'
"""A line of shell: $1 is `Layers.root`, $2 `Layers.options`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What is `below`, the uppermost first, is only read; what changes is written into `directory`."""

    below: tuple[Path, ...]
    directory: Path

    @classmethod
    def over(cls, below: tuple[Path, ...], directory: Path) -> Self:
        """A root with nothing changed yet. `directory` is made, and must not be there."""
        directory.mkdir()
        for name in ("changes", "work", "root"):
            (directory / name).mkdir()
            (directory / name).chmod(0o755)
        return cls(below=below, directory=directory)

    def above(self, directory: Path) -> "Layers":
        """Another root that begins as this one is now; this one must not be changed any more."""
        return Layers.over((self.changes, *self.below), directory)

    @property
    def changes(self) -> Path:
        """What was written, at its place: to be looked at when the container is gone."""
        return self.directory / "changes"

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def options(self) -> str:
        below = ":".join(map(str, self.below))
        return f"lowerdir={below},upperdir={self.changes},workdir={self.directory}/work"
