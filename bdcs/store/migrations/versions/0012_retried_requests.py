# SPDX-License-Identifier: GPL-2.0-or-later
"""With which token a private target's request was made: who tries it again needs it still."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add a column; of what there is no token is known: at a private target it is to be asked for anew."""
    op.add_column("requests", sa.Column("access", sa.LargeBinary(), nullable=True))
