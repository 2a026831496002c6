# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures are carried on: what differs from what is published is found without counting all machines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
oldest = "0019"  # cells that it publishes have no `counted`, and are counted once more; it marks no machine

_APPROVED = "SELECT id FROM machines WHERE state = 'approved'"


def upgrade() -> None:
    """Mark what machines that count nowhere have, and make the index of what is not settled.

    What published figures count is counted when they are looked at next: pushes need not wait for that.
    """
    op.add_column("figures", sa.Column("counted", sa.Integer(), nullable=True))
    op.create_table(
        "away_machines",
        sa.Column("machine_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_away_machines")),
    )
    op.execute(
        "INSERT INTO away_machines (machine_id)"
        f" SELECT id FROM machines WHERE head_seq > 0 AND id NOT IN ({_APPROVED})"
    )
    op.execute(
        "UPDATE installations SET flags = flags + 8"
        f" WHERE (flags & 8) = 0 AND machine_id NOT IN ({_APPROVED})"
    )
    op.create_index(
        op.f("ix_installations_unsettled"),
        "installations",
        ["package_id", "version_id"],
        sqlite_where=sa.text("flags NOT IN (7, 9)"),
        postgresql_where=sa.text("flags NOT IN (7, 9)"),
    )
