# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collector answers: the web application, with everything that stands behind it."""

from __future__ import annotations

import platform
import secrets
import time
from typing import Final

from aiohttp import web

from bdcs.blobs.attempt_logs import Logs
from bdcs.blobs.configured import blobs_of
from bdcs.domain.machines import State
from bdcs.domain.networks import NetworkLimit
from bdcs.domain.proposals import Policy
from bdcs.domain.thresholds import Thresholds
from bdcs.server.shared import logs_of, store_place
from bdcs.services import catalogue
from bdcs.services.attempting import Attempting
from bdcs.services.authentication import Authenticator
from bdcs.services.build_documents import BuildDocuments
from bdcs.services.exact_hits import ExactHits
from bdcs.services.figures import Renewal
from bdcs.services.health import Examiner
from bdcs.services.ingest import Ingest
from bdcs.services.machines import Keys, secret
from bdcs.services.metadata_exchange import MetadataExchange
from bdcs.services.predictions import PredictionTable
from bdcs.services.proposals import Proposing
from bdcs.services.publishing import Publisher
from bdcs.services.readiness import Readiness
from bdcs.services.receiving import Receiver
from bdcs.services.refreshing import Refresher
from bdcs.services.registration import Registrar
from bdcs.services.report_links import SECRET, ReportLinks
from bdcs.services.serving import Serving
from bdcs.services.target_documents import TargetDocuments
from bdcs.services.uploads import Uploads
from bdcs.services.waking import Transactions
from bdcs.services.watch_requests import WatchRequests
from bdcs.services.wishing import Wishing
from bdcs.settings import Settings
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.store import Store
from bdcs.web import api as machine_api
from bdcs.web import (
    attempts_api,
    builds_api,
    developer_pages,
    metadata_api,
    prebuild_pages,
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
from bdcs.web.event_schemas import add_event_schemas
from bdcs.web.job_pages import JobPages
from bdcs.web.listener import Listener
from bdcs.web.metadata_api import MetadataAPI
from bdcs.web.metrics import Metrics
from bdcs.web.pages import add_pages
from bdcs.web.prebuild_pages import PrebuildPages
from bdcs.web.predictions_api import PredictionsAPI
from bdcs.web.proposals_api import ProposalsAPI
from bdcs.web.rendering import Renderer
from bdcs.web.search_api import SearchAPI
from bdcs.web.signing_keys import SigningKeys
from bdcs.web.target_pages import TargetPages
from bdcs.web.targets_api import TargetsAPI
from bdcs.web.uploads import UploadAPI
from bdcs.web.watch_api import WatchAPI
from gentwoo_client.version import VERSION

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
    *prebuild_pages.OPERATIONS,
)

FIRST_STATES: Final = {"open": State.APPROVED, "required": State.AWAITING_APPROVAL, "closed": None}
"""What `approval` makes of a machine that registers."""


async def compose(
    settings: Settings, transactions: Transactions, publisher: Publisher, public_url: str, renewal: Renewal
) -> Listener:
    store = transactions.store
    readiness, keys = Readiness(store), Keys(store)
    metrics = Metrics(
        store=store,
        examiner=Examiner(store, settings.data),
        readiness=readiness,
        data=settings.data,
        certificate=settings.tls_certificate,
        build=_build(settings),
    )
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
        public_url=public_url,
        clients=clients,
        record_limit=NetworkLimit(settings.records_per_network, lambda: secrets.token_bytes(32)),
    )
    app = create_app(metrics, clients, settings.metrics_readers)
    api.add_to(app)
    thresholds = Thresholds(settings.threshold)
    add_package_api(app, store, thresholds)
    SearchAPI(store=store).add_to(app)
    PredictionsAPI(table=PredictionTable(store)).add_to(app)
    add_description(app, OPERATIONS, public_url)
    add_event_schemas(app)
    assets = Assets.load()
    renderer = Renderer(assets, thresholds, public_url)
    DeveloperPages(store=store, thresholds=thresholds, renderer=renderer).add_to(app)
    PrebuildPages(store=store, thresholds=thresholds, renderer=renderer).add_to(app)
    authenticator = Authenticator(keys=keys, audience=public_url, now=time.time)
    _add_watching(app, store, authenticator, public_url, renderer, thresholds)
    serving = _add_binhost(app, settings, store, authenticator, public_url, renderer)
    logs = logs_of(settings)
    _add_builds(app, settings, transactions, publisher, authenticator, logs, public_url)
    _add_build_pages(app, settings, transactions, serving, logs, renderer, public_url)
    add_pages(
        app,
        store=store,
        thresholds=thresholds,
        links=links,
        renewal=renewal,
        renderer=renderer,
        assets=assets,
    )
    return Listener(app, readiness, settings.drain)


def _build(settings: Settings) -> dict[str, str]:
    """What `bdcs_build_info` tells: the version, its Python, and the engines by the schemes of their URLs."""
    return {
        "version": VERSION,
        "python": platform.python_version(),
        "store": settings.store.partition(":")[0],
        "blobs": settings.blobs.partition(":")[0],
    }


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


def _add_binhost(
    app: web.Application,
    settings: Settings,
    store: Store,
    authenticator: Authenticator,
    public_url: str,
    renderer: Renderer,
) -> Serving:
    blobs = blobs_of(settings)
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
    logs: Logs,
    public_url: str,
) -> None:
    documents = BuildDocuments(public_url=public_url)
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
        refresher=Refresher.of(store=store_place(settings), data=settings.data),
    )
    MetadataAPI(exchange=exchange, public_url=public_url).add_to(app)


def _add_build_pages(
    app: web.Application,
    settings: Settings,
    transactions: Transactions,
    serving: Serving,
    logs: Logs,
    renderer: Renderer,
    public_url: str,
) -> None:
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
