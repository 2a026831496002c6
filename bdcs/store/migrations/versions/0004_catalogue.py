# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue: ebuild repositories, what they offer, and an index of its words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables; nothing else changes."""
    op.create_table(
        "catalogue_packages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("homepage", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalogue_packages")),
        sa.UniqueConstraint("category", "name", name=op.f("uq_catalogue_packages_category_name")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE catalogue_search USING"
            " fts5(name, description, tokenize='unicode61', prefix='2 3')"
        )
    op.create_table(
        "catalogue_repositories",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("sync_type", sa.Text(), nullable=False),
        sa.Column("sync_uri", sa.Text(), nullable=False),
        sa.Column("own_mirror", sa.Boolean(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("tried_at", sa.BigInteger(), nullable=True),
        sa.Column("read_at", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("packages", sa.Integer(), nullable=False),
        sa.Column("versions", sa.Integer(), nullable=False),
        sa.Column("uncached", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalogue_repositories")),
        sa.UniqueConstraint("name", name=op.f("uq_catalogue_repositories_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "catalogue_unreadable",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("cache_size", sa.BigInteger(), nullable=False),
        sa.Column("cache_mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["catalogue_repositories.id"],
            name=op.f("fk_catalogue_unreadable_repository_id"),
        ),
        sa.PrimaryKeyConstraint("repository_id", "path", name=op.f("pk_catalogue_unreadable")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "catalogue_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("package_id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("eapi", sa.Text(), nullable=False),
        sa.Column("keywords", sa.Text(), nullable=False),
        sa.Column("iuse", sa.Text(), nullable=False),
        sa.Column("license", sa.Text(), nullable=False),
        sa.Column("restrict", sa.Text(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("homepage", sa.Text(), nullable=False),
        sa.Column("dependencies", sa.Text(), nullable=False),
        sa.Column("cache_size", sa.BigInteger(), nullable=False),
        sa.Column("cache_mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("is_new", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["package_id"], ["catalogue_packages.id"], name=op.f("fk_catalogue_versions_package_id")
        ),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["catalogue_repositories.id"],
            name=op.f("fk_catalogue_versions_repository_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalogue_versions")),
        sa.UniqueConstraint(
            "repository_id",
            "package_id",
            "version",
            name=op.f("uq_catalogue_versions_repository_id_package_id_version"),
        ),
    )
    op.create_index(
        "ix_catalogue_versions_is_new",
        "catalogue_versions",
        ["id"],
        sqlite_where=sa.text("is_new"),
        postgresql_where=sa.text("is_new"),
    )
    op.create_index(op.f("ix_catalogue_versions_package_id"), "catalogue_versions", ["package_id"])
