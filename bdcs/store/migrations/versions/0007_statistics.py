# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics: what is published of packages and of the fleet's weeks, and how far records were folded in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables; they are filled from the records when the collector runs next."""
    op.create_table(
        "statistic_cells",
        sa.Column("package_id", sa.Integer(), nullable=False),
        sa.Column("topic", sa.SmallInteger(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("published", sa.Integer(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("fk_statistic_cells_package_id")),
        sa.PrimaryKeyConstraint(
            "package_id", "topic", "version_id", "bucket", name=op.f("pk_statistic_cells")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_statistic_cells_topic_bucket"), "statistic_cells", ["topic", "bucket"])
    op.create_table(
        "version_dates",
        sa.Column("package_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("arrived_at", sa.BigInteger(), nullable=True),
        sa.Column("holders", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("fk_version_dates_package_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_version_dates_version_id")),
        sa.PrimaryKeyConstraint("package_id", "version_id", name=op.f("pk_version_dates")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "package_statistics",
        sa.Column("package_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.Column("machines", sa.Integer(), nullable=False),
        sa.Column("earlier", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["package_id"], ["packages.id"], name=op.f("fk_package_statistics_package_id")
        ),
        sa.PrimaryKeyConstraint("package_id", name=op.f("pk_package_statistics")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "machine_weeks",
        sa.Column("machine_id", sa.Integer(), nullable=False),
        sa.Column("week", sa.Integer(), nullable=False),
        sa.Column("merges", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.BigInteger(), nullable=False),
        sa.Column("first_change", sa.BigInteger(), nullable=False),
        sa.Column("last_change", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["machine_id"], ["machines.id"], name=op.f("fk_machine_weeks_machine_id")),
        sa.PrimaryKeyConstraint("machine_id", "week", name=op.f("pk_machine_weeks")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_machine_weeks_week"), "machine_weeks", ["week"])
    op.create_table(
        "fleet_weeks",
        sa.Column("week", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("due", sa.Boolean(), nullable=False),
        sa.Column("machines", sa.Integer(), nullable=True),
        sa.Column("merges", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.BigInteger(), nullable=True),
        sa.Column("saved", sa.BigInteger(), nullable=True),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("week", name=op.f("pk_fleet_weeks")),
        sqlite_with_rowid=False,
    )
