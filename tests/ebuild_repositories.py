# SPDX-License-Identifier: GPL-2.0-or-later
"""Ebuild repositories for the catalogue: written by hand with their metadata cache, or cached by Portage."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from bdcs.domain.ebuild_repositories import SyncType
from bdcs.services import catalogue, repositories
from bdcs.services.refreshing import Refresher
from bdcs.services.repositories import Repository
from bdcs.store import schema
from bdcs.store.engine import create_writer
from bdcs.store.store import transaction
from tests.world import World, package_name


@dataclass(frozen=True, slots=True)
class Tree:
    """The directory of a repository; its ebuilds are empty, and its cache says whatever the test wants."""

    root: Path

    @classmethod
    def create(cls, root: Path, name: str = "gentoo") -> "Tree":
        (root / "profiles").mkdir(parents=True)
        (root / "profiles/repo_name").write_text(f"{name}\n")
        (root / "metadata/md5-cache").mkdir(parents=True)
        return cls(root)

    def add(self, cpv: str, **values: str) -> Path:
        """Write an ebuild and its cache entry; return the latter."""
        self.ebuild(cpv)
        lines = {"DESCRIPTION": f"About {cpv}", "EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", **values}
        entry = self.entry(cpv)
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_text("".join(f"{key}={value}\n" for key, value in sorted(lines.items())))
        return entry

    def ebuild(self, cpv: str) -> Path:
        category, _, pf = cpv.partition("/")
        ebuild = self.root / category / package_name(pf) / f"{pf}.ebuild"
        ebuild.parent.mkdir(parents=True, exist_ok=True)
        ebuild.write_text("EAPI=8\n")
        return ebuild

    def entry(self, cpv: str) -> Path:
        return self.root / "metadata/md5-cache" / cpv

    def remove(self, cpv: str) -> None:
        """Remove the ebuild alone, as somebody does who forgets the cache."""
        self.ebuild(cpv).unlink()


def make_cache(world: World) -> None:
    """Have Portage's own egencache make the metadata cache of a world's repository."""
    subprocess.run(
        [world.portage_bin / "egencache", "--update", "--repo=gentoo", "--jobs=1"],
        env=world.environment(),
        check=True,
        capture_output=True,
        timeout=90,
    )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A store, and who keeps its catalogue."""

    refresher: Refresher

    @property
    def data(self) -> Path:
        return self.refresher.data

    def add(self, name: str, sync_type: SyncType = SyncType.LOCAL, **more: object) -> Repository:
        with transaction(self.refresher.writer) as connection:
            return repositories.add(connection, name, data=self.data, sync_type=sync_type, now=1, **more)  # type: ignore[arg-type]

    def status(self, name: str = "gentoo") -> Repository:
        with self.reading() as connection:
            return repositories.require(connection, name)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with transaction(self.refresher.reader) as connection:
            yield connection

    def versions(self, package: str) -> list[str]:
        """Versions of CATEGORY/NAME, the newest first; none where there is no such package."""
        category, _, name = package.partition("/")
        with self.reading() as connection:
            found = catalogue.package(connection, category, name)
        return [] if found is None else [version.cpv.version for version in found.versions]


@contextmanager
def new_catalogue(data: Path) -> Iterator[Catalogue]:
    """A store in `data` with an empty catalogue."""
    path = data / "bdcs.sqlite"
    engine = create_writer(path)
    with transaction(engine) as connection:
        schema.upgrade(connection)
    engine.dispose()
    refresher = Refresher.of(store=path, data=data)
    try:
        yield Catalogue(refresher)
    finally:
        refresher.close()
