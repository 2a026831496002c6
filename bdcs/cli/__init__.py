# SPDX-License-Identifier: GPL-2.0-or-later
"""The `bdcs` command.

Each subcommand is a module here that offers HELP, `add_arguments(parser)` and
`run(arguments, settings) -> int`. Only the chosen one is imported. Errors reach people in one place, `main`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from bdcs.errors import EXIT_PERMISSION, EXIT_REFUSED, EXIT_USAGE, CollectorError
from bdcs.settings import LOG_LEVELS, Settings, load_settings
from gentwoo_client.version import VERSION

COMMANDS = {
    "serve": "bdcs.cli.serve",
    "target": "bdcs.cli.target",
    "publish": "bdcs.cli.publish",
    "import": "bdcs.cli.importing",
    "prune": "bdcs.cli.prune",
    "repository": "bdcs.cli.repository",
    "prebuild": "bdcs.cli.prebuild",
    "export": "bdcs.cli.export",
    "check": "bdcs.cli.check",
    "backup": "bdcs.cli.backup",
    "restore": "bdcs.cli.restore",
    "anomalies": "bdcs.cli.anomalies",
    "admin": "bdcs.cli.admin",
    "signer": "bdcs.cli.signer",
    "builder": "bdcs.cli.builder",
    "autoscale": "bdcs.cli.autoscale",
    "schema": "bdcs.cli.schema",
    "copy-store": "bdcs.cli.copy_store",
}
"""Subcommands in the order of the help text, and their modules."""

EXIT_CODES = {
    0: "done",
    1: "refused or failed; of check and anomalies: something was found",
    2: "usage",
    75: "try again later",
    77: "no permission",
    78: "bad configuration",
}
INTERRUPTED = 130
BROKEN_PIPE = 141

_GLOBAL_OPTIONS_WITH_VALUE = ("--config", "--data", "--store", "--log-level")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Only usage errors and --help leave by SystemExit."""
    words = list(sys.argv[1:] if argv is None else argv)
    position = _command_position(words)
    if position is None:
        return _without_command(words)
    name = words.pop(position)
    if name not in COMMANDS:
        return _unknown_command(name)
    module = importlib.import_module(COMMANDS[name])
    parser = command_parser(name, module)
    words = _joined(words, getattr(module, "TEXT_OPTIONS", ()))
    arguments = parser.parse_args(*_without_globals(words))
    try:
        settings = load_settings(_flags(arguments), os.environ, arguments.config)
        _start_logging(settings)
        code: int = module.run(arguments, settings)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except CollectorError as error:
        print(f"bdcs: {error}", file=sys.stderr)
        if error.advice:
            print(f"bdcs: {error.advice}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"bdcs: {where}{error.strerror}", file=sys.stderr)
        return EXIT_PERMISSION if isinstance(error, PermissionError) else EXIT_REFUSED


def command_parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """Return the whole parser of one subcommand, global options included."""
    parser = argparse.ArgumentParser(
        prog=f"bdcs {name}",
        description=module.HELP,
        epilog=_exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    _add_global_options(parser)
    return parser


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of `bdcs` where no subcommand is given."""
    helps = (f"  {name:<12}{importlib.import_module(module).HELP}" for name, module in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="bdcs",
        usage="bdcs [global options] COMMAND …",
        description="Take signed records of machines, and serve what follows from them.",
        epilog="\n".join(["commands:", *helps, "", "`bdcs COMMAND --help` explains one.", "", _exit_codes()]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bdcs {VERSION}")
    _add_global_options(parser)
    return parser


def _command_position(words: Sequence[str]) -> int | None:
    """Return where the subcommand stands: the first word that is no global option and no value of one."""
    position = 0
    while position < len(words):
        word = words[position]
        if word in _GLOBAL_OPTIONS_WITH_VALUE:
            position += 2
        elif word.startswith("--") and word.partition("=")[0] in _GLOBAL_OPTIONS_WITH_VALUE:
            position += 1
        else:
            return None if word.startswith("-") else position
    return None


def _without_command(words: Sequence[str]) -> int:
    parser = main_parser()
    parser.parse_args(words)
    parser.print_help(sys.stderr)
    return EXIT_USAGE


def _unknown_command(name: str) -> int:
    nearest = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(COMMANDS)}"
    print(f"bdcs: unknown command {name}: {hint}", file=sys.stderr)
    return EXIT_USAGE


def _add_global_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("global options (before or after the command)")
    group.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration file (default: /etc/bdcs/bdcs.toml)"
    )
    group.add_argument(
        "--data", metavar="DIR", type=Path, help="directory of the collector's state (default: /var/lib/bdcs)"
    )
    group.add_argument(
        "--store", metavar="URL", help="where records live (default: sqlite:, which is in --data)"
    )
    group.add_argument("--log-level", choices=LOG_LEVELS, help="how much to tell (default: info)")


def _without_globals(words: Sequence[str]) -> tuple[list[str], argparse.Namespace]:
    """Return the words without global options, and what those say: they may stand behind nested commands."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_global_options(parser)
    namespace, others = parser.parse_known_args(words)
    return others, namespace


def _joined(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the words with `--option VALUE` as one: argparse takes a value with a dash for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in options:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _exit_codes() -> str:
    return "\n".join(["exit codes:", *(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())])


def _flags(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        name: getattr(arguments, name, None)
        for name in ("data", "store", "listen", "public_url", "builder", "log_level")
    }


def _start_logging(settings: Settings) -> None:
    import logging

    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for chatty in ("alembic", "botocore"):
        logging.getLogger(chatty).setLevel("WARNING")
