# SPDX-License-Identifier: GPL-2.0-or-later
"""What a feed tells of what happened, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from sqlalchemy import Connection

from bdcs.domain.thresholds import Thresholds
from bdcs.services import leaving_packages, watches
from bdcs.services.watcher import Watcher
from bdcs.store import schema
from bdcs.store.store import Store

ALPHA = "app-misc/alpha"


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "bdcs.sqlite")
    await store.write(schema.upgrade)
    yield store
    await store.close()


async def watching(store: Store, owner: int | None, now: float) -> str:
    """Have an owner watch alpha; return the feed's name."""
    watch = await store.write(lambda connection: watches.add(connection, owner, ALPHA, [], None, now))
    return watch.feed


async def seen_leaving(store: Store, atom: str, now: float) -> None:
    """An atom is on the list of what leaves, which is seen at that time."""

    def put(connection: Connection) -> None:
        leaving_packages.add(connection, atom, reason="", leaves_on="2026-12-24", now=now)

    await store.write(put)
    await look(store, now)


async def look(store: Store, now: float) -> None:
    await Watcher(store=store, thresholds=Thresholds(), wake=lambda: None, now=lambda: now).once()


async def told(store: Store, feed: str) -> list[str]:
    events = await store.read(lambda connection: watches.happenings(connection, feed))
    assert events is not None
    return [f"{event.at} {event.text.partition(';')[0]}" for event in events]


async def test_a_watch_tells_of_what_happened_since_it_was_added(store: Store) -> None:
    first = await watching(store, 1, now=1000.2)
    await look(store, now=1001)
    await seen_leaving(store, f"<{ALPHA}-2", now=1060.9)
    later = await watching(store, None, now=1061.1)
    assert await told(store, first) == [f"1060 <{ALPHA}-2 is leaving on 2026-12-24"]
    assert await told(store, later) == []
    await seen_leaving(store, ALPHA, now=1121)
    assert await told(store, later) == [f"1121 {ALPHA} is leaving on 2026-12-24"]
    assert len(await told(store, first)) == 2
