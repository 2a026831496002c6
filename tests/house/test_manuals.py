# SPDX-License-Identifier: GPL-2.0-or-later
"""Manuals and completions say what the commands and the documents say."""

import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

import bdcs.settings
import gentwoo_client.settings
from dev import command_tree
from dev.documents import documents
from dev.places import ROOT

DOCUMENTS = documents()
PROGRAMS = {"gentwoo": command_tree.gentwoo(), "bdcs": command_tree.collector()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.is_file(), "run `make docs`"
    assert path.read_text() == DOCUMENTS[path], "run `make docs`"


def test_nothing_else_lies_there() -> None:
    lying = {path for name in ("man", "completions") for path in (ROOT / name).iterdir()}
    assert lying == set(DOCUMENTS)


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("gentwoo", gentwoo_client.settings.SETTING_NAMES),
        ("bdcs", tuple(field.name for field in fields(bdcs.settings.Settings))),
    ],
)
def test_the_pages_of_settings_have_all_of_them(program: str, names: tuple[str, ...]) -> None:
    assert sorted(setting.name for setting in command_tree.settings(program)) == sorted(names)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_and_option_has_its_place(program: str) -> None:
    text = "\n".join(DOCUMENTS[path] for path in DOCUMENTS if path.suffix in {".1", ".8"})
    for words, command in PROGRAMS[program].walk():
        for option in command.options:
            missing = [name for name in option.names if name.replace("-", "\\-") not in text]
            assert not missing, (words, missing)


def completed(line: str) -> set[str]:
    """What bash offers at the end of `line`, with our file alone."""
    program = line.split()[0]
    words = line.split(" ")
    script = (
        f"source {ROOT}/completions/{program}.bash\n"
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}) COMP_CWORD={len(words) - 1}\n"
        f'_{program}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=ROOT / "man", check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "expected", "absent"),
    [
        ("gentwoo re", {"register", "remove", "report"}, {"history"}),
        ("gentwoo --log-level debug binhost s", {"setup", "status"}, {"set"}),
        ("gentwoo history --event ", {"install", "uninstall", "failure"}, {"--json"}),
        ("gentwoo history --ev", {"--event"}, {"--event="}),
        ("bdcs admin machines ap", {"approve"}, {"builders"}),
        ("bdcs serve --config bdcs.", {"bdcs.8", "bdcs.toml.5"}, {"--config"}),
        ("gentwoo verify gen", {"gentwoo.1", "gentwoo.toml.5"}, {"bdcs.8"}),
    ],
)
def test_bash_completes(line: str, expected: set[str], absent: set[str]) -> None:
    offered = completed(line)
    assert expected <= offered
    assert not absent & offered
