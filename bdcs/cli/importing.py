# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs import`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bdcs.errors import EXIT_DONE, EXIT_REFUSED, PackageRefused
from bdcs.settings import Settings

if TYPE_CHECKING:
    from bdcs.services.importing import Imported

HELP = "publish what is new in a directory of packages, such as a PKGDIR"

PATIENCE: Final = 2.0  # seconds after which a person wants to know how far it is
INTERVAL: Final = 0.2  # seconds between two such lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="the directory, with all below it")
    parser.add_argument("--target", metavar="NAME", required=True, help="where to publish")
    parser.add_argument("--dry-run", action="store_true", help="read everything, and only say what would be")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Import, name what cannot be published, and say how much was."""
    from bdcs.cli.publisher import publisher
    from bdcs.services.importing import import_directory

    progress = _Progress()
    with publisher(settings) as publishes:
        imported = import_directory(
            publishes,
            arguments.directory,
            arguments.target,
            refused=progress.refuse,
            progress=progress.show,
            dry_run=arguments.dry_run,
        )
    progress.end()
    if arguments.json:
        print(json.dumps(imported.to_json()))
    else:
        print(_summary(imported, is_dry=arguments.dry_run))
    return EXIT_REFUSED if imported.refused else EXIT_DONE


def _summary(imported: Imported, *, is_dry: bool) -> str:
    verb = "would be published" if is_dry else "published"
    parts = [
        f"{imported.published} {verb}",
        f"{imported.known} published before",
        f"{imported.unchanged} unchanged since the last import",
        f"{len(imported.refused)} refused",
    ]
    return f"{imported.target}: {', '.join(parts)}; generation {imported.generation}"


class _Progress:
    """A line on the terminal that says how far it is, where that takes long; and what is refused."""

    def __init__(self) -> None:
        self._is_seen = sys.stderr.isatty()
        self._next = time.monotonic() + PATIENCE
        self._is_shown = False

    def show(self, done: int, total: int) -> None:
        """Tell how many files were read."""
        now = time.monotonic()
        if self._is_seen and now >= self._next:
            self._next = now + INTERVAL
            self._is_shown = True
            print(f"\r{done} of {total} packages read", end="", file=sys.stderr, flush=True)

    def refuse(self, error: PackageRefused) -> None:
        """Name a file that cannot be published."""
        self.end()
        print(f"bdcs: {error}", file=sys.stderr)

    def end(self) -> None:
        """Leave the line."""
        if self._is_shown:
            self._is_shown = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
