# SPDX-License-Identifier: GPL-2.0-or-later
"""What commands with actions have in common, as `bdcs target add` and `bdcs repository add`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bdcs.settings import Settings

Run = Callable[[argparse.Namespace, Settings], int]


@dataclass(frozen=True, slots=True)
class Actions:
    """The actions of one command, each of which is a function."""

    parsers: Any
    """What argparse adds subcommands to."""
    name: str
    """What NAME means to those that have one."""

    @classmethod
    def of(cls, parser: argparse.ArgumentParser, *, name: str) -> Actions:
        """Return those of a command, none as yet."""
        return cls(parser.add_subparsers(dest="action", required=True, metavar="ACTION"), name)

    def add(self, name: str, text: str, run: Run, *, named: bool = True) -> argparse.ArgumentParser:
        """Add one; `text` says what it does."""
        added: argparse.ArgumentParser = self.parsers.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        if named:
            added.add_argument("name", metavar="NAME", help=self.name)
        added.set_defaults(act=run)
        return added
