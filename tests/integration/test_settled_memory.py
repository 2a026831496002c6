# SPDX-License-Identifier: GPL-2.0-or-later
"""How often a collector looks at all that it has for garbage, in which time it answers nobody."""

import gc
import itertools
import sys
import weakref

from bdcs.server.running import _settle_memory
from tests.processes import run

CONNECTIONS = 10_000
EACH = 40
"""Objects of a connection that has been used, about."""
MOST = 4_000_000


class Node:
    """A part of a cycle."""

    other: "Node"


def scene() -> None:
    """Serve for as long as it takes; runs in a process of its own, whose garbage nobody else makes."""
    looks = 0

    def note(phase: str, about: dict[str, int]) -> None:
        nonlocal looks
        looks += phase == "stop" and about["generation"] == 2

    _settle_memory()
    first, second = Node(), Node()
    first.other, second.other = second, first
    seen = weakref.ref(first)
    gc.collect(1)  # now it is as old as what stays
    del first, second
    gc.callbacks.append(note)
    held: list[list[list[object]]] = [[[] for _ in range(EACH)] for _ in range(CONNECTIONS)]
    assert looks == 0, f"{looks} looks while {len(held):,} connected"
    for count in itertools.count():
        if seen() is None:
            break
        assert count < MOST, "what is left behind stays for ever"
        held.append([])
    assert looks == 1


def test_ten_thousand_connections_are_not_looked_through_and_garbage_goes_all_the_same() -> None:
    code = f"from {__name__} import scene; scene()"
    run([sys.executable, "-c", code], check=True)
