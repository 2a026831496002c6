# SPDX-License-Identifier: GPL-2.0-or-later
"""Manual pages, in the macros of man(7), which both mandoc and groff read."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from dev import command_tree
from dev.command_tree import Command, Option, Setting
from dev.manual_texts import (
    BUILDER_TEXTS,
    CLIENT_FILE,
    CLIENT_TEXTS,
    COLLECTOR_FILE,
    COLLECTOR_TEXTS,
)

DATE = "2026-11-22"  # of the text below; the rest is as old as the code
WIDTH = 10  # of the column with the codes
LINE = 78  # characters of a line of source
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
CODE = re.compile(r"`([^`]+)`")
EMPHASIS = re.compile(r"\*([^*`]+)\*")


@dataclass(frozen=True, slots=True)
class Page:
    """One manual page, written line by line."""

    name: str
    section: str
    about: str
    lines: list[str] = field(default_factory=list)

    def head(self, title: str) -> None:
        self.lines.append(f'.SH "{title}"' if " " in title else f".SH {title}")

    def subhead(self, title: str) -> None:
        self.lines.append(f'.SS "{escape(title)}"')

    def text(self, text: str) -> None:
        """A paragraph; where it has lines of its own (lists, examples) they stay."""
        for paragraph in text.split("\n\n"):
            if not self.lines[-1].startswith((".SH", ".SS")):
                self.lines.append(".PP")
            if "\n" in paragraph:
                self.lines.extend([".nf", *map(literal, paragraph.rstrip("\n").split("\n")), ".fi"])
            else:
                self.lines.append(inline(paragraph))

    def prose(self, text: str) -> None:
        """Paragraphs that are filled; indented ones stay as they are."""
        for paragraph in textwrap.dedent(text).strip("\n").split("\n\n"):
            is_literal = paragraph.startswith("    ")
            self.text(f"{textwrap.dedent(paragraph)}\n" if is_literal else " ".join(paragraph.split()))

    def item(self, tag: str, text: str, *, width: int | None = None) -> None:
        """A term, given as roff, and what it means."""
        self.lines.extend([".TP" if width is None else f".TP {width}", tag, inline(text) or "."])

    def roff(self) -> str:
        first = [
            f'.TH {self.name.upper()} {self.section} {DATE} GenTwoo "GenTwoo"',
            ".SH NAME",
            f"{escape(self.name)} \\- {escape(self.about)}",
        ]
        return "\n".join([COMMENT, *first, *self.lines, ""])


COMMENT = (
    '.\\" SPDX-License-Identifier: GPL-2.0-or-later\n.\\" Written by `make docs`; edit what it says there.'
)


def escape(text: str) -> str:
    """Plain text as roff prints it unchanged, hyphens as they would be typed."""
    return (
        text.replace("\\", "\\e")
        .replace("-", "\\-")
        .replace("’", "\\(cq")
        .replace("…", "\\&...")
        .replace("“", "\\(lq")
        .replace("”", "\\(rq")
        .replace("→", "\\->")
        .replace("–", "\\(en")
        .replace("×", "\\(mu")
        .replace("≥", "\\(>=")
        .replace("≤", "\\(<=")
    )


def literal(line: str) -> str:
    return guarded(escape(line))


def inline(text: str) -> str:
    """One paragraph with `code`, *emphasis* and links as in the documents."""
    text = escape(LINK.sub(r"\1", " ".join(text.split())))
    text = CODE.sub(r"\\fB\1\\fR", text)
    lines = textwrap.wrap(
        EMPHASIS.sub(r"\\fI\1\\fR", text), LINE, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(map(guarded, lines))


def guarded(line: str) -> str:
    """A line that begins with a control character is text all the same."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def bold(text: str) -> str:
    return f"\\fB{escape(text)}\\fR"


def italic(text: str) -> str:
    return f"\\fI{escape(text)}\\fR"


def option_tag(option: Option) -> str:
    value = f" {italic(option.metavar)}" if option.metavar else ""
    return ", ".join(f"{bold(name)}{value}" for name in option.names) or italic(option.metavar)


def synopsis(words: Sequence[str], command: Command) -> str:
    parts = [bold(" ".join(words))]
    if command.options:
        parts.append(f"[{italic('option')} \\&...]")
    parts += map(argument_text, command.arguments)
    if command.commands:
        parts.append(italic("action"))
    return " ".join(parts)


