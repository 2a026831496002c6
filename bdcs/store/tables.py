# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of the collector. Times are Unix seconds; words are kept as codes (`bdcs.domain.codes`).

machines ─┬─ segments ──── package_state_changes ─┬─ packages
          └─ installations ───────────────────────┼─ versions
                             figures ─────────────┴─ repositories

A machine's changes are found through its segments: those of one have consecutive ids from `first_change`.
targets ─┬─ builds ─── memberships      the binhost: what is in which generation of a target's index
         └─ generations
requests ─── members ─── jobs ─── attempts      builds on request, and what builders made of them
catalogue_repositories ─── catalogue_versions ─── catalogue_packages      what ebuild repositories offer
watches ─── deliveries ─── watch_events      what is told of packages to who watches them
prebuild_cells ─── prebuild_counted      what machines asked for, as published

Foreign keys are documentation: no engine checks them, since ids never come from outside.
"""

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
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    event,
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

# Text in the order of its code points, whatever the language of a database.
_Text = Text().with_variant(Text(collation="C"), "postgresql")

machines = Table(
    "machines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", _Text, nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("state", _Text, nullable=False),  # bdcs.domain.machines.State
    Column("registered_at", BigInteger, nullable=False),
    Column("head_seq", BigInteger, nullable=False),  # seq of the last record accepted; 0 before the first
    Column("head_digest", LargeBinary),  # SHA-256 of the last segment's compact form
    sqlite_autoincrement=True,  # an erased machine's number never becomes another's
)

packages = Table(
    "packages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("category", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    UniqueConstraint("category", "name"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", _Text, nullable=False, unique=True),
)

repositories = Table(
    "repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _Text, nullable=False, unique=True),
)

audiences = Table(
    "audiences",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("url", _Text, nullable=False, unique=True),  # a public_url that segments were addressed to
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
    Column("id", _Id, nullable=False, autoincrement=False),  # in order of commit, without reuse
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
    Column("extra", _Text),  # JSON object of the fields that this version does not know
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
    Column("name", _Text, primary_key=True),  # "machines", or a day: the machines that reported on it
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

tombstones = Table(
    "tombstones",
    metadata,
    Column("hash", LargeBinary, primary_key=True),  # HMAC of an erased machine's UUID, and nothing else of it
    sqlite_with_rowid=False,
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", _Text, primary_key=True),
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
    Column("body", _Text, nullable=False),
    sqlite_with_rowid=False,
)

sequences = Table(
    "sequences",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("value", BigInteger, nullable=False),  # the last number given out; outlives the rows that bore it
)

targets = Table(
    "targets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _Text, nullable=False, unique=True),
    Column("chost", _Text, nullable=False),
    Column("profile", _Text, nullable=False),
    Column("cflags", _Text, nullable=False),
    Column("cpu", _Text, nullable=False),
    Column("toolchain", _Text, nullable=False),
    Column("description", _Text, nullable=False),
    Column("signatures", _Text, nullable=False),  # bdcs.domain.targets.Signatures: required, optional
    Column("private", Boolean, nullable=False),  # only for holders of a token
    Column("bindist", Boolean, nullable=False),  # whether packages that must not be redistributed are taken
    Column("header", _Text, nullable=False),  # JSON object: keys of the index's header, such as ARCH
    Column("created_at", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),  # TIMESTAMP of the index; 0 before the first generation
    Column("generation", Integer, nullable=False),  # the newest; 0 before the first
    sqlite_autoincrement=True,  # a removed target's number never becomes another's
)

generations = Table(
    "generations",
    metadata,
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("cause", _Text, nullable=False),  # bdcs.domain.targets.Cause
    Column("note", _Text, nullable=False),
    Column("actor", _Text, nullable=False),  # "admin", or a machine's UUID
    Column("kept", Boolean, nullable=False),  # its files are not deleted
    Column("added", Integer, nullable=False),  # builds that came with it
    Column("removed", Integer, nullable=False),  # builds that went with it
    Column("builds", Integer, nullable=False),  # builds in it
    Column("timestamp", BigInteger),  # of its index; null: it was made before this was kept
    sqlite_with_rowid=False,
)

builds = Table(
    "builds",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("category", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("version", _Text, nullable=False),
    Column("cpv", _Text, nullable=False),
    Column("build_id", Integer),  # null: a file that was imported under a name without one
    Column("path", _Text, nullable=False),  # below the target, as the index names it
    Column("size", BigInteger, nullable=False),  # bytes
    Column("mtime", BigInteger, nullable=False),
    Column("build_time", BigInteger, nullable=False),
    Column("md5", _Text, nullable=False),
    Column("sha1", _Text, nullable=False),
    Column("slot", _Text, nullable=False),
    Column("repository", _Text, nullable=False),
    Column("use", _Text, nullable=False),
    Column("iuse", _Text, nullable=False),
    Column("keywords", _Text, nullable=False),
    Column("license", _Text, nullable=False),
    Column("chost", _Text, nullable=False),
    Column("cflags", _Text, nullable=False),
    Column("installed_size", BigInteger, nullable=False),  # bytes
    Column("entry", _Text, nullable=False),  # its block of the index, without the empty line
    Column("source", _Text),  # SHA512 of the file as it was handed in, before it got its number and signature
    Column("signed_by", _Text),  # fingerprint; null: unsigned
    Column("origin", _Text, nullable=False),  # publish, import, upload
    Column("actor", _Text, nullable=False),
    Column("visible", Boolean, nullable=False),  # in the newest generation
    Column("published_at", BigInteger, nullable=False),
    Column("withdrawn_at", BigInteger),
    Column("deleted_at", BigInteger),  # the file is gone
    Column("digest", _Text),  # of its specification (`wire.builds`); null: not looked at yet; "": it has none
    UniqueConstraint("target_id", "path"),
    Index(None, "target_id", "visible", "cpv"),
    Index(None, "target_id", "category", "name"),
    Index(None, "target_id", "digest"),
)

memberships = Table(
    "memberships",
    metadata,
    # a build is in the generations [since, until) of its target
    Column("build", _Id, ForeignKey("builds.id"), primary_key=True, autoincrement=False),
    Column("since", Integer, primary_key=True),
    Column("until", Integer),  # null: still
    sqlite_with_rowid=False,
)

build_numbers = Table(
    "build_numbers",
    metadata,
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True),
    Column("cpv", _Text, primary_key=True),
    Column("last", Integer, nullable=False),  # the highest BUILD_ID given out; none is given out twice
    sqlite_with_rowid=False,
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("category", _Text, nullable=False),
    Column("pf", _Text, nullable=False),
    Column("machine_id", Integer, ForeignKey("machines.id"), nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("received_at", BigInteger, nullable=False),
    Column("state", _Text, nullable=False),  # quarantined, published, refused
    Column("reason", _Text),  # of a refusal
    Column("blob", _Text),  # its file in the quarantine; null once it has gone
    Index(None, "target_id", "received_at"),
)

builder_targets = Table(
    "builder_targets",
    metadata,
    # machines that may upload to a target
    Column("machine_id", Integer, ForeignKey("machines.id"), primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True),
    Column("approved_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

target_proposals = Table(
    "target_proposals",
    metadata,
    # targets that machines proposed, each once
    Column("id", Integer, primary_key=True),
    Column("digest", _Text, nullable=False, unique=True),  # gentwoo_client.wire.proposals.Proposal.digest
    Column("chost", _Text, nullable=False),
    Column("arch", _Text, nullable=False),
    Column("profile", _Text, nullable=False),
    Column("cflags", _Text, nullable=False),
    Column("cpu", _Text, nullable=False),  # empty where they do not name one
    Column("state", _Text, nullable=False),  # bdcs.domain.proposals.State: waiting, accepted, refused
    Column("target_id", Integer, ForeignKey("targets.id")),  # of an accepted one
    Column("reason", _Text, nullable=False),  # an administrator's words to who is refused; may be empty
    Column("created_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    sqlite_autoincrement=True,
)

target_proposers = Table(
    "target_proposers",
    metadata,
    Column("proposal_id", Integer, ForeignKey("target_proposals.id"), primary_key=True),
    Column("machine_id", Integer, ForeignKey("machines.id"), primary_key=True),
    Column("proposed_at", BigInteger, nullable=False),  # the last time
    Index(None, "machine_id"),
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens",
    metadata,
    # for HTTP basic at a private target: user `name`, password a token
    Column("id", Integer, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("name", _Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),  # SHA-256 of the token
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("target_id", "name"),
)

trusted_keys = Table(
    "trusted_keys",
    metadata,
    # whose signatures count at a target, beside our own signer's
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True),
    Column("fingerprint", _Text, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),  # binary OpenPGP
    Column("added_at", BigInteger, nullable=False),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    # what the signer told last of its keys
    Column("fingerprint", _Text, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),  # binary OpenPGP
    Column("user_id", _Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("state", _Text, nullable=False),  # active, retired
    Column("seen_at", BigInteger, nullable=False),
)

scanned_files = Table(
    "scanned_files",
    metadata,
    # what `bdcs import` has read already
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True),
    Column("path", _Text, primary_key=True),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("mtime_ns", BigInteger, nullable=False),  # Unix nanoseconds
    Column("build", _Id, ForeignKey("builds.id")),  # null: it was no package to take
    sqlite_with_rowid=False,
)

requests = Table(
    "requests",
    metadata,
    Column("id", _Text, primary_key=True),  # short random text
    Column("machine_id", Integer, ForeignKey("machines.id")),  # null: the collector itself
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("cancelled_at", BigInteger),
    Column("finished_at", BigInteger),  # null: something of it waits
    Column("idempotency", _Text, unique=True),  # hash of machine and the key that it chose
    Column("note", _Text, nullable=False),  # the atoms that it asked for, JSON
    Column("access", LargeBinary),  # hash of the token that opened a private target for it
    Index(None, "machine_id", "created_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("digest", _Text, nullable=False),  # of the specification
    Column("cpv", _Text, nullable=False),
    Column("category", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("version", _Text, nullable=False),
    Column("repository", _Text, nullable=False),
    Column("specification", _Text, nullable=False),  # JSON
    Column("state", _Text, nullable=False),  # bdcs.domain.jobs.JobState
    Column("priority", Integer, nullable=False),  # the highest goes first
    Column("origin", _Text, nullable=False),  # bdcs.domain.jobs.Origin
    Column("created_at", BigInteger, nullable=False),
    Column("queued_at", BigInteger, nullable=False),  # since when it waits for a builder
    Column("finished_at", BigInteger),
    Column("failure", _Text),  # bdcs.domain.jobs.Failure
    Column("failure_text", _Text),
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
    Column("request_id", _Text, ForeignKey("requests.id"), primary_key=True),
    Column("position", Integer, primary_key=True),  # in the machine's plan, from 0
    Column("cpv", _Text, nullable=False),
    Column("digest", _Text, nullable=False),
    Column("job_id", Integer, ForeignKey("jobs.id")),
    Column("build_id", BigInteger, ForeignKey("builds.id")),
    Column("answer", _Text, nullable=False),  # bdcs.domain.jobs.Answer: what was told at first
    Column("state", _Text, nullable=False),  # bdcs.domain.jobs.MemberState
    Column("refusal", _Text),  # bdcs.domain.jobs.Refusal
    Column("reason", _Text),  # … in words; of a mismatch, the difference
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
    Column("builder", _Text, nullable=False),  # the name it gave itself
    Column("started_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("state", _Text, nullable=False),  # bdcs.domain.jobs.AttemptState
    Column("failure", _Text),  # bdcs.domain.jobs.Failure
    Column("failure_text", _Text),
    Column("log_size", BigInteger, nullable=False),  # bytes in DATA/logs
    Column("left_out", _Text),  # JSON: CPVs that were built as well and must not be passed on; null: none
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
    Column("name", _Text, primary_key=True),
    Column("targets", _Text, nullable=False),  # JSON: names
    Column("seen_at", BigInteger, nullable=False),
    Column("draining", Boolean, nullable=False),  # it says that it takes no more work
    Column("appeared_at", BigInteger),  # when it came, or came back; null: before anybody wrote that down
    Column("drained_by", _Text),  # who has it get no more work: operator or autoscale; null: nobody
    sqlite_with_rowid=False,
)

pools = Table(
    "pools",
    metadata,
    # builders that come and go, as `bdcs autoscale` last saw them
    Column("name", _Text, primary_key=True),
    Column("targets", _Text, nullable=False),  # JSON: names
    Column("engine", _Text, nullable=False),  # who starts them, such as asg
    Column("looked_at", BigInteger, nullable=False),
    Column("most", Integer, nullable=False),  # builders that there may be
    Column("needed", Integer, nullable=False),  # … that there should be
    Column("wanted", Integer, nullable=False),  # … that the engine was told to have
    Column("ready", Integer, nullable=False),  # … that take work
    Column("leaving", Integer, nullable=False),  # … that take none, and end what they build
    Column("work", BigInteger, nullable=False),  # seconds that are to be built
    Column("trouble", _Text),  # why the engine could not be asked, or did not do it; null: it did
    sqlite_with_rowid=False,
)

requesters = Table(
    "requesters",
    metadata,
    # whose turn it is: machines that had a job started longest ago come first
    Column("machine_id", Integer, primary_key=True, autoincrement=False),  # 0: the collector itself
    Column("served", Integer, nullable=False),  # the last attempt that was begun for it
)

catalogue_repositories = Table(
    "catalogue_repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _Text, nullable=False, unique=True),
    Column("location", _Text, nullable=False),  # absolute path of the directory that is read
    Column("sync_type", _Text, nullable=False),  # bdcs.domain.ebuild_repositories.SyncType
    Column("sync_uri", _Text, nullable=False),  # empty for a local directory
    Column("own_mirror", Boolean, nullable=False),  # may be asked as often as a local directory is read
    Column("added_at", BigInteger, nullable=False),
    Column("tried_at", BigInteger),
    Column("read_at", BigInteger),  # when it was last known to be as the rows say
    Column("problem", _Text),  # why the last try came to nothing
    Column(
        "revision", _Text
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
    Column("category", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("description", _Text, nullable=False),  # of the newest version
    Column("homepage", _Text, nullable=False),  # URIs of the newest version
    UniqueConstraint("category", "name"),
)

catalogue_versions = Table(
    "catalogue_versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("package_id", Integer, ForeignKey("catalogue_packages.id"), nullable=False),
    Column("repository_id", Integer, ForeignKey("catalogue_repositories.id"), nullable=False),
    Column("version", _Text, nullable=False),  # with revision
    Column("slot", _Text, nullable=False),  # with sub-slot where it has one
    Column("eapi", _Text, nullable=False),
    Column("keywords", _Text, nullable=False),
    Column("iuse", _Text, nullable=False),
    Column("license", _Text, nullable=False),
    Column("restrict", _Text, nullable=False),
    Column("properties", _Text, nullable=False),
    Column("description", _Text, nullable=False),
    Column("homepage", _Text, nullable=False),
    Column("dependencies", _Text, nullable=False),  # SHA-256 of all kinds of them
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
    Column("category", _Text, primary_key=True),
    Column("name", _Text, primary_key=True),
    Column("version_id", Integer, ForeignKey("catalogue_versions.id"), primary_key=True, index=True),
    Column("atoms", _Text, nullable=False),  # bdcs.domain.needs
    sqlite_with_rowid=False,
)

catalogue_unreadable = Table(
    "catalogue_unreadable",
    metadata,
    # files of a metadata cache that nothing can be learnt from
    Column("repository_id", Integer, ForeignKey("catalogue_repositories.id"), primary_key=True),
    Column("path", _Text, primary_key=True),
    Column("cache_size", BigInteger, nullable=False),
    Column("cache_mtime_ns", BigInteger, nullable=False),
    Column("reason", _Text, nullable=False),
    sqlite_with_rowid=False,
)

quarantines = Table(
    "quarantines",
    metadata,
    # what counts nowhere in public, and why: a machine, or a package
    Column("id", Integer, primary_key=True),
    Column("machine_id", Integer, ForeignKey("machines.id"), unique=True),
    Column("package_id", Integer, ForeignKey("packages.id"), unique=True),
    Column("reason", _Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

watches = Table(
    "watches",
    metadata,
    Column("id", _Text, primary_key=True),  # short random text
    Column("machine_id", Integer, ForeignKey("machines.id")),  # whose it is; null: the operator's
    Column("feed", _Text, nullable=False),  # secret part of its owner's feed's address
    Column("category", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("topics", _Text, nullable=False),  # bdcs.domain.watching.Topic, with spaces between
    Column("webhook", _Text),  # URL
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
    Column("category", _Text, primary_key=True),
    Column("name", _Text, primary_key=True),
    Column("seen", _Text, nullable=False),  # JSON (bdcs.domain.watching.Sight)
    sqlite_with_rowid=False,
)

watch_events = Table(
    "watch_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("category", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("topic", _Text, nullable=False),
    Column("text", _Text, nullable=False),
    Column("facts", _Text, nullable=False),  # JSON object
    Column("created_at", BigInteger, nullable=False),
    Index(None, "category", "name"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    # events on their way to webhooks
    Column("id", Integer, primary_key=True),
    Column("watch_id", _Text, ForeignKey("watches.id"), nullable=False),
    Column("event_id", Integer, ForeignKey("watch_events.id"), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger),  # when it is tried next; null: it has ended
    Column("delivered_at", BigInteger),
    Column("problem", _Text),  # why the last attempt came to nothing
    Index(None, "watch_id"),
    Index(None, "next_at"),
    sqlite_autoincrement=True,
)

leaving = Table(
    "leaving",
    metadata,
    # packages that are about to leave their repository; public
    Column("id", Integer, primary_key=True),
    Column("atom", _Text, nullable=False, unique=True),
    Column("category", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("reason", _Text, nullable=False),
    Column("leaves_on", _Text),  # a day, as ISO 8601 writes it
    Column("created_at", BigInteger, nullable=False),
)

made_metadata = Table(
    "made_metadata",
    metadata,
    # cache entries that builders made of ebuilds whose repository has none of them
    Column("repository_id", Integer, ForeignKey("catalogue_repositories.id"), primary_key=True),
    Column("path", _Text, primary_key=True),  # CATEGORY/PF
    Column("ebuild_md5", _Text, nullable=False),  # of the ebuild that it says this of: of no other
    Column("content", LargeBinary, nullable=False),
    Column("made_at_ns", BigInteger, nullable=False),  # Unix nanoseconds
    sqlite_with_rowid=False,
)

predictions = Table(
    "predictions",
    metadata,
    # how long packages take, as published (`bdcs.domain.duration_fit`)
    Column("package_id", Integer, ForeignKey("packages.id"), primary_key=True),
    Column("major", _Text, primary_key=True),  # major version; empty: all of them
    Column("log", Integer, nullable=False),  # hundredths of the logarithm of seconds
    Column("spread", Integer, nullable=False),  # hundredths; how far machines differ
    Column("machines", Integer, nullable=False),  # published figure
    Column("as_of", BigInteger, nullable=False),  # last change that it counts
    Column("gone", Integer, nullable=False),  # machines that it counts and that were erased since
    Column("published_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

prebuild_cells = Table(
    "prebuild_cells",
    metadata,
    # a public count of machines that asked for something at a target (`bdcs.services.prebuild_demand`)
    Column("id", Integer, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("category", _Text, nullable=False),  # empty, as all that follow: those that asked for anything
    Column("name", _Text, nullable=False),
    Column("slot", _Text, nullable=False),  # without sub-slot
    Column("repository", _Text, nullable=False),
    Column("keywords", _Text, nullable=False),  # of the variant, with spaces between
    Column("use", _Text, nullable=False),  # flags that it enables, with spaces between; "*": any variant
    Column("published", Integer, nullable=False),
    Column("gone", Integer, nullable=False),  # machines counted in `published` that were erased since
    Column("model", _Text),  # of a variant: the specification that most of them asked for, JSON
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

leases = Table(
    "leases",
    metadata,
    # what one process at a time does, and which one now (`bdcs.services.leases`)
    Column("name", _Text, primary_key=True),
    Column("holder", _Text, nullable=False),
    Column("number", BigInteger, nullable=False),  # how often it was taken
    Column("until", BigInteger, nullable=False),  # Unix milliseconds, by the clock of the store
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

removals = Table(
    "removals",
    metadata,
    # package files that somebody with a target's lock is about to remove, while others may come to have it
    Column("target", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("token", BigInteger, nullable=False),  # of the lock (`bdcs.store.session_locks`)
    Column("until", BigInteger, nullable=False),  # milliseconds: then nothing of it is under way any more
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
    Column("id", _Id, primary_key=True),
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


for _table in metadata.tables.values():
    for _constraint in _table.foreign_key_constraints:
        _constraint.ddl_if(dialect="sqlite")  # which leaves them unchecked
