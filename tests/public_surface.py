# SPDX-License-Identifier: GPL-2.0-or-later
"""All that a collector says in public, whatever its routes are: the real application, asked over HTTP.

Addresses follow from the routes and from the operations' description, so that what is added to them is
asked as well. `Surface.publish` does at once what the server does every minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from bdcs.bus.memory import Bus
from bdcs.domain.thresholds import Thresholds
from bdcs.server.application import OPERATIONS, compose
from bdcs.server.shared import publisher_of, store_place
from bdcs.services import watches
from bdcs.services.figures import Renewal
from bdcs.services.predictions import PredictionKeeper
from bdcs.services.statistics import PackageStatistics
from bdcs.services.waking import Transactions
from bdcs.services.watcher import Watcher
from bdcs.settings import Settings
from bdcs.store import schema
from bdcs.store.store import Store
from bdcs.web.listener import Listener, bind
from bdcs.web.openapi import Parameter
from bdcs.web.statistics import VIEWS
from bdcs.web.statistics_tables import package_tables

T = TypeVar("T")
Answer = tuple[int, tuple[tuple[str, str], ...], bytes]
"""Status, headers and body."""
Answers = dict[str, Answer]
"""By path."""

PACKAGES: Final = ("app-misc/alpha", "app-misc/few", "solo-category/solo")
"""What many machines have, what nine may have, and what one may have."""
REPOSITORIES: Final = ("gentoo", "solo-overlay")
QUERIES: Final[Mapping[str, Sequence[Sequence[tuple[str, str]]]]] = {
    "atoms": [[("atoms", "<app-misc/alpha-2")], [("atoms", " ".join(PACKAGES))]],
    "p": [[("p", package) for package in PACKAGES]],
    "q": [[("q", "a")], [("q", "few")], [("q", "soolo")]],
}
"""What is asked where an operation has a parameter of that name."""
UNDESCRIBED: Final = {"/packages": "q"}
"""Pages that take more than the operation of their name."""
OF_BUILDS: Final = frozenset({"target", "build", "request", "job", "attempt", "file", "path", "number"})
"""Parameters of addresses at which nothing is where nobody builds."""
NO_ANSWERS: Final = frozenset({"/metrics", "/livez", "/readyz", "/static/{name}"})
"""What is not for everybody, or says nothing but that the server is there."""
CHANGING: Final = frozenset({"Date", "Content-Length"})
"""Headers that say when, and what the body says as well."""


class Surface:
    """A collector whose answers are looked at, in a thread of its own while its `with` block lasts."""

    def __init__(self, home: Path) -> None:
        self._settings = Settings(data=home)
        self._feeds = ["a" * 48]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self._stack = contextlib.ExitStack()
        self.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.run(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._stack.close()

    def publish(self) -> None:
        """Publish whatever may be published now, and tell whoever watches."""
        self.run(self._publish())

    def watch(self, package: str) -> None:
        """Have a feed tell of `package`; it is asked like everything else."""
        watch = self.run(
            self.store.write(lambda connection: watches.add(connection, None, package, [], None, 0))
        )
        self._feeds.append(watch.feed)

    def templates(self) -> list[str]:
        """All addresses that can be asked, with their parameters in braces."""
        routes = self._app.router.routes()
        found = {route.resource.canonical for route in routes if route.method == "GET" and route.resource}
        return sorted(found - NO_ANSWERS)

    def answers(self) -> Answers:
        """Everything that anybody is told."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        with contextlib.closing(connection):
            return {path: _answer(connection, path) for path in self.paths()}

    def paths(self) -> Iterator[str]:
        """Yield every address with values in place of its parameters, and what is asked there."""
        for template in self.templates():
            for path in self._filled(template):
                yield path
                for query in _queries(template):
                    yield f"{path}?{urlencode(query)}"

    def _filled(self, template: str) -> Iterator[str]:
        names = re.findall(r"\{(\w+)\}", template)
        choices: list[list[dict[str, str]]] = []
        if {"category", "name"} <= set(names):
            splits = [package.split("/") for package in PACKAGES]
            choices.append([{"category": category, "name": name} for category, name in splits])
            names = [name for name in names if name not in ("category", "name")]
        choices += [[{name: value} for value in self._values(template, name)] for name in names]
        for chosen in product(*choices):
            path = template
            for values in chosen:
                for name, value in values.items():
                    path = path.replace(f"{{{name}}}", quote(value))
            yield path

    def _values(self, template: str, name: str) -> Sequence[str]:
        if name in OF_BUILDS:
            return ["1"]
        known: Mapping[str, Sequence[str]] = {
            "category": sorted({package.split("/")[0] for package in PACKAGES}),
            "table": list(package_tables(PackageStatistics(category="app-misc", name="alpha"))),
            "view": VIEWS,
            "uuid": ["00000000-0000-8000-8000-000000000000"],
            "feed": self._feeds,
            "name": REPOSITORIES,
        }
        assert name in known, f"{template}: say what is asked in place of {{{name}}}"
        return known[name]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` beside the server, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=120)

    async def _start(self) -> None:
        settings, thresholds = self._settings, Thresholds()
        self.store = Store(store_place(settings))
        await self.store.write(schema.upgrade)
        bound = bind("127.0.0.1", 0)
        self._stack.enter_context(contextlib.closing(bound))
        self.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self._renewal = Renewal(self.store, thresholds, store_place(settings))
        self._keeper = PredictionKeeper(self.store, thresholds, time.time)
        self._watcher = Watcher(store=self.store, thresholds=thresholds, wake=lambda: None)
        transactions = Transactions(store=self.store, bus=Bus(), now=time.time, policy=settings.build_policy)
        publisher = self._stack.enter_context(contextlib.closing(publisher_of(settings)))
        self._listener: Listener = await compose(settings, transactions, publisher, self.url, self._renewal)
        self._app = self._listener._runner.app
        await self._listener.start(bound, None)

    async def _stop(self) -> None:
        await self._listener.stop()
        await self.store.close()

    async def _publish(self) -> None:
        await self._renewal.once()
        self._renewal.renewed_at = self._renewal.started_at  # the status page says when
        await self._keeper.refresh()
        await self._watcher.once()


def _answer(connection: http.client.HTTPConnection, path: str) -> Answer:
    connection.request("GET", path, headers={"Accept": "text/html"})
    response = connection.getresponse()
    headers = sorted((name, value) for name, value in response.getheaders() if name not in CHANGING)
    return response.status, tuple(headers), response.read()


def _queries(template: str) -> Iterator[Sequence[tuple[str, str]]]:
    """Yield what is asked at an address: what the operation of its name, or above it, describes."""
    noun = re.sub(r"\.(json|csv)$", "", template.removeprefix("/v1"))
    for operation in OPERATIONS:
        name = operation.path.removeprefix("/v1")
        is_below = noun.startswith(f"{name}/") and "{" not in noun
        if operation.method == "GET" and (noun == name or is_below):
            for parameter in operation.query:
                yield from _asked(parameter)
    if noun in UNDESCRIBED:
        yield from QUERIES[UNDESCRIBED[noun]]


def _asked(parameter: Parameter) -> Iterator[Sequence[tuple[str, str]]]:
    if parameter.name in QUERIES:
        yield from QUERIES[parameter.name]
    elif "enum" in parameter.schema:
        yield from ([(parameter.name, value)] for value in parameter.schema["enum"])
    elif parameter.required:
        raise AssertionError(f"say what is asked as `{parameter.name}`: {parameter.description}")


def differences(before: Answers, after: Answers) -> list[str]:
    """Addresses that say something else than before."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
