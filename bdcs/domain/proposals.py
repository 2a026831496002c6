# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets that machines propose: what becomes of them, and what an accepted one is called."""

from __future__ import annotations

import re
from collections.abc import Container
from enum import StrEnum
from typing import Final

from gentwoo_client.wire import limits
from gentwoo_client.wire.proposals import Proposal

_GENERAL: Final = ("default", "linux")  # parts of a profile that say nothing
_NO_NAME = re.compile(r"[^a-z0-9._-]+")


class Policy(StrEnum):
    """What becomes of a proposal by itself; the words of the setting `proposals`."""

    ACCEPT = "accept"
    ASK = "ask"
    REFUSE = "refuse"


class State(StrEnum):
    """What became of a proposal; the words also stand in the table and on the wire."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    REFUSED = "refused"


def name_for(proposal: Proposal, taken: Container[str]) -> str:
    """Return a target's name that says what it is for, and is not among `taken`."""
    parts = [part for part in proposal.profile.split("/") if part not in (*_GENERAL, proposal.arch)]
    words = (proposal.arch, proposal.cpu or "any", *parts)
    text = _NO_NAME.sub("-", "-".join(words).lower()).lstrip("._-")
    length = limits.TARGET_NAME_LENGTH - len("-9999")
    name = base = text[:length].rstrip("._-") or "proposed"
    number = 2
    while name in taken:
        name = f"{base}-{number}"
        number += 1
    return name
