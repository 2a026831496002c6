# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages each version of the catalogue depends on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the table, and have every cache entry read again, since nothing was kept of dependencies."""
    op.create_table(
        "catalogue_dependencies",
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("atoms", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["catalogue_versions.id"], name=op.f("fk_catalogue_dependencies_version_id")
        ),
        sa.PrimaryKeyConstraint("category", "name", "version_id", name=op.f("pk_catalogue_dependencies")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_catalogue_dependencies_version_id"), "catalogue_dependencies", ["version_id"])
    op.execute(sa.text("UPDATE catalogue_versions SET cache_mtime_ns = -1"))
    op.execute(sa.text("UPDATE catalogue_repositories SET revision = NULL"))
