# SPDX-License-Identifier: GPL-2.0-or-later
"""The states that a registered machine can be in."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What a machine may do here; the words also stand in the table and on the wire."""

    APPROVED = "approved"
    """Its records are taken."""
    AWAITING_APPROVAL = "awaiting-approval"
    """It is registered; an administrator has yet to approve it (`approval = "required"`)."""
    QUARANTINED = "quarantined"
    """An administrator stopped it; what it sent before stays."""
    REFUSED = "refused"
    """An administrator does not want it: it asked for approval in vain."""
