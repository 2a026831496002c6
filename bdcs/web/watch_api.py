# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches: the API of machines, the feed of what there is to tell, and the list of packages that leave."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from xml.etree import ElementTree

from aiohttp import ETag, hdrs, web

from bdcs.domain.thresholds import Thresholds
from bdcs.services import leaving_packages, watches
from bdcs.services.watch_requests import WatchRequests
from bdcs.services.watches import Happening
from bdcs.store.store import Store
from bdcs.web.bodies import require_type, signed_request
from bdcs.web.data_tables import csv_answer
from bdcs.web.exposure_tables import leaving_table
from bdcs.web.openapi import Operation
from bdcs.web.operations import JSON, machine_of, response_of, route
from bdcs.web.rendering import PRIVATE, PUBLIC, Renderer
from gentwoo_client.wire.errors import NotFound
from gentwoo_client.wire.limits import REQUEST_SIZE
from gentwoo_client.wire.messages import LeavingList, NewWatch, WatchList, WatchRequest
from gentwoo_client.wire.records import format_time

ATOM: Final = "http://www.w3.org/2005/Atom"
_PATH: Final = "/v1/machines/{uuid}/watches"
_FEED: Final = re.compile(r"[a-z2-7]{48}")
_TOKEN_PROBLEMS: Final = (400, 401, 403, 404, 408, 409, 410, 413, 415, 500, 503)

OPERATIONS: Final = (
    Operation(
        method="POST",
        path=_PATH,
        name="add_watch",
        summary="Have the machine hear of a package, by its feed and by a webhook",
        token=True,
        request=(JSON, WatchRequest),
        answers={201: NewWatch},
        problems=(*_TOKEN_PROBLEMS, 429),
    ),
    Operation(
        method="GET",
        path=_PATH,
        name="watches",
        summary="What the machine watches",
        token=True,
        answers={200: WatchList},
        problems=_TOKEN_PROBLEMS,
    ),
    Operation(
        method="DELETE",
        path=f"{_PATH}/{{watch}}",
        name="remove_watch",
        summary="Have the machine watch a package no longer",
        token=True,
        answers={204: None},
        problems=_TOKEN_PROBLEMS,
    ),
    Operation(
        method="GET",
        path="/v1/leaving",
        name="leaving",
        summary="Packages that are about to leave their repository; has an ETag",
        answers={200: LeavingList},
        problems=(500, 503),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchAPI:
    """The handlers."""

    store: Store
    requests: WatchRequests
    public_url: str
    renderer: Renderer
    thresholds: Thresholds

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name, and the pages."""
        route(app, OPERATIONS, self)
        app.router.add_get("/leaving.json", self.leaving)
        app.router.add_get("/leaving.csv", self.leaving_csv)
        app.router.add_get("/leaving", self.leaving_page)
        app.router.add_get("/watch", self.page)
        app.router.add_get("/watch/{feed}.atom", self.feed)
        app.router.add_get("/watch/{feed}", self.feed_page)

    async def add_watch(self, request: web.Request) -> web.Response:
        """POST what is to be watched."""
        machine = machine_of(request)
        require_type(request, JSON)
        signed = await signed_request(request, self.public_url, REQUEST_SIZE)
        return response_of(await self.requests.add(machine, signed))

    async def watches(self, request: web.Request) -> web.Response:
        """GET what is watched."""
        machine = machine_of(request)
        return response_of(
            await self.requests.listed(machine, await signed_request(request, self.public_url, 0))
        )

    async def remove_watch(self, request: web.Request) -> web.Response:
        """DELETE a watch."""
        machine = machine_of(request)
        signed = await signed_request(request, self.public_url, 0)
        return response_of(await self.requests.remove(machine, request.match_info["watch"], signed))

    async def leaving(self, request: web.Request) -> web.Response:
        """GET what is leaving; 304 for who has that list already."""
        found = await self.store.read(
            lambda connection: leaving_packages.with_figures(connection, self.thresholds)
        )
        body = json.dumps({"leaving": [each.to_json() for each in found]}).encode()
        return _validated(request, body, JSON, PUBLIC)

    async def leaving_csv(self, _request: web.Request) -> web.Response:
        """The same as a table."""
        found = await self.store.read(
            lambda connection: leaving_packages.with_figures(connection, self.thresholds)
        )
        return csv_answer(leaving_table(found))

    async def leaving_page(self, request: web.Request) -> web.Response:
        """What is leaving, for people."""
        found = await self.store.read(
            lambda connection: leaving_packages.with_figures(connection, self.thresholds)
        )
        return self.renderer.page(request, "leaving.html", {"section": "Developers", "leaving": found})

    async def page(self, request: web.Request) -> web.Response:
        """How to watch packages."""
        return self.renderer.page(request, "watch.html", {"section": "Developers"})

    async def feed_page(self, request: web.Request) -> web.Response:
        """What a feed tells, for people. It is its owner's: nobody else knows the address."""
        feed = request.match_info["feed"]
        context = {"section": "Developers", "feed": feed, "happenings": await self._happenings(feed)}
        return self.renderer.page(request, "watch_feed.html", context, cache=PRIVATE)

    async def feed(self, request: web.Request) -> web.Response:
        """What a feed tells, as Atom (RFC 4287)."""
        feed = request.match_info["feed"]
        body = self._atom(feed, await self._happenings(feed))
        return _validated(request, body, "application/atom+xml", "private, max-age=300")

    async def _happenings(self, feed: str) -> list[Happening]:
        found = None
        if _FEED.fullmatch(feed):
            found = await self.store.read(lambda connection: watches.happenings(connection, feed))
        if found is None:
            raise NotFound("there is no such feed; it goes with the last watch of its owner")
        return found

    def _atom(self, feed: str, happenings: list[Happening]) -> bytes:
        # Written as text, since a default namespace is what all readers understand.
        root = ElementTree.Element("feed", {"xmlns": ATOM})
        address = f"{self.public_url}/watch/{feed}"
        _add(root, "id", f"{address}.atom")
        _add(root, "title", "GenTwoo: watched packages")
        _add(root, "updated", format_time(happenings[0].at if happenings else 0))
        ElementTree.SubElement(root, "link", rel="self", href=f"{address}.atom")
        ElementTree.SubElement(root, "link", rel="alternate", type="text/html", href=address)
        _add(ElementTree.SubElement(root, "author"), "name", self.public_url)
        for each in happenings:
            entry = ElementTree.SubElement(root, "entry")
            _add(entry, "id", f"{self.public_url}/watch/events/{each.id}")
            _add(entry, "title", each.text)
            _add(entry, "updated", format_time(each.at))
            page = f"{self.public_url}/packages/{each.category}/{each.name}"
            ElementTree.SubElement(entry, "link", rel="alternate", type="text/html", href=page)
            ElementTree.SubElement(entry, "category", term=str(each.topic))
            _add(entry, "content", each.text)
        written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
        return written


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _validated(request: web.Request, body: bytes, media_type: str, cache: str) -> web.Response:
    """The answer with a validator; 304 where the reader has it already."""
    etag = ETag(value=hashlib.sha256(body).hexdigest()[:32])
    headers = {hdrs.CACHE_CONTROL: cache, "X-Content-Type-Options": "nosniff"}
    if etag.value in {tag.value for tag in request.if_none_match or ()}:
        response = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    else:
        response = web.Response(body=body, headers=headers, content_type=media_type, charset="utf-8")
    response.etag = etag
    return response
