# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that come and go: since when each is there, whether it is to leave, and what their pools have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add two columns that may be empty, and a table that fills itself."""
    op.add_column("builders", sa.Column("appeared_at", sa.BigInteger(), nullable=True))
    op.add_column("builders", sa.Column("drained_by", sa.Text(), nullable=True))
    op.create_table(
        "pools",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("targets", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("looked_at", sa.BigInteger(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("ready", sa.Integer(), nullable=False),
        sa.Column("leaving", sa.Integer(), nullable=False),
        sa.Column("work", sa.BigInteger(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pools")),
        sqlite_with_rowid=False,
    )
