# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors in the frame of the pages, in words for people, for every address that is not the API's."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bdcs.services.report_links import LIFETIME
from bdcs.web.problems import Show, problem_headers, problem_response
from bdcs.web.rendering import Renderer
from gentwoo_client.wire.errors import Internal, ProtocolError

API: Final = ("/v1/", "/binhost/", "/openapi.json", "/metrics", "/livez", "/readyz")
"""How addresses begin whose errors are problem documents."""

TEXTS: Final[Mapping[int, tuple[str, str]]] = {
    HTTPStatus.NOT_FOUND: (
        "There is no such page",
        "The address may be mistyped, or the page may have gone. Search for a package above.",
    ),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "This page can only be read",
        "Pages take GET and HEAD; what changes something goes to the API.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        "Too many requests from your network",
        "Please wait a minute, then load the page again.",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "The collector cannot answer just now",
        "Its store is not available. Machines keep their records and send them later; nothing is lost. "
        "Please try again in a minute.",
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        "The collector made a mistake",
        "Something went wrong that should not have. Please try again later.",
    ),
}


class LinkExpired(ProtocolError):
    """A link to a machine's own page is over, or never was one."""

    slug = "link-expired"
    status = HTTPStatus.GONE
    title = "This link no longer works"
    advice = (
        f"Links to a machine’s page work for {LIFETIME // 60} minutes, and not after it is forgotten. "
        "On the machine, `gentwoo report` makes a new one."
    )


def page_errors(renderer: Renderer) -> Show:
    """Return what shows a problem with a page as a page, and any other as a document.

    Pages of errors need no store; the one for a store that is down is made beforehand.
    """
    unavailable = renderer.error(HTTPStatus.SERVICE_UNAVAILABLE, *TEXTS[HTTPStatus.SERVICE_UNAVAILABLE])

    def show(request: web.Request, problem: ProtocolError) -> web.Response:
        if request.path == "/v1" or request.path.startswith(API):
            return problem_response(problem)
        title, advice = TEXTS.get(problem.status, (problem.title, problem.advice))
        report = problem.detail if isinstance(problem, Internal) else ""
        down = problem.status == HTTPStatus.SERVICE_UNAVAILABLE
        body = unavailable if down else renderer.error(problem.status, title, advice, report)
        response = renderer.error_page(problem.status, body)
        response.headers.update(problem_headers(problem))
        return response

    return show
