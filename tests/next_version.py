# SPDX-License-Identifier: GPL-2.0-or-later
"""A version of the collector that comes after this one: the same, with one more migration."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from bdcs.store import schema
from dev.places import ROOT
from tests.processes import environment, run

NEXT = f"{int(schema.HEAD) + 1:04}"
_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {before!r}
{word}


def upgrade() -> None:
    op.add_column("machines", sa.Column("note", sa.Text()))
    op.create_table("notes", sa.Column("id", sa.Integer(), primary_key=True))
"""


def make(directory: Path, *, allows_this: bool) -> None:
    """Put its code into `directory`; whether its migration says that this version may use the store then."""
    shutil.copytree(ROOT / "bdcs", directory / "bdcs", ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "gentwoo_client").symlink_to(ROOT / "gentwoo_client")
    code = directory / "bdcs/store/schema.py"
    code.write_text(code.read_text().replace(f'HEAD = "{schema.HEAD}"', f'HEAD = "{NEXT}"'))
    word = f"oldest = {schema.HEAD!r}" if allows_this else ""
    migration = directory / "bdcs/store/migrations/versions" / f"{NEXT}_notes.py"
    migration.write_text(_MIGRATION.format(revision=NEXT, before=schema.HEAD, word=word))


def upgrade(directory: Path, *options: str | Path) -> str:
    """Run its `bdcs schema upgrade`; return what it printed."""
    command: list[str | Path] = [sys.executable, "-P", "-m", "bdcs", "schema", "upgrade", *options]
    return run(command, env={**environment(), "PYTHONPATH": str(directory)}).stdout
