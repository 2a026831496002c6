# SPDX-License-Identifier: GPL-2.0-or-later
"""Each generation has the TIMESTAMP of its index, so that collectors agree on which of them are out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the column: the newest generations have the target's, of older ones nobody needs it any more."""
    op.add_column("generations", sa.Column("timestamp", sa.BigInteger(), nullable=True))
    op.execute(
        sa.text(
            "UPDATE generations SET timestamp = (SELECT targets.timestamp FROM targets"
            " WHERE targets.id = generations.target_id AND targets.generation = generations.number)"
        )
    )
