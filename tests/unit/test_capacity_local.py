# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of this host: each pool has its own, whatever it is called."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bdcs.capacity.local import BUILDER_LOCK, LocalProcesses
from tests.waiting import until

LONG = "x86-64-v3-of-a-very-long-name-of-which-there-are"


def sleeper(_name: str, place: Path) -> Sequence[str]:
    """The command of something that is there until it is told to go."""
    lock = shlex.quote(str(place / BUILDER_LOCK))
    return ["sh", "-c", f"echo $$ > {lock}.new && mv {lock}.new {lock} && exec sleep 600"]


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[dict[str, LocalProcesses]]:
    """By their names; what they started does not outlive the test."""
    names = ("a", "a-1", "a.b", "a+b", f"{LONG}-one", f"{LONG}-two", LONG, "a" * 64 + "+" + "b" * 64)
    pools = {name: LocalProcesses(name, tmp_path, sleeper) for name in names}
    yield pools
    for pool in pools.values():
        for child in pool._children:
            child.kill()
            child.wait()


async def test_pools_of_like_names_do_not_have_each_others_builders(
    pools: dict[str, LocalProcesses], tmp_path: Path
) -> None:
    found: dict[str, frozenset[str]] = {}
    for name, pool in pools.items():
        await pool.resize(2)
        found[name] = (await pool.look()).members or frozenset()
    assert sum(map(len, found.values())) == len(frozenset().union(*found.values())) == 2 * len(pools)
    assert max(len(name) for members in found.values() for name in members) <= 64
    for name, pool in pools.items():
        assert (await pool.look()).members == found[name]
    again = LocalProcesses("a+b", tmp_path, sleeper)
    assert (await again.look()).members == found["a+b"], "who comes later knows them"
    until(lambda: len(list(tmp_path.glob(f"*/{BUILDER_LOCK}"))) == 2 * len(pools))
    await again.dismiss(sorted(found["a+b"]))
    until(lambda: not list(pools["a+b"]._there()), what="builders that are gone")
    for name, pool in pools.items():
        assert (await pool.look()).members == (frozenset() if name == "a+b" else found[name])
