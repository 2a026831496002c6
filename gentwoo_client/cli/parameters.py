# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo parameters`: what packages are built with on this machine."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE

if TYPE_CHECKING:
    import argparse

    from gentwoo_client.portage.parameters import MachineParameters
    from gentwoo_client.settings import Settings

NAME = "parameters"
HELP = "show what packages are built with on this machine"

_LABELS = {
    "chost": "CHOST",
    "arch": "ARCH",
    "profile": "Profile",
    "cflags": "CFLAGS",
    "cxxflags": "CXXFLAGS",
    "fflags": "FFLAGS",
    "fcflags": "FCFLAGS",
    "ldflags": "LDFLAGS",
    "rustflags": "RUSTFLAGS",
    "keywords": "Keywords",
    "licenses": "Licences",
    "use": "USE",
}
_WIDTH = 100
_INDENT = 13


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Show what a collector would be told when a build is requested: CHOST, flags (with -march=native"
        " resolved to what it means here), profile, keywords, licences and global USE, all as Portage itself"
        " has them; of a package, the USE that is in force for it. Nothing is sent."
    )
    parser.add_argument("atom", metavar="ATOM", nargs="?", help="a package, with or without category")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = (
        "examples:\n"
        "  gentwoo parameters\n"
        "  gentwoo parameters media-video/ffmpeg\n"
        "  gentwoo parameters --json | jq .cflags"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show them."""
    from gentwoo_client.portage.parameters import read_parameters

    parameters = read_parameters(settings, arguments.atom)
    if arguments.json:
        print(json.dumps(parameters.to_json()))
    else:
        _print(parameters)
    return DONE


def _print(parameters: MachineParameters) -> None:
    for name, label in _LABELS.items():
        value = parameters.document[name]
        text = " ".join(value) if isinstance(value, list) else str(value or "")
        if name == "profile" and value is None:
            text = "one of this machine's own"
        if text:
            _print_line(label, text)
    package = parameters.package
    if package is not None:
        _print_line("Package", f"{package.cpv}::{package.repository}")
        _print_line("Its USE", " ".join(parameters.use) or "none")
        if package.patched:
            _print_line("", "patched on this machine, so nobody else can build it")
    for problem in parameters.problems:
        _print_line("Not taken", f"{problem.field}: {problem.reason}")


def _print_line(label: str, text: str) -> None:
    head = f"{label + ':' if label else '':<{_INDENT}}"
    print(
        textwrap.fill(
            text,
            _WIDTH,
            initial_indent=head,
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
