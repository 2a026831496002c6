# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs admin …`: what an administrator does on the host itself, also beside a running server."""

from __future__ import annotations

import argparse
import importlib

from bdcs.settings import Settings

HELP = "administer machines, builders, proposals, tokens, keys, watches and what is leaving"

_SUBJECTS = {
    "machines": "bdcs.cli.admin_machines",
    "builders": "bdcs.cli.admin_builders",
    "proposals": "bdcs.cli.admin_proposals",
    "tokens": "bdcs.cli.admin_tokens",
    "keys": "bdcs.cli.admin_keys",
    "watch": "bdcs.cli.admin_watch",
    "leaving": "bdcs.cli.admin_leaving",
}
"""Each subject has a module of its own, like a subcommand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subjects and what can be done with them."""
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    for name, path in _SUBJECTS.items():
        module = importlib.import_module(path)
        subject = subjects.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False)
        module.add_arguments(subject)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    code: int = importlib.import_module(_SUBJECTS[arguments.subject]).run(arguments, settings)
    return code
