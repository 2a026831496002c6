# SPDX-License-Identifier: GPL-2.0-or-later
"""A binhost's targets and files, put where the collector looks for them: rows, blobs and index, no packages.

For tests of serving alone: what a file holds does not matter there, only that a row names it.
"""

import contextlib
import hashlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, select, update

from bdcs.blobs.blobs import Placement
from bdcs.blobs.directory import Directory
from bdcs.blobs.index_files import IndexFiles
from bdcs.blobs.target_lock import target_lock
from bdcs.domain import packages_index
from bdcs.domain.targets import Cause
from bdcs.services import build_rows, generations, targets
from bdcs.services.indexing import write_index
from bdcs.services.target_locks import holding
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.engine import create_writer
from bdcs.store.store import transaction
from gentwoo_client.wire.cpv import CPV

MTIME = 1_700_000_000
HURRY = 20
"""Publications in a row after which an index is sure to wait."""


@dataclass(slots=True)
class Shelf:
    """What is in the data directory of a collector that has made its store."""

    data: Path
    engine: Engine = field(init=False)
    blobs: Directory = field(init=False)

    def __post_init__(self) -> None:
        self.engine = create_writer(self.data / "bdcs.sqlite")
        self.blobs = Directory(self.data)

    def add_target(self, name: str, **settings: Any) -> None:
        """Make a target."""
        values = {"chost": "x86_64-pc-linux-gnu", "profile": "default/linux/amd64/23.0", **settings}
        with transaction(self.engine) as connection:
            targets.add(connection, name, now=time.time(), **values)

    def add_token(self, target: str, name: str, token: str) -> None:
        """Let who has this name and token read a private target."""
        with transaction(self.engine) as connection:
            connection.execute(
                tables.tokens.insert().values(
                    target_id=targets.require(connection, target).id,
                    name=name,
                    hash=hashlib.sha256(token.encode()).digest(),
                    created_at=0,
                )
            )

    def revoke(self, target: str, name: str) -> None:
        """Take that back."""
        with transaction(self.engine) as connection:
            number = targets.require(connection, target).id
            columns = tables.tokens.c
            connection.execute(delete(tables.tokens).where(columns.target_id == number, columns.name == name))

    def put(self, target: str, cpv: str, content: bytes, *, build_id: int | None = 1, **columns: Any) -> str:
        """Publish a file and write the index; return its path."""
        parsed = CPV.parse(cpv)
        path = (
            f"{parsed.category}/{parsed.pf}.tbz2"
            if build_id is None
            else packages_index.path_of(parsed, build_id)
        )
        with holding(self.engine, IndexFiles.of(self.data, target)):  # or upkeep takes it for an orphan
            self._place(target, path, content)
            with transaction(self.engine) as connection:
                found = targets.require(connection, target)
                number = self._add(connection, found, parsed, path, content, build_id, **columns)
                generations.advance(connection, found, [number], [], cause=Cause.PUBLISH, actor="admin")
        self.write_index(target)
        return path

    def withdraw(self, target: str, path: str, *, days_ago: int = 0) -> None:
        """Take a file out of the index; it stays where it is."""
        with transaction(self.engine) as connection:
            found = targets.require(connection, target)
            is_it = (tables.builds.c.target_id == found.id) & (tables.builds.c.path == path)
            number = connection.scalars(select(tables.builds.c.id).where(is_it)).one()
            generations.advance(connection, found, [], [number], cause=Cause.WITHDRAW, actor="admin")
            at = int(time.time()) - days_ago * 86_400
            connection.execute(update(tables.builds).where(is_it).values(withdrawn_at=at))
        self.write_index(target)

    @contextlib.contextmanager
    def hurrying(self, target: str) -> Iterator[None]:
        """Publish so often meanwhile that the index always waits for more; nothing comes and nothing goes."""
        over = threading.Event()
        thread = threading.Thread(target=self._hurry, args=(target, over))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _hurry(self, target: str, over: threading.Event) -> None:
        files = IndexFiles.of(self.data, target)
        for number in itertools.count():
            with holding(self.engine, files):
                with transaction(self.engine) as connection:
                    found = targets.require(connection, target)
                    generations.advance(connection, found, [], [], cause=Cause.PUBLISH, actor="admin")
                with transaction(self.engine) as connection:
                    write_index(connection, targets.require(connection, target), files, None)
            if over.wait(0 if number < HURRY else 0.5):
                return

    def timestamp(self, target: str) -> int:
        """The TIMESTAMP of the newest generation, whose index may wait for more."""
        with transaction(self.engine) as connection:
            return targets.require(connection, target).timestamp

    def write_index(self, target: str) -> None:
        """Write both files of the index, as whoever publishes does."""
        files = IndexFiles.of(self.data, target)
        with target_lock(files.directory), transaction(self.engine) as connection:
            write_index(connection, targets.require(connection, target), files, None)

    def _place(self, target: str, path: str, content: bytes) -> None:
        with self.blobs.workspace() as workspace:
            draft = workspace.create()
            draft.file.write(content)
            draft.finish(MTIME)
            placements = [Placement(draft=draft, target=target, path=path)]
            self.blobs.settle(placements)
            self.blobs.place(placements)

    def _add(
        self,
        connection: Connection,
        target: Target,
        cpv: CPV,
        path: str,
        content: bytes,
        build_id: int | None,
        **columns: Any,
    ) -> int:
        values = {
            "category": cpv.category,
            "name": cpv.name,
            "version": cpv.version,
            "cpv": str(cpv),
            "build_id": build_id,
            "path": path,
            "size": len(content),
            "mtime": MTIME,
            "build_time": MTIME,
            "md5": hashlib.md5(content).hexdigest(),
            "sha1": hashlib.sha1(content).hexdigest(),
            "slot": "0",
            "repository": "gentoo",
            "use": "amd64 ssl",
            "iuse": "+ssl gtk",
            "keywords": "amd64",
            "license": "public-domain",
            "chost": target.chost,
            "cflags": "-O2",
            "installed_size": 12,
            "entry": f"CPV: {cpv}\nPATH: {path}\nSIZE: {len(content)}\nMTIME: {MTIME}",
            "source": hashlib.sha512(content).hexdigest(),
            "signed_by": None,
            "origin": "publish",
            "actor": "admin",
            "visible": False,
            "published_at": MTIME,
            **columns,
        }
        (number,) = build_rows.add(connection, target, [values])
        return number
