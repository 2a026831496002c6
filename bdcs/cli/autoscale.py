# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs autoscale`: have as many builders as there is work for."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from bdcs.errors import EXIT_DONE, AlreadyAutoscaling, ConfigurationError
from bdcs.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from bdcs.services.capacity import Autoscaler, Outcome
    from bdcs.services.local_builder import Starting

HELP = "start builders when work piles up, and let idle ones go"

INTERVAL = 30.0
LEASE = "autoscale"
LEASE_SECONDS = 15.0
ROUND_SECONDS = 300.0
"""How long one round of `--once` has the lease at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.description = (
        "Look every while how much is to be built, decide how many builders each pool of the setting"
        " `capacity` needs, and have its engine start them or let idle ones go, until SIGTERM or Ctrl-C."
        " Builders are not ended with it. One process at a time does so; others wait for it to end."
    )
    add = parser.add_argument
    add("--once", action="store_true", help="do so once, say what was done, and end")
    add("--dry-run", action="store_true", help="say once what would be done, and do nothing")
    add("--json", action="store_true", help="print a JSON object for each pool (with --once or --dry-run)")
    add(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=INTERVAL,
        help="time from one look to the next (default: %(default)g)",
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Look after builders."""
    import asyncio

    from bdcs.cli.existing import existing_store

    _check(settings)
    existing_store(settings).dispose()
    if arguments.dry_run or arguments.once:
        outcomes = asyncio.run(_one_round(settings, is_dry=arguments.dry_run))
        return _print(outcomes, as_json=arguments.json)
    asyncio.run(_rounds(settings, max(1.0, arguments.interval)))
    return EXIT_DONE


def _check(settings: Settings) -> None:
    """Raise `ConfigurationError` where there is nothing to look after, or not enough for all."""
    if not settings.capacity:
        raise ConfigurationError("capacity: no pool of builders is named")
    least = sum(pool.limits.least for pool in settings.capacity)
    if settings.capacity_total and least > settings.capacity_total:
        raise ConfigurationError(
            f"capacity_total: {settings.capacity_total} is less than the {least} that the pools have at least"
        )


def _print(outcomes: Sequence[Outcome], *, as_json: bool) -> int:
    from bdcs.services.capacity import document_of, exit_code, line_of

    for outcome in outcomes:
        print(json.dumps(document_of(outcome)) if as_json else line_of(outcome))
    return exit_code(outcomes)


async def _one_round(settings: Settings, *, is_dry: bool) -> Sequence[Outcome]:
    """Do one round, or only look. Raises `AlreadyAutoscaling`."""
    from functools import partial

    from bdcs.services import leases
    from bdcs.services.leases import Leader

    async with _autoscaler(settings) as autoscaler:
        if is_dry:
            return await autoscaler.round(is_dry=True)
        store = autoscaler.store
        holder = Leader(store, LEASE).holder
        lease = await store.write(partial(leases.take, name=LEASE, holder=holder, seconds=ROUND_SECONDS))
        if lease is None:
            raise AlreadyAutoscaling
        try:
            return await autoscaler.round()
        finally:
            await store.write(partial(leases.give_back, lease=lease))


async def _rounds(settings: Settings, interval: float) -> None:
    """Do rounds whenever the lease is ours, until told to end."""
    import asyncio
    import signal

    from bdcs import service_manager
    from bdcs.services.leases import Leader

    async with _autoscaler(settings) as autoscaler:
        leader = Leader(autoscaler.store, LEASE, LEASE_SECONDS)
        work = asyncio.create_task(leader.run(lambda: [autoscaler.run(interval)]))
        alive = asyncio.create_task(service_manager.keep_alive())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        service_manager.ready()
        try:
            await work
        except asyncio.CancelledError:
            service_manager.stopping()
        finally:
            alive.cancel()


def _autoscaler(settings: Settings) -> AbstractAsyncContextManager[Autoscaler]:
    """Return what looks after the pools of the settings, with what it needs open."""
    import contextlib

    from bdcs.capacity.configured import driver_of
    from bdcs.services.capacity import Autoscaler
    from bdcs.services.capacity_local import DIRECTORY, Preparation
    from bdcs.store.engine import create_writer, place_of
    from bdcs.store.store import Store

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Autoscaler]:
        place = place_of(settings.store, settings.data)
        writer = create_writer(place)
        store = Store(place)
        try:
            autoscaler = Autoscaler(
                store=store,
                drivers={
                    pool: driver_of(
                        pool,
                        directory=settings.data.absolute() / DIRECTORY,
                        prepare=Preparation(writer=writer, pool=pool, starting=_starting(settings)),
                    )
                    for pool in settings.capacity
                },
                patience=60 * settings.capacity_wait,
                total=settings.capacity_total or None,
            )
            async with contextlib.AsyncExitStack() as leaving:
                leaving.push_async_callback(autoscaler.close)
                yield autoscaler
        finally:
            await store.close()
            writer.dispose()

    return opened()


def _starting(settings: Settings) -> Starting:
    """Return what builders of this host are started with."""
    from bdcs.services.local_builder import Starting

    host, port = settings.address
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "http" if settings.tls_certificate is None else "https"
    here = f"{scheme}://{f'[{loopback}]' if ':' in loopback else loopback}:{port}"
    public_url = settings.public_url or here
    return Starting(
        wanted=(),
        eprefix=settings.builder_eprefix,
        options=settings.builder_options,
        data=settings.data,
        public_url=public_url,
        address=public_url if settings.tls_certificate is not None else here,
        log_level=settings.log_level,
    )
