# SPDX-License-Identifier: GPL-2.0-or-later
"""Each alert has a page that says what to do, each page its alert, and the commands in them are there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import command_tree
from dev.places import ROOT

OBSERVABILITY = ROOT / "deploy/observability"
PAGES = ROOT / "docs/operating"
OPERATING = (ROOT / "docs/operating.md").read_text()
SEVERITIES = {"critical", "warning"}


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((OBSERVABILITY / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
COMMANDS = {words[1:]: command for words, command in command_tree.collector().walk()}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_since_when_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in SEVERITIES
    assert alert["for"]
    annotations = alert["annotations"]
    assert all(annotations[key] for key in ("summary", "description"))
    assert annotations["runbook_url"].endswith(f"/docs/operating/{name}.md")
    assert f"| [{name}](operating/{name}.md) | {alert['labels']['severity']} |" in OPERATING


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(ALERTS)


def test_each_alert_is_seen_to_fire_and_to_be_quiet() -> None:
    tests = yaml.safe_load((OBSERVABILITY / "alerts.test.yml").read_text())["tests"]
    told = {test["name"]: bool(test["promql_expr_test"][0]["exp_samples"]) for test in tests}
    wanted = {f"{name} fires": True for name in ALERTS} | {f"{name} is quiet": False for name in ALERTS}
    assert told == wanted


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_says_what_it_is_how_to_see_it_and_what_to_do(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n\n*{ALERTS[name]['labels']['severity']}*")
    assert "**See**\n\n```sh\n" in page
    assert "**Do**\n\n- " in page


@pytest.mark.parametrize(
    "page", [*sorted(PAGES.glob("*.md")), ROOT / "docs/operating.md"], ids=lambda p: p.stem
)
def test_the_commands_that_a_page_names_exist(page: Path) -> None:
    wrong = [said for said in commands_in(page.read_text()) if not exists(said)]
    assert not wrong


def commands_in(text: str) -> list[str]:
    """What stands in code and begins with `bdcs`, without comments and what follows a pipe."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.split(r"[\n;]", block)]
    spans = re.findall(r"`(bdcs [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    said = [line.partition("#")[0].partition("|")[0].strip() for line in (*lines, *spans)]
    return [line for line in said if line.startswith("bdcs ") and line.split()[1] != "COMMAND"]


def exists(said: str) -> bool:
    """Whether there is such a command, with such options."""
    words = said.split()[1:]
    path: tuple[str, ...] = ()
    while words and (*path, words[0]) in COMMANDS:
        path = (*path, words.pop(0))
    if not path or (COMMANDS[path].commands and not words):
        return bool(path)
    known = {name for option in (*COMMANDS[path].options, *COMMANDS[path].globals) for name in option.names}
    return all(
        word.strip("[]…").partition("=")[0] in known for word in words if word.strip("[").startswith("--")
    )
