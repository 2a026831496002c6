# SPDX-License-Identifier: GPL-2.0-or-later
"""One statement, the same text for every engine."""

import pytest
from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from bdcs.store.tables import sequences
from bdcs.store.upserts import upsert


@pytest.mark.parametrize("dialect", [SQLiteDialect_pysqlite(), PGDialect_psycopg()], ids=type)  # type: ignore[no-untyped-call]
def test_every_engine_is_told_what_to_do_about_a_conflict(dialect: Dialect) -> None:
    new = upsert(sequences).values(name="change", value=5)
    update = new.on_conflict_do_update(index_elements=["name"], set_={"value": new.excluded.value})
    nothing = new.on_conflict_do_nothing(index_elements=["name"])
    assert str(update.compile(dialect=dialect)).endswith(
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
    assert str(nothing.compile(dialect=dialect)).endswith("ON CONFLICT (name) DO NOTHING")
