# SPDX-License-Identifier: GPL-2.0-or-later
"""Values on their way to PostgreSQL: what it refuses and SQLite takes is nothing that a visitor may break.

Numbers and texts of addresses are looked up as they come. One that no column can hold is found nowhere.
"""

from __future__ import annotations

from typing import Any

from psycopg.types.string import StrDumper
from sqlalchemy import BigInteger, Engine, Integer, event


class _WithoutNul(StrDumper):
    """Texts; PostgreSQL's have no NUL."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def take_any(engine: Engine) -> Engine:
    """Have `engine` take whole numbers of 64 bits wherever it compares one, and texts with NUL; return it."""
    kinds = engine.dialect.colspecs
    engine.dialect.colspecs = {**kinds, Integer: kinds[BigInteger]}

    @event.listens_for(engine, "connect")
    def adapt(connection: Any, _record: object) -> None:
        connection.adapters.register_dumper(str, _WithoutNul)

    return engine
