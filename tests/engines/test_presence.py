# SPDX-License-Identifier: GPL-2.0-or-later
"""Who serves from a database is seen there, also after the database went away and came back."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.errors import ConfigurationError, OthersServing
from bdcs.server import presence
from bdcs.server.presence import SERVING, beside_others, without_others
from bdcs.settings import Settings
from bdcs.store.engine import create_reader, create_writer
from bdcs.store.places import PostgreSQL
from bdcs.store.session_locks import holders, session_lock
from tests.postgresql import Server, running_postgresql
from tests.waiting import until

pytestmark = pytest.mark.engines


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_postgresql(tmp_path) as started:
        yield started


def test_a_collector_is_seen_after_its_database_was_killed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where somebody who must be alone was quicker, it ends."""
    monkeypatch.setattr(presence, "LOOK", 0.1)
    monkeypatch.setattr(presence, "PATIENCE", 0.3)
    place = PostgreSQL(server.new_database())
    settings = Settings(data=tmp_path / "data", store=place.url, blobs="s3://bucket")
    with contextlib.ExitStack() as ending:
        reader, writer = create_reader(place), create_writer(place)
        ending.callback(reader.dispose)
        ending.callback(writer.dispose)

        def is_seen() -> None:
            until(lambda: holders(reader, SERVING))
            with pytest.raises(OthersServing), without_others(place):
                pass

        async def serve() -> None:
            with beside_others(settings) as collector:
                assert collector is not None
                keeping = asyncio.create_task(collector.keep())
                await asyncio.to_thread(is_seen)
                server.kill()
                await asyncio.to_thread(server.restart)
                await asyncio.to_thread(is_seen)
                with alone(), pytest.raises(ConfigurationError, match="another collector"):
                    await asyncio.wait_for(keeping, 60)

        @contextlib.contextmanager
        def alone() -> Iterator[None]:
            """Have the lock as soon as the collector's session has ended, before it can be taken again."""
            done = threading.Event()

            def hold() -> None:
                with session_lock(writer, SERVING):
                    done.wait(60)

            thread = threading.Thread(target=hold)
            thread.start()
            waits = "FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            until(lambda: server.execute(f"SELECT 1 {waits}"), what="somebody who waits for the lock")
            holds = "FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted"
            server.execute(f"SELECT pg_terminate_backend(pid) {holds}")
            try:
                yield
            finally:
                done.set()
                thread.join()

        asyncio.run(serve())
