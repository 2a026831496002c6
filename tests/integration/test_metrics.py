# SPDX-License-Identifier: GPL-2.0-or-later
"""What `/metrics` and `/readyz` say when something is wrong, or somebody asks for odd things."""

import re
import socket
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import insert

from bdcs.measures import Counter, Gauge, Histogram
from bdcs.services.health import Examiner
from bdcs.store import schema, tables
from bdcs.store.engine import create_writer
from bdcs.store.store import Store, transaction
from tests.peer import Peer, request
from tests.processes import Collector
from tests.store_access import store_of
from tests.waiting import until


def shown(collector: Collector) -> str:
    answer = request(collector.url, "GET", "/metrics")
    assert answer.status == 200
    return answer.body.decode()


def test_no_label_is_what_a_client_chose_and_the_end_is_told_first(tmp_path: Path) -> None:
    config = tmp_path / "bdcs.toml"
    config.write_text("drain = 600\n")
    with Collector(tmp_path, options=["--config", str(config)]) as collector:
        peer = Peer(collector.url)
        peer.register()
        assert peer.push(2).status == 200
        stranger = Peer(collector.url)
        assert stranger.send(stranger.signed(stranger.payload(1))).slug == "unregistered"
        request(collector.url, "GET", "/packages/app-misc/secret-thing")
        request(collector.url, "GET", "/no/such/place")
        host, _, port = collector.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"PROPFIND /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while connection.recv(4096):
                pass
        text = shown(collector)
        assert not re.search(r"secret|/no/such|PROPFIND|" + str(peer.machine), text)
        assert 'bdcs_requests_total{method="GET",route="none",status="404"} 1.0' in text
        assert 'bdcs_requests_total{method="other",' in text
        assert 'bdcs_segments_refused_total{reason="unregistered"} 1.0' in text
        assert "bdcs_record_delay_seconds_count 1.0" in text
        assert "bdcs_push_seconds_count 1.0" in text
        assert "bdcs_ready 1.0" in text
        assert "bdcs_store_up 1.0" in text

        assert request(collector.url, "GET", "/readyz").status == 200
        assert collector.process is not None
        collector.process.process.terminate()
        until(lambda: request(collector.url, "GET", "/readyz").status == 503)
        assert request(collector.url, "GET", "/livez").status == 200  # for 600 seconds all is as ever
        assert peer.push(1).status == 200
        assert "bdcs_ready 0.0" in shown(collector)


@pytest.mark.sqlite  # in a shared store it is the turn of another collector, and none would be ready
def test_a_store_that_takes_nothing_is_told_of_and_forgotten(tmp_path: Path) -> None:
    """Somebody else has the lock: reads work, writes do not."""
    with Collector(tmp_path) as collector:
        assert request(collector.url, "GET", "/readyz").status == 200
        with store_of(collector.data):
            answer = until(lambda: not_ready(collector), what="a collector that says that it cannot write")
            assert "the store does not" in answer
            text = shown(collector)
            assert "bdcs_ready 0.0" in text
            assert "bdcs_store_up 1.0" in text
            wait = re.search(r"^bdcs_store_oldest_write_wait_seconds (\S+)$", text, re.MULTILINE)
            assert wait
            assert float(wait[1]) > 0
        until(lambda: request(collector.url, "GET", "/readyz").status == 200)


def not_ready(collector: Collector) -> str:
    answer = request(collector.url, "GET", "/readyz")
    return answer.body.decode() if answer.status == 503 else ""


async def test_of_a_long_queue_is_told_what_it_is(tmp_path: Path) -> None:
    """Each target's jobs by state; those of unknown length count as long as the others on average."""
    writer = create_writer(tmp_path / "bdcs.sqlite")
    with transaction(writer) as connection:
        schema.upgrade(connection)
        connection.execute(insert(tables.targets), [target(1, "amd64"), target(2, "arm64")])
        connection.execute(insert(tables.jobs), [job(n, "queued", 60, at=100 + n) for n in range(10)])
        connection.execute(insert(tables.jobs), [job(n, "waiting", None) for n in range(10, 15)])
        connection.execute(insert(tables.jobs), [job(n, "building", 60) for n in range(15, 17)])
        connection.execute(insert(tables.jobs), [job(n, "published", 60, at=1) for n in range(17, 30)])
    writer.dispose()
    store = Store(tmp_path / "bdcs.sqlite")
    try:
        health = await Examiner(store, tmp_path, time.time).health()
    finally:
        await store.close()
    assert health is not None
    busy, idle = health.targets
    assert dict(busy.queue.jobs) == {"queued": 10, "waiting": 5, "building": 2}
    assert (busy.queue.work, busy.queue.oldest) == (15 * 60, 100)
    assert (dict(idle.queue.jobs), idle.queue.work, idle.queue.oldest) == ({}, 0, None)


def target(number: int, name: str) -> dict[str, object]:
    texts = ("chost", "profile", "cflags", "cpu", "toolchain", "description")
    flags = {"private": False, "bindist": False, "signatures": "required", "header": "{}"}
    times = {"created_at": 0, "timestamp": 0, "generation": 0}
    return {"id": number, "name": name, **dict.fromkeys(texts, ""), **flags, **times}


def job(number: int, state: str, seconds: int | None, *, at: int = 0) -> dict[str, object]:
    texts = ("cpv", "category", "name", "version", "repository", "specification")
    return {
        **dict.fromkeys(texts, ""),
        "target_id": 1,
        "digest": str(number),
        "state": state,
        "priority": 0,
        "origin": "request",
        "created_at": 0,
        "queued_at": at,
        "expected_seconds": seconds,
    }


def test_threads_count_together() -> None:
    """Not one of what several threads count at once is lost."""
    counter, gauge = Counter("test_things", "", ["kind"]), Gauge("test_level", "")
    histogram = Histogram("test_seconds", "", [1, 2])

    def count() -> None:
        for _ in range(2000):
            counter.add("a")
            gauge.add(1)
            histogram.observe(1.5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.samples() == {("a",): 8000}
    assert gauge.samples() == {(): 8000}
    assert histogram.samples() == {(): ([0, 8000, 0], 12000.0)}
