# SPDX-License-Identifier: GPL-2.0-or-later
"""What `/metrics` shows, in the text format of Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody reads these series
        self.registry = CollectorRegistry()
        self.records = Counter("bdcs_records", "Records made durable", registry=self.registry)
        self.segments = Counter(
            "bdcs_segments", "Segments by what became of them", ["outcome"], registry=self.registry
        )
        self.requests = Counter(
            "bdcs_requests", "HTTP requests by status", ["status"], registry=self.registry
        )
        self._by_status: dict[int, Counter] = {}
        self.push_seconds = Histogram(
            "bdcs_push_seconds",
            "Time from a segment's arrival to its being durable",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )
        self.waiting = Gauge(
            "bdcs_records_waiting", "Records that wait for their transaction", registry=self.registry
        )
        self.machines = Gauge(
            "bdcs_machines", "Registered machines by state", ["state"], registry=self.registry
        )
        self.accepted = self.segments.labels("accepted")
        self.repeated = self.segments.labels("repeated")
        self.refused = self.segments.labels("refused")

    def answered(self, status: int) -> None:
        """Count an answer."""
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self.requests.labels(status)
        counter.inc()

    def text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self.registry)
