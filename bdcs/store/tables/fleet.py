# SPDX-License-Identifier: GPL-2.0-or-later
"""What is published of all machines together, and what is kept to publish it anew."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, SmallInteger, Table, text

from bdcs.store.tables.schema import Chars, metadata

figures = Table(
    "figures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("package_id", Integer, ForeignKey("packages.id"), nullable=False),
    Column("version_id", Integer, ForeignKey("versions.id")),  # null: the package's own figure
    Column("published", Integer, nullable=False),
    Column("gone", Integer, nullable=False),  # machines counted in `published` that were erased since
    Column("counted", Integer),  # all machines counted in it, `gone` ones too; null: unknown
    Index("uq_figures_version", "package_id", "version_id", unique=True),
    Index(
        "uq_figures_package",
        "package_id",
        unique=True,
        sqlite_where=text("version_id IS NULL"),
        postgresql_where=text("version_id IS NULL"),
    ),
    Index(
        "ix_figures_published",
        "published",
        "package_id",
        sqlite_where=text("version_id IS NULL"),
        postgresql_where=text("version_id IS NULL"),
    ),
)

fleet_figures = Table(
    "fleet_figures",
    metadata,
    Column("name", Chars, primary_key=True),  # "machines", or a day: the machines that reported on it
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

away_machines = Table(
    "away_machines",
    metadata,
    # whose installations are marked as of a machine that counts nowhere just now
    Column("machine_id", Integer, primary_key=True, autoincrement=False),
)

touched_packages = Table(
    "touched_packages",
    metadata,
    # to be looked at when figures are published next
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True, autoincrement=False),
)

statistic_cells = Table(
    "statistic_cells",
    metadata,
    # a public count of machines that is none of what is installed now (`figures`)
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True),
    Column("topic", SmallInteger, primary_key=True),  # bdcs.domain.statistics.Topic
    Column("version_id", Integer, primary_key=True),  # 0: the package in any version
    Column("bucket", Integer, primary_key=True),  # the topic says of what: a week, a repository, a duration
    Column("published", Integer, nullable=False),
    Column("as_of", BigInteger, nullable=False),  # the last change that `published` knows of
    Column("gone", Integer, nullable=False),  # machines counted in `published` that were erased since
    Index(None, "topic", "bucket", "published"),
    sqlite_with_rowid=False,
)

version_dates = Table(
    "version_dates",
    metadata,
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True),
    Column("version_id", Integer, ForeignKey("versions.id"), primary_key=True),
    Column("arrived_at", BigInteger),  # when a crowd had it; null: never
    Column("holders", Integer, nullable=False),  # machines that had ever had it when that was found out
    Column("failing_since", BigInteger),  # when it had failed on a crowd
    sqlite_with_rowid=False,
)

package_statistics = Table(
    "package_statistics",
    metadata,
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True, autoincrement=False),
    Column("records", Integer, nullable=False),  # that were there when its cells were published last
    Column("pending", Integer, nullable=False),  # that came or went since
    Column("released_at", BigInteger),  # null: never looked at
    Column("machines", Integer, nullable=False),  # its newest weekly figure, as published
    Column("earlier", Integer, nullable=False),  # the one some weeks before; 0: not shown
    Column("seconds", Integer, index=True),  # to build it, the median of what is published
    sqlite_with_rowid=False,
)

machine_weeks = Table(
    "machine_weeks",
    metadata,
    # what a machine did in a week, by its own clock
    Column("machine_id", Integer, ForeignKey("machines.id"), primary_key=True),
    Column("week", Integer, primary_key=True),  # bdcs.domain.statistics.week_of
    Column("merges", Integer, nullable=False),
    Column("seconds", BigInteger, nullable=False),  # of compiling, shared among merges at once
    Column("first_change", BigInteger, nullable=False),
    Column("last_change", BigInteger, nullable=False),
    Index(None, "week"),
    sqlite_with_rowid=False,
)

fleet_weeks = Table(
    "fleet_weeks",
    metadata,
    Column("week", Integer, primary_key=True, autoincrement=False),
    Column("due", Boolean, nullable=False),  # records came or went since it was looked at
    Column("machines", Integer),  # as published; null: never
    Column("merges", Integer),  # null: never published, or too much of it is one machine's
    Column("seconds", BigInteger),
    Column("saved", BigInteger),  # seconds that binary packages saved, from published figures
    Column("as_of", BigInteger, nullable=False),
    Column("gone", Integer, nullable=False),
    sqlite_with_rowid=False,
)

predictions = Table(
    "predictions",
    metadata,
    # how long packages take, as published (`bdcs.domain.duration_fit`)
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True),
    Column("major", Chars, primary_key=True),  # major version; empty: all of them
    Column("log", Integer, nullable=False),  # hundredths of the logarithm of seconds
    Column("spread", Integer, nullable=False),  # hundredths; how far machines differ
    Column("machines", Integer, nullable=False),  # published figure
    Column("as_of", BigInteger, nullable=False),  # last change that it counts
    Column("gone", Integer, nullable=False),  # machines that it counts and that were erased since
    Column("published_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
