# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: one thread that writes, a few that read.

Whatever waits to be written goes into one transaction (group commit): nobody is answered before it is
durable, and yet not everybody pays for an fsync. A work that fails takes only its own changes with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from bdcs import measures
from bdcs.errors import StoreDamaged, StoreError, StoreFull, StoreUnavailable
from bdcs.store import engine as engines
from bdcs.store.clock import is_shared
from bdcs.store.contact import Contact
from bdcs.store.engine import Place
from bdcs.store.lookups import Lookups

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item of a grouped write
Work = Callable[[Connection], Any]
GroupWork = Callable[[Connection, Sequence[Any]], Sequence[Any]]

BATCH_WEIGHT = 20_000  # records that are committed together at most, so that nobody waits for ever
GATHERING = 0.01  # seconds that a batch may take to become as large as the one before
RETRY = 0.1  # seconds after which it is tried again to begin a transaction
ANSWER = 5.0  # seconds that anybody waits for an engine which nobody reaches
LOOK_AGAIN = 0.5  # seconds between two looks whether it is reached
WAITING_WEIGHT = 200_000  # records that may wait; more are refused until some are written


class Transactional(Protocol):
    """Something in memory that mirrors the store and must be right after a rolled-back transaction."""

    def committed(self) -> None:
        """The changes seen since the last call are durable."""

    def rolled_back(self) -> None:
        """The changes seen since the last call to either never happened."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    """One waiting write: either a work of its own, or an item for a work that takes many at once."""

    work: Work | None
    group: GroupWork | None
    item: Any
    weight: int
    future: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)
    has_begun: bool = False
    """Whether it is in a transaction: what becomes of it then, that transaction tells."""
    is_given_up: bool = False
    result: Any = None
    error: BaseException | None = None


class Store:
    """Relational state behind two doors: `write` and `read`. Ended by `close`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._writer = engines.create_writer(place)
        with engines.engine_errors():
            self._writer.connect().close()  # makes the file
        self._reader = engines.create_reader(place)
        self._contact = Contact()
        self._readers = ThreadPoolExecutor(engines.READERS, thread_name_prefix="store-reader")
        self._lookups = engines.lookups_of(place)
        self._jobs: deque[_Job] = deque()
        self._work = threading.Condition()
        self._enough = 1  # jobs that the writer waits for
        self._closing = False
        self._unanswered: set[_Job] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._weight = 0
        self._since: float | None = None  # when the first of the present batch was handed in
        self._committed_at = float("-inf")
        self._mirrors: list[Transactional] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_shared(self) -> bool:
        """Whether other collectors may be at work on it as well, and serve what is in it."""
        return is_shared(self._reader)

    @property
    def waiting(self) -> int:
        """Records that wait for their transaction."""
        return self._weight

    @property
    def oldest_wait(self) -> float:
        """Seconds for which the oldest write waits to be durable; 0 where none does."""
        with self._work:
            since = self._since if self._since is not None or not self._jobs else self._jobs[0].since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def since_commit(self) -> float:
        """Seconds since anything was last made durable, while nothing failed since; else infinite."""
        return time.monotonic() - self._committed_at

    def mirror(self, mirror: Transactional) -> None:
        """Tell `mirror` from now on what became of each transaction."""
        self._mirrors.append(mirror)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` finds, in a transaction of its own that sees one state of the store.

        Raises `StoreUnavailable`, within some seconds where nobody reaches the engine.
        """
        measures.STORE_READS.add(1)
        try:
            with measures.STORE_READ.timed():
                reading = asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)
                return await self._unless_lost(reading)
        except StoreError as error:
            measures.STORE_ERRORS.add(_kind(error))
            raise
        finally:
            measures.STORE_READS.add(-1)

    def look_up(self, work: Callable[[Lookups], T]) -> T:
        """Return what `work` finds by very few lookups, at once and in the caller's thread: that of the loop.

        Raises `StoreUnavailable` where that is not possible just now; `read` may then be.
        """
        with self._lookups.transaction() as lookups:
            return work(lookups)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction, with whatever else waits; return its result once that is durable.

        An exception of `work` undoes what it did, nothing else, and is raised here. Raises `StoreUnavailable`
        when nothing can be written now, within some seconds where nobody reaches the engine.
        """
        result: T = await self._submit(work=work, group=None, item=None, weight=1)
        return result

    async def write_grouped(
        self, apply: Callable[[Connection, Sequence[I]], Sequence[Any]], item: I, weight: int
    ) -> Any:
        """Give `item` to `apply`, with the other items that wait for it; return its result once durable.

        `apply` returns, in order, a result or an exception for each item; the latter are raised here. Where
        `apply` itself raises, the items are tried again one by one. `weight` counts records.
        """
        return await self._submit(work=None, group=apply, item=item, weight=weight)

    async def empty_log(self) -> bool:
        """Move what the engine's log holds to its place, and empty the log: what was deleted is then nowhere.

        Return False where others, who read an older state, still need it. Raises `StoreUnavailable`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, engines.empty_log, self._place)

    async def close(self) -> None:
        """Finish what waits, then leave."""
        if self._thread is not None:
            with self._work:
                self._closing = True
                self._work.notify()
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        if self._looking is not None:
            self._looking.cancel()
        await asyncio.to_thread(self._readers.shutdown)
        self._lookups.close()
        self._reader.dispose()
        self._writer.dispose()

    async def _submit(self, *, work: Work | None, group: GroupWork | None, item: Any, weight: int) -> Any:
        if self._weight + weight > WAITING_WEIGHT:
            raise StoreUnavailable("too much waits to be written")
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._loop = loop
            self._thread = threading.Thread(target=self._write_all, name="store-writer", daemon=True)
            self._thread.start()
        future: asyncio.Future[Any] = loop.create_future()
        self._weight += weight
        job = _Job(work=work, group=group, item=item, weight=weight, future=future)
        with self._work:
            self._jobs.append(job)
            if len(self._jobs) == 1 or len(self._jobs) == self._enough:
                self._work.notify()
        self._unanswered.add(job)
        if self._looking is None:
            self._looking = loop.call_later(LOOK_AGAIN, self._give_up_if_lost)
        try:
            return await future
        finally:
            self._unanswered.discard(job)
            del job, future  # they have the error, which has this frame

    def _give_up_if_lost(self) -> None:
        """Answer jobs that wait for contact, now and then; they are done no more, unless that just begins."""
        self._looking = None
        if self._unanswered:
            self._looking = asyncio.get_running_loop().call_later(LOOK_AGAIN, self._give_up_if_lost)
        if self._contact.lost_for < ANSWER:
            return
        for job in self._unanswered:
            if not (job.future.done() or job.has_begun) and time.monotonic() - job.since >= ANSWER:
                job.is_given_up = True
                job.future.set_exception(_lost())

    async def _unless_lost(self, reading: asyncio.Future[T]) -> T:
        """Return what is read; it need not have begun when nobody is in contact any more."""
        patience = ANSWER
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=patience)
                if not reading.done() and self._contact.lost_for >= ANSWER:
                    raise _lost()
                patience = LOOK_AGAIN
        finally:
            reading.cancel()
        return reading.result()

    def _read(self, work: Callable[[Connection], T]) -> T:
        began = time.monotonic()
        try:
            with self._connected(self._reader) as connection:
                return work(connection)
        except DBAPIError as error:
            if not engines.is_lost(error):
                raise engines.translated(error) from error
            self._contact.lost(began)
            if self._contact.lost_for >= ANSWER:
                raise engines.translated(error) from error
        with engines.engine_errors(), self._connected(self._reader) as connection:
            return work(connection)

    @contextlib.contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        with self._contact.trying():
            connection = engine.connect()
        with connection:
            yield connection

    # Everything below runs in the writer's thread.

    def _write_all(self) -> None:
        assert self._loop is not None
        while (batch := self._next_batch()) is not None:
            self._write_batch(batch)
            self._since = None
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
                self._loop.call_soon_threadsafe(self._answer, batch)

    def _next_batch(self) -> list[_Job] | None:
        """Wait for a job; return it with all that wait behind it, or None when there will be no more.

        Where many wrote together the last time, they are likely to do so again: they get a moment to arrive.
        """
        with self._work:
            self._work.wait_for(lambda: self._jobs or self._closing)
            if self._enough > 1:
                self._work.wait_for(lambda: len(self._jobs) >= self._enough or self._closing, GATHERING)
            if not self._jobs:
                return None
            batch: list[_Job] = []
            weight = 0
            while self._jobs and weight < BATCH_WEIGHT:
                batch.append(self._jobs.popleft())
                weight += batch[-1].weight
            self._enough = len(batch)
            self._since = batch[0].since
        measures.STORE_BATCH_WRITES.observe(len(batch))
        measures.STORE_BATCH_RECORDS.observe(weight)
        return batch

    def _write_batch(self, batch: list[_Job]) -> None:
        began = time.monotonic()
        try:
            with measures.STORE_COMMIT.timed(), engines.engine_errors():
                self._transact(batch)
            self._committed_at = time.monotonic()
            self._tell(Transactional.committed)
        except BaseException as error:
            self._committed_at = float("-inf")
            if engines.is_lost(error.__cause__ or error):
                self._contact.lost(began)
            measures.STORE_ERRORS.add(_kind(error))
            self._tell(Transactional.rolled_back)
            for job in batch:
                job.error = error

    def _transact(self, batch: list[_Job]) -> None:
        """Do all of `batch` in one transaction. What fails takes only its own changes with it."""
        try:
            with self._begun() as connection:
                wanted = [job for job in batch if not job.is_given_up]
                for job in wanted:
                    job.has_begun = True
                groups = list(_grouped(wanted))
                if len(groups) == 1:
                    _run_alone(connection, *groups[0])
                else:
                    for apply, jobs in groups:
                        self._run(connection, apply, jobs)
        except _Undone as undone:
            self._tell(Transactional.rolled_back)
            if len(undone.jobs) == 1:
                undone.jobs[0].error = undone.error
                return
            with self._begun() as connection:
                for job in undone.jobs:
                    self._run(connection, undone.apply, [job])

    @contextlib.contextmanager
    def _begun(self) -> Iterator[Connection]:
        """Give a transaction; where another server is about to take a dead one's place, wait for it."""
        deadline = time.monotonic() + engines.patience(self._writer)
        while True:
            ending = contextlib.ExitStack()
            began = time.monotonic()
            try:
                connection = ending.enter_context(self._connected(self._writer))
                ending.enter_context(connection.begin())
            except BaseException as error:
                ending.close()
                if engines.is_lost(error):
                    self._contact.lost(began)
                is_final = time.monotonic() > deadline or not isinstance(error, DBAPIError)
                if is_final or not engines.is_over(error):
                    raise
                time.sleep(RETRY)
            else:
                break
        with ending:
            yield connection

    def _run(self, connection: Connection, apply: GroupWork, jobs: list[_Job]) -> None:
        """Do `apply` for `jobs` in a savepoint; if it fails, for each of them in a savepoint of its own."""
        connection.exec_driver_sql("SAVEPOINT work")
        try:
            results = apply(connection, [job.item for job in jobs])
            connection.exec_driver_sql("RELEASE SAVEPOINT work")
        except Exception as error:
            if engines.is_over(error):
                raise  # the engine gave up the whole transaction: a full disk, a lock
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT work")
            self._tell(Transactional.rolled_back)
            if len(jobs) == 1:
                jobs[0].error = error
                return
            for job in jobs:
                self._run(connection, apply, [job])
            return
        _hand_out(results, jobs)

    def _tell(self, what: Callable[[Transactional], None]) -> None:
        for mirror in self._mirrors:
            getattr(mirror, what.__name__)()

    # … and this in the loop again.

    def _answer(self, batch: list[_Job]) -> None:
        for job in batch:
            self._weight -= job.weight
            if job.future.done():
                continue  # whoever asked has gone
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)


class _Undone(Exception):
    """All that a transaction had to do has failed together."""

    def __init__(self, apply: GroupWork, jobs: list[_Job], error: Exception) -> None:
        super().__init__(error)
        self.apply, self.jobs, self.error = apply, jobs, error


def _run_alone(connection: Connection, apply: GroupWork, jobs: list[_Job]) -> None:
    """Do `apply` for `jobs`, all that the transaction has to do. Raises `_Undone` where that fails."""
    try:
        results = apply(connection, [job.item for job in jobs])
    except Exception as error:
        if engines.is_over(error):
            raise
        raise _Undone(apply, jobs, error) from error
    _hand_out(results, jobs)


def _hand_out(results: Sequence[Any], jobs: list[_Job]) -> None:
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, BaseException):
            job.error = result
        else:
            job.result = result


def _grouped(batch: list[_Job]) -> Iterator[tuple[GroupWork, list[_Job]]]:
    """Yield works with their jobs, in the order of the batch; neighbours with the same work go together."""
    start = 0
    while start < len(batch):
        group, work = batch[start].group, batch[start].work
        if group is None:
            assert work is not None
            yield _alone(work), [batch[start]]
            start += 1
            continue
        end = start
        while end < len(batch) and batch[end].group == group:
            end += 1
        yield group, batch[start:end]
        start = end


def _alone(work: Work) -> GroupWork:
    return lambda connection, _items: [work(connection)]


def _lost() -> StoreUnavailable:
    return StoreUnavailable(f"nobody reaches it, for {ANSWER:.0f} s and more")


def _kind(error: BaseException) -> str:
    """Return what `measures.STORE_ERRORS` calls it."""
    kinds = {StoreFull: "full", StoreUnavailable: "unavailable", StoreDamaged: "damaged"}
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "other")


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction of its own, for commands that run beside a server.

    A connection that ended since it was last used, which it may tell only now, is replaced.
    """
    with engines.engine_errors(), contextlib.ExitStack() as ending:
        try:
            connection = ending.enter_context(engine.begin())
        except DBAPIError as error:
            if not engines.is_lost(error):
                raise
            connection = ending.enter_context(engine.begin())
        yield connection
