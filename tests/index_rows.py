# SPDX-License-Identifier: GPL-2.0-or-later
"""A target with rows and an index, but without package files: for tests and benchmarks of the index alone.

rows = IndexRows.create(tmp_path)
rows.publish([made("dev-libs/alpha-1.0"), made("dev-libs/beta-2")])
rows.write()
rows.files.path("Packages").read_bytes()
"""

import hashlib
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Engine

from bdcs.blobs.index_files import IndexFiles
from bdcs.blobs.target_lock import target_lock
from bdcs.domain.packages_index import path_of
from bdcs.domain.targets import Cause
from bdcs.services import build_rows, generations, targets
from bdcs.services.indexing import agrees, write_index
from bdcs.services.targets import Target
from bdcs.store import engine as engines
from bdcs.store import schema
from bdcs.store.store import transaction
from gentwoo_client.wire.cpv import CPV

NAME = "amd64"
START = 1_700_000_000


def made(cpv: str, build_id: int = 1, more: str = "") -> dict[str, Any]:
    """The row of a build; `more` are further lines of its entry."""
    parsed = CPV.parse(cpv)
    path = path_of(parsed, build_id)
    digest = hashlib.md5(path.encode()).hexdigest()
    entry = (
        f"BUILD_ID: {build_id}\nBUILD_TIME: 1\nCPV: {cpv}\nEAPI: 8\nKEYWORDS: amd64\nMD5: {digest}\n"
        f"PATH: {path}\n{more}SHA1: {digest}{digest[:8]}\nSIZE: 1\nUSE: amd64\nMTIME: 1"
    )
    return {
        "category": parsed.category,
        "name": parsed.name,
        "version": parsed.version,
        "cpv": cpv,
        "build_id": build_id,
        "path": path,
        "size": 1,
        "mtime": 1,
        "build_time": 1,
        "md5": digest,
        "sha1": digest + digest[:8],
        "slot": "0",
        "repository": "gentoo",
        "use": "amd64",
        "iuse": "",
        "keywords": "amd64",
        "license": "GPL-2",
        "chost": "x86_64-pc-linux-gnu",
        "cflags": "-O2",
        "installed_size": 1,
        "entry": entry,
        "origin": "publish",
        "actor": "admin",
        "visible": False,
        "published_at": START,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRows:
    """One target in a data directory."""

    data: Path
    engine: Engine
    files: IndexFiles

    @classmethod
    def create(cls, data: Path, store: str = f"sqlite:{engines.SQLITE_NAME}", **settings: Any) -> Self:
        """Make a store with one target that has nothing yet."""
        rows = cls.open(data, store)
        values = {"chost": "x86_64-pc-linux-gnu", "profile": "default/linux/amd64/23.0", **settings}
        with transaction(rows.engine) as connection:
            schema.upgrade(connection)
            targets.add(connection, NAME, now=START, **values)
        return rows

    @classmethod
    def open(cls, data: Path, store: str = f"sqlite:{engines.SQLITE_NAME}") -> Self:
        """Those in the data directory, and in the store of this URL."""
        engine = engines.create_writer(engines.place_of(store, data))
        return cls(data=data, engine=engine, files=IndexFiles.of(data, NAME))

    def copied_to(self, data: Path) -> Self:
        """The same in a directory of its own; nobody may be at work on this one."""
        shutil.copytree(self.data, data)
        return self.open(data)

    @property
    def target(self) -> Target:
        """As its row is now."""
        with transaction(self.engine) as connection:
            return targets.require(connection, NAME)

    def publish(
        self, added: Iterable[dict[str, Any]] = (), removed: Iterable[int] = (), *, now: float = START
    ) -> list[int]:
        """Make a generation; return the ids of what was added."""
        with transaction(self.engine) as connection:
            target = targets.require(connection, NAME)
            ids = build_rows.add(connection, target, list(added))
            generations.advance(
                connection, target, ids, list(removed), cause=Cause.PUBLISH, actor="admin", now=now
            )
            return ids

    def write(self, changed: Collection[str] | None = None, *, now: float = START) -> bool:
        """Write the index as a publisher does."""
        with target_lock(self.files.directory), transaction(self.engine) as connection:
            return write_index(connection, self.target_in(connection), self.files, changed, now=now)

    def agrees(self) -> bool:
        """Whether the files are what the rows say, to the byte."""
        with transaction(self.engine) as connection:
            return agrees(connection, self.target_in(connection), self.files)

    @staticmethod
    def target_in(connection: Any) -> Target:
        return targets.require(connection, NAME)
