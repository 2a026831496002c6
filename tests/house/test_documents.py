# SPDX-License-Identifier: GPL-2.0-or-later
"""What the documents say exists, and what exists is documented."""

import re
import subprocess
from pathlib import Path

import pytest

from dev.places import ROOT
from tests.house.sources import committed

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
DOCUMENTS = sorted(path for path in committed() if path.suffix == ".md" and "tests" not in path.parts)
MAKE_COMMAND = re.compile(r"(?:`|^\s*\$? ?)make ([a-z][a-z-]*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE)) == TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_commands_in_documents_exist(document: Path) -> None:
    assert set(MAKE_COMMAND.findall(document.read_text())) <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    dead = []
    for link, anchor in LINK.findall(document.read_text()):
        if "://" not in link:
            place = document.parent / link if link else document
            if not place.exists() or (anchor and anchor not in anchors(place)):
                dead.append((link, anchor))
    assert not dead


def anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings of a document."""
    headings = HEADING.findall(document.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_shows_how_to_run_and_to_test() -> None:
    assert {"run", "test"} <= set(MAKE_COMMAND.findall((ROOT / "README.md").read_text()))
