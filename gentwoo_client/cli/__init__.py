# SPDX-License-Identifier: GPL-2.0-or-later
"""The `gentwoo` command.

Each subcommand is a module here that offers

    NAME, HELP                          its name, and one line about it
    add_arguments(parser) -> None       its options; `parser.description` and `.epilog` may be set
    run(arguments, settings) -> int     does it, and returns the exit code
    DASHED_VALUES                       options whose value may begin with a dash, if there are any

and imports at its top only what is cheap: the module of the chosen subcommand alone is imported, so that
`gentwoo history` does not pay for aiohttp. Options that are named like a setting (`--log`, `--collector`, …)
and hold one string overrule that setting. Errors reach people in one place, `main`.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import islice
from types import ModuleType

from gentwoo_client.errors import DONE, EXIT_CODES, FAILED, LATER, NO_PERMISSION, USAGE, GentwooError
from gentwoo_client.settings import DEFAULT_CONFIG, LOG_LEVELS, SETTING_NAMES, Settings, load_settings

COMMANDS = {
    "register": "gentwoo_client.cli.register",
    "status": "gentwoo_client.cli.status",
    "show": "gentwoo_client.cli.show",
    "push": "gentwoo_client.cli.push",
    "daemon": "gentwoo_client.cli.daemon",
    "forget": "gentwoo_client.cli.forget",
    "verify": "gentwoo_client.cli.verify",
    "report": "gentwoo_client.cli.report",
    "watch": "gentwoo_client.cli.watch",
    "history": "gentwoo_client.cli.history",
    "predict": "gentwoo_client.cli.predict",
    "binhost": "gentwoo_client.cli.binhost",
    "search": "gentwoo_client.cli.search",
    "install": "gentwoo_client.cli.install",
    "upgrade": "gentwoo_client.cli.upgrade",
    "downgrade": "gentwoo_client.cli.downgrade",
    "remove": "gentwoo_client.cli.remove",
    "build": "gentwoo_client.cli.build",
    "builds": "gentwoo_client.cli.builds",
    "why": "gentwoo_client.cli.why",
    "set": "gentwoo_client.cli.set",
    "notifications": "gentwoo_client.cli.notifications",
    "parameters": "gentwoo_client.cli.parameters",
}
"""Subcommands in the order of the help text, and their modules."""

WITHOUT_LOGGING = frozenset({"history"})
"""Commands that log nothing and should not pay for the import of logging."""

WITHOUT_NEWS = frozenset({"daemon", "push", "notifications"})
"""Commands that nobody reads, and the one that tells what came itself."""

NEWS = "news"
"""The file in the state directory that is there while something has to be told (`building.notifications`)."""

INTERRUPTED = 130
BROKEN_PIPE = 141

_GLOBAL_OPTIONS_WITH_VALUE = ("--config", "--state-dir", "--log-level")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Only usage errors and --help leave by SystemExit."""
    _settle_streams()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _give_up_stdout()
        return BROKEN_PIPE
    except OSError as error:
        _give_up_stdout()
        return _tell(error)


def _settle_streams() -> None:
    """Have a place for what is printed, and a way to print it, whatever we were started with."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # Closed. The number must be taken, lest the journal be opened under it and printed into.
            null = os.open(os.devnull, os.O_WRONLY)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # of a stream that was exchanged since it was opened
                stream.reconfigure(errors="backslashreplace")


def _give_up_stdout() -> None:
    """Keep the interpreter from complaining at its exit about what could not be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _run(words: list[str]) -> int:
    position = _command_position(words)
    if position is None:
        return _without_command(words)
    name = words.pop(position)
    if name not in COMMANDS:
        return _unknown_command(name)
    debug = False
    try:
        gc.disable()  # nothing of what imports build is garbage
        module = importlib.import_module(COMMANDS[name])
        words = _with_dashed_values(words, getattr(module, "DASHED_VALUES", ()))
        arguments = command_parser(module).parse_args(_global_options_first(words))
        gc.enable()
        debug = arguments.log_level == "debug"
        settings = load_settings(_flags(arguments), config=arguments.config)
        debug = settings.log_level == "debug"
        if name not in WITHOUT_LOGGING:
            _start_logging(settings)
        if name not in WITHOUT_NEWS and os.path.lexists(f"{settings.state_dir}/{NEWS}"):
            _tell_news(settings)
        code: int = module.run(arguments, settings)
        return code
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        return _tell(error)


