# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of the collector. Times are Unix seconds; words are kept as codes (`bdcs.domain.codes`).

machines ─┬─ segments ──── package_state_changes ─┬─ packages
          └─ installations ───────────────────────┼─ versions
                             figures ─────────────┴─ repositories

A machine's changes are found through its segments: those of one have consecutive ids from `first_change`.
Foreign keys are documentation: SQLite does not check them here, since ids never come from outside.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

# An id that SQLite takes as its rowid (only INTEGER does), and that does not run out elsewhere.
_Id = BigInteger().with_variant(Integer(), "sqlite")

machines = Table(
    "machines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),  # bdcs.domain.machines.State
    Column("registered_at", BigInteger, nullable=False),
    Column("head_seq", BigInteger, nullable=False),  # seq of the last record accepted; 0 before the first
    Column("head_digest", LargeBinary),  # SHA-256 of the last segment's compact form
    sqlite_autoincrement=True,  # an erased machine's number never becomes another's
)

packages = Table(
    "packages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("category", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("category", "name"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", Text, nullable=False, unique=True),
)

repositories = Table(
    "repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

audiences = Table(
    "audiences",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("url", Text, nullable=False, unique=True),  # a public_url that segments were addressed to
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
    Column("id", _Id, primary_key=True),
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
    Column("id", _Id, primary_key=True),  # in order of commit, without reuse
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
    Column("extra", Text),  # JSON object of the fields that this version does not know
    Index(None, "package_id"),
)

installations = Table(
    "installations",
    metadata,
    Column("machine_id", Integer, ForeignKey("machines.id"), primary_key=True),
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True),
    Column("version_id", Integer, ForeignKey("versions.id"), primary_key=True),
    Column("repository_id", Integer, ForeignKey("repositories.id")),
    Column("installed_at", BigInteger, nullable=False),
    Column("flags", SmallInteger, nullable=False),  # bdcs.domain.installations: present, counted
    Index(None, "package_id", "version_id"),
    sqlite_with_rowid=False,
)

figures = Table(
    "figures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("package_id", Integer, ForeignKey("packages.id"), nullable=False),
    Column("version_id", Integer, ForeignKey("versions.id")),  # null: the package's own figure
    Column("published", Integer, nullable=False),
    Column("gone", Integer, nullable=False),  # machines counted in `published` that were erased since
    Index("uq_figures_version", "package_id", "version_id", unique=True),
    Index(
        "uq_figures_package",
        "package_id",
        unique=True,
        sqlite_where=text("version_id IS NULL"),
        postgresql_where=text("version_id IS NULL"),
    ),
)

fleet_figures = Table(
    "fleet_figures",
    metadata,
    Column("name", Text, primary_key=True),  # "machines", or a day: the machines that reported on it
    Column("published", Integer, nullable=False),
    Column("gone", Integer, nullable=False),
    sqlite_with_rowid=False,
)

fleet_members = Table(
    "fleet_members",
    metadata,
    # counted in the published figure "machines"
    Column("machine_id", Integer, ForeignKey("machines.id"), primary_key=True, autoincrement=False),
)

touched_packages = Table(
    "touched_packages",
    metadata,
    # to be looked at when figures are published next
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True, autoincrement=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("hash", LargeBinary, primary_key=True),  # HMAC of an erased machine's UUID, and nothing else of it
    sqlite_with_rowid=False,
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("id", LargeBinary, primary_key=True),  # hash of machine and jti of a request token that was obeyed
    Column(
        "request", LargeBinary, nullable=False, unique=True
    ),  # hash of the token and what it was sent with
    Column("expires_at", BigInteger, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)

sequences = Table(
    "sequences",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),  # the last number given out; outlives the rows that bore it
)
