# SPDX-License-Identifier: GPL-2.0-or-later
"""Bring a store to the schema of this version (forward only), or see that it is there."""

from __future__ import annotations

import secrets as randomness
from importlib import resources

from sqlalchemy import Connection, inspect, select, text

from bdcs.errors import SchemaMismatch
from bdcs.store import tables

HEAD = "0018"  # the newest revision under store/migrations/versions
SECRETS = ("tombstones", "report-links")
SECRET_SIZE = 32  # bytes


def current(connection: Connection) -> str | None:
    """Return the revision that the store has, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def require(connection: Connection) -> None:
    """Raise `SchemaMismatch` unless the store has the schema that this version works with."""
    found = current(connection)
    if found != HEAD:
        raise SchemaMismatch(found, HEAD)


def require_known(connection: Connection) -> None:
    """Raise `SchemaMismatch` where the store was made by newer software: `upgrade` could do nothing."""
    found = current(connection)
    if found is not None and found > HEAD:  # revisions are numbers of four digits
        raise SchemaMismatch(found, HEAD)


def upgrade(connection: Connection) -> str | None:
    """Apply the migrations that are missing, in the transaction of `connection`; return the revision before.

    Only SQLite's stores have come all the way; elsewhere an empty store gets the tables as they are now.
    Raises `SchemaMismatch` where the store was made by newer software.
    """
    before = current(connection)
    if before is None and connection.dialect.name != "sqlite":
        tables.metadata.create_all(connection)
        _stamp(connection)
    elif before != HEAD:
        _migrate(connection, before)
    _seed(connection)
    return before


def _migrate(connection: Connection, before: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    with resources.as_file(resources.files("bdcs.store") / "migrations") as directory:
        config.set_main_option("script_location", str(directory).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if before is not None and before not in known:
            raise SchemaMismatch(before, HEAD)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _stamp(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": HEAD})


def _seed(connection: Connection) -> None:
    """Put in what every store has: its secrets, and the dictionary that this version compresses with."""
    for name in SECRETS:
        if (
            connection.execute(select(tables.secrets.c.name).where(tables.secrets.c.name == name)).first()
            is None
        ):
            connection.execute(
                tables.secrets.insert().values(name=name, value=randomness.token_bytes(SECRET_SIZE))
            )
    content = (resources.files("bdcs.store") / "dictionaries" / "segments.zdict").read_bytes()
    known = select(tables.dictionaries.c.id).where(tables.dictionaries.c.content == content)
    if connection.execute(known).first() is None:
        connection.execute(tables.dictionaries.insert().values(content=content))
