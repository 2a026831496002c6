# SPDX-License-Identifier: GPL-2.0-or-later
"""A real binhost, and machines that take packages from it with real `emerge`.

    with running_binhost(home) as binhost:
        binhost.add_target("amd64")
        machine = Taker.create(tmp_path / "world", binhost.verify_home)
        binhost.publish("amd64", *machine.build("app-misc/alpha-1.0"))
        machine.use(binhost.url("amd64"))                       # PORTAGE_BINHOST, or:
        machine.use_repository("gentwoo", binhost.url("amd64"), verify_signature="true")
        machine.emerge("--getbinpkgonly", "app-misc/alpha")

One world builds and takes: a package of another EPREFIX would have to be relocated, by a program that is not
on PyPI. What it takes goes into a PKGDIR of its own, so nothing is taken but what was served.
"""

import contextlib
import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from gentwoo_client.wire.cpv import CPV
from tests.packages import Special, make_gpkg
from tests.peer import Answer, request
from tests.processes import BDCS, Collector, run
from tests.signing import Signer, running_signer, short_directory, verify_home
from tests.world import Emerge, World

CHOST = "x86_64-pc-linux-gnu"
CFLAGS = "-O2 -pipe"
PROFILE = "default"
TRACEBACK = "Traceback (most recent call last)"
UP_TO_DATE = "up-to-date"
"""What Portage says of an index when it was told 304."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binhost:
    """A collector with a signer that has a key."""

    collector: Collector
    signer: Signer
    fingerprint: str
    verify_home: Path
    """A GnuPG home that trusts the signer's key alone, as Portage uses it."""

    @property
    def data(self) -> Path:
        return self.collector.data

    def add_target(self, name: str, *options: str, chost: str = CHOST, cflags: str = CFLAGS) -> None:
        """Make a target for worlds as `tests.world` makes them."""
        settings = [f"--chost={chost}", f"--profile={PROFILE}", f"--cflags={cflags}", "--arch=amd64"]
        self.collector.bdcs("target", "add", name, *settings, *options)

    def publish(self, target: str, *files: Path) -> list[dict[str, Any]]:
        """Publish packages; return what `bdcs publish` says of each."""
        done = self.collector.bdcs("publish", "--json", "--target", target, *map(str, files))
        published: list[dict[str, Any]] = json.loads(done.stdout)["files"]
        return published

    def url(self, target: str) -> str:
        """The target's sync-uri."""
        return f"{self.collector.url}/binhost/{target}"

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for what is below /binhost/; headers with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(self.collector.url, method, f"/binhost/{path}", headers=named)

    def index(self, target: str) -> str:
        """The text of the index that is served now."""
        answer = self.get(f"{target}/Packages.gz")
        assert answer.status == 200, answer
        return gzip.decompress(answer.body).decode()

    def stored(self, target: str, path: str) -> Path:
        """Where the file of a package is."""
        return self.data / "packages" / target / path


@contextlib.contextmanager
def running_binhost(home: Path, **settings: str | int | list[str]) -> Iterator[Binhost]:
    """A collector and its signer, both with their state below `home`; `settings` are further ones."""
    with short_directory() as directory, running_signer(directory) as signer:
        fingerprint = signer.create_key("--name", "Binhost")
        verifying = verify_home(directory / "verify", [signer.public_key(fingerprint)])
        home.mkdir(parents=True, exist_ok=True)
        configuration = home / "bdcs.toml"
        lines = {"signer": str(signer.socket), **settings}
        configuration.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
        with Collector(home, command=(*BDCS, "--config", configuration)) as collector:
            yield Binhost(collector=collector, signer=signer, fingerprint=fingerprint, verify_home=verifying)
            assert collector.process is not None
            assert "internal error" not in collector.process.output
            assert TRACEBACK not in collector.process.output


