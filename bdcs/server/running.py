# SPDX-License-Identifier: GPL-2.0-or-later
"""Serving, from the first socket to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import ssl
import sys
import threading
import time
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, Final

from bdcs import service_manager
from bdcs.blobs.server_lock import only_server
from bdcs.bus.configured import bus_of
from bdcs.domain.thresholds import Thresholds
from bdcs.errors import EXIT_DONE, EXIT_REFUSED, CollectorError, NoStore
from bdcs.server.application import compose
from bdcs.server.periodic import works
from bdcs.server.presence import beside_others
from bdcs.server.shared import publisher_of, store_place
from bdcs.services import outbox, restoring
from bdcs.services.copying import require_whole
from bdcs.services.figures import Renewal
from bdcs.services.waking import Transactions
from bdcs.settings import Settings
from bdcs.store import schema
from bdcs.store.engine import create_reader, directory_of
from bdcs.store.store import Store, transaction
from bdcs.web.listener import bind, load_certificate, tls_context

log = logging.getLogger(__name__)

SWITCH_INTERVAL: Final = 0.0005  # seconds that a thread keeps the interpreter while another waits for it
GIVING_BACK: Final = 20.0
"""Seconds in which our own work may end while all is answered: our builder gives back what it builds."""
LEAVING: Final = 10.0
"""Seconds that work which nobody waits for may go on after the last answer."""
LOOKS_AT_FEW: Final = 100
"""Looks for garbage in what came lately, each after 7,000 more objects, between two looks at everything."""
FEW_FILES: Final = 12_000  # open files that do not suffice for 10,000 connections and all else


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `CollectorError` where it cannot begin."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    _allow_connections()
    context = tls_context(settings.tls_certificate, settings.tls_key)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, context))


def check(settings: Settings) -> None:
    """See that `serve` could begin with these settings, as far as can be told beside a running one.

    Nothing is changed. Raises `ConfigurationError`, `SchemaMismatch`, `NoPermission`, `StoreError`.
    """
    tls_context(settings.tls_certificate, settings.tls_key)
    with contextlib.suppress(NoStore):
        reader = create_reader(store_place(settings))
        try:
            with transaction(reader) as connection:
                schema.require_known(connection)
        finally:
            reader.dispose()


async def _serve(settings: Settings, context: ssl.SSLContext | None) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, settings, context)
    bound = bind(*settings.address)
    with contextlib.closing(bound), contextlib.ExitStack() as leaving:
        host, port = bound.getsockname()[:2]
        scheme = "http" if context is None else "https"
        here = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        place = store_place(settings)
        for directory in {settings.data, directory_of(place, settings.data)}:
            leaving.enter_context(only_server(directory))
        presence = leaving.enter_context(beside_others(settings))
        restoring.require_whole(settings.data)
        store = Store(place)
        try:
            await store.write(schema.upgrade)
            await store.read(require_whole)
            await restoring.settle_if_marked(store, settings.data, time.time())
            renewal = Renewal(store, Thresholds(settings.threshold), place)
            bus = bus_of(settings)
            if bus.feed is not None or not store.is_shared:  # other collectors may have a broker
                await store.write(partial(outbox.set_feed, is_open=bus.feed is not None, now=time.time()))
            transactions = Transactions(store=store, bus=bus, now=time.time, policy=settings.build_policy)
            publisher = leaving.enter_context(contextlib.closing(publisher_of(settings)))
            listener = await compose(settings, transactions, publisher, settings.public_url or here, renewal)
            await listener.start(bound, context)
            print(f"listening on {here}", file=sys.stderr, flush=True)
            _settle_memory()
            service_manager.ready()
            has_tls = context is not None
            all_works = works(settings, transactions, renewal, here, has_tls=has_tls)
            if presence is not None:
                all_works.append(presence.keep())
            working = asyncio.create_task(_all(all_works))
            try:
                await _either(working, stopping)
            finally:
                working.cancel()
                await asyncio.wait({working}, timeout=GIVING_BACK)
                service_manager.stopping()
                transactions.bus.close()  # who waits is answered now
                await listener.stop()
                _end_within(LEAVING, working)
            with contextlib.suppress(asyncio.CancelledError):
                await working
        finally:
            await store.close()
    log.info("stopped")


def _reload(settings: Settings, context: ssl.SSLContext | None) -> None:
    """Take the certificate that is there now: that is what changes under a running collector."""
    if context is None or settings.tls_certificate is None or settings.tls_key is None:
        log.info("there is no certificate to read again; all else needs a restart")
        return
    with service_manager.reloading():
        try:
            load_certificate(context, settings.tls_certificate, settings.tls_key)
        except CollectorError as error:
            log.error("the certificate stays as it was: %s", error)
        else:
            log.info("the certificate was read again")


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at once; if any of it ends by an error, so does everything."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as group:
        if isinstance(group.exceptions[0], CollectorError):
            raise group.exceptions[0] from None
        raise


async def _either(working: asyncio.Task[None], stopping: asyncio.Event) -> None:
    """Wait until asked to stop, or until there is nothing more to do. Raises what the work ended by."""
    asked = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({asked, working}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
    if working.done():
        working.result()


def _end_within(seconds: float, working: asyncio.Task[None]) -> None:
    """See that this process ends, whatever its threads are at then, such as statistics of all records.

    It is left as SIGKILL would leave it, which harms nothing: what was accepted is durable long since. If
    our own work ended by an error, that is told, and the exit code is the error's.
    """

    def end() -> None:
        error = working.exception() if working.done() and not working.cancelled() else None
        if error is None:
            log.info("stopped, in the middle of work that nobody waited for")
            os._exit(EXIT_DONE)
        log.error("stopped: %s", error)
        os._exit(error.exit_code if isinstance(error, CollectorError) else EXIT_REFUSED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _settle_memory() -> None:
    """Have garbage be looked for only in what comes from now on, and seldom in all of that.

    What is there takes 0.2 s, and stays. What comes and stays are connections: 10,000 take 0.2 to 0.4 s,
    in which nobody is answered, and next to nothing is found. Python looks whenever there are a quarter more.
    """
    gc.collect()
    gc.freeze()
    few, some, _ = gc.get_threshold()
    gc.set_threshold(few, some, LOOKS_AT_FEW)


def _allow_connections() -> None:
    """Have as many open files as this user may: each connection is one. Say so where these are few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if 0 <= most < FEW_FILES:
        log.warning(
            "at most %d files may be open, and each connection is one: for more machines at once raise"
            " LimitNOFILE (systemd), or rc_ulimit (OpenRC)",
            most,
        )


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
