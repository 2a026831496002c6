# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines may ask for: how much, and from which targets."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, and_, func, select

from bdcs.domain.build_policy import DAY, BuildPolicy
from bdcs.services import builders, tokens
from bdcs.services.machines import Machine
from bdcs.services.targets import Target
from bdcs.store.tables import requests
from gentwoo_client.wire.build_messages import Access
from gentwoo_client.wire.errors import TooManyRequests

ASK_AGAIN: Final = 300
"""Seconds after which who has as much open as he may asks again: something may have ended by then."""


def check_quota(
    connection: Connection, machine_id: int, policy: BuildPolicy, now: int, *, besides: str | None = None
) -> None:
    """Raise `TooManyRequests` where the machine may not ask for anything else to be built now.

    `besides` is a request of its own that is to be tried again: that one does not count.
    """
    mine = and_(requests.c.machine_id == machine_id, requests.c.id != (besides or ""))
    is_open = mine & requests.c.finished_at.is_(None)
    if connection.execute(select(func.count()).where(is_open)).scalar_one() >= policy.open_requests:
        raise TooManyRequests(
            f"this machine has {policy.open_requests} requests open, as many as one may: cancel some"
            " (`gentwoo builds`), or wait until they end",
            retry_after=ASK_AGAIN,
            limit="open_requests",
            allowed=policy.open_requests,
        )
    made = connection.execute(
        select(func.count(), func.min(requests.c.created_at)).where(mine, requests.c.created_at > now - DAY)
    ).one()
    if made[0] >= policy.requests_per_day:
        raise TooManyRequests(
            f"this machine made {policy.requests_per_day} requests in the last 24 hours, as many as one may",
            retry_after=made[1] + DAY - now,
            limit="requests_per_day",
            allowed=policy.requests_per_day,
        )


def may_ask(connection: Connection, machine: Machine, target: Target, access: Access | None) -> bool:
    """Whether the machine may know the target: a private one is for its builders and holders of a token."""
    if not target.private or builders.is_approved(connection, target, machine):
        return True
    return access is not None and tokens.accepts(connection, target, access.name, access.token)


def may_ask_again(connection: Connection, machine: Machine, target: Target, access: bytes | None) -> bool:
    """Whether the machine may still know the target of its request, made with the token of that hash."""
    if not target.private or builders.is_approved(connection, target, machine):
        return True
    return access is not None and tokens.counts(connection, target, access)
