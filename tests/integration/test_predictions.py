# SPDX-License-Identifier: GPL-2.0-or-later
"""The fleet's table of predictions: fitted from records, published by the thresholds, and used."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdcs.domain.thresholds import Thresholds
from bdcs.services.predictions import PredictionKeeper
from bdcs.store.store import Store
from gentwoo_client.prediction.fleet import FleetTable
from tests.fleet import START, Member, join
from tests.peer import Answer, request
from tests.processes import GENTWOO, Collector, environment
from tests.store_access import store_of
from tests.waiting import until

PACKAGES = {"app-misc/small": 20, "dev-libs/middle": 120, "dev-lang/large": 1800, "sys-devel/huge": 7200}


def build(member: Member, speed: float, *packages: str) -> None:
    """Have a machine of that speed build each of `packages`."""
    for package in packages:
        member.merge(f"{package}-1.0", seconds=round(PACKAGES[package] * speed))


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """A collector that publishes nothing by itself: only `refresh` does."""
    configuration = tmp_path / "bdcs.toml"
    configuration.write_text("threshold = 1000\n")
    with Collector(tmp_path / "collector", options=("--config", str(configuration))) as collector:
        yield collector


def refresh(collector: Collector) -> None:
    """Renew the table, as the collector does now and then."""

    async def work() -> None:
        store = Store(collector.data / "bdcs.sqlite")
        try:
            await PredictionKeeper(store, Thresholds(), lambda: START + 1e6).refresh()
        finally:
            await store.close()

    asyncio.run(work())


def table(collector: Collector, *, holds: str | None = None) -> FleetTable:
    """What the collector serves; where `holds` is a package, once that is in it."""
    found: dict[str, Any] = {}

    def look() -> bool:
        answer = request(collector.url, "GET", "/v1/predictions")
        assert answer.status == 200, answer
        found["table"] = FleetTable.from_json(answer.document)
        return holds is None or holds in found["table"].packages

    until(look, 60, what=f"predictions of {holds}")
    result: FleetTable = found["table"]
    return result


def fleet(collector: Collector, count: int) -> list[Member]:
    members = join(collector.url, count)
    for number, member in enumerate(members):
        build(member, 2.0 ** ((number % 5 - 2) / 2), *list(PACKAGES)[:3])
    return members


def test_what_enough_machines_built_is_foretold_for_one_that_never_did(
    collector: Collector, tmp_path: Path
) -> None:
    fleet(collector, 12)
    refresh(collector)
    found = table(collector, holds="dev-lang/large")
    assert {"app-misc/small", "dev-libs/middle", "dev-lang/large"} == found.packages.keys()
    assert found.packages["dev-lang/large"].whole.machines == 10
    assert math.isclose(math.exp(found.packages["dev-lang/large"].whole.log), 1800, rel_tol=0.2)

    log = tmp_path / "emerge.log"
    log.write_text(merged("app-misc/small-1.0", 40) + merged("dev-libs/middle-1.0", 240, 1_700_000_100))
    plan = "[ebuild  N     ] dev-lang/large-1.0 \n[ebuild  N     ] sys-devel/huge-1.0 \n"
    command = (*GENTWOO, "predict", "--json", f"--log={log}", f"--collector={collector.url}")
    env = environment(XDG_CACHE_HOME=str(tmp_path / "cache"))
    done = subprocess.run(command, env=env, input=plan, capture_output=True, text=True, check=True)
    large, huge = json.loads(done.stdout)["packages"]
    assert large["source"] == "fleet"
    assert math.isclose(large["seconds"], 3600, rel_tol=0.35)
    assert large["low"] < large["seconds"] < large["high"]
    assert (huge["source"], huge["seconds"]) == ("unknown", None)
    collector.stop()
    again = subprocess.run(command, env=env, input=plan, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["packages"][0]["seconds"] == large["seconds"]


def merged(cpv: str, seconds: int, at: int = 1_700_000_000) -> str:
    return (
        f"{at}: Started emerge on: Nov 14, 2023 22:13:20\n"
        f"{at}:  *** emerge --oneshot {cpv}\n"
        f"{at}:  >>> emerge (1 of 1) {cpv} to /\n"
        f"{at + seconds}:  ::: completed emerge (1 of 1) {cpv} to /\n"
        f"{at + seconds}:  *** Finished. Cleaning up...\n"
        f"{at + seconds}:  *** exiting successfully.\n"
        f"{at + seconds}:  *** terminating.\n"
    )


def test_it_moves_only_when_enough_machines_moved_it(collector: Collector) -> None:
    members = fleet(collector, 12)
    refresh(collector)
    before = table(collector, holds="dev-lang/large")
    for member in members[:9]:
        build(member, 20.0, "dev-lang/large")
    refresh(collector)
    assert stored(collector)["dev-lang/large"] == before.packages["dev-lang/large"].whole.log
    build(members[9], 20.0, "dev-lang/large")
    refresh(collector)
    assert stored(collector)["dev-lang/large"] > before.packages["dev-lang/large"].whole.log


def test_the_collector_renews_it_by_itself(tmp_path: Path) -> None:
    with Collector(tmp_path / "collector") as collector:
        fleet(collector, 10)
        collector.stop()
        collector.start()
        assert table(collector, holds="app-misc/small").packages["app-misc/small"].whole.machines == 10


def test_nine_machines_are_nobody(collector: Collector) -> None:
    fleet(collector, 9)
    refresh(collector)
    assert stored(collector) == {}


def test_forgotten_machines_leave_only_together(collector: Collector) -> None:
    members = fleet(collector, 12)
    refresh(collector)
    before = stored(collector)
    for member in members[:9]:
        assert forget(member).status == 204
        refresh(collector)
        assert stored(collector) == before
    assert forget(members[9]).status == 204
    refresh(collector)
    assert stored(collector) == {}


def forget(member: Member) -> Answer:
    return member.peer.authorized("DELETE", member.peer.path)


def stored(collector: Collector) -> dict[str, float]:
    """What is published now, straight from the store: the collector believes its own copy for a while."""
    with store_of(collector.data) as connection:
        rows = connection.exec_driver_sql(
            "SELECT category || '/' || name, log FROM predictions JOIN packages ON packages.id = package_id"
            " WHERE major = '' AND machines > 0"
        )
        return {name: log / 100 for name, log in rows}


def test_it_is_sent_packed_and_only_when_it_changed(collector: Collector) -> None:
    fleet(collector, 10)
    refresh(collector)
    table(collector, holds="dev-lang/large")
    url = f"{collector.url}/v1/predictions"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        etag, body = answer.headers["ETag"], gzip.decompress(answer.read())
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == body
    again = request(collector.url, "GET", "/v1/predictions", headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")