class _HelpFormatter(argparse.HelpFormatter):
    """Fills paragraphs; text with line breaks of its own (lists, examples) stays as it is."""

    def __init__(self, prog: str) -> None:
        # argparse would ask shutil, whose import takes longer than all of argparse, for each option added.
        super().__init__(prog, width=_columns() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def _columns() -> int:
    """Width of the terminal, as `shutil.get_terminal_size` finds it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 20:
        return int(columns)
    try:
        return max(os.get_terminal_size(sys.stdout.fileno()).columns, 40)
    except (ValueError, OSError):
        return 80


def command_parser(module: ModuleType) -> argparse.ArgumentParser:
    """Return the whole parser of one subcommand, global options included."""
    parser = argparse.ArgumentParser(
        prog=f"gentwoo {module.NAME}",
        description=module.HELP,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    _add_global_options(parser)
    parser.epilog = f"{parser.epilog}\n\n{_exit_codes()}" if parser.epilog else _exit_codes()
    return parser


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of `gentwoo` where no subcommand is given."""
    parser = argparse.ArgumentParser(
        prog="gentwoo",
        usage="gentwoo [global options] COMMAND …",
        description="Tell a collector what Portage merged on this machine, and read the history of it.",
        epilog=f"{_commands()}\n\n`gentwoo COMMAND --help` explains one.\n\n{_exit_codes()}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
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


def _global_options_first(words: Sequence[str]) -> list[str]:
    """Return the words with the global options in front: a command's own actions do not know them."""
    globals_, others, rest = [], [], iter(words)
    for word in rest:
        if word == "--":
            others += [word, *rest]
        elif word in _GLOBAL_OPTIONS_WITH_VALUE:
            globals_ += [word, *islice(rest, 1)]
        elif word.partition("=")[0] in _GLOBAL_OPTIONS_WITH_VALUE:
            globals_.append(word)
        else:
            others.append(word)
    return globals_ + others


def _with_dashed_values(words: Sequence[str], options: Collection[str]) -> list[str]:
    """Return the words with each of the options and its value as one: argparse takes a dash for an option."""
    joined, rest = [], iter(words)
    for word in rest:
        value = next(rest, None) if word in options else None
        joined.append(word if value is None else f"{word}={value}")
    return joined


def _without_command(words: Sequence[str]) -> int:
    if "--version" in words:
        from gentwoo_client.version import VERSION

        print(f"gentwoo {VERSION}")
        return DONE
    parser = main_parser()
    parser.parse_args(words)
    parser.print_help(sys.stderr)
    return USAGE


def _unknown_command(name: str) -> int:
    from difflib import get_close_matches

    nearest = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(COMMANDS)}"
    print(f"gentwoo: unknown command {name}: {hint}", file=sys.stderr)
    return USAGE


def _add_global_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("global options (before or after the command)")
    group.add_argument("--config", metavar="FILE", help=f"the configuration file (default: {DEFAULT_CONFIG})")
    group.add_argument(
        "--state-dir", metavar="DIR", help="where key and journal are (default: /var/lib/gentwoo)"
    )
    group.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        help="how much to tell; debug also shows tracebacks (default: info)",
    )


def _commands() -> str:
    lines = (f"  {name:<14}{importlib.import_module(module).HELP}" for name, module in COMMANDS.items())
    return "\n".join(["commands:", *lines])


def _exit_codes() -> str:
    return "\n".join(["exit codes:", *(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())])


def _flags(arguments: argparse.Namespace) -> dict[str, str]:
    given = ((name, getattr(arguments, name, None)) for name in SETTING_NAMES)
    return {name: value for name, value in given if isinstance(value, str)}


def _start_logging(settings: Settings) -> None:
    from gentwoo_client.cli import messages

    messages.start(settings.log_level)


def _tell_news(settings: Settings) -> None:
    """Say what became of builds that nobody stood waiting for."""
    from gentwoo_client.building.notifications import take_news

    for line in take_news(settings.state_dir):
        print(f"gentwoo: {line}", file=sys.stderr)


def _tell(error: Exception) -> int:
    """Say on stderr what went wrong and what to do about it; return the exit code."""
    code, advice = FAILED, getattr(error, "advice", None)
    message = str(error)
    if isinstance(error, GentwooError):
        code = error.exit_code
    elif isinstance(error, PermissionError):
        code, message = NO_PERMISSION, _of_system(error)
    elif isinstance(error, OSError):
        import errno

        code = LATER if error.errno in (errno.ENOSPC, errno.EDQUOT) else FAILED
        message = _of_system(error)
    elif not hasattr(error, "problem"):
        # Neither ours nor of the wire protocol: a bug, and whoever reports it needs the traceback.
        message = f"unexpected {type(error).__name__}: {error}"
        advice = "please report this, with the output of the same command and --log-level debug"
    from gentwoo_client.cli import messages

    messages.fail([message, advice] if advice else [message])
    return code


def _of_system(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
