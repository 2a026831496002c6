# SPDX-License-Identifier: GPL-2.0-or-later
"""Events that the broker refuses are set aside, and tried again later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
oldest = "0019"  # it writes events without these columns, and waits for what is refused as it always did


def upgrade() -> None:
    """Add two columns: nothing was refused yet, for all that is known."""
    op.add_column("outbox", sa.Column("tries", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("outbox", sa.Column("retry_at", sa.BigInteger(), nullable=True))
    op.create_index(
        op.f("ix_outbox_retry_at"),
        "outbox",
        ["retry_at"],
        sqlite_where=sa.text("retry_at IS NOT NULL"),
        postgresql_where=sa.text("retry_at IS NOT NULL"),
    )
