# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds on request, what builders made of them, and what is asked for often."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    text,
)

from bdcs.store.tables.schema import Chars, metadata

requests = Table(
    "requests",
    metadata,
    Column("id", Chars, primary_key=True),  # short random text
    Column("machine_id", Integer, ForeignKey("machines.id")),  # null: the collector itself
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("cancelled_at", BigInteger),
    Column("finished_at", BigInteger),  # null: something of it waits
    Column("idempotency", Chars, unique=True),  # hash of machine and the key that it chose
    Column("note", Chars, nullable=False),  # the atoms that it asked for, JSON
    Column("access", LargeBinary),  # hash of the token that opened a private target for it
    Index(None, "machine_id", "created_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("digest", Chars, nullable=False),  # of the specification
    Column("cpv", Chars, nullable=False),
    Column("category", Chars, nullable=False),
    Column("name", Chars, nullable=False),
    Column("version", Chars, nullable=False),
    Column("repository", Chars, nullable=False),
    Column("specification", Chars, nullable=False),  # JSON
    Column("state", Chars, nullable=False),  # bdcs.domain.jobs.JobState
    Column("priority", Integer, nullable=False),  # the highest goes first
    Column("origin", Chars, nullable=False),  # bdcs.domain.jobs.Origin
    Column("created_at", BigInteger, nullable=False),
    Column("queued_at", BigInteger, nullable=False),  # since when it waits for a builder
    Column("finished_at", BigInteger),
    Column("failure", Chars),  # bdcs.domain.jobs.Failure
    Column("failure_text", Chars),
    Column("failed_until", BigInteger),  # so long nobody tries again without being told to
    Column("build_id", BigInteger, ForeignKey("builds.id")),  # what became of it
    Column("expected_seconds", Integer),
    Index(
        "uq_jobs_in_flight",
        "target_id",
        "digest",
        unique=True,
        sqlite_where=text("state IN ('waiting', 'queued', 'building')"),
        postgresql_where=text("state IN ('waiting', 'queued', 'building')"),
    ),
    Index(None, "target_id", "digest"),
    Index(None, "state", "target_id"),
    Index(None, "category", "name"),
    sqlite_autoincrement=True,
)

job_dependencies = Table(
    "job_dependencies",
    metadata,
    # a job is not given to a builder before those that it needs have ended
    Column("job_id", Integer, ForeignKey("jobs.id"), primary_key=True),
    Column("needs_job_id", Integer, ForeignKey("jobs.id"), primary_key=True),
    Index(None, "needs_job_id"),
    sqlite_with_rowid=False,
)

queue = Table(
    "queue",
    metadata,
    # queued jobs, for each machine that waits for them, in the order of its turns (`bdcs.services.queueing`)
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True, autoincrement=False),
    Column("priority", Integer, primary_key=True, autoincrement=False),
    Column("machine_id", Integer, primary_key=True, autoincrement=False),  # 0: the collector itself
    Column("queued_at", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", Integer, ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Index(None, "job_id"),
    sqlite_with_rowid=False,
)

members = Table(
    "members",
    metadata,
    # the packages of a request
    Column("request_id", Chars, ForeignKey("requests.id"), primary_key=True),
    Column("position", Integer, primary_key=True),  # in the machine's plan, from 0
    Column("cpv", Chars, nullable=False),
    Column("digest", Chars, nullable=False),
    Column("job_id", Integer, ForeignKey("jobs.id")),
    Column("build_id", BigInteger, ForeignKey("builds.id")),
    Column("answer", Chars, nullable=False),  # bdcs.domain.jobs.Answer: what was told at first
    Column("state", Chars, nullable=False),  # bdcs.domain.jobs.MemberState
    Column("refusal", Chars),  # bdcs.domain.jobs.Refusal
    Column("reason", Chars),  # … in words; of a mismatch, the difference
    Index(None, "job_id"),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),  # of the job, from 1; whoever acts names it (fencing)
    Column("machine_id", Integer, ForeignKey("machines.id")),  # the builder; null: erased since
    Column("builder", Chars, nullable=False),  # the name it gave itself
    Column("started_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("state", Chars, nullable=False),  # bdcs.domain.jobs.AttemptState
    Column("failure", Chars),  # bdcs.domain.jobs.Failure
    Column("failure_text", Chars),
    Column("log_size", BigInteger, nullable=False),  # bytes in DATA/logs
    Column("left_out", Chars),  # JSON: CPVs that were built as well and must not be passed on; null: none
    Column("log_deleted_at", BigInteger),  # null: the log is there, if there ever was one
    UniqueConstraint("job_id", "number"),
    Index(None, "state", "lease_until"),
    sqlite_autoincrement=True,
)

builders = Table(
    "builders",
    metadata,
    # those that asked for work; which targets a machine may build for: builder_targets
    Column("machine_id", Integer, ForeignKey("machines.id"), primary_key=True),
    Column("name", Chars, primary_key=True),
    Column("targets", Chars, nullable=False),  # JSON: names
    Column("seen_at", BigInteger, nullable=False),
    Column("draining", Boolean, nullable=False),  # it says that it takes no more work
    Column("appeared_at", BigInteger),  # when it came, or came back; null: before anybody wrote that down
    Column("drained_by", Chars),  # who has it get no more work: operator or autoscale; null: nobody
    sqlite_with_rowid=False,
)

pools = Table(
    "pools",
    metadata,
    # builders that come and go, as `bdcs autoscale` last saw them
    Column("name", Chars, primary_key=True),
    Column("targets", Chars, nullable=False),  # JSON: names
    Column("engine", Chars, nullable=False),  # who starts them, such as asg
    Column("looked_at", BigInteger, nullable=False),
    Column("most", Integer, nullable=False),  # builders that there may be
    Column("needed", Integer, nullable=False),  # … that there should be
    Column("wanted", Integer, nullable=False),  # … that the engine was told to have
    Column("ready", Integer, nullable=False),  # … that take work
    Column("leaving", Integer, nullable=False),  # … that take none, and end what they build
    Column("work", BigInteger, nullable=False),  # seconds that are to be built
    Column("trouble", Chars),  # why the engine could not be asked, or did not do it; null: it did
    sqlite_with_rowid=False,
)

requesters = Table(
    "requesters",
    metadata,
    # whose turn it is: machines that had a job started longest ago come first
    Column("machine_id", Integer, primary_key=True, autoincrement=False),  # 0: the collector itself
    Column("served", Integer, nullable=False),  # the last attempt that was begun for it
)

prebuild_cells = Table(
    "prebuild_cells",
    metadata,
    # a public count of machines that asked for something at a target (`bdcs.services.prebuild_demand`)
    Column("id", Integer, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("category", Chars, nullable=False),  # empty, as all that follow: those that asked for anything
    Column("name", Chars, nullable=False),
    Column("slot", Chars, nullable=False),  # without sub-slot
    Column("repository", Chars, nullable=False),
    Column("keywords", Chars, nullable=False),  # of the variant, with spaces between
    Column("use", Chars, nullable=False),  # flags that it enables, with spaces between; "*": any variant
    Column("published", Integer, nullable=False),
    Column("gone", Integer, nullable=False),  # machines counted in `published` that were erased since
    Column("model", Chars),  # of a variant: the specification that most of them asked for, JSON
    UniqueConstraint("target_id", "category", "name", "slot", "repository", "keywords", "use"),
)

prebuild_counted = Table(
    "prebuild_counted",
    metadata,
    # machines that the published figure of a cell counts
    Column("cell_id", Integer, ForeignKey("prebuild_cells.id"), primary_key=True, autoincrement=False),
    Column("machine_id", Integer, ForeignKey("machines.id"), primary_key=True, autoincrement=False),
    Index(None, "machine_id"),
    sqlite_with_rowid=False,
)

log_pieces = Table(
    "log_pieces",
    metadata,
    # logs of attempts, as they come, where several collectors share the store (`bdcs.services.stored_logs`)
    Column("attempt_id", Integer, primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),  # bytes of the log before it
    Column("size", Integer, nullable=False),  # bytes, of `text` when it is decompressed
    Column("text", LargeBinary, nullable=False),  # zstd
    sqlite_with_rowid=False,
)
