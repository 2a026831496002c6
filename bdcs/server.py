# SPDX-License-Identifier: GPL-2.0-or-later
"""The composition root: settings become objects here, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from bdcs import service_manager
from bdcs.blobs.attempt_logs import AttemptLogs
from bdcs.blobs.directory import Directory
from bdcs.blobs.server_lock import only_server
from bdcs.bus.memory import Bus
from bdcs.domain.machines import State
from bdcs.domain.networks import NetworkLimit
from bdcs.domain.proposals import Policy
from bdcs.domain.thresholds import Thresholds
from bdcs.domain.webhooks import Destinations
from bdcs.errors import CollectorError
from bdcs.services import answers, catalogue, lost_attempts, unused_names
from bdcs.services.attempting import Attempting
from bdcs.services.authentication import Authenticator
from bdcs.services.build_documents import BuildDocuments
from bdcs.services.build_upkeep import BuildUpkeep
from bdcs.services.exact_hits import ExactHits
from bdcs.services.figures import Renewal
from bdcs.services.indexing import IndexKeeper
from bdcs.services.ingest import Ingest
from bdcs.services.key_watch import KeyWatch
from bdcs.services.local_builder import LocalBuilder, Starting
from bdcs.services.machines import Keys, secret
from bdcs.services.metadata_exchange import MetadataExchange
from bdcs.services.new_versions import NewVersions
from bdcs.services.predictions import PredictionKeeper, PredictionTable
from bdcs.services.proposals import Proposing
from bdcs.services.publishing import Publisher
from bdcs.services.receiving import Receiver
from bdcs.services.refreshing import Refresher
from bdcs.services.registration import Registrar
from bdcs.services.report_links import SECRET, ReportLinks
from bdcs.services.repository_keeper import RepositoryKeeper
from bdcs.services.serving import Serving
from bdcs.services.signing import SignerClient
from bdcs.services.target_documents import TargetDocuments
from bdcs.services.upkeep import Upkeep
from bdcs.services.uploads import Uploads
from bdcs.services.waking import Transactions
from bdcs.services.watch_requests import WatchRequests
from bdcs.services.watcher import Watcher
from bdcs.services.webhooks import Postman, Sender
from bdcs.services.wishing import Wishing
from bdcs.settings import Settings
from bdcs.store import schema
from bdcs.store.engine import create_reader, create_writer, sqlite_path
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.store import Store, transaction
from bdcs.web import api as machine_api
from bdcs.web import (
    attempts_api,
    builds_api,
    developer_pages,
    metadata_api,
    predictions_api,
    proposals_api,
    search_api,
    targets_api,
    watch_api,
)
from bdcs.web import statistics as statistics_api
from bdcs.web import uploads as uploads_api
from bdcs.web.api import MachineAPI, add_package_api
from bdcs.web.app import add_description, create_app
from bdcs.web.assets import Assets
from bdcs.web.attempts_api import AttemptsAPI
from bdcs.web.binhost import Binhost
from bdcs.web.build_pages import BuildPages
from bdcs.web.builds_api import BuildsAPI
from bdcs.web.clients import Clients
from bdcs.web.developer_pages import DeveloperPages
from bdcs.web.job_pages import JobPages
from bdcs.web.listener import Listener, bind, load_certificate, tls_context
from bdcs.web.metadata_api import MetadataAPI
from bdcs.web.metrics import Metrics
from bdcs.web.pages import add_pages
from bdcs.web.predictions_api import PredictionsAPI
from bdcs.web.proposals_api import ProposalsAPI
from bdcs.web.rendering import Renderer
from bdcs.web.search_api import SearchAPI
from bdcs.web.signing_keys import SigningKeys
from bdcs.web.target_pages import TargetPages
from bdcs.web.targets_api import TargetsAPI
from bdcs.web.uploads import UploadAPI
from bdcs.web.watch_api import WatchAPI

log = logging.getLogger(__name__)

OPERATIONS: Final = (
    *machine_api.OPERATIONS,
    *targets_api.OPERATIONS,
    *uploads_api.OPERATIONS,
    *proposals_api.OPERATIONS,
    *search_api.OPERATIONS,
    *predictions_api.OPERATIONS,
    *builds_api.OPERATIONS,
    *attempts_api.OPERATIONS,
    *metadata_api.OPERATIONS,
    *developer_pages.OPERATIONS,
    *watch_api.OPERATIONS,
    *statistics_api.OPERATIONS,
)

FIRST_STATES: Final = {"open": State.APPROVED, "required": State.AWAITING_APPROVAL, "closed": None}
"""What `approval` makes of a machine that registers."""

SWITCH_INTERVAL: Final = 0.0005  # seconds that a thread keeps the interpreter while another waits for it


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
    path = store_path(settings)
    if path.exists():
        reader = create_reader(path)
        try:
            with transaction(reader) as connection:
                schema.require_known(connection)
        finally:
            reader.dispose()


def store_path(settings: Settings) -> Path:
    """Return the database file. Raises `ConfigurationError`."""
    return sqlite_path(settings.store, settings.data)


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
        for directory in {settings.data, store_path(settings).parent}:
            leaving.enter_context(only_server(directory))
        store = Store(store_path(settings))
        try:
            await store.write(schema.upgrade)
            renewal = Renewal(store, Thresholds(settings.threshold))
            transactions = Transactions(store=store, bus=Bus(), now=time.time, policy=settings.build_policy)
            publisher = leaving.enter_context(contextlib.closing(_publisher(settings)))
            listener = await _compose(settings, transactions, publisher, settings.public_url or here, renewal)
            await listener.start(bound, context)
            try:
                print(f"listening on {here}", file=sys.stderr, flush=True)
                service_manager.ready()
                await _run_until(
                    stopping,
                    service_manager.keep_alive(),
                    renewal.run(),
                    PredictionKeeper(store, Thresholds(settings.threshold), time.time).run(),
                    answers.drop_those_over(store),
                    unused_names.drop_regularly(store),
                    IndexKeeper(store, settings.data).run(),
                    KeyWatch(store=store, signer=SignerClient(settings.signer), now=time.time).run(),
                    _keep_up(settings),
                    _keep_builds(settings),
                    lost_attempts.look_regularly(transactions),
                    _keep_catalogue(settings, store),
                    NewVersions(transactions=transactions, days=settings.new_versions).run(),
                    *_watching(settings, store, settings.public_url or here),
                    *_local_builders(settings, store, here, has_tls=context is not None),
                )
            finally:
                service_manager.stopping()
                transactions.bus.close()  # who waits is answered now
                await listener.stop()
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


async def _compose(
    settings: Settings, transactions: Transactions, publisher: Publisher, public_url: str, renewal: Renewal
) -> Listener:
    store = transactions.store
    metrics, keys = Metrics(), Keys(store)
    clients = Clients(proxies=settings.trusted_proxies)
    codec = await store.read(EvidenceCodec.load)
    links = ReportLinks(
        secret=await store.read(lambda connection: secret(connection, SECRET)), public_url=public_url
    )
    registrar = Registrar(
        store=store,
        keys=keys,
        links=links,
        network_limit=NetworkLimit(settings.registrations_per_network, lambda: secrets.token_bytes(32)),
        audience=public_url,
        first_state=FIRST_STATES[settings.approval],
        now=time.time,
    )
    api = MachineAPI(
        ingest=Ingest(store, keys, codec, public_url, time.time),
        registrar=registrar,
        metrics=metrics,
        public_url=public_url,
        clients=clients,
        record_limit=NetworkLimit(settings.records_per_network, lambda: secrets.token_bytes(32)),
    )
    app = create_app(store, metrics, clients, settings.metrics_readers)
    api.add_to(app)
    thresholds = Thresholds(settings.threshold)
    add_package_api(app, store, thresholds)
    SearchAPI(store=store).add_to(app)
    PredictionsAPI(table=PredictionTable(store)).add_to(app)
    add_description(app, OPERATIONS, public_url)
    assets = Assets.load()
    renderer = Renderer(assets, thresholds, public_url)
    DeveloperPages(store=store, thresholds=thresholds, renderer=renderer).add_to(app)
    authenticator = Authenticator(keys=keys, audience=public_url, now=time.time)
    _add_watching(app, store, authenticator, public_url, renderer, thresholds)
    serving = _add_binhost(app, settings, store, authenticator, public_url, renderer)
    _add_builds(app, settings, transactions, publisher, authenticator, public_url)
    _add_build_pages(app, settings, transactions, serving, renderer, public_url)
    add_pages(
        app,
        store=store,
        thresholds=thresholds,
        links=links,
        renewal=renewal,
        renderer=renderer,
        assets=assets,
    )
    return Listener(app)


def _add_watching(
    app: web.Application,
    store: Store,
    authenticator: Authenticator,
    public_url: str,
    renderer: Renderer,
    thresholds: Thresholds,
) -> None:
    requests = WatchRequests(store=store, authenticator=authenticator, public_url=public_url, now=time.time)
    WatchAPI(
        store=store,
        requests=requests,
        public_url=public_url,
        renderer=renderer,
        thresholds=thresholds,
    ).add_to(app)


def _watching(settings: Settings, store: Store, public_url: str) -> list[Coroutine[Any, Any, None]]:
    """Return the work of looking at watched packages, and of telling webhooks."""
    postman = Postman(public_url=public_url, destinations=Destinations.of(settings.webhook_hosts))
    sender = Sender(store, postman)
    watcher = Watcher(store=store, thresholds=Thresholds(settings.threshold), wake=sender.wake)
    return [watcher.run(), sender.run()]


def _add_binhost(
    app: web.Application,
    settings: Settings,
    store: Store,
    authenticator: Authenticator,
    public_url: str,
    renderer: Renderer,
) -> Serving:
    blobs = Directory(settings.data)
    serving = Serving(store, blobs, settings.data / "binhost", grace=settings.grace, now=time.time)
    uploads = Uploads(
        store,
        blobs,
        package_size=settings.package_size,
        most=settings.uploads_per_machine,
        now=time.time,
    )
    receiver = Receiver(store, uploads, authenticator, time.time)
    UploadAPI(receiver=receiver, public_url=public_url, patience=settings.upload_timeout).add_to(app)
    SigningKeys(store=store, public_url=public_url).add_to(app)
    Binhost(serving=serving, accel_redirect=settings.accel_redirect).add_to(app)
    proposing = Proposing(
        store=store, authenticator=authenticator, policy=Policy(settings.proposals), now=time.time
    )
    ProposalsAPI(proposing=proposing, public_url=public_url).add_to(app)
    documents = TargetDocuments(public_url, time.time)
    targets = TargetsAPI(store=store, serving=serving, documents=documents)
    targets.add_to(app)
    TargetPages(store=store, serving=serving, documents=documents, api=targets, renderer=renderer).add_to(app)
    return serving


def _add_builds(
    app: web.Application,
    settings: Settings,
    transactions: Transactions,
    publisher: Publisher,
    authenticator: Authenticator,
    public_url: str,
) -> None:
    documents = BuildDocuments(public_url=public_url)
    logs = AttemptLogs(settings.data, settings.log_size)
    wishing = Wishing(
        transactions=transactions,
        authenticator=authenticator,
        documents=documents,
        logs=logs,
        now=time.time,
        fleet=settings.threshold,
        hits=ExactHits(transactions=transactions, documents=documents, now=time.time),
        catalogue=catalogue.objections,
    )
    BuildsAPI(wishing=wishing, public_url=public_url).add_to(app)
    attempting = Attempting(
        transactions=transactions,
        authenticator=authenticator,
        documents=documents,
        logs=logs,
        publisher=publisher,
        now=time.time,
    )
    AttemptsAPI(attempting=attempting, public_url=public_url).add_to(app)
    exchange = MetadataExchange(
        store=transactions.store,
        authenticator=authenticator,
        refresher=Refresher.of(store=store_path(settings), data=settings.data),
    )
    MetadataAPI(exchange=exchange, public_url=public_url).add_to(app)


def _add_build_pages(
    app: web.Application,
    settings: Settings,
    transactions: Transactions,
    serving: Serving,
    renderer: Renderer,
    public_url: str,
) -> None:
    logs = AttemptLogs(settings.data, settings.log_size)
    BuildPages(
        transactions=transactions,
        serving=serving,
        documents=BuildDocuments(public_url=public_url),
        logs=logs,
        renderer=renderer,
        crowd=settings.threshold,
    ).add_to(app)
    JobPages(
        transactions=transactions, serving=serving, logs=logs, renderer=renderer, crowd=settings.threshold
    ).add_to(app)


def _publisher(settings: Settings) -> Publisher:
    return Publisher.of(store=store_path(settings), data=settings.data, signer=settings.signer)


async def _keep_up(settings: Settings) -> None:
    with contextlib.closing(_publisher(settings)) as publisher:
        upkeep = Upkeep(
            publisher=publisher, grace=settings.grace, quarantine=settings.quarantine, now=time.time
        )
        await upkeep.run()


async def _keep_builds(settings: Settings) -> None:
    path = store_path(settings)
    upkeep = BuildUpkeep(
        reader=create_reader(path),
        writer=create_writer(path),
        logs=AttemptLogs(settings.data),
        keeping=settings.keeping,
        now=time.time,
    )
    with contextlib.closing(upkeep):
        await upkeep.run()


async def _keep_catalogue(settings: Settings, store: Store) -> None:
    refresher = Refresher.of(store=store_path(settings), data=settings.data)
    with contextlib.closing(refresher):
        await RepositoryKeeper(store=store, refresher=refresher, now=time.time).run()


def _local_builders(
    settings: Settings, store: Store, here: str, *, has_tls: bool
) -> list[Coroutine[Any, Any, None]]:
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


async def _run_until(stopping: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Do `work` until asked to stop; if any of it ends by an error, so does everything."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
            await stopping.wait()
            for task in tasks:
                task.cancel()
    except ExceptionGroup as group:
        if isinstance(group.exceptions[0], CollectorError):
            raise group.exceptions[0] from None
        raise


def _allow_connections() -> None:
    """Have as many open files as this user may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
