# SPDX-License-Identifier: GPL-2.0-or-later
"""Alembic's entry: run the migrations on the connection that `bdcs.store.schema` hands over."""

from __future__ import annotations

from alembic import context

from bdcs.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
