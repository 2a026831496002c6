# SPDX-License-Identifier: GPL-2.0-or-later
"""The binhost as Portage sees it: `/binhost/TARGET/Packages.gz`, packages, and the keys that sign them.

What stock Portage asks and how it takes the answers is in reference/binhost.md, sections 0 and 1: an index is
never sent with a Content-Encoding, its Last-Modified is its TIMESTAMP, and everything has a Content-Length.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import gzip
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final
from urllib.parse import quote, unquote

from aiohttp import hdrs, web

from bdcs.blobs.blobs import Address
from bdcs.domain.package_files import FOR_GOOD, content_type
from bdcs.services.serving import Credentials, ServedFile, Serving, empty_index
from bdcs.services.targets import Target
from bdcs.web.files import Opened, Version, file_answer, unchanged, validators
from gentwoo_client.wire.errors import NotFound, PrivateTarget, Unavailable

PREFIX: Final = "/binhost/"
ACCEL_REDIRECT: Final = "X-Accel-Redirect"
PACKED: Final = "Packages.gz"
INDEX_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {"Packages": "text/plain; charset=utf-8", PACKED: "application/gzip"}
)
PATH_LENGTH: Final = 512
RETRY_AFTER: Final = 10  # seconds in which an index that is missing is written anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Binhost:
    """The handlers of everything under /binhost/ but the keys."""

    serving: Serving
    accel_redirect: str
    """Below which internal location of nginx the packages are; empty: they are sent from here."""

    def add_to(self, app: web.Application) -> None:
        """Route GET and HEAD of all files of all targets."""
        app.router.add_get("/binhost/{target}", self.target)
        app.router.add_get("/binhost/{target}/{path:.*}", self.file)

    async def target(self, request: web.Request) -> web.StreamResponse:
        """Lead people who open a target's sync-uri to its page."""
        target = await admitted_target(request, self.serving)
        raise web.HTTPSeeOther(f"/targets/{target.name}")

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Send an index or a package."""
        path = requested_path(request)
        target = await admitted_target(request, self.serving)
        if path in INDEX_TYPES:
            return await self._index(request, target, path)
        if not path:
            raise web.HTTPSeeOther(f"/targets/{target.name}")
        return await self._package(request, target, path)

    async def _index(self, request: web.Request, target: Target, name: str) -> web.StreamResponse:
        headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: INDEX_TYPES[name],
            hdrs.CACHE_CONTROL: _caching(target, "no-cache"),
        }
        if not await self.serving.follow(target):
            raise Unavailable("the index is being written", retry_after=RETRY_AFTER)
        path = self.serving.index_path(target, name)
        # One look at the file's status on the loop: by far most of the answers are 304, and need no more.
        version = _version(path)
        if version is not None and unchanged(request.headers, version):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={**headers, **validators(version)})
        try:
            opened = await asyncio.to_thread(lambda: Opened.of(path.open("rb")))
        except FileNotFoundError:
            opened = await asyncio.to_thread(_made_up, target, name)
        return file_answer(request, opened, headers)

    async def _package(self, request: web.Request, target: Target, path: str) -> web.StreamResponse:
        found = await self.serving.find_file(target, path)
        if found is None:
            raise NotFound("no published package has this path")
        headers = _package_headers(target, found)
        if self.accel_redirect:
            place = quote(f"{self.accel_redirect}{target.name}/{path}")
            return web.Response(headers={**headers, ACCEL_REDIRECT: place})
        file = await self.serving.reach(target, found, elsewhere=request.method == hdrs.METH_GET)
        if file is None:
            raise NotFound("no published package has this path")
        if isinstance(file, Address):
            return _led_to(file)
        return file_answer(request, Opened.of(file), headers)


async def admitted_target(request: web.Request, serving: Serving) -> Target:
    """Return the target of the address. Raises `NotFound`, and `PrivateTarget` for who may not read it."""
    target = await serving.find(request.match_info["target"])
    if target is None:
        raise NotFound("no target of this name")
    if not await serving.admits(target, credentials(request)):
        raise PrivateTarget()
    return target


def requested_path(request: web.Request) -> str:
    """Return the path below the target, its percent-encoding undone once; raises `NotFound` if it has none.

    Taken from the address as it arrived, before anybody could have removed `..` from it. What it names is
    looked up as it is, so nothing has to be made harmless here: this only spares the store hopeless
    questions.
    """
    _, _, raw = request.rel_url.raw_path.removeprefix(PREFIX).partition("/")
    path = unquote(raw, errors="replace")
    if len(path) > PATH_LENGTH or not path.isascii() or not path.isprintable():
        raise NotFound("no file has this path")
    return path


def credentials(request: web.Request) -> Credentials | None:
    """Return name and token of HTTP basic (RFC 7617), None where the request has none that can be read."""
    scheme, _, encoded = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, token = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, token) if colon else None


def _led_to(address: Address) -> web.Response:
    """Lead a reader to where the file is, and caches no longer than everybody may be led there."""
    caching = f"public, max-age={address.lasts}" if address.lasts else "private, no-store"
    return web.Response(
        status=HTTPStatus.TEMPORARY_REDIRECT,
        headers={hdrs.LOCATION: address.url, hdrs.CACHE_CONTROL: caching},
    )


def _package_headers(target: Target, found: ServedFile) -> dict[str, str]:
    caching = FOR_GOOD if found.is_immutable else "no-cache"
    return {
        hdrs.CONTENT_TYPE: content_type(found.path),
        hdrs.CACHE_CONTROL: _caching(target, caching),
    }


def _caching(target: Target, rule: str) -> str:
    return f"{'private' if target.private else 'public'}, {rule}"


def _version(path: Path) -> Version | None:
    try:
        return Version.of(os.stat(path))
    except FileNotFoundError:
        return None


def _made_up(target: Target, name: str) -> Opened:
    """Return the empty index of a target that never had one. Raises `Unavailable` where one has been lost."""
    if target.generation:
        raise Unavailable("the index is being written anew", retry_after=RETRY_AFTER)
    text, timestamp = empty_index(target)
    body = text.encode()
    if name == PACKED:
        body = gzip.compress(body, mtime=timestamp)
    file: BinaryIO = os.fdopen(os.memfd_create(name), "w+b")
    file.write(body)
    file.flush()
    return Opened(file, Version(mtime=timestamp, size=len(body)))
