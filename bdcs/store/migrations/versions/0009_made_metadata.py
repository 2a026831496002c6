# SPDX-License-Identifier: GPL-2.0-or-later
"""Metadata that builders made of ebuilds whose repository has none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table; nothing else changes."""
    op.create_table(
        "made_metadata",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("ebuild_md5", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("made_at_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["catalogue_repositories.id"], name=op.f("fk_made_metadata_repository_id")
        ),
        sa.PrimaryKeyConstraint("repository_id", "path", name=op.f("pk_made_metadata")),
        sqlite_with_rowid=False,
    )
