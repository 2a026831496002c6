# SPDX-License-Identifier: GPL-2.0-or-later
"""Stylesheet, script and icon: read once, named by their content, compressed once, and cached by browsers
for a year.

The address of a file carries the beginning of its SHA-256. Another version has another address, and an
address that no file of this version has is 404: a browser never gets the style of one release with the page
of another.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from aiohttp import hdrs, web

MEDIA_TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
HASH_LENGTH = 8
"""Hexadecimal digits of the digest in an address."""
IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One static file as it is served."""

    url_name: str
    media_type: str
    body: bytes
    gzipped: bytes
    digest: str


class Assets:
    """All static files of this version, in memory."""

    def __init__(self, assets: Mapping[str, Asset]) -> None:
        self._by_name = dict(assets)
        self._by_url_name = {asset.url_name: asset for asset in assets.values()}

    @classmethod
    def load(cls) -> Assets:
        """Read the files that are shipped beside this module."""
        return cls(dict(_shipped()))

    def url(self, name: str) -> str:
        """The address of the file called `name`.

        Raises `KeyError` when there is none: that is a bug in a template.
        """
        return f"/static/{self._by_name[name].url_name}"

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with the file, compressed for those who take gzip; 404 for another version's hash."""
        asset = self._by_url_name.get(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        headers = {
            hdrs.CACHE_CONTROL: IMMUTABLE,
            hdrs.CONTENT_TYPE: asset.media_type,
            hdrs.ETAG: f'"{asset.digest}"',
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }
        if asset.digest in {tag.value for tag in request.if_none_match or ()}:
            return web.Response(status=304, headers=headers)
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            return web.Response(body=asset.gzipped, headers={**headers, hdrs.CONTENT_ENCODING: "gzip"})
        return web.Response(body=asset.body, headers=headers)


def _shipped() -> Iterator[tuple[str, Asset]]:
    for file in resources.files("bdcs.web").joinpath("static").iterdir():
        stem, _, suffix = file.name.rpartition(".")
        if suffix not in MEDIA_TYPES:
            continue
        body = file.read_bytes()
        digest = hashlib.sha256(body).hexdigest()
        yield (
            file.name,
            Asset(
                url_name=f"{stem}.{digest[:HASH_LENGTH]}.{suffix}",
                media_type=MEDIA_TYPES[suffix],
                body=body,
                gzipped=gzip.compress(body, 9, mtime=0),
                digest=digest,
            ),
        )
