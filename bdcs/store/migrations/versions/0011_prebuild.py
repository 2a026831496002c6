# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines asked for, as published, so that it can be said what is worth building."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables; they are filled from the requests when the collector runs next."""
    op.create_table(
        "prebuild_cells",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("keywords", sa.Text(), nullable=False),
        sa.Column("use", sa.Text(), nullable=False),
        sa.Column("published", sa.Integer(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["target_id"], ["targets.id"], name=op.f("fk_prebuild_cells_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prebuild_cells")),
        sa.UniqueConstraint(
            "target_id",
            "category",
            "name",
            "slot",
            "repository",
            "keywords",
            "use",
            name=op.f("uq_prebuild_cells_target_id_category_name_slot_repository_keywords_use"),
        ),
    )
    op.create_table(
        "prebuild_counted",
        sa.Column("cell_id", sa.Integer(), nullable=False),
        sa.Column("machine_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["cell_id"], ["prebuild_cells.id"], name=op.f("fk_prebuild_counted_cell_id")),
        sa.ForeignKeyConstraint(["machine_id"], ["machines.id"], name=op.f("fk_prebuild_counted_machine_id")),
        sa.PrimaryKeyConstraint("cell_id", "machine_id", name=op.f("pk_prebuild_counted")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_prebuild_counted_machine_id"), "prebuild_counted", ["machine_id"])
