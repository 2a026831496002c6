# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/deploying.md names nothing that is not there: files, settings, commands, variables, figures."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.cli import COMMANDS
from bdcs.settings import NAMES, load_settings
from dev.places import ROOT
from tests.deploy.documents import DEPLOY, parse

pytestmark = pytest.mark.engines

TEXT = (ROOT / "docs/deploying.md").read_text()
FILE = re.compile(r"(?<![\w/.])(?:deploy|docs|systemd|openrc|tests)/[\w./-]*[\w/]")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")


def blocks(kind: str) -> list[str]:
    return [content for name, content in BLOCK.findall(TEXT) if name == kind]


def missing_files(text: str) -> list[str]:
    return [name for name in FILE.findall(text) if "$" not in name and not (ROOT / name.rstrip("/")).exists()]


def unknown_settings(text: str) -> list[str]:
    """Words in the form of settings that are none. What a metric is called begins with `bdcs_`."""
    words = re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)`", text)
    return [word for word in words if word not in NAMES and not word.startswith("bdcs_")]


def commands(text: str) -> Iterator[list[str]]:
    """The words behind `bdcs`, wherever a command is shown whole."""
    shown = [*INLINE.findall(BLOCK.sub("", text))]
    for _, content in BLOCK.findall(text):
        shown += content.splitlines()
    for line in shown:
        found = re.search(r"(?:^|-- |collector1 )bdcs ([a-z-]+(?: [^#|]*)?)", line)
        if found and "…" not in found[1]:
            words = shlex.split(found[1].replace("UUID", "22d0426a-a292-8987-95b2-aec44661da31"))
            if words[0] in COMMANDS and len(words) > 1:
                yield words


def test_every_file_is_there() -> None:
    assert missing_files(TEXT) == []
    assert missing_files(TEXT.replace("deploy/haproxy/haproxy.cfg", "deploy/haproxy/haproxy.conf"))
    named = set(FILE.findall(TEXT))
    for directory in DEPLOY.iterdir():
        assert any(f"deploy/{directory.name}" in name for name in named), directory


def test_every_setting_is_known_and_every_example_loads(tmp_path: Path) -> None:
    assert unknown_settings(TEXT) == []
    assert unknown_settings(TEXT.replace("`trusted_proxies`", "`trusted_proxys`"))
    assert len(blocks("toml")) >= 6
    for number, block in enumerate(blocks("toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        load_settings({}, {}, file)


def test_every_command_is_one() -> None:
    found = list(commands(TEXT))
    assert len(found) >= 8
    for words in found:
        assert parse(words)
    with pytest.raises(SystemExit):
        parse(["copy-store", "--lst", "a", "b"])


def test_every_variable_is_read() -> None:
    files = [DEPLOY / "haproxy/haproxy.cfg", DEPLOY / "compose/compose.yaml"]
    read = "".join(file.read_text() for file in files)
    for name in set(re.findall(r"\bGENTWOO_[A-Z0-9_]+", TEXT)):
        assert re.search(rf"\b{name}\b", read), name


def test_every_figure_is_shown() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "bdcs").rglob("*.py"))
    for name in re.findall(r"`(bdcs_\w+)`", TEXT):
        assert f'"{name}"' in sources, name


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_the_steps_are_in_order() -> None:
    steps = re.findall(r"^## (\d)\. (.+)$", TEXT, re.MULTILINE)
    assert [int(number) for number, _ in steps] == list(range(1, 8))
    sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    for section in sections:
        if section[0].isdigit():
            assert "*Check:*" in section, section.splitlines()[0]
