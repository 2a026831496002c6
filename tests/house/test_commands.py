# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command explains itself, and every setting of both programs is documented."""

import re
import subprocess
import sys
from dataclasses import fields

import pytest

import bdcs.cli
import bdcs.settings
import gentwoo_client.cli
import gentwoo_client.settings
from dev.places import ROOT
from tests.processes import BDCS, GENTWOO, environment

COMMANDS = [
    *((GENTWOO, name) for name in gentwoo_client.cli.COMMANDS),
    *((BDCS, name) for name in bdcs.cli.COMMANDS),
]
CONFIGURATION = ROOT / "docs/configuration.md"


def output(*argv: str) -> str:
    """What a command prints on stdout; it must end with 0."""
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [GENTWOO, BDCS], ids=["gentwoo", "bdcs"])
def test_help_lists_every_command(program: tuple[str, ...]) -> None:
    text = output(*program, "--help")
    names = [name for owner, name in COMMANDS if owner == program]
    assert [name for name in names if not re.search(rf"^  {name}\b", text, re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("program", "name"), COMMANDS, ids=lambda part: part if isinstance(part, str) else ""
)
def test_every_command_has_a_help(program: tuple[str, ...], name: str) -> None:
    text = output(*program, name, "--help")
    assert "exit codes:" in text
    assert "--config" in text


@pytest.mark.parametrize(("program", "word"), [(GENTWOO, "gentwoo"), (BDCS, "bdcs")], ids=["gentwoo", "bdcs"])
def test_version(program: tuple[str, ...], word: str) -> None:
    assert re.fullmatch(rf"{word} \d+\.\d+\.\d+\S*\n", output(*program, "--version"))


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("gentwoo.toml", gentwoo_client.settings.SETTING_NAMES),
        (
            "bdcs.toml",
            tuple(entry.name for entry in fields(bdcs.settings.Settings) if "doc" in entry.metadata),
        ),
    ],
    ids=["client", "collector"],
)
def test_every_setting_is_documented(section: str, names: tuple[str, ...]) -> None:
    text = CONFIGURATION.read_text()
    assert section in text
    assert len(names) > 5
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("gentwoo", gentwoo_client.settings.SETTING_NAMES),
        ("bdcs", bdcs.settings.NAMES),
    ],
)
def test_the_example_configuration_of_the_ebuild_is_valid(program: str, names: tuple[str, ...]) -> None:
    """Each commented-out setting of the file that the ebuild installs is one that exists."""
    text = (ROOT / f"ebuild/app-portage/{program}/files/{program}.toml").read_text()
    named = re.findall(r"^#([a-z_]+) = ", text, re.MULTILINE)
    assert named
    assert set(named) <= set(names)


def test_the_interpreter_is_that_of_the_environment() -> None:
    """A test that calls `python -m bdcs` means this tree, not something installed elsewhere."""
    assert output(sys.executable, "-c", "import bdcs; print(bdcs.__file__)").startswith(str(ROOT))
