# SPDX-License-Identifier: GPL-2.0-or-later
"""A collector at which much is going on, for tests of the pages about builds.

with Scene.start(tmp_path) as scene:
    scene.jobs["failed"]                 # numbers of jobs, by how they stand
    scene.requests["failed"]             # ids of the requests that they are of
    scene.builder, scene.machine         # to go on with

There are the targets `amd64` and `arm64`, `lonely`, which nobody builds for, and `secret`, which is private.
Builds are published by hand.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.builds import HandBuilder, Wisher, metadata, specification
from tests.ebuild_repositories import Tree
from tests.packages import gpkg
from tests.processes import Collector
from tests.shelf import Shelf

TARGET = "amd64"
SERVED = (TARGET, "secret")
TOKEN = "sesame-sesame-sesame"
LOG = """\
>>> builder: building, without network
>>> Emerging (1 of 1) app-misc/broken-1.0::gentoo
>>> Unpacking source...
>>> Compiling source in /var/tmp ...
\x1b[32mgreen\x1b[0m <script>alert(1)</script> & more
x.c:3:1: warning: unused variable
10 %\r50 %\r100 %
x.c:4:1: error: expected a ‘;’
 * ERROR: app-misc/broken-1.0::gentoo failed (compile phase):
"""
LONG = ">>> Compiling source in /x ...\n" + "".join(
    f"[{number}/3000] CXX object\n" for number in range(1, 3001)
)


@dataclass
class Scene:
    """The collector, who takes part, and what has happened so far."""

    collector: Collector
    machine: Wisher
    builder: HandBuilder
    jobs: dict[str, int] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    leases: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def start(cls, home: Path, *, is_quiet: bool = False) -> Iterator[Self]:
        """Have everything happen; or nothing yet, where it is quiet."""
        home.mkdir(exist_ok=True)
        (home / "bdcs.toml").write_text("registrations_per_network = 1000\n")
        with Collector(home, options=("--config", str(home / "bdcs.toml"))) as collector:
            shelf = Shelf(collector.data)
            for name in (TARGET, "arm64", "lonely", "secret"):
                shelf.add_target(name, signatures="optional", private=name == "secret")
            shelf.add_token("secret", "friend", TOKEN)
            if not is_quiet:
                add_repository(collector, home / "repository")
            machine = Wisher(collector.url)
            machine.register()
            builder = HandBuilder.approved(collector, *SERVED, name="workhorse")
            leaving = HandBuilder.approved(collector, "arm64", name="leaver")
            scene = cls(collector, machine, builder)
            if not is_quiet:
                scene.happen()
                leaving.claim("arm64", draining=True)
            yield scene

    def happen(self) -> None:
        """One job in every state."""
        self.ask("published", "app-misc/good-1.0", use=("ssl",))
        self.take("published", log="all is well\n")
        self.publish("published")
        self.ask("failed", "app-misc/broken-1.0", use=("gtk",))
        self.take("failed", log="given back\n")
        self.builder.act(self.leases["failed"], "heartbeat", release=True)
        self.take("failed", log=LOG)
        self.fail("failed", "build", "app-misc/broken-1.0 failed in its compile phase\n * ERROR: all of it")
        self.ask("long", "app-misc/plain-1.0")
        self.take("long", log=LONG)
        self.fail("long", "fetch", "Couldn't download it")
        self.ask("other", "app-misc/good-2.0", use=("ssl",))
        self.take("other")
        self.publish("other", use=("gtk",))
        self.ask("secret", "app-misc/hush-1.0", use=("gtk",), target="secret")
        self.take("secret", log="nobody may read this\n")
        self.ask("cancelled", "app-misc/never-1.0")
        self.machine.send_json("DELETE", f"/v1/builds/{self.requests['cancelled']}")
        self.ask("building", "app-misc/growing-1.0")
        self.take("building", log=">>> Compiling source in /x ...\nthe first line\n")
        self.ask("queued", "app-misc/next-1.0", use=("gtk", "ssl"))
        self.ask("arm", "app-misc/plain-1.0", target="arm64")
        needing = specification("app-misc/later-1.0", iuse=(), DEPEND="app-misc/next")
        document = self.machine.ask(wish("app-misc/next-1.0", ("gtk", "ssl"), TARGET), needing)
        self.jobs["waiting"] = document["packages"][1]["job"]

    def ask(self, name: str, cpv: str, use: Sequence[str] = (), target: str = TARGET) -> None:
        """Have a machine ask for a package; it has flags if any are given."""
        more: dict[str, Any] = {"access": {"name": "friend", "token": TOKEN}} if target == "secret" else {}
        document = self.machine.ask(wish(cpv, use, target), target=target, **more)
        (package,) = document["packages"]
        assert package["job"], package
        self.jobs[name], self.requests[name] = package["job"], document["id"]

    def calm_down(self) -> None:
        """Have nobody want anything any more."""
        for build in self.machine.send_json("GET", "/v1/builds").document["builds"]:
            self.machine.send_json("DELETE", f"/v1/builds/{build['id']}")

    def take(self, name: str, log: str = "") -> None:
        """Have the builder begin with what was asked for last, and print something."""
        lease = self.builder.claim(*SERVED)
        assert lease is not None
        assert lease["job"]["job"] == self.jobs[name]
        self.leases[name] = lease
        self.print(name, log)

    def print(self, name: str, text: str) -> None:
        """Have the builder print more."""
        size = self.builder.act(self.leases[name], "log", offset=0, text="").document["size"]
        for start in range(0, len(text), 50_000):
            piece = text[start : start + 50_000]
            size = self.builder.act(self.leases[name], "log", offset=size, text=piece).document["size"]

    def publish(self, name: str, use: Sequence[str] | None = None) -> None:
        """Have the builder publish what was wished for, or the same with other flags."""
        wished = self.leases[name]["job"]["specification"]
        flags = wished["use"] if use is None else use
        content = gpkg(cpv=wished["cpv"], metadata=metadata(flags, wished["iuse"], DEPEND=wished["depend"]))
        upload = self.builder.upload(wished["cpv"], content, wished["target"])
        answer = self.builder.act(self.leases[name], "publish", uploads=[upload])
        assert answer.status == 200, answer

    def fail(self, name: str, kind: str, text: str) -> None:
        """Have the builder give it up."""
        assert self.builder.act(self.leases[name], "fail", kind=kind, text=text).status == 200


def wish(cpv: str, use: Sequence[str], target: str) -> Any:
    """A package with flags, or without any."""
    return specification(cpv, use, ("gtk", "ssl") if use else (), target=target)


def add_repository(collector: Collector, root: Path) -> None:
    """A catalogue with all packages that are asked for; `ssl` alone is what their ebuilds choose."""
    tree = Tree.create(root, "test")
    for cpv in ("good-1.0", "good-2.0", "broken-1.0", "next-1.0", "hush-1.0"):
        tree.add(f"app-misc/{cpv}", IUSE="gtk +ssl")
    for cpv in ("plain-1.0", "never-1.0", "growing-1.0", "later-1.0"):
        tree.add(f"app-misc/{cpv}")
    collector.bdcs("repository", "add", "test", "--location", str(root))
    collector.bdcs("repository", "sync", "test")
