# SPDX-License-Identifier: GPL-2.0-or-later
"""Alembic's entry: run the migrations on the connection that `bdcs.store.schema` hands over."""

from __future__ import annotations

from typing import Any

from alembic import context

from bdcs.store.schema import note_oldest
from bdcs.store.tables import metadata

WITHOUT_WORD = "0018"  # the last migration that did not say yet which software may use the store after it


def note(*, ctx: Any, step: Any, **_more: Any) -> None:
    """Keep which software may use the store after a migration: without a word of it, its own alone."""
    script = context.script.get_revision(step.up_revision_id)
    if script.revision > WITHOUT_WORD:
        note_oldest(ctx.connection, getattr(script.module, "oldest", script.revision))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
    on_version_apply=note,  # type: ignore[arg-type]  # it is called with names, and told more each year
)
context.run_migrations()
