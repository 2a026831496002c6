# SPDX-License-Identifier: GPL-2.0-or-later
"""Whom a request comes from, where proxies stand in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from bdcs.domain.networks import Address, Network, client_address, parse_address

FORWARDED = "X-Forwarded-For"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """Knows which proxies to believe."""

    proxies: tuple[Network, ...]

    def address(self, request: web.Request) -> Address | None:
        """Return whom `request` comes from, or None where no address is known."""
        return client_address(request.remote, request.headers.getall(FORWARDED, []), self.proxies)

    def is_from(self, request: web.Request, networks: Iterable[Network]) -> bool:
        """Return whether `request` comes from one of `networks`.

        What came through a proxy that nobody named may come from anywhere, and does not.
        """
        peer = parse_address(request.remote)
        if FORWARDED in request.headers and not _within(peer, self.proxies):
            return False
        return _within(self.address(request), networks)


def _within(address: Address | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)
