# SPDX-License-Identifier: GPL-2.0-or-later
"""Where webhooks may go, how their messages are signed, and when they are tried again.

Signatures follow Standard Webhooks 1.0 (standardwebhooks.com), for which receivers find libraries: headers
`webhook-id`, `webhook-timestamp` and `webhook-signature`; HMAC-SHA256 over `id.timestamp.body`, base64,
behind `v1,`; the secret is told as `whsec_` and base64.

Whoever may add a watch must not reach what only the collector can reach. So a webhook is https, to an address
that is public; names are resolved once for each attempt, and what was looked at is what is connected to.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final
from urllib.parse import urlsplit

from bdcs.domain.networks import Address, Network, parse_address
from gentwoo_client.wire.errors import Malformed

URL_LENGTH: Final = 500  # characters
SECRET_SIZE: Final = 32  # bytes
SECRET_PREFIX: Final = "whsec_"

MOST_ATTEMPTS: Final = 15
"""Tries of one message, over a day and a half."""
FIRST_DELAY: Final = 60
LONGEST_DELAY: Final = 6 * 3600
"""Seconds between tries: they double between these, less a part that chance decides."""
JITTER: Final = 0.5

# What some versions of Python take for global: protocols of the IETF, in which clouds keep what tells their
# secrets, and relays of 6to4 (RFC 7526).
_SPECIAL: Final = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
# What looks global in IPv6 and leads elsewhere: 6to4 and Teredo carry IPv4 addresses of any kind.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_TUNNELS: Final = (IPv6Network("2002::/16"), IPv6Network("2001::/32"), IPv6Network("3fff::/20"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where webhooks may go besides public addresses: what the operator named."""

    hosts: frozenset[str] = frozenset()
    """Host names, and addresses as they are written."""
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str]) -> Destinations:
        """The destinations that a setting names: host names, addresses, networks."""
        hosts, networks = set(), []
        for name in names:
            try:
                networks.append(ip_network(name))
            except ValueError:
                hosts.add(name.lower())
        return cls(hosts=frozenset(hosts), networks=tuple(networks))

    def check_url(self, url: str) -> None:
        """Check a webhook's URL before there is one. Raises `Malformed`, also for an address that may not be.

        A name is looked at when something is sent: it may mean another address then.
        """
        host = check_url(url)
        objection = self.objection(host, [host]) if parse_address(host) else None
        if objection is not None:
            raise Malformed(f"nothing is sent to {url}: {objection}; `webhook_hosts` names exceptions")

    def objection(self, host: str, addresses: Sequence[str]) -> str | None:
        """Return why nothing may be sent to `host`, which has these addresses; None where it may."""
        if not addresses:
            return "it has no address"
        for text in addresses:
            address = parse_address(text)
            if address is None:
                return f"{text} is no address"
            if host.lower() in self.hosts or any(address in network for network in self.networks):
                continue
            if not is_public(address):
                return f"{address} is not a public address"
        return None


def is_public(address: Address) -> bool:
    """Whether the whole Internet means the same by `address`; anything special is not (RFC 6890)."""
    if isinstance(address, IPv4Address):
        is_special = address.is_multicast or address.is_reserved or any(address in each for each in _SPECIAL)
        return address.is_global and not is_special
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    return _is_public_v6(address)


def _is_public_v6(address: IPv6Address) -> bool:
    if address not in _GLOBAL_UNICAST or not address.is_global:
        return False
    return not any(address in tunnel for tunnel in _TUNNELS)


def check_url(url: str) -> str:
    """Return the host of a webhook's URL. Raises `Malformed` where nothing may ever be sent there."""
    if len(url) > URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise Malformed(f"a webhook is a URL of at most {URL_LENGTH} printable characters of ASCII")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise Malformed("a webhook is a URL such as https://hooks.example.org/gentwoo") from None
    if parts.scheme != "https" or not host or port == 0:
        raise Malformed("a webhook is a URL that begins with https:// and a host")
    if parts.username is not None or parts.fragment or "\\" in url:
        raise Malformed("the URL of a webhook has neither a user nor a fragment")
    return host


def told_secret(secret: bytes) -> str:
    """Return the secret as its owner is told."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, message: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`."""
    signed = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, sha256)).decode()


def delay(attempts: int, chance: float) -> int | None:
    """Return after how many seconds a message is tried again that failed so often; None: never.

    `chance` is a random number between 0 and 1.
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    longest: int = min(FIRST_DELAY * 2 ** (attempts - 1), LONGEST_DELAY)
    return round(longest * (1 - JITTER * chance))
