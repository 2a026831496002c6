# SPDX-License-Identifier: GPL-2.0-or-later
"""A command of the operator's that starts builders: what it is told, and what is made of what it does."""

import os
import signal
import stat
from pathlib import Path

import pytest

from bdcs.capacity.command import Command
from bdcs.capacity.drivers import Fleet
from bdcs.errors import CapacityRefused, CapacityUnavailable, CollectorError


def command(place: Path, script: str, *, timeout: str | None = None) -> Command:
    path = place / "command"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Command(str(path), "a+b", ("a", "b"), timeout=timeout)


async def test_it_says_what_there_is(tmp_path: Path) -> None:
    assert await command(tmp_path, """echo '{"wanted": 3}'""").look() == Fleet(wanted=3)
    known = command(tmp_path, """echo '{"wanted": 1, "members": ["x"], "more": 1}'""")
    assert await known.look() == Fleet(wanted=1, members=frozenset({"x"}))


async def test_it_is_told_in_words_in_the_environment_and_as_json(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f'echo "$* $BDCS_POOL $BDCS_TARGETS $BDCS_WANTED" > {told}; cat >> {told}; echo null'
    await command(tmp_path, script).resize(4)
    assert told.read_text() == (
        'a+b 4 a+b a b 4\n{"pool": "a+b", "targets": ["a", "b"], "wanted": 4, "dismiss": []}'
    )


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("echo broken >&2; exit 3", CapacityRefused, "ended with 3: broken"),
        ("echo later >&2; exit 75", CapacityUnavailable, "ended with 75: later"),
        ("echo hello", CapacityRefused, "printed no JSON"),
        ("echo '[]'", CapacityRefused, "did not say what there is"),
        ("""echo '{"wanted": -1}'""", CapacityRefused, "did not say what there is"),
        ("""echo '{"wanted": 1, "members": [1]}'""", CapacityRefused, "did not say what there is"),
    ],
)
async def test_what_is_wrong_is_told(
    tmp_path: Path, script: str, kind: type[CollectorError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        await command(tmp_path, script).look()


async def test_a_builder_that_it_leaves_running_does_not_hold_it_up(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; echo '{{\"wanted\": 1}}'"
    try:
        assert await command(tmp_path, script, timeout="60").look() == Fleet(wanted=1)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_who_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """Its child holds the same pipe: without its end we would wait for that."""
    with pytest.raises(CapacityUnavailable, match="did not end within 1 s"):
        await command(tmp_path, "sleep 600 & sleep 600", timeout="1").look()


async def test_what_is_not_there(tmp_path: Path) -> None:
    nobody = Command(str(tmp_path / "nobody"), "a", ("a",), timeout=None)
    with pytest.raises(CapacityRefused, match="No such file"):
        await nobody.look()
    with pytest.raises(CapacityRefused, match="is no number of seconds"):
        Command("/bin/true", "a", ("a",), timeout="soon")
