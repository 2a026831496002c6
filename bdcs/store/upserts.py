# SPDX-License-Identifier: GPL-2.0-or-later
"""`INSERT … ON CONFLICT`, one statement for every engine that stores what we store.

SQLite and PostgreSQL write it alike, and SQLAlchemy has a construct of the same form for each; only the one
for SQLite knows no constraint by its name, which the compiler for PostgreSQL asks for. Statements are
compiled once and remembered, so this costs nothing when they run.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.dialects.sqlite.dml import OnConflictDoNothing, OnConflictDoUpdate
from sqlalchemy.ext.compiler import compiles

__all__ = ["upsert"]


@compiles(OnConflictDoUpdate, "postgresql")
def _do_update(clause: Any, compiler: Any, **options: Any) -> Any:
    clause.constraint_target = None
    return compiler.visit_on_conflict_do_update(clause, **options)


@compiles(OnConflictDoNothing, "postgresql")
def _do_nothing(clause: Any, compiler: Any, **options: Any) -> Any:
    clause.constraint_target = None
    return compiler.visit_on_conflict_do_nothing(clause, **options)
