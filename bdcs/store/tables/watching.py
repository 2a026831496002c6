# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of packages to who watches them, and what leaves the repositories."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table

from bdcs.store.tables.schema import Chars, metadata

watches = Table(
    "watches",
    metadata,
    Column("id", Chars, primary_key=True),  # short random text
    Column("machine_id", Integer, ForeignKey("machines.id")),  # whose it is; null: the operator's
    Column("feed", Chars, nullable=False),  # secret part of its owner's feed's address
    Column("category", Chars, nullable=False),
    Column("name", Chars, nullable=False),
    Column("topics", Chars, nullable=False),  # bdcs.domain.watching.Topic, with spaces between
    Column("webhook", Chars),  # URL
    Column("secret", LargeBinary),  # that its messages are signed with
    Column("created_at", BigInteger, nullable=False),
    Index(None, "machine_id"),
    Index(None, "feed"),
    Index(None, "category", "name"),
    sqlite_with_rowid=False,
)

watched_packages = Table(
    "watched_packages",
    metadata,
    # what was public of a package when it was last looked at
    Column("category", Chars, primary_key=True),
    Column("name", Chars, primary_key=True),
    Column("seen", Chars, nullable=False),  # JSON (bdcs.domain.watching.Sight)
    sqlite_with_rowid=False,
)

watch_events = Table(
    "watch_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("category", Chars, nullable=False),
    Column("name", Chars, nullable=False),
    Column("topic", Chars, nullable=False),
    Column("text", Chars, nullable=False),
    Column("facts", Chars, nullable=False),  # JSON object
    Column("created_at", BigInteger, nullable=False),
    Index(None, "category", "name"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    # events on their way to webhooks
    Column("id", Integer, primary_key=True),
    Column("watch_id", Chars, ForeignKey("watches.id"), nullable=False),
    Column("event_id", Integer, ForeignKey("watch_events.id"), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger),  # when it is tried next; null: it has ended
    Column("delivered_at", BigInteger),
    Column("problem", Chars),  # why the last attempt came to nothing
    Index(None, "watch_id"),
    Index(None, "next_at"),
    sqlite_autoincrement=True,
)

leaving = Table(
    "leaving",
    metadata,
    # packages that are about to leave their repository; public
    Column("id", Integer, primary_key=True),
    Column("atom", Chars, nullable=False, unique=True),
    Column("category", Chars, nullable=False),
    Column("name", Chars, nullable=False),
    Column("reason", Chars, nullable=False),
    Column("leaves_on", Chars),  # a day, as ISO 8601 writes it
    Column("created_at", BigInteger, nullable=False),
)
