# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that could swap their packages: each with a world of its own, all at the same place.

    with short_directory() as directory, running_binhost(directory / "c") as binhost:
        twins = Twins.create(directory, binhost.collector.url)
        twins.ebuild("app-misc/alpha-1.0", iuse="gtk")
        first = twins.join("first", use="gtk")
        first.run("install", "--yes", "app-misc/alpha")

A package is for one EPREFIX, so machines that are to take each other's must all have the same one. Each one's
commands run in a mount namespace (bubblewrap) in which its own world lies there; the one that lies there
outside is the builder's.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Self

from gentwoo_client.locks import WATCHER
from tests.binhost import CFLAGS
from tests.processes import Machine, Process, environment, run
from tests.world import World

MERGE = re.compile(r"=== \(\d+ of \d+\) (Merging Binary|Compiling/Merging) \((.+?)::")
PATIENCE = 500  # seconds that a command may take which installs something


@dataclass
class Seated(Machine):
    """A client whose world is seen at a place where outside another one is."""

    seat: tuple[Path, Path] = (Path(), Path())
    """Its world, and where it is seen."""

    def argv(self, *arguments: str) -> list[str | Path]:
        world, place = self.seat
        inside = ("bwrap", "--die-with-parent", "--dev-bind", "/", "/", "--bind", world, place, "--")
        return [*inside, *super().argv(*arguments)]

    def gentwoo(self, *arguments: str, check: bool = True) -> CompletedProcess[str]:
        """Run one command to its end, however busy this machine is."""
        return run(self.argv(*arguments), env=environment(**self.env), check=check, timeout=PATIENCE)


@dataclass
class Twin:
    """One machine."""

    world: World
    """Its own, as seen from outside."""
    machine: Seated
    state: Path

    def run(self, *arguments: str, code: int = 0) -> CompletedProcess[str]:
        """Run `gentwoo`; it must end with `code`."""
        with self.start(*arguments) as process:
            ended = process.wait(PATIENCE)
            output = process.output
        assert ended == code, f"{arguments}: {ended}\n{output}"
        assert "Traceback" not in output, output
        return CompletedProcess(arguments, ended, output)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run `gentwoo … --json`; return what it printed."""
        done = self.machine.gentwoo(*arguments, "--json", check=False)
        assert done.returncode == code, done
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def start(self, *arguments: str) -> Process:
        """Start `gentwoo`; use it as a context manager."""
        number = len(list(self.machine.home.glob("command-*.log")))
        log = self.machine.home / f"command-{number}.log"
        return Process(self.machine.argv(*arguments), log=log, env=environment(**self.machine.env))

    def use(self, *lines: str) -> None:
        """Have these lines in package.use."""
        (self.world.root / "etc/portage/package.use").write_text("".join(f"{line}\n" for line in lines))

    def installed_use(self, cpv: str) -> set[str]:
        """The flags that the installed package was built with."""
        return set((self.world.root / "var/db/pkg" / cpv / "USE").read_text().split())

    def merged(self) -> list[str]:
        """What emerge's log says of each merge: `Merging Binary` or `Compiling/Merging`, and the package."""
        text = self.world.log.read_text(errors="replace") if self.world.log.exists() else ""
        return [f"{kind} {cpv}" for kind, cpv in MERGE.findall(text)]

    def taken(self) -> list[Path]:
        """The packages that came from the binhost."""
        return sorted((self.world.root / "var/cache").rglob("*.gpkg.tar"))

    def end_watcher(self) -> None:
        """End the process that waits in the background, if there is one."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.state / WATCHER).read_text()), signal.SIGKILL)


@dataclass
class Twins:
    """Machines with one EPREFIX, and the world of their builder."""

    directory: Path
    collector: str
    world: World
    """The builder's."""
    target: str
    machines: list[Twin] = field(default_factory=list)

    @classmethod
    def create(cls, directory: Path, collector: str, target: str = "amd64") -> Self:
        """Make the builder's world in the new directory `directory`/w."""
        world = World.create(directory / "w")
        values = {
            "BINPKG_GPG_VERIFY_GPG_HOME": str(world.root / "etc/portage/gnupg"),
            "CFLAGS": CFLAGS,
            "GPG_VERIFY_USER_DROP": "",
            "GPG_VERIFY_GROUP_DROP": "",
            "PORTAGE_TRUST_HELPER": "",
        }
        with (world.root / "etc/portage/make.conf").open("a") as file:
            file.writelines(f'{name}="{value}"\n' for name, value in values.items())
        return cls(directory, collector, world, target)

    def join(self, name: str, *use: str, make_conf: str = "") -> Twin:
        """A machine that agreed to everything; `use` are lines of package.use."""
        home = self.directory / name
        shutil.copytree(self.world.root, home / "w", symlinks=True)
        state, world = home / "s", World(home / "w")
        with (world.root / "etc/portage/make.conf").open("a") as file:
            file.write(make_conf)
        toml = self.world.settings_toml(collector=self.collector, state_dir=state)
        env = {"PORTAGE_OVERRIDE_EPREFIX": str(self.world.root)}
        machine = Seated(home / "m", toml, env=env, seat=(world.root, self.world.root))
        twin = Twin(world, machine, state)
        twin.use(*use)
        machine.register()
        twin.run("binhost", "setup", "--yes", "--target", self.target)
        self.machines.append(twin)
        return twin

    def ebuild(self, cpv: str, **facts: Any) -> None:
        """Write an ebuild into the repositories of all that are here."""
        for world in (self.world, *(machine.world for machine in self.machines)):
            world.ebuild(cpv, **facts)

    def end(self) -> None:
        """End what waits in the background."""
        for machine in self.machines:
            machine.end_watcher()


def is_signed(package: Path) -> bool:
    """Whether the members of a package have signatures (GLEP 78)."""
    with tarfile.open(package) as archive:
        return any(name.endswith(".sig") for name in archive.getnames())


def all_end(processes: Sequence[Process]) -> None:
    """Wait for all of them; each must have done what it was told."""
    for process in processes:
        assert process.wait(PATIENCE) == 0, process.output
        assert "Traceback" not in process.output, process.output
