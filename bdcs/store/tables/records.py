# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines, and what happened on them.

A machine's changes are found through its segments: those of one have consecutive ids from `first_change`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    UniqueConstraint,
    event,
    text,
)

from bdcs.store.tables.schema import Chars, Id, metadata

machines = Table(
    "machines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", Chars, nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("state", Chars, nullable=False),  # bdcs.domain.machines.State
    Column("registered_at", BigInteger, nullable=False),
    Column("head_seq", BigInteger, nullable=False),  # seq of the last record accepted; 0 before the first
    Column("head_digest", LargeBinary),  # SHA-256 of the last segment's compact form
    sqlite_autoincrement=True,  # an erased machine's number never becomes another's
)

packages = Table(
    "packages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("category", Chars, nullable=False),
    Column("name", Chars, nullable=False),
    UniqueConstraint("category", "name"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", Chars, nullable=False, unique=True),
)

repositories = Table(
    "repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Chars, nullable=False, unique=True),
)

audiences = Table(
    "audiences",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("url", Chars, nullable=False, unique=True),  # a public_url that segments were addressed to
)

dictionaries = Table(
    "dictionaries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),  # zstd dictionary that evidence was compressed with
)

segments = Table(
    "segments",
    metadata,
    Column("id", Id, primary_key=True),
    Column("machine_id", Integer, ForeignKey("machines.id"), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("records", Integer, nullable=False),  # how many; the last seq is first_seq + records - 1
    Column("first_change", BigInteger, nullable=False),  # id of the first record's row; the others follow it
    Column("created_at", BigInteger, nullable=False),  # our own time of receipt
    Column("audience_id", SmallInteger, ForeignKey("audiences.id"), nullable=False),
    Column("dictionary_id", SmallInteger, ForeignKey("dictionaries.id"), nullable=False),
    Column(
        "form", SmallInteger, nullable=False
    ),  # bdcs.domain.evidence.Form: what was left out of `evidence`
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the compact form
    Column("signature", LargeBinary, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    UniqueConstraint("machine_id", "first_seq"),
)

package_state_changes = Table(
    "package_state_changes",
    metadata,
    Column("id", Id, nullable=False, autoincrement=False),  # in order of commit, without reuse
    Column("machine_id", Integer, ForeignKey("machines.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("package_id", Integer, ForeignKey("packages.id"), nullable=False),
    Column("version_id", Integer, ForeignKey("versions.id"), nullable=False),
    Column("repository_id", Integer, ForeignKey("repositories.id")),
    Column("event", SmallInteger, nullable=False),
    Column("install_type", SmallInteger),
    Column("cause", SmallInteger),
    Column("replaces_id", Integer, ForeignKey("versions.id")),
    Column("recorded_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("time_delta", BigInteger),
    Column("concurrency", Integer),  # hundredths
    Column("observed", SmallInteger, nullable=False),
    Column("clock", SmallInteger, nullable=False),
    Column("extra", Chars),  # JSON object of the fields that this version does not know
    PrimaryKeyConstraint("id").ddl_if(dialect="sqlite"),  # elsewhere `_make_key`
    Index(None, "package_id"),
    postgresql_partition_by="RANGE (created_at)",  # bdcs.store.partitions
)


@event.listens_for(package_state_changes, "after_create")
def _make_key(table: Table, connection: Connection, **_options: object) -> None:
    if connection.dialect.name == "postgresql":  # where keys are those of parts, and have to say of which
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD PRIMARY KEY (id, created_at)")


installations = Table(
    "installations",
    metadata,
    Column("machine_id", Integer, ForeignKey("machines.id"), primary_key=True),
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True),
    Column("version_id", Integer, ForeignKey("versions.id"), primary_key=True),
    Column("repository_id", Integer, ForeignKey("repositories.id")),
    Column("installed_at", BigInteger, nullable=False),
    Column("flags", SmallInteger, nullable=False),  # bdcs.domain.installations: present, counted, away
    Index(None, "package_id", "version_id"),
    # those that `installations.SETTLED` has not: in figures there is something to do for them
    Index(
        "ix_installations_unsettled",
        "package_id",
        "version_id",
        sqlite_where=text("flags NOT IN (7, 9)"),
        postgresql_where=text("flags NOT IN (7, 9)"),
    ),
    sqlite_with_rowid=False,
)

quarantines = Table(
    "quarantines",
    metadata,
    # what counts nowhere in public, and why: a machine, or a package
    Column("id", Integer, primary_key=True),
    Column("machine_id", Integer, ForeignKey("machines.id"), unique=True),
    Column("package_id", Integer, ForeignKey("packages.id"), unique=True),
    Column("reason", Chars, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
