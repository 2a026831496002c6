# SPDX-License-Identifier: GPL-2.0-or-later
"""How long packages take, as published."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table; it is filled from the records when the collector runs next."""
    op.create_table(
        "predictions",
        sa.Column("package_id", sa.Integer(), nullable=False),
        sa.Column("major", sa.Text(), nullable=False),
        sa.Column("log", sa.Integer(), nullable=False),
        sa.Column("spread", sa.Integer(), nullable=False),
        sa.Column("machines", sa.Integer(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("fk_predictions_package_id")),
        sa.PrimaryKeyConstraint("package_id", "major", name=op.f("pk_predictions")),
        sqlite_with_rowid=False,
    )
