# SPDX-License-Identifier: GPL-2.0-or-later
"""The queue by machines, so that whose turn it is can be told without looking at all that waits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
oldest = "0019"  # what software before it queues would stand in no queue, and be claimed by nobody


def upgrade() -> None:
    """Make the table, with what is queued."""
    op.create_table(
        "queue",
        sa.Column("target_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("priority", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("machine_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("job_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_queue_job_id")),
        sa.ForeignKeyConstraint(["target_id"], ["targets.id"], name=op.f("fk_queue_target_id")),
        sa.PrimaryKeyConstraint(
            "target_id", "priority", "machine_id", "queued_at", "job_id", name=op.f("pk_queue")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_queue_job_id"), "queue", ["job_id"])
    op.execute(
        "INSERT INTO queue (target_id, priority, machine_id, queued_at, job_id)"
        " SELECT DISTINCT jobs.target_id, jobs.priority, coalesce(requests.machine_id, 0),"
        " jobs.queued_at, jobs.id FROM jobs"
        " LEFT JOIN members ON members.job_id = jobs.id AND members.state = 'waiting'"
        " LEFT JOIN requests ON requests.id = members.request_id WHERE jobs.state = 'queued'"
    )
