# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets, what is in which generation of their indexes, and who may write or read them."""

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
    Text,
    UniqueConstraint,
)

from bdcs.store.tables.schema import Chars, Id, metadata

targets = Table(
    "targets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Chars, nullable=False, unique=True),
    Column("chost", Chars, nullable=False),
    Column("profile", Chars, nullable=False),
    Column("cflags", Chars, nullable=False),
    Column("cpu", Chars, nullable=False),
    Column("toolchain", Chars, nullable=False),
    Column("description", Chars, nullable=False),
    Column("signatures", Chars, nullable=False),  # bdcs.domain.targets.Signatures: required, optional
    Column("private", Boolean, nullable=False),  # only for holders of a token
    Column("bindist", Boolean, nullable=False),  # whether packages that must not be redistributed are taken
    Column("header", Chars, nullable=False),  # JSON object: keys of the index's header, such as ARCH
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
    Column("cause", Chars, nullable=False),  # bdcs.domain.targets.Cause
    Column("note", Chars, nullable=False),
    Column("actor", Chars, nullable=False),  # "admin", or a machine's UUID
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
    Column("id", Id, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("category", Chars, nullable=False),
    Column("name", Chars, nullable=False),
    Column("version", Chars, nullable=False),
    Column("cpv", Chars, nullable=False),
    Column("build_id", Integer),  # null: a file that was imported under a name without one
    Column("path", Chars, nullable=False),  # below the target, as the index names it
    Column("size", BigInteger, nullable=False),  # bytes
    Column("mtime", BigInteger, nullable=False),
    Column("build_time", BigInteger, nullable=False),
    Column("md5", Chars, nullable=False),
    Column("sha1", Chars, nullable=False),
    Column("slot", Chars, nullable=False),
    Column("repository", Chars, nullable=False),
    Column("use", Chars, nullable=False),
    Column("iuse", Chars, nullable=False),
    Column("keywords", Chars, nullable=False),
    Column("license", Chars, nullable=False),
    Column("chost", Chars, nullable=False),
    Column("cflags", Chars, nullable=False),
    Column("installed_size", BigInteger, nullable=False),  # bytes
    Column("entry", Chars, nullable=False),  # its block of the index, without the empty line
    Column("source", Chars),  # SHA512 of the file as it was handed in, before it got its number and signature
    Column("signed_by", Chars),  # fingerprint; null: unsigned
    Column("origin", Chars, nullable=False),  # publish, import, upload
    Column("actor", Chars, nullable=False),
    Column("visible", Boolean, nullable=False),  # in the newest generation
    Column("published_at", BigInteger, nullable=False),
    Column("withdrawn_at", BigInteger),
    Column("deleted_at", BigInteger),  # the file is gone
    Column("digest", Chars),  # of its specification (`wire.builds`); null: not looked at yet; "": it has none
    UniqueConstraint("target_id", "path"),
    Index(None, "target_id", "visible", "cpv"),
    Index(None, "target_id", "category", "name"),
    Index(None, "target_id", "digest"),
)

memberships = Table(
    "memberships",
    metadata,
    # a build is in the generations [since, until) of its target
    Column("build", Id, ForeignKey("builds.id"), primary_key=True, autoincrement=False),
    Column("since", Integer, primary_key=True),
    Column("until", Integer),  # null: still
    sqlite_with_rowid=False,
)

build_numbers = Table(
    "build_numbers",
    metadata,
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True),
    Column("cpv", Chars, primary_key=True),
    Column("last", Integer, nullable=False),  # the highest BUILD_ID given out; none is given out twice
    sqlite_with_rowid=False,
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Chars, primary_key=True),
    Column("target_id", Integer, ForeignKey("targets.id"), nullable=False),
    Column("category", Chars, nullable=False),
    Column("pf", Chars, nullable=False),
    Column("machine_id", Integer, ForeignKey("machines.id"), nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("received_at", BigInteger, nullable=False),
    Column("state", Chars, nullable=False),  # quarantined, published, refused
    Column("reason", Chars),  # of a refusal
    Column("blob", Chars),  # its file in the quarantine; null once it has gone
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
    Column("digest", Chars, nullable=False, unique=True),  # gentwoo_client.wire.proposals.Proposal.digest
    Column("chost", Chars, nullable=False),
    Column("arch", Chars, nullable=False),
    Column("profile", Chars, nullable=False),
    Column("cflags", Chars, nullable=False),
    Column("cpu", Chars, nullable=False),  # empty where they do not name one
    Column("state", Chars, nullable=False),  # bdcs.domain.proposals.State: waiting, accepted, refused
    Column("target_id", Integer, ForeignKey("targets.id")),  # of an accepted one
    Column("reason", Chars, nullable=False),  # an administrator's words to who is refused; may be empty
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
    Column("name", Chars, nullable=False),
    Column("hash", LargeBinary, nullable=False),  # SHA-256 of the token
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("target_id", "name"),
)

trusted_keys = Table(
    "trusted_keys",
    metadata,
    # whose signatures count at a target, beside our own signer's
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True),
    Column("fingerprint", Chars, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),  # binary OpenPGP
    Column("added_at", BigInteger, nullable=False),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    # what the signer told last of its keys
    Column("fingerprint", Chars, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),  # binary OpenPGP
    Column("user_id", Chars, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("state", Chars, nullable=False),  # active, retired
    Column("seen_at", BigInteger, nullable=False),
)

scanned_files = Table(
    "scanned_files",
    metadata,
    # what `bdcs import` has read already
    Column("target_id", Integer, ForeignKey("targets.id"), primary_key=True),
    Column("path", Chars, primary_key=True),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("mtime_ns", BigInteger, nullable=False),  # Unix nanoseconds
    Column("build", Id, ForeignKey("builds.id")),  # null: it was no package to take
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
