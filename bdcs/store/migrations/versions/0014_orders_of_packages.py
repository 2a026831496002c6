# SPDX-License-Identifier: GPL-2.0-or-later
"""Top lists, and packages of a repository, are read in their order instead of sorted from all there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Make the indexes; the one on cells has what the old one had, and the figure."""
    op.create_index(
        "ix_figures_published",
        "figures",
        ["published", "package_id"],
        sqlite_where=sa.text("version_id IS NULL"),
        postgresql_where=sa.text("version_id IS NULL"),
    )
    op.create_index(op.f("ix_package_statistics_seconds"), "package_statistics", ["seconds"])
    op.create_index(
        op.f("ix_statistic_cells_topic_bucket_published"), "statistic_cells", ["topic", "bucket", "published"]
    )
    op.drop_index(op.f("ix_statistic_cells_topic_bucket"), "statistic_cells")
