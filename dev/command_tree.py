# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands and the settings are, read from the parsers and the tables that people read as well.

Manuals and completions are written from this (`make docs`), so that they cannot say anything else than
`--help` and docs/configuration.md.
"""

import argparse
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import bdcs.cli
import gentwoo_client.cli
from dev.places import ROOT

FILES = frozenset({"FILE", "PATH"})
DIRECTORIES = frozenset({"DIR", "DIRECTORY"})
EXIT_CODES_HEAD = "exit codes:"
GLOBAL_HEAD = "global options"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option, or one argument without a name (`names` is then empty)."""

    names: tuple[str, ...]
    metavar: str
    """What stands for its value; empty where it has none."""
    help: str
    choices: tuple[str, ...]
    is_repeated: bool
    is_optional: bool

    @property
    def kind(self) -> str:
        """What its value is: `file`, `directory`, or `` for anything else."""
        words = set(re.findall(r"[A-Z]+", self.metavar))
        return "directory" if words & DIRECTORIES else "file" if words & FILES else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command with everything below it."""

    name: str
    help: str
    description: str
    epilog: str
    options: tuple[Option, ...]
    arguments: tuple[Option, ...]
    globals: tuple[Option, ...]
    """Options that stand before or after the command, the same for all commands of a program."""
    exit_codes: tuple[tuple[str, str], ...]
    commands: tuple["Command", ...] = ()

    def walk(self, *above: str) -> Iterator[tuple[tuple[str, ...], "Command"]]:
        """This command and all below it, each with the words that lead to it."""
        words = (*above, self.name)
        yield words, self
        for command in self.commands:
            yield from command.walk(*words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of a table of docs/configuration.md."""

    name: str
    default: str
    meaning: str


def gentwoo() -> Command:
    """The `gentwoo` command."""
    modules = {name: importlib.import_module(module) for name, module in gentwoo_client.cli.COMMANDS.items()}
    commands = tuple(
        _command(name, module.HELP, gentwoo_client.cli.command_parser(module))
        for name, module in modules.items()
    )
    return _program("gentwoo", gentwoo_client.cli.main_parser(), commands)


def collector() -> Command:
    """The `bdcs` command."""
    modules = {name: importlib.import_module(module) for name, module in bdcs.cli.COMMANDS.items()}
    commands = tuple(
        _command(name, module.HELP, bdcs.cli.command_parser(name, module)) for name, module in modules.items()
    )
    return _program("bdcs", bdcs.cli.main_parser(), commands)


def settings(program: str) -> tuple[Setting, ...]:
    """The settings of `gentwoo` or `bdcs`, in the order of docs/configuration.md."""
    text = (ROOT / "docs/configuration.md").read_text()
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (chapter,) = (part for part in section if f"`{program}`" in part.partition("\n")[0])
    table = chapter.partition("| setting | default | meaning |\n| --- | --- | --- |\n")[2].partition("\n\n")[
        0
    ]
    return tuple(_setting(row) for row in table.splitlines())


def _setting(row: str) -> Setting:
    name, default, meaning = (cell.strip() for cell in row.strip("| ").split(" | ", 2))
    return Setting(name=name.strip("`"), default=default, meaning=meaning)


def _program(name: str, parser: argparse.ArgumentParser, commands: tuple[Command, ...]) -> Command:
    program = _command(name, "", parser)
    return Command(
        name=name,
        help=program.description,
        description=program.description,
        epilog="",
        options=program.options,
        arguments=(),
        globals=program.globals,
        exit_codes=program.exit_codes,
        commands=commands,
    )


def _command(name: str, help_: str, parser: argparse.ArgumentParser) -> Command:
    own: list[Option] = []
    shared: list[Option] = []
    arguments: list[Option] = []
    below: list[Command] = []
    for group in parser._action_groups:
        is_global = (group.title or "").startswith(GLOBAL_HEAD)
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
                below += [_command(word, helps[word], child) for word, child in action.choices.items()]
            elif isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
                continue
            elif action.option_strings:
                (shared if is_global else own).append(_option(action))
            else:
                arguments.append(_option(action))
    epilog, _, codes = (parser.epilog or "").partition(EXIT_CODES_HEAD)
    return Command(
        name=name,
        help=help_,
        description=parser.description or help_,
        epilog=epilog.strip("\n"),
        options=tuple(own),
        arguments=tuple(arguments),
        globals=tuple(shared),
        exit_codes=tuple((code, meaning) for code, meaning in re.findall(r"^ +(\d+) +(.*)$", codes, re.M)),
        commands=tuple(below),
    )


def _option(action: argparse.Action) -> Option:
    takes_value = action.nargs != 0
    choices = tuple(map(str, action.choices)) if action.choices else ()
    return Option(
        names=tuple(action.option_strings),
        metavar=_metavar(action, choices) if takes_value else "",
        help=_help(action),
        choices=choices,
        is_repeated=action.nargs in ("*", "+"),
        is_optional=action.nargs in ("*", "?") or bool(action.option_strings and not action.required),
    )


def _metavar(action: argparse.Action, choices: tuple[str, ...]) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(choices) if choices else action.dest.replace("_", "-").upper()


def _help(action: argparse.Action) -> str:
    """The help text with its values; the name of this very host is none of a manual."""
    if action.dest == "name" and action.default:
        return (action.help or "").replace("%(default)s", "the host's name")
    return (action.help or "") % {**vars(action), "prog": ""} if action.help else ""
