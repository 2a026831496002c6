# SPDX-License-Identifier: GPL-2.0-or-later
"""What this process counts of its own work, for `/metrics` to show. No library, so that anything may count.

    measures.STORE_ERRORS.add("full")
    with measures.STORE_COMMIT.timed():
        ...

Names and units follow the conventions of Prometheus. A label's values come from our own code or from who runs
the collector (routes, targets, kinds of errors), never from what a client chose. One process has one of each.
"""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

Labels = tuple[str, ...]
"""Values of a measure's labels, in their order."""

QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Seconds that what somebody waits for takes."""
SLOW: Final = (0.1, 0.3, 1, 3, 10, 30, 60, 300, 900, 3600, 21600, 86400)
"""Seconds that what nobody waits for takes."""
SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 500, 1000, 5000, 20_000)


class Measure:
    """A name, what it means, and the names of its labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self._lock = threading.Lock()
        ALL.append(self)


class Counter(Measure):
    """Counts what happened since the process began; `name` is without `_total`."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str] = (), known: Iterable[Labels] = ()
    ) -> None:
        """`known`: values of labels that are shown with 0 before they happen."""
        super().__init__(name, text, labels)
        self._counts: dict[Labels, float] = dict.fromkeys(known if labels else [()], 0)

    def add(self, *values: str, count: float = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[values] = self._counts.get(values, 0) + count

    def samples(self) -> dict[Labels, float]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)


class Gauge(Measure):
    """Something that is so now."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self._values: dict[Labels, float] = {}

    def set(self, value: float, *values: str) -> None:
        """It is `value` now."""
        with self._lock:
            self._values[values] = value

    def add(self, value: float, *values: str) -> None:
        """It is so much more than before."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + value

    def clear(self) -> None:
        """Nothing is known of it any more."""
        with self._lock:
            self._values.clear()

    def samples(self) -> dict[Labels, float]:
        """Return all that was set."""
        with self._lock:
            return dict(self._values)


class Histogram(Measure):
    """How often which amounts came; `limits` are the upper ends of its buckets."""

    def __init__(self, name: str, text: str, limits: Sequence[float], labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self.limits = tuple(limits)
        self._buckets: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not labels:
            self._begin(())

    def observe(self, amount: float, *values: str) -> None:
        """Count an amount."""
        with self._lock:
            if values not in self._buckets:
                self._begin(values)
            self._buckets[values][bisect_left(self.limits, amount)] += 1
            self._sums[values] += amount

    @contextlib.contextmanager
    def timed(self, *values: str) -> Iterator[None]:
        """Count the seconds that the block takes, if it ends without an error."""
        began = time.perf_counter()
        yield
        self.observe(time.perf_counter() - began, *values)

    def samples(self) -> dict[Labels, tuple[list[int], float]]:
        """Return how many were in each bucket, and the sum of all."""
        with self._lock:
            return {values: (list(counts), self._sums[values]) for values, counts in self._buckets.items()}

    def _begin(self, values: Labels) -> None:
        self._buckets[values] = [0] * (len(self.limits) + 1)
        self._sums[values] = 0.0


ALL: Final[list[Measure]] = []
"""Every measure, in order of the text that shows them."""

# Requests.
REQUESTS: Final = Counter(
    "bdcs_requests",
    "HTTP requests answered, by method, template of the route and status",
    ("method", "route", "status"),
)
REQUEST_SECONDS: Final = Histogram(
    "bdcs_request_duration_seconds",
    "Time from a request's head to its answer being ready; of long polls, waiting included",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
    ("method", "route", "status"),
)
REQUESTS_IN_PROGRESS: Final = Gauge(
    "bdcs_requests_in_progress",
    "Requests that are being answered now, long polls and followed logs among them",
    ("method", "route"),
)
LOOP_LAG: Final = Histogram(
    "bdcs_event_loop_lag_seconds",
    "How much later than asked for the event loop came back, once a second",
    QUICK,
)

CONNECTIONS: Final = Gauge("bdcs_connections", "Connections of clients that are open")
CONNECTIONS.set(0)

# What machines send.
RECORDS: Final = Counter("bdcs_records", "Records made durable")
SEGMENTS: Final = Counter(
    "bdcs_segments",
    "Segments by what became of them",
    ("outcome",),
    [("accepted",), ("repeated",), ("refused",)],
)
SEGMENTS_REFUSED: Final = Counter(
    "bdcs_segments_refused", "Segments that were refused, by the kind of problem", ("reason",)
)
PUSH_SECONDS: Final = Histogram(
    "bdcs_push_seconds", "Time from a segment's arrival to its being durable", QUICK
)
RECORD_DELAY: Final = Histogram(
    "bdcs_record_delay_seconds",
    "Time from a machine's recording a merge as it ended to that being durable here, by both clocks;"
    " of the last record of each new segment",
    SLOW,
)

# The store.
STORE_COMMIT: Final = Histogram(
    "bdcs_store_commit_seconds", "Time that a transaction of the writer took, its commit included", QUICK
)
STORE_BATCH_WRITES: Final = Histogram(
    "bdcs_store_batch_writes", "Writes that were committed together in one transaction", SIZES
)
STORE_BATCH_RECORDS: Final = Histogram(
    "bdcs_store_batch_weight", "Weight of one transaction: its records, and 1 for each other write", SIZES
)
STORE_READ: Final = Histogram(
    "bdcs_store_read_seconds", "Time that a read took, the wait for one of the readers included", QUICK
)
STORE_READS: Final = Gauge("bdcs_store_reads_in_progress", "Reads that run or wait for one of the readers")
STORE_READS.set(0)
STORE_ERRORS: Final = Counter(
    "bdcs_store_errors",
    "Transactions that the store did not take, by kind",
    ("kind",),
    [("full",), ("unavailable",), ("damaged",), ("other",)],
)

# Builds and the binhost.
ATTEMPTS: Final = Counter(
    "bdcs_attempts",
    "Attempts at builds that ended through this collector, by outcome and reason",
    ("outcome", "reason"),
    [("published", "none"), ("failed", "build"), ("lost", "lost"), ("cancelled", "none")],
)
LEASES_EXPIRED: Final = Counter(
    "bdcs_leases_expired", "Attempts that were taken back since their builders were not heard of any more"
)
PUBLISH_SECONDS: Final = Histogram(
    "bdcs_publish_seconds",
    "Time from packages being read to their index, of publications of this process",
    SLOW,
)
PUBLISH_ERRORS: Final = Counter("bdcs_publish_errors", "Publications of this process that an error ended")
BLOB_ERRORS: Final = Counter(
    "bdcs_blob_errors",
    "What keeps package files was full, or did not answer",
    ("kind",),
    [("full",), ("unavailable",)],
)
SIGNER_UP: Final = Gauge("bdcs_signer_up", "Whether the signer answered when it was last asked")

# What several processes share.
BUS_CONNECTED: Final = Gauge(
    "bdcs_bus_connected", "Whether the broker of the bus is connected, if there is one"
)
BUS_LOSSES: Final = Counter(
    "bdcs_bus_losses", "How often the connection of the bus was lost, or could not be made"
)
EVENTS_SENT: Final = Counter("bdcs_events_sent", "Events that the broker has confirmed to this collector")
EVENTS_DROPPED: Final = Counter("bdcs_events_dropped", "Events that could not be sent in time")
EVENTS_REFUSED: Final = Counter(
    "bdcs_events_refused", "How often an event was set aside that the broker refuses"
)

# What the collector does by itself.
WORK_DONE: Final = Gauge(
    "bdcs_work_last_success_timestamp_seconds", "When a regular work was last done to its end here", ("work",)
)
WORK_SECONDS: Final = Gauge(
    "bdcs_work_duration_seconds", "How long a regular work took the last time", ("work",)
)
WORK_INTERVAL: Final = Gauge(
    "bdcs_work_interval_seconds", "Pause between two rounds of a regular work", ("work",)
)
WORK_ERRORS: Final = Counter("bdcs_work_errors", "Rounds of a regular work that an error ended", ("work",))


@contextlib.contextmanager
def working(work: str, interval: float) -> Iterator[None]:
    """Note how a round of a regular work ends and how long it takes; the next is `interval` seconds later."""
    WORK_INTERVAL.set(interval, work)
    WORK_ERRORS.add(work, count=0)
    began = time.monotonic()
    try:
        yield
    except Exception:
        WORK_ERRORS.add(work)
        raise
    WORK_SECONDS.set(time.monotonic() - began, work)
    WORK_DONE.set(time.time(), work)


@contextlib.contextmanager
def publication() -> Iterator[None]:
    """Note one publication: how long it took, or that an error ended it."""
    try:
        with PUBLISH_SECONDS.timed():
            yield
    except Exception:
        PUBLISH_ERRORS.add()
        raise
