# SPDX-License-Identifier: GPL-2.0-or-later
"""Bring a store to the schema of this version (forward only), or see that it is there.

Several collectors are upgraded one after another, so those of the version before have to work with the new
schema for a while. A migration that lets them says which is the `oldest` schema whose software does (see
`script.py.mako`); the store keeps that, and software of that schema or a newer one serves from it. What they
would not understand, such as a column that goes, comes a release later. 0018 is the first whose software asks
for that: what is older takes no schema but its own, so that earlier migrations have nothing to say.
"""

from __future__ import annotations

import secrets as randomness
from importlib import resources

from sqlalchemy import Connection, inspect, select, text

from bdcs.errors import SchemaMismatch
from bdcs.store import tables
from bdcs.store.upserts import upsert

HEAD = "0022"  # the newest revision under store/migrations/versions
USABLE_SINCE = "0019"  # the oldest schema whose software may use a store of HEAD, as its migrations say
OLDEST = "oldest-schema"
"""The sequence that holds the oldest schema whose software may use the store."""

SECRETS = ("tombstones", "report-links")
SECRET_SIZE = 32  # bytes
_SEQUENCES = tables.sequences


def current(connection: Connection) -> str | None:
    """Return the revision that the store has, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def require(connection: Connection) -> None:
    """Raise `SchemaMismatch` unless the store has this version's schema, or a newer one that allows it."""
    found = current(connection)
    if found is None or found < HEAD:  # revisions are numbers of four digits
        raise SchemaMismatch(found, HEAD)
    require_known(connection)


def require_same(connection: Connection) -> None:
    """Raise `SchemaMismatch` unless the store has the schema of this version, and no other."""
    found = current(connection)
    if found != HEAD:
        raise SchemaMismatch(found, HEAD)


def require_known(connection: Connection) -> None:
    """Raise `SchemaMismatch` where newer software made the store such that this version cannot use it."""
    found = current(connection)
    if found is not None and found > HEAD and _oldest(connection) > HEAD:
        raise SchemaMismatch(found, HEAD)


def upgrade(connection: Connection) -> str | None:
    """Apply the migrations that are missing, in the transaction of `connection`; return the revision before.

    An empty store gets at once what all migrations together make. A newer schema that allows this version
    stays as it is. Raises `SchemaMismatch` where it does not.
    """
    before = current(connection)
    require_known(connection)
    if before is not None and before > HEAD:
        return before
    if before is None:
        _create(connection)
    elif before != HEAD:
        migrate(connection, before)
    _seed(connection)
    return before


def _oldest(connection: Connection) -> str:
    """Return the oldest schema whose software may use the store; without a word of it, the store's own."""
    oldest = connection.scalar(select(_SEQUENCES.c.value).where(_SEQUENCES.c.name == OLDEST))
    return current(connection) or HEAD if oldest is None else f"{oldest:04}"


def note_oldest(connection: Connection, revision: str) -> None:
    """Keep that software of this schema, and newer one, may use the store; what was older stays excluded."""
    known = upsert(_SEQUENCES).values(name=OLDEST, value=int(revision))
    connection.execute(
        known.on_conflict_do_update(
            index_elements=["name"],
            set_={"value": known.excluded.value},
            where=_SEQUENCES.c.value < int(revision),
        )
    )


def migrate(connection: Connection, before: str | None) -> None:
    """Apply the migrations that come after `before`, or all. Raises `SchemaMismatch` if there is no such."""
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


def _create(connection: Connection) -> None:
    tables.metadata.create_all(connection)
    note_oldest(connection, USABLE_SINCE)
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
