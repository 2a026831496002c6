# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/protocol.md says what the code does: each limit, problem, field and the worked example."""

import json
import re
from pathlib import Path

import pytest

from gentwoo_client.wire import base64url, limits, records, segments
from gentwoo_client.wire.errors import PROBLEMS, ProtocolError
from tests.vectors.make import HERE

DOCUMENT = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
LIMITS = {name: value for name, value in vars(limits).items() if name.isupper()}


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_stands_there_with_its_value(name: str) -> None:
    """The table of limits has a row for this one."""
    assert f"| `{name}` | {LIMITS[name]:.0f} |" in DOCUMENT


def test_no_limit_stands_there_that_is_gone() -> None:
    """Every upper-case name in the document is a limit."""
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", DOCUMENT, re.MULTILINE)) == set(LIMITS)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=list(PROBLEMS))
def test_each_problem_stands_there_with_its_status(problem: type[ProtocolError]) -> None:
    """The table of problems has a row for this one, which says what to do."""
    assert re.search(rf"^\| `{problem.slug}` \| {problem.status} \| .+ \|$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("name", [*records.FIELDS, *segments.FIELDS])
def test_each_field_stands_there(name: str) -> None:
    """The tables of fields and members have a row for this one."""
    assert re.search(rf"^\| `{name}` \| .+ \|$", DOCUMENT, re.MULTILINE)


def test_the_worked_example_is_the_vectors() -> None:
    """What the example shows is what the vectors hold."""
    identity = json.loads((HERE / "identity.json").read_text())["machines"][0]
    first, second = json.loads((HERE / "segments.json").read_text())["segments"]
    token = json.loads((HERE / "tokens.json").read_text())["tokens"][1]["token"]
    header, payload, signature = first["compact"].split(".")
    for shown in (
        identity["public_key"],
        identity["machine"],
        base64url.decode(header).decode(),
        base64url.decode(payload).decode(),
        signature,
        first["digest"],
        second["digest"],
        base64url.decode(token.split(".")[1]).decode(),
    ):
        assert shown in DOCUMENT
