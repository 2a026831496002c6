# SPDX-License-Identifier: GPL-2.0-or-later
"""Speaking with a collector that is away, busy, broken, hostile, or of another time."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gentwoo_client.collector_api import CollectorAPI, Patience
from gentwoo_client.errors import CollectorBroken, CollectorBusy, CollectorRefused, CollectorUnreachable
from gentwoo_client.machine_key import MachineKey, create_key
from gentwoo_client.settings import is_loopback
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import Quarantined, TooManyRequests, Unavailable
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment, digest, sign_segment
from tests.collector_simulator import Answer, CollectorSimulator, Drop

RECORD = PackageStateChange(
    seq=1,
    event="install",
    category="app-misc",
    name="hello",
    version="2.12-r1",
    repository="gentoo",
    install_type="source",
    cause=None,
    replaces=None,
    recorded_at=1763771625,
    time_delta=4,
    concurrency=1.0,
    observed="live",
    clock="synchronized",
)


@pytest.fixture
def key(tmp_path: Path) -> MachineKey:
    return create_key(tmp_path / "machine.key")


@pytest.fixture
async def collector() -> AsyncIterator[CollectorSimulator]:
    async with CollectorSimulator() as simulator:
        yield simulator


@pytest.fixture
async def api(collector: CollectorSimulator, key: MachineKey) -> AsyncIterator[CollectorAPI]:
    async with CollectorAPI(collector.url, key) as api:
        yield api


def segment(key: MachineKey, audience: str, *, records: int = 1) -> bytes:
    from dataclasses import replace

    return sign_segment(
        Segment(
            machine=key.machine,
            audience=audience,
            first_seq=1,
            prev=None,
            created_at=1763771630,
            records=tuple(replace(RECORD, seq=seq) for seq in range(1, records + 1)),
        ),
        key.private,
    )


async def test_everything_over_one_connection(
    api: CollectorAPI, collector: CollectorSimulator, key: MachineKey
) -> None:
    state = await api.register()
    assert (state.machine, state.state, state.head.seq) == (key.machine, "approved", 0)
    compact = segment(key, collector.url, records=50)
    answer = await api.send_segment(compact)
    assert (answer.outcome, answer.head.seq, answer.head.segment) == ("accepted", 50, digest(compact))
    assert (await api.machine_state()).head.seq == 50
    assert (await api.report_link()).url.startswith(collector.url)
    await api.forget()
    with pytest.raises(CollectorRefused) as caught:
        await api.machine_state()
    assert caught.value.reason == "forgotten"
    assert collector.connections == 1


async def test_a_segment_arrives_as_it_was_signed(
    api: CollectorAPI, collector: CollectorSimulator, key: MachineKey
) -> None:
    await api.register()
    compact = segment(key, collector.url, records=limits.RECORDS_PER_SEGMENT)
    await api.send_segment(compact)
    assert collector.bodies == [compact]


@pytest.mark.parametrize("drop", [Drop.BEFORE, Drop.AFTER])
async def test_an_idle_connection_that_was_closed_is_opened_again(
    api: CollectorAPI, collector: CollectorSimulator, key: MachineKey, drop: Drop
) -> None:
    await api.register()
    collector.script(drop)
    answer = await api.send_segment(segment(key, collector.url))
    assert answer.outcome == "accepted"
    assert len(collector.records(key.machine)) == 1


async def test_half_an_answer_is_no_answer(
    api: CollectorAPI, collector: CollectorSimulator, key: MachineKey
) -> None:
    await api.register()
    collector.script(Drop.MIDDLE)
    with pytest.raises(CollectorUnreachable):
        await api.send_segment(segment(key, collector.url))


async def test_nobody_listens(key: MachineKey) -> None:
    async with CollectorSimulator() as gone:
        url = gone.url
    async with CollectorAPI(url, key) as api:
        with pytest.raises(CollectorUnreachable, match=r"127\.0\.0\.1"):
            await api.register()


async def test_nobody_answers(collector: CollectorSimulator, key: MachineKey) -> None:
    import asyncio

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    closing = asyncio.Event()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with CollectorAPI(f"http://127.0.0.1:{port}", key, patience=Patience(read=0.05)) as api:
            with pytest.raises(CollectorUnreachable):
                await api.register()
        closing.set()


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Answer(429, retry_after=7), 7),
        (Answer(503), None),
        (Answer(503, retry_after=10**6), limits.RETRY_AFTER_MAX),
        (Answer(503, retry_after=10**400), limits.RETRY_AFTER_MAX),
        (Answer(429, problem=TooManyRequests(retry_after=9)), 9),
        (Answer(503, retry_after=3, problem=Unavailable(retry_after=9)), 3),
    ],
)
async def test_a_busy_collector_says_when(
    api: CollectorAPI, collector: CollectorSimulator, fault: Answer, seconds: int | None
) -> None:
    collector.script(fault)
    with pytest.raises(CollectorBusy) as caught:
        await api.register()
    assert caught.value.retry_after == seconds


async def test_retry_after_may_be_a_date(api: CollectorAPI, collector: CollectorSimulator) -> None:
    from email.utils import formatdate

    later = formatdate(time.time() + 100, usegmt=True)
    collector.script(Answer(503, headers={"Retry-After": later}))
    with pytest.raises(CollectorBusy) as caught:
        await api.register()
    assert caught.value.retry_after == pytest.approx(100, abs=30)


@pytest.mark.parametrize(
    "fault",
    [
        Answer(500),
        Answer(404),  # not the protocol's 404: a proxy that lost its collector
        Answer(403),
        Answer(410),
        Answer(200, body=b"<html>hotel wireless</html>"),
        Answer(200, body=b'{"machine": "someone else"}'),
        Answer(200, body=b"[" * 60000),
        Answer(200, body=b"x" * (limits.ANSWER_SIZE + 1)),
    ],
)
async def test_what_is_no_answer_of_a_collector_may_pass(
    api: CollectorAPI, collector: CollectorSimulator, fault: Answer
) -> None:
    collector.script(fault)
    with pytest.raises(CollectorBroken):
        await api.register()
    assert (await api.register()).state == "approved"


async def test_a_redirect_is_not_followed(api: CollectorAPI, collector: CollectorSimulator) -> None:
    collector.script(Answer(301, headers={"Location": "https://elsewhere.example/"}))
    with pytest.raises(CollectorRefused, match=r"elsewhere\.example") as caught:
        await api.register()
    assert "public_url" in str(caught.value.advice)
    assert len(collector.requests) == 1


async def test_what_the_collector_says_cannot_command_the_terminal(
    api: CollectorAPI, collector: CollectorSimulator
) -> None:
    collector.script(Answer(403, problem=Quarantined("\x1b[2J\x07evil")))
    with pytest.raises(CollectorRefused) as caught:
        await api.register()
    assert str(caught.value).isprintable()
    assert caught.value.advice == Quarantined.advice


@pytest.mark.parametrize("offset", [86400.0, -86400.0])
async def test_a_wrong_clock_is_corrected_once(
    api: CollectorAPI, collector: CollectorSimulator, offset: float
) -> None:
    collector.clock_offset = offset
    assert (await api.register()).state == "approved"
    assert len(collector.requests) == 2
    await api.machine_state()
    assert len(collector.requests) == 3


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8642", True),
        ("http://[::1]", True),
        ("http://localhost", True),
        ("http://bdcs.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://192.168.1.1", False),
    ],
)
def test_loopback_is_this_machine_only(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected
