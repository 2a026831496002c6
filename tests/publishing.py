# SPDX-License-Identifier: GPL-2.0-or-later
"""A binhost to publish at: a store with targets, and publishers for it, without a server.

site = Site.create(tmp_path / "data")
site.add_target("amd64", signatures="optional")
site.publisher.publish("amd64", [make_gpkg(tmp_path / "alpha.gpkg.tar")])
site.assert_consistent()
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select

from bdcs.blobs.index_files import IndexFiles
from bdcs.domain.packages_index import parse_entry
from bdcs.services import targets
from bdcs.services.checking_binhost import BinhostReport, check_binhost
from bdcs.services.publishing import Publisher
from bdcs.services.targets import Target
from bdcs.services.upkeep import Upkeep
from bdcs.store import schema, tables
from bdcs.store.engine import create_writer
from bdcs.store.store import transaction

CHOST = "x86_64-pc-linux-gnu"


@dataclass(slots=True)
class Site:
    """The data directory of a collector, and a publisher for it."""

    data: Path
    publisher: Publisher

    @classmethod
    def create(cls, data: Path, *, signer: Path | None = None) -> Self:
        """Make it with an empty store; `signer` is the socket of one, or nobody signs."""
        writer = create_writer(data / "bdcs.sqlite")
        with transaction(writer) as connection:
            schema.upgrade(connection)
        writer.dispose()
        publisher = Publisher.of(
            store=data / "bdcs.sqlite", data=data, signer=signer or data / "nobody-signs"
        )
        return cls(data, publisher)

    def add_target(self, name: str, **settings: Any) -> Target:
        """Make a target."""
        values = {"chost": CHOST, "profile": "default/linux/amd64/23.0", "cflags": "-O2", **settings}
        with self.publisher.writing() as connection:
            return targets.add(connection, name, now=time.time(), **values)

    def listed(self, target: str) -> list[dict[str, str]]:
        """The entries of the target's index, each compared with its file."""
        text = IndexFiles.of(self.data, target).path("Packages").read_text()
        entries = [parse_entry(block) for block in text.removesuffix("\n\n").split("\n\n")[1:]]
        for entry in entries:
            content = self.file(target, entry["PATH"]).read_bytes()
            assert entry["SIZE"] == str(len(content))
            assert entry["MD5"] == hashlib.md5(content).hexdigest()
            assert entry["SHA1"] == hashlib.sha1(content).hexdigest()
        return entries

    def paths(self, target: str) -> list[str]:
        """What the target's index lists, in its order."""
        return [entry["PATH"] for entry in self.listed(target)]

    def file(self, target: str, path: str) -> Path:
        """Where a package file lies."""
        return self.data / "packages" / target / path

    def files(self) -> list[str]:
        """All package files, and all in quarantine."""
        places = (self.data / "packages", self.data / "quarantine")
        found = [path for place in places for path in place.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(self.data)) for path in found)

    def builds(self, target: str) -> list[Any]:
        """The rows of a target's builds."""
        query = (
            select(tables.builds)
            .join(tables.targets, tables.targets.c.id == tables.builds.c.target_id)
            .where(tables.targets.c.name == target)
            .order_by(tables.builds.c.id)
        )
        with self.publisher.reading() as connection:
            return list(connection.execute(query))

    def target(self, name: str) -> Target:
        """The target as it is now."""
        with self.publisher.reading() as connection:
            return targets.require(connection, name)

    def upkeep(self, *, grace: int = 30, later: float = 0) -> Upkeep:
        """Upkeep, `later` seconds from now."""
        return Upkeep(publisher=self.publisher, grace=grace, now=lambda: time.time() + later)

    def check(self) -> BinhostReport:
        """What `bdcs check` finds."""
        return check_binhost(self.publisher.reader, self.data, lambda done, total: None)

    def assert_consistent(self) -> None:
        """Rows, files and indexes agree, and nothing is in quarantine."""
        report = self.check()
        assert report.first == []
        assert [name for name in self.files() if name.startswith("quarantine")] == []
