# SPDX-License-Identifier: GPL-2.0-or-later
"""What `/metrics` shows, in the text format of Prometheus: what this process counted (`bdcs.measures`), how
it stands now, and how the store says that everything stands (`services.health`).

Without the store `bdcs_store_up` is 0, what only the store knows is missing, and all else is there as ever.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from bdcs import measures
from bdcs.domain.jobs import IN_FLIGHT
from bdcs.services.health import Examiner, Health, PoolHealth, TargetHealth
from bdcs.services.readiness import Readiness
from bdcs.store.engine import READERS
from bdcs.store.store import Store

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LOOK: Final = 1.0  # seconds between two looks at how late the event loop is
PATIENCE: Final = 2.0  # seconds that a scrape waits for the store

Rows = Iterable[tuple[Sequence[str], float | None]]
"""Values of a metric's labels, and its own; None: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Everything that can be asked for it."""

    store: Store
    examiner: Examiner
    readiness: Readiness
    data: Path
    """The directory whose free space matters."""
    certificate: Path | None
    """What TLS shows clients, if the collector itself does TLS."""
    build: Mapping[str, str]
    """What runs here: version and engines."""

    async def text(self) -> bytes:
        """Return all of it."""
        health, is_ready = await asyncio.gather(self.examiner.health(), self._is_ready())
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Shown([*_measured(), *self._standing(is_ready), *_known(health)]))
        return generate_latest(registry)

    async def watch_loop(self) -> None:
        """Note how late the event loop is, once a second until cancelled."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LOOK)
            measures.LOOP_LAG.observe(max(0.0, time.perf_counter() - began - LOOK))

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.readiness.problem() is None
        except TimeoutError:
            return False

    def _standing(self, is_ready: bool) -> Iterator[Metric]:
        """Yield how the process and its host stand now."""
        yield InfoMetricFamily("bdcs_build", "What runs here", dict(self.build))
        yield _one("bdcs_ready", "Whether requests should come here, as /readyz says", is_ready)
        yield _one("bdcs_clock_timestamp_seconds", "This host's clock", time.time())
        yield _one("bdcs_records_waiting", "Records that wait for their transaction", self.store.waiting)
        yield _one(
            "bdcs_store_oldest_write_wait_seconds",
            "For how long the oldest write has waited to be durable",
            self.store.oldest_wait,
        )
        yield _one("bdcs_store_readers", "Reads that can run at once", READERS)
        yield _gauge(
            "bdcs_tls_certificate_expiry_timestamp_seconds",
            "When the certificate on disk expires, where the collector itself does TLS",
            (),
            [((), _expiry(self.certificate))],
        )
        try:
            disk = os.statvfs(self.data)
        except OSError:
            return
        yield _one(
            "bdcs_data_size_bytes", "Size of the data directory's file system", disk.f_blocks * disk.f_frsize
        )
        yield _one(
            "bdcs_data_free_bytes",
            "Free space that this user can still write there",
            disk.f_bavail * disk.f_frsize,
        )


class _Shown(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics

    def describe(self) -> Iterable[Metric]:
        return ()


def _measured() -> Iterator[Metric]:
    """Yield what this process counted."""
    for measure in measures.ALL:
        if isinstance(measure, measures.Counter):
            counter = CounterMetricFamily(measure.name, measure.text, labels=measure.labels)
            for values, count in measure.samples().items():
                counter.add_metric(values, count)
            yield counter
        elif isinstance(measure, measures.Gauge):
            yield _gauge(measure.name, measure.text, measure.labels, measure.samples().items())
        elif isinstance(measure, measures.Histogram):
            yield _histogram(measure)


def _histogram(measure: measures.Histogram) -> Metric:
    family = HistogramMetricFamily(measure.name, measure.text, labels=measure.labels)
    limits = [*(f"{limit:g}" for limit in measure.limits), "+Inf"]
    for values, (counts, total) in measure.samples().items():
        so_far = 0
        buckets = []
        for limit, count in zip(limits, counts, strict=True):
            so_far += count
            buckets.append((limit, so_far))
        family.add_metric(values, buckets, total)
    return family


def _known(health: Health | None) -> Iterator[Metric]:
    """Yield what the store knows."""
    yield _one("bdcs_store_up", "Whether the store says how everything stands", health is not None)
    if health is None:
        return
    yield _gauge(
        "bdcs_machines", "Registered machines by state", ("state",), _by_name(health.machines.items())
    )
    yield from _of_targets(health.targets)
    yield from _of_pools(health.pools)
    yield _one("bdcs_targets_signed", "Targets that take only signed packages", health.signed_targets)
    yield _one(
        "bdcs_leases_overdue", "Builds under way whose builders should have been heard of", health.overdue
    )
    yield _gauge(
        "bdcs_signing_key_expiry_timestamp_seconds",
        "When an active signing key expires; +Inf: never",
        ("fingerprint",),
        (((name,), float("inf") if at is None else at) for name, at in health.keys.items()),
    )
    yield _one("bdcs_quarantine_uploads", "Uploaded packages that wait to be published", health.uploads)
    yield _one(
        "bdcs_quarantine_bytes", "Size of uploaded packages that wait to be published", health.upload_bytes
    )
    yield _gauge(
        "bdcs_catalogue_read_timestamp_seconds",
        "When an ebuild repository was last known to be as the catalogue says",
        ("repository",),
        (((each.name,), each.read_at) for each in health.repositories),
    )
    yield _gauge(
        "bdcs_catalogue_problem",
        "Whether the last try to read an ebuild repository came to nothing",
        ("repository",),
        (((each.name,), each.has_problem) for each in health.repositories),
    )
    yield _one("bdcs_webhooks_pending", "Messages on their way to webhooks", health.deliveries)
    yield _gauge(
        "bdcs_webhooks_oldest_due_timestamp_seconds",
        "When the first message to a webhook is, or was, to be sent",
        (),
        [((), health.due_at)],
    )
    yield _gauge(
        "bdcs_lease_expiry_timestamp_seconds",
        "Until when some collector does what only one of them does at a time",
        ("lease",),
        _by_name(health.leases.items()),
    )
    yield _one("bdcs_outbox_events", "Events that no broker has taken yet", health.events)
    yield _gauge(
        "bdcs_outbox_oldest_timestamp_seconds",
        "When the first event in the outbox happened that is not set aside",
        (),
        [((), health.events_since)],
    )
    yield _one(
        "bdcs_outbox_refused_events",
        "Events that are set aside since the broker refuses them",
        health.events_refused,
    )


def _of_targets(targets: Sequence[TargetHealth]) -> Iterator[Metric]:
    def each(name: str, text: str, values: Iterable[float | None]) -> Metric:
        rows = (((target.name,), value) for target, value in zip(targets, values, strict=True))
        return _gauge(name, text, ("target",), rows)

    yield _gauge(
        "bdcs_jobs",
        "Jobs in flight by target and state",
        ("target", "state"),
        (
            ((target.name, str(state)), target.queue.jobs.get(state, 0))
            for target in targets
            for state in IN_FLIGHT
        ),
    )
    yield each(
        "bdcs_jobs_work_seconds",
        "How long one builder would take for the jobs that nobody builds yet, as predicted",
        (target.queue.work for target in targets),
    )
    yield each(
        "bdcs_jobs_oldest_queued_timestamp_seconds",
        "Since when the first job in the queue waits for a builder",
        (target.queue.oldest for target in targets),
    )
    yield _gauge(
        "bdcs_builders",
        "Builders that were heard of lately, by target; draining ones take no more work",
        ("target", "state"),
        (
            ((target.name, state), count)
            for target in targets
            for state, count in (("working", target.builders), ("draining", target.draining))
        ),
    )
    yield each("bdcs_target_generation", "Newest generation", (target.generation for target in targets))
    yield each(
        "bdcs_target_packages", "Packages that the index lists", (target.packages for target in targets)
    )
    yield each(
        "bdcs_target_timestamp_seconds",
        "TIMESTAMP that the index of the newest generation is to have; 0: nothing was ever published",
        (target.timestamp for target in targets),
    )
    yield each(
        "bdcs_index_timestamp_seconds",
        "TIMESTAMP of the index that this collector serves",
        (target.index for target in targets),
    )


def _of_pools(pools: Sequence[PoolHealth]) -> Iterator[Metric]:
    yield _gauge(
        "bdcs_pool_builders",
        "Builders of a pool that are needed, wanted of its engine, ready, or leaving",
        ("pool", "state"),
        (((pool.name, state), count) for pool in pools for state, count in pool.builders.items()),
    )
    yield _gauge(
        "bdcs_pool_looked_timestamp_seconds",
        "When bdcs autoscale last saw a pool",
        ("pool",),
        _by_name((pool.name, pool.looked_at) for pool in pools),
    )
    yield _gauge(
        "bdcs_pool_trouble",
        "Whether a pool's engine did not do, or not say, what it was asked",
        ("pool",),
        _by_name((pool.name, pool.has_trouble) for pool in pools),
    )


def _one(name: str, text: str, value: float) -> Metric:
    return _gauge(name, text, (), [((), value)])


def _by_name(items: Iterable[tuple[str, float]]) -> Rows:
    return (((name,), value) for name, value in items)


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        if value is not None:
            family.add_metric(values, float(value))
    return family


def _expiry(certificate: Path | None) -> float | None:
    if certificate is None:
        return None
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return None
