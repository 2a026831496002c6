# SPDX-License-Identifier: GPL-2.0-or-later
"""How many machines one network may register in a day, and records send, without keeping an address."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DAY: Final = 86_400  # seconds
PREFIX: Final = {4: 24, 6: 48}  # bits of an address that make one network


class NetworkLimit:
    """Counts per network and day. Networks are known by an HMAC under a key of that day, only in memory."""

    def __init__(self, per_day: int, random_key: Callable[[], bytes]) -> None:
        self.per_day = per_day
        self._random_key = random_key
        self._day = -1
        self._key = b""
        self._counts: Counter[bytes] = Counter()

    def take(self, address: Address | None, now: float) -> int:
        """Count one for the network of `address`; return 0, or after how many seconds to try again.

        Where no address is known (a socket without one), nothing is counted.
        """
        wait = self.wait(address, now)
        if not wait:
            self.count(address, now, 1)
        return wait

    def wait(self, address: Address | None, now: float) -> int:
        """Return 0, or after how many seconds the network of `address` may go on."""
        self._begin_day(now)
        if address is None or self._counts[self._mark(address)] < self.per_day:
            return 0
        return int((self._day + 1) * DAY - now) + 1

    def count(self, address: Address | None, now: float, amount: int) -> None:
        """Count `amount` for the network of `address`, also beyond what it may."""
        self._begin_day(now)
        if address is not None:
            self._counts[self._mark(address)] += amount

    def _begin_day(self, now: float) -> None:
        day = int(now // DAY)
        if day != self._day:
            self._day, self._key = day, self._random_key()
            self._counts.clear()

    def _mark(self, address: Address) -> bytes:
        network = ip_network((address, PREFIX[address.version]), strict=False)
        return hmac.digest(self._key, str(network).encode(), sha256)


def client_address(peer: str | None, forwarded: Iterable[str], proxies: Iterable[Network]) -> Address | None:
    """Return whom a request comes from: the peer, or, where that is one of `proxies`, whom it speaks for.

    `forwarded` are the values of X-Forwarded-For in order of the header lines; what stands left of the last
    address that is no trusted proxy was written by the client and proves nothing.
    """
    address = parse_address(peer)
    trusted = list(proxies)
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while address is not None and hops and any(address in proxy for proxy in trusted):
        previous = parse_address(hops.pop())
        if previous is None:
            break
        address = previous
    return address


def parse_address(text: str | None) -> Address | None:
    """Return the address; an IPv4 address written as IPv6 becomes IPv4. None for what is no address."""
    numeric = (text or "").partition("%")[0]
    try:
        if ":" not in numeric:
            return IPv4Address(inet_pton(AF_INET, numeric))  # a third of the time that it takes from the text
        address = IPv6Address(inet_pton(AF_INET6, numeric))
    except (OSError, ValueError):
        return None
    return address.ipv4_mapped or address
