# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tables have in common: the schema that they are of, the names of its constraints, and types."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData, Text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

Id = BigInteger().with_variant(Integer(), "sqlite")
"""An id that SQLite takes as its rowid (only INTEGER does), and that does not run out elsewhere."""

Chars = Text().with_variant(Text(collation="C"), "postgresql")
"""Text in the order of its code points, whatever the language of a database."""