def argument_text(argument: Option) -> str:
    text = italic(argument.metavar) + (" \\&..." if argument.is_repeated else "")
    return f"[{text}]" if argument.is_optional else text


def add_command(page: Page, words: Sequence[str], command: Command) -> None:
    """One command below the program, with everything below it."""
    page.subhead(" ".join(words[1:]) if len(words) > 1 else words[0])
    page.lines.append(synopsis(words, command))
    page.text(command.description if command.description else sentence(command.help))
    add_options(page, (*command.arguments, *command.options))
    if command.epilog:
        page.text(command.epilog)
    for below in command.commands:
        add_command(page, (*words, below.name), below)


def add_options(page: Page, options: Iterable[Option]) -> None:
    for option in options:
        if option.help or option.names:
            page.item(option_tag(option), sentence(option.help))


def sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def add_exit_status(page: Page, command: Command) -> None:
    page.head("EXIT STATUS")
    for code, meaning in command.exit_codes:
        page.item(bold(code), sentence(meaning), width=WIDTH)


def add_settings(page: Page, settings: Iterable[Setting]) -> None:
    page.head("SETTINGS")
    for setting in settings:
        page.item(bold(setting.name), f"{setting.meaning} Default: {setting.default}.")


def program_page(
    program: Command, *, about: str, section: str, leave_out: str = "", texts: dict[str, str]
) -> Page:
    """The page of a program with all of its commands."""
    page = Page(program.name, section, about)
    page.head("SYNOPSIS")
    page.lines.append(f"{bold(program.name)} [{italic('global option')} \\&...] {italic('command')} \\&...")
    page.head("DESCRIPTION")
    page.prose(texts["DESCRIPTION"])
    page.head("COMMANDS")
    for command in program.commands:
        if command.name != leave_out:
            add_command(page, (program.name, command.name), command)
    page.head("GLOBAL OPTIONS")
    page.text("They stand before or after the command.")
    add_options(page, (*program.globals, *program.options))
    add_exit_status(page, program)
    for title, text in texts.items():
        if title != "DESCRIPTION":
            page.head(title)
            page.prose(text)
    return page


def settings_page(name: str, program: str, *, about: str, text: str, see_also: str) -> Page:
    """The page of a configuration file."""
    page = Page(name, "5", about)
    page.head("DESCRIPTION")
    page.prose(text)
    add_settings(page, command_tree.settings(program))
    page.head("SEE ALSO")
    page.prose(see_also)
    return page


def builder_page(program: Command) -> Page:
    """The page of `bdcs builder`, which is a service of its own on machines without a collector."""
    (builder,) = (command for command in program.commands if command.name == "builder")
    page = Page("bdcs-builder", "8", builder.help.partition(",")[0])
    page.head("SYNOPSIS")
    page.lines.append(synopsis(("bdcs", "builder"), builder))
    page.head("DESCRIPTION")
    page.text(builder.description)
    page.head("OPTIONS")
    add_options(page, builder.options)
    page.head("GLOBAL OPTIONS")
    add_options(page, builder.globals)
    add_exit_status(page, replace(builder, exit_codes=program.exit_codes))
    for title, text in BUILDER_TEXTS.items():
        page.head(title)
        page.prose(text)
    return page


def pages() -> dict[str, str]:
    """Every page: file name to text."""
    client, collector = command_tree.gentwoo(), command_tree.collector()
    made = (
        program_page(
            client,
            section="1",
            about="record what Portage merges, and have packages built",
            texts=CLIENT_TEXTS,
        ),
        settings_page(
            "gentwoo.toml",
            "gentwoo",
            about="configuration of the GenTwoo client",
            text=CLIENT_FILE,
            see_also="`gentwoo`(1), `emerge`(1), `make.conf`(5)",
        ),
        program_page(
            collector,
            section="8",
            about="collector of records and binary package host",
            leave_out="builder",
            texts=COLLECTOR_TEXTS,
        ),
        settings_page(
            "bdcs.toml",
            "bdcs",
            about="configuration of the GenTwoo collector",
            text=COLLECTOR_FILE,
            see_also="`bdcs`(8), `bdcs-builder`(8)",
        ),
        builder_page(collector),
    )
    return {f"{page.name}.{page.section}": page.roff() for page in made}
