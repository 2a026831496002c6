# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collector remembers of itself, and what it is about to tell."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)

from bdcs.store.tables.schema import Chars, Id, metadata

tombstones = Table(
    "tombstones",
    metadata,
    Column("hash", LargeBinary, primary_key=True),  # HMAC of an erased machine's UUID, and nothing else of it
    sqlite_with_rowid=False,
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Chars, primary_key=True),
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
    Column("body", Chars, nullable=False),
    sqlite_with_rowid=False,
)

sequences = Table(
    "sequences",
    metadata,
    Column("name", Chars, primary_key=True),
    Column("value", BigInteger, nullable=False),  # the last number given out; outlives the rows that bore it
)

leases = Table(
    "leases",
    metadata,
    # what one process at a time does, and which one now (`bdcs.services.leases`)
    Column("name", Chars, primary_key=True),
    Column("holder", Chars, nullable=False),
    Column("number", BigInteger, nullable=False),  # how often it was taken
    Column("until", BigInteger, nullable=False),  # Unix milliseconds, by the clock of the store
    sqlite_with_rowid=False,
)

event_feeds = Table(
    "event_feeds",
    metadata,
    # who takes events out of the outbox; without a row nothing is put there (`bdcs.services.outbox`)
    Column("name", Text, primary_key=True),
    Column("since", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

outbox = Table(
    "outbox",
    metadata,
    # events that are durable and not yet published; a row goes when the broker has confirmed it
    Column("id", Id, primary_key=True),
    Column("event", Text, nullable=False),  # UUID that tells repetitions
    Column("exchange", Text, nullable=False),  # gentwoo_client.wire.events
    Column("key", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("target_id", Integer, ForeignKey("targets.id")),  # whose packages it tells of; null: of none
    Column("machine", Text),  # UUID of the machine that it tells of; null: of none
    Column("body", Text, nullable=False),  # JSON
    Column("tries", Integer, nullable=False, server_default=text("0")),  # that the broker refused
    Column("retry_at", BigInteger),  # it is set aside until then; null: it is not
    Index(
        None,
        "machine",
        sqlite_where=text("machine IS NOT NULL"),
        postgresql_where=text("machine IS NOT NULL"),
    ),
    Index(
        None,
        "retry_at",
        sqlite_where=text("retry_at IS NOT NULL"),
        postgresql_where=text("retry_at IS NOT NULL"),
    ),
)
