# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers in addresses and queries."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from bdcs.web.openapi import Parameter
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import Malformed, NotFound

LONGEST_WAIT: Final = 60
"""Seconds that a request may wait for something to happen: proxies give up after about as long."""

WAIT: Final = Parameter(
    name="wait",
    schema={"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
    description="Seconds to wait for something to tell.",
)


def number(request: web.Request, name: str, *, default: int, most: int = limits.INTEGER_MAX) -> int:
    """Return a number of the query. Raises `Malformed`."""
    text = request.query.get(name)
    if text is None:
        return default
    if not _is_number(text) or int(text) > most:
        raise Malformed(f"`{name}` is not a number from 0 to {most}")
    return int(text)


def wait(request: web.Request) -> int:
    """Return for how many seconds the request may wait. Raises `Malformed`."""
    return number(request, WAIT.name, default=0, most=LONGEST_WAIT)


def number_in_path(request: web.Request, name: str) -> int:
    """Return a number of the address. Raises `NotFound` where nothing can have it."""
    text = request.match_info[name]
    if not _is_number(text):
        raise NotFound(f"no {name} has such a number")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16