@dataclass(slots=True)
class Taker:
    """A world that builds packages, and takes them from binhosts."""

    world: World
    verify_home: Path
    """The GnuPG home with the keys that it trusts; Portage verifies whatever is signed."""
    env: dict[str, str] = field(default_factory=dict)
    """What every `emerge` that takes packages has in its environment."""

    @classmethod
    def create(cls, root: Path, verify_home: Path) -> Self:
        """Make one in the new directory `root`."""
        return cls(World.create(root), verify_home)

    @property
    def pkgdir(self) -> Path:
        """Where what comes through PORTAGE_BINHOST is put."""
        return self.world.root / "var/cache/taken"

    @property
    def configuration(self) -> Path:
        """Its binrepos.conf."""
        return self.world.root / "etc/portage/binrepos.conf"

    # Making packages.

    def build(self, *cpvs: str, env: dict[str, str] | None = None) -> list[Path]:
        """Build these by `emerge --buildpkgonly`; return the new files in the order of their names."""
        before = set(self.world.pkgdir.rglob("*.gpkg.tar"))
        self.world.emerge("--buildpkgonly", "--quiet", *(f"={cpv}" for cpv in cpvs), env=env)
        return sorted(set(self.world.pkgdir.rglob("*.gpkg.tar")) - before)

    def package(self, path: Path, cpv: str, **more: Any) -> Path:
        """Make a package by hand that installs one small file into this world, and nowhere else."""
        pf = cpv.partition("/")[2]
        image: dict[str, bytes | Special] = {f"{self.place(cpv)}": f"{pf}\n".encode()}
        metadata = {"EPREFIX": str(self.world.root), **more.pop("metadata", {})}
        return make_gpkg(path, cpv=cpv, metadata=metadata, image=more.pop("image", image), **more)

    def place(self, cpv: str) -> str:
        """The path, without leading slash, of the file that such a package installs."""
        parsed = CPV.parse(cpv)
        return f"{self.world.root}/usr/share/{parsed.name}-0/{parsed.name}".lstrip("/")

    # Where packages come from.

    def use(self, *urls: str, **env: str) -> None:
        """Take from these through PORTAGE_BINHOST, and from nowhere else."""
        self.configuration.unlink(missing_ok=True)
        self.env = {"PORTAGE_BINHOST": " ".join(urls), **env}

    def use_repository(self, name: str, url: str, **settings: str) -> None:
        """Take from this repository of binrepos.conf, and from nowhere else."""
        self.use_repositories({name: {"sync_uri": url, **settings}})

    def use_repositories(self, repositories: dict[str, dict[str, str]], **env: str) -> None:
        """Take from these repositories of binrepos.conf; settings with `_` for `-`."""
        sections = []
        for name, settings in repositories.items():
            lines = [f"{key.replace('_', '-')} = {value}" for key, value in settings.items()]
            sections.append("\n".join([f"[{name}]", *lines]))
        self.configuration.write_text("\n\n".join(sections) + "\n")
        self.env = env

    # Taking.

    def emerge(self, *arguments: str, check: bool = True, **env: str) -> Emerge:
        """Run emerge as configured. Whatever happens, Portage must not break down."""
        general = {"PKGDIR": str(self.pkgdir), "BINPKG_GPG_VERIFY_GPG_HOME": str(self.verify_home)}
        done = self.world.emerge(*arguments, check=check, env={**general, **self.env, **env})
        assert TRACEBACK not in done.output, done.output
        return done

    def pretend(self, *arguments: str, check: bool = True, **env: str) -> str:
        """What emerge would do."""
        return self.emerge("--pretend", "--verbose", *arguments, check=check, **env).output

    def cached_index(self, url: str) -> Path:
        """Portage's copy of an index: port, scheme and user are no part of its path."""
        address = urlsplit(url)
        assert address.hostname
        cache = self.world.root / "var/cache/edb/binhost"
        return cache / address.hostname / address.path.lstrip("/") / "Packages"

    def taken(self) -> dict[str, Path]:
        """The packages that were downloaded, by file name."""
        places = (self.pkgdir, self.world.root / "var/cache/binhost")
        return {path.name: path for place in places for path in place.rglob("*.gpkg.tar")}

    def forget(self) -> None:
        """Become a machine that has nothing installed and never heard of a binhost."""
        root = self.world.root
        for path in (self.pkgdir, root / "var/cache/binhost", root / "var/cache/edb", root / "usr/share"):
            shutil.rmtree(path, ignore_errors=True)
        for installed in (root / "var/db/pkg").iterdir():
            shutil.rmtree(installed)
        for state in (root / "var/lib/portage").glob("world*"):
            state.unlink()


def timestamp(index: str) -> int:
    """TIMESTAMP of an index."""
    found = re.search(r"^TIMESTAMP: (\d+)$", index, re.MULTILINE)
    assert found, index[:500]
    return int(found[1])


def entries(index: str) -> list[dict[str, str]]:
    """The entries of an index, without its header."""
    blocks = index.rstrip("\n").split("\n\n")[1:]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def wget(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run wget as Portage does, on its own."""
    return run(["wget", "-t", "3", "-T", "10", "--no-verbose", *arguments])
