# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files that are about to be removed: nobody lists one of that name meanwhile."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
oldest = "0019"  # it neither announces what it removes nor asks; that is what it always did


def upgrade() -> None:
    """Make the table, empty."""
    op.create_table(
        "removals",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("target", "path", name=op.f("pk_removals")),
        sqlite_with_rowid=False,
    )
