# SPDX-License-Identifier: GPL-2.0-or-later
"""What ebuild repositories offer."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    event,
    text,
)

from bdcs.store.tables.schema import Chars, metadata

catalogue_repositories = Table(
    "catalogue_repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Chars, nullable=False, unique=True),
    Column("location", Chars, nullable=False),  # absolute path of the directory that is read
    Column("sync_type", Chars, nullable=False),  # bdcs.domain.ebuild_repositories.SyncType
    Column("sync_uri", Chars, nullable=False),  # empty for a local directory
    Column("own_mirror", Boolean, nullable=False),  # may be asked as often as a local directory is read
    Column("added_at", BigInteger, nullable=False),
    Column("tried_at", BigInteger),
    Column("read_at", BigInteger),  # when it was last known to be as the rows say
    Column("problem", Chars),  # why the last try came to nothing
    Column(
        "revision", Chars
    ),  # the commit that was read; null: not all of one was, or it is no git repository
    Column("packages", Integer, nullable=False),
    Column("versions", Integer, nullable=False),
    Column("uncached", Integer, nullable=False),  # ebuilds without a metadata cache
    sqlite_autoincrement=True,
)

catalogue_packages = Table(
    "catalogue_packages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("category", Chars, nullable=False),
    Column("name", Chars, nullable=False),
    Column("description", Chars, nullable=False),  # of the newest version
    Column("homepage", Chars, nullable=False),  # URIs of the newest version
    UniqueConstraint("category", "name"),
)

catalogue_versions = Table(
    "catalogue_versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("package_id", Integer, ForeignKey("catalogue_packages.id"), nullable=False),
    Column("repository_id", Integer, ForeignKey("catalogue_repositories.id"), nullable=False),
    Column("version", Chars, nullable=False),  # with revision
    Column("slot", Chars, nullable=False),  # with sub-slot where it has one
    Column("eapi", Chars, nullable=False),
    Column("keywords", Chars, nullable=False),
    Column("iuse", Chars, nullable=False),
    Column("license", Chars, nullable=False),
    Column("restrict", Chars, nullable=False),
    Column("properties", Chars, nullable=False),
    Column("description", Chars, nullable=False),
    Column("homepage", Chars, nullable=False),
    Column("dependencies", Chars, nullable=False),  # SHA-256 of all kinds of them
    Column("cache_size", BigInteger, nullable=False),  # of the file that all this was read from: unchanged,
    Column("cache_mtime_ns", BigInteger, nullable=False),  # it is not read again
    Column("added_at", BigInteger, nullable=False),
    Column("is_new", Boolean, nullable=False),  # nobody has looked yet whether it is to be built
    UniqueConstraint("repository_id", "package_id", "version"),
    Index(None, "package_id"),
    Index(
        "ix_catalogue_versions_is_new",
        "id",
        sqlite_where=text("is_new"),
        postgresql_where=text("is_new"),
    ),
)

catalogue_dependencies = Table(
    "catalogue_dependencies",
    metadata,
    # what versions of the catalogue need of a package, whether that is in the catalogue or not
    Column("category", Chars, primary_key=True),
    Column("name", Chars, primary_key=True),
    Column("version_id", Integer, ForeignKey("catalogue_versions.id"), primary_key=True, index=True),
    Column("atoms", Chars, nullable=False),  # bdcs.domain.needs
    sqlite_with_rowid=False,
)

catalogue_unreadable = Table(
    "catalogue_unreadable",
    metadata,
    # files of a metadata cache that nothing can be learnt from
    Column("repository_id", Integer, ForeignKey("catalogue_repositories.id"), primary_key=True),
    Column("path", Chars, primary_key=True),
    Column("cache_size", BigInteger, nullable=False),
    Column("cache_mtime_ns", BigInteger, nullable=False),
    Column("reason", Chars, nullable=False),
    sqlite_with_rowid=False,
)

made_metadata = Table(
    "made_metadata",
    metadata,
    # cache entries that builders made of ebuilds whose repository has none of them
    Column("repository_id", Integer, ForeignKey("catalogue_repositories.id"), primary_key=True),
    Column("path", Chars, primary_key=True),  # CATEGORY/PF
    Column("ebuild_md5", Chars, nullable=False),  # of the ebuild that it says this of: of no other
    Column("content", LargeBinary, nullable=False),
    Column("made_at_ns", BigInteger, nullable=False),  # Unix nanoseconds
    sqlite_with_rowid=False,
)

# The words of the catalogue (`bdcs.store.words`); in SQLite a virtual table, which SQLAlchemy cannot name.
SEARCH_TABLE = "catalogue_search"

_SEARCH = {
    "sqlite": (
        f"CREATE VIRTUAL TABLE {SEARCH_TABLE} USING"
        " fts5(name, description, tokenize='unicode61', prefix='2 3')",
    ),
    "postgresql": (
        f"CREATE TABLE {SEARCH_TABLE} (package_id integer PRIMARY KEY, words tsvector NOT NULL)",
        f"CREATE INDEX ix_{SEARCH_TABLE}_words ON {SEARCH_TABLE} USING gin (words)",
    ),
}


@event.listens_for(catalogue_packages, "after_create")
def _make_search(_table: Table, connection: Connection, **_options: object) -> None:
    for statement in _SEARCH[connection.dialect.name]:
        connection.exec_driver_sql(statement)
