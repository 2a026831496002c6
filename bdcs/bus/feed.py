# SPDX-License-Identifier: GPL-2.0-or-later
"""Where events go: a broker that has them for whoever subscribed there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event, ready to be sent."""

    id: str
    """Tells repetitions."""
    exchange: str
    key: str
    at: int
    """When it happened, Unix seconds."""
    body: bytes
    """JSON."""


class Refused(Exception):
    """The broker does not take an event, while it may well take others."""


class Feed(Protocol):
    """Takes events."""

    async def publish(self, messages: Sequence[Message]) -> int:
        """Send them in their order; return how many of the first the broker has, and will not lose.

        Raises `Refused` where it does not take the first of them, which may be plain only of one that comes
        alone. Raises `BusUnavailable` where it has none for other reasons.
        """
