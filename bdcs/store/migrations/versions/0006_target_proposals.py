# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets that machines propose, and who proposed them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables; nothing else changes."""
    op.create_table(
        "target_proposals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("chost", sa.Text(), nullable=False),
        sa.Column("arch", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("cflags", sa.Text(), nullable=False),
        sa.Column("cpu", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["target_id"], ["targets.id"], name=op.f("fk_target_proposals_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_target_proposals")),
        sa.UniqueConstraint("digest", name=op.f("uq_target_proposals_digest")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "target_proposers",
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("machine_id", sa.Integer(), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["target_proposals.id"], name=op.f("fk_target_proposers_proposal_id")
        ),
        sa.ForeignKeyConstraint(["machine_id"], ["machines.id"], name=op.f("fk_target_proposers_machine_id")),
        sa.PrimaryKeyConstraint("proposal_id", "machine_id", name=op.f("pk_target_proposers")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_target_proposers_machine_id"), "target_proposers", ["machine_id"])
