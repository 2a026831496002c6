# SPDX-License-Identifier: GPL-2.0-or-later
"""Templates to responses: one frame, strict headers, validators, compression."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import jinja2
from aiohttp import ETag, hdrs, web

from bdcs.domain.amounts import size_text
from bdcs.domain.thresholds import ROUNDING, Thresholds
from bdcs.web import formats
from bdcs.web.assets import Assets

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
PUBLIC: Final = "public, max-age=60"
"""Figures are renewed every minute."""
LIVE: Final = "no-cache"
"""What changes from second to second is asked for each time, and sent where it has changed."""
PRIVATE: Final = "no-store"
FILTERS: Final = (
    "number",
    "share",
    "width",
    "duration",
    "about",
    "hours",
    "moment",
    "ago",
    "clock",
    "unix",
    "day_of",
    "fingerprint",
    "long_time",
    "percent",
    "change",
)
"""Names in `formats` that templates use."""


class Renderer:
    """Renders the templates beside this module."""

    def __init__(self, assets: Assets, thresholds: Thresholds, public_url: str) -> None:
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("bdcs.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        for name in FILTERS:
            environment.filters[name] = getattr(formats, name)
        environment.filters["size"] = size_text
        environment.filters["date"] = formats.date_of
        environment.globals.update(
            static_url=assets.url,
            threshold=thresholds.machines,
            move=thresholds.move,
            rounding=ROUNDING,
            public_url=public_url,
            section="",
        )
        self._environment = environment

    def page(
        self, request: web.Request, template: str, context: Mapping[str, object], *, cache: str = PUBLIC
    ) -> web.Response:
        """The page that `template` makes of `context`; 304 where the reader has it already."""
        body = self._body(template, context)
        headers = {**PAGE_HEADERS, hdrs.CACHE_CONTROL: cache}
        if cache == PRIVATE:
            headers["X-Robots-Tag"] = "noindex"
            return web.Response(body=body, headers=headers, content_type="text/html", charset="utf-8")
        headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        etag = ETag(value=hashlib.sha256(body).hexdigest()[:32], is_weak=True)
        if etag.value in {tag.value for tag in request.if_none_match or ()}:
            response = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        else:
            response = web.Response(body=body, headers=headers, content_type="text/html", charset="utf-8")
            if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
                response.enable_compression(web.ContentCoding.gzip)
        response.etag = etag
        return response

    def error(self, status: int, title: str, advice: str, report: str = "") -> bytes:
        """The body of an error page. `report` leads from a reader's report to the log."""
        context = {"status": int(status), "title": title, "advice": advice, "report": report}
        return self._body("error.html", context)

    def error_page(self, status: int, body: bytes) -> web.Response:
        """The answer with such a body."""
        headers = {**PAGE_HEADERS, "Cache-Control": PRIVATE}
        return web.Response(
            status=status, body=body, headers=headers, content_type="text/html", charset="utf-8"
        )

    def _body(self, template: str, context: Mapping[str, object]) -> bytes:
        return self._environment.get_template(template).render(context).encode()
