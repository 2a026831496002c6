# SPDX-License-Identifier: GPL-2.0-or-later
"""What attempts left out, and that their logs are gone after their time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add two columns; of what there is nothing is known to have been left out, and all logs are there."""
    op.add_column("attempts", sa.Column("left_out", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("log_deleted_at", sa.BigInteger(), nullable=True))
