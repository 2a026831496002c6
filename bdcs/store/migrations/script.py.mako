# SPDX-License-Identifier: GPL-2.0-or-later
"""${message}"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
oldest = ${repr(down_revision)}  # software of this schema may use the store afterwards; only if it was tried


def upgrade() -> None:
    """${message}"""
    ${upgrades if upgrades else "pass"}
