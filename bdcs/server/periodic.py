# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collector does by itself, beside answering."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import Final

from bdcs import service_manager
from bdcs.blobs.configured import blobs_of
from bdcs.domain.thresholds import Thresholds
from bdcs.domain.webhooks import Destinations
from bdcs.server.shared import logs_of, publisher_of, store_place
from bdcs.services import answers, lost_attempts, unused_names
from bdcs.services.build_upkeep import BuildUpkeep
from bdcs.services.figures import Renewal
from bdcs.services.indexing import IndexKeeper
from bdcs.services.key_watch import KeyWatch
from bdcs.services.leases import Leader, Work
from bdcs.services.local_builder import LocalBuilder, Starting
from bdcs.services.new_versions import NewVersions
from bdcs.services.outbox_relay import Relay, trim_regularly
from bdcs.services.prebuild_demand import PrebuildKeeper
from bdcs.services.prebuild_policy import Prebuilder
from bdcs.services.predictions import PredictionKeeper
from bdcs.services.refreshing import Refresher
from bdcs.services.repository_keeper import RepositoryKeeper
from bdcs.services.signing import SignerClient
from bdcs.services.stored_logs import StoredLogs, keep_regularly
from bdcs.services.upkeep import Upkeep, keep_workspaces
from bdcs.services.waking import Transactions
from bdcs.services.watcher import Watcher
from bdcs.services.webhooks import Postman, Sender
from bdcs.settings import Settings
from bdcs.store.engine import create_reader, create_writer
from bdcs.store.store import Store

PERIODIC: Final = "periodic"
"""The lease of who does for all what one collector does at a time."""


def works(
    settings: Settings, transactions: Transactions, renewal: Renewal, here: str, *, has_tls: bool
) -> list[Work]:
    """Return all of it, to be run for as long as the server runs. `here`: the URL that is listened on."""
    store = transactions.store
    own = [
        service_manager.keep_alive(),
        transactions.bus.run(),
        IndexKeeper(store, settings.data).run(),
        *_local_builders(settings, store, here, has_tls=has_tls),
    ]
    common = partial(_common, settings, transactions, renewal, settings.public_url or here)
    if not store.is_shared:
        return [*own, *common()]
    return [*own, keep_workspaces(blobs_of(settings)), Leader(store, PERIODIC).run(common)]


def _common(settings: Settings, transactions: Transactions, renewal: Renewal, public_url: str) -> list[Work]:
    """Return what is done once for all collectors of a store: whatever only concerns what they share."""
    store, thresholds = transactions.store, Thresholds(settings.threshold)
    return [
        *_telling(transactions),
        renewal.run(),
        PredictionKeeper(store, thresholds, time.time, store_place(settings)).run(),
        PrebuildKeeper(store, thresholds, time.time).run(),
        answers.drop_those_over(store),
        unused_names.drop_regularly(store),
        KeyWatch(store=store, signer=SignerClient(settings.signer), now=time.time).run(),
        _keep_up(settings),
        _keep_builds(settings),
        _keep_logs(settings),
        lost_attempts.look_regularly(transactions),
        _keep_catalogue(settings, store),
        NewVersions(transactions=transactions, days=settings.new_versions).run(),
        Prebuilder(transactions=transactions, minutes=settings.prebuild, thresholds=thresholds).run(),
        *_watching(settings, store, public_url),
    ]


async def _keep_up(settings: Settings) -> None:
    with contextlib.closing(publisher_of(settings)) as publisher:
        upkeep = Upkeep(
            publisher=publisher, grace=settings.grace, quarantine=settings.quarantine, now=time.time
        )
        await upkeep.run()


async def _keep_builds(settings: Settings) -> None:
    path = store_place(settings)
    upkeep = BuildUpkeep(
        reader=create_reader(path),
        writer=create_writer(path),
        logs=logs_of(settings),
        keeping=settings.keeping,
        now=time.time,
    )
    with contextlib.closing(upkeep):
        await upkeep.run()


async def _keep_logs(settings: Settings) -> None:
    """Move logs that have ended out of the store, where that is where they grow."""
    logs = logs_of(settings)
    if isinstance(logs, StoredLogs):
        with contextlib.closing(logs):
            await keep_regularly(logs)


async def _keep_catalogue(settings: Settings, store: Store) -> None:
    refresher = Refresher.of(store=store_place(settings), data=settings.data)
    with contextlib.closing(refresher):
        await RepositoryKeeper(store=store, refresher=refresher, now=time.time).run()


def _telling(transactions: Transactions) -> list[Work]:
    """Return the work of sending events on, where there is a broker."""
    bus, store = transactions.bus, transactions.store
    if bus.feed is not None:
        return [Relay(store=store, bus=bus, feed=bus.feed).run()]
    return [trim_regularly(store)] if store.is_shared else []


def _watching(settings: Settings, store: Store, public_url: str) -> list[Work]:
    """Return the work of looking at watched packages, and of telling webhooks."""
    postman = Postman(public_url=public_url, destinations=Destinations.of(settings.webhook_hosts))
    sender = Sender(store, postman)
    watcher = Watcher(store=store, thresholds=Thresholds(settings.threshold), wake=sender.wake)
    return [watcher.run(), sender.run()]


def _local_builders(settings: Settings, store: Store, here: str, *, has_tls: bool) -> list[Work]:
    """Return the work of looking after the collector's own builder, if it is to have one."""
    if not settings.builder:
        return []
    public_url = settings.public_url or here
    loopback = here.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    starting = Starting(
        wanted=settings.builder,
        eprefix=settings.builder_eprefix,
        options=settings.builder_options,
        data=settings.data,
        public_url=public_url,
        address=public_url if has_tls else loopback,  # a certificate is for the public name
        log_level=settings.log_level,
    )
    return [LocalBuilder(store=store, starting=starting).run()]
