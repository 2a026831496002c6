# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo build`, `install` and their like: real Portage, a real collector, a builder that does as told."""

import asyncio
import contextlib
import json
import os
import pty
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar

import pytest

from bdcs.builder.collector import BuilderAPI
from gentwoo_client.building import notifications
from gentwoo_client.locks import WATCHER
from gentwoo_client.machine_key import MachineKey, create_key
from gentwoo_client.wire.build_messages import Claim, Lease
from tests.binhost import CFLAGS, Binhost, running_binhost
from tests.builders import running_builder
from tests.processes import Machine, Process, environment
from tests.shelf import Shelf
from tests.signing import short_directory
from tests.waiting import until
from tests.world import World

T = TypeVar("T")
TARGET = "amd64"
CPV = "app-misc/alpha-1.0"

pytestmark = [pytest.mark.timeout(240)]


@dataclass(frozen=True, slots=True)
class Builder:
    """An approved builder that takes work only when a test says so."""

    collector: str
    key: MachineKey

    def _do(self, work: Callable[[BuilderAPI], Any]) -> Any:
        async def talk() -> Any:
            async with BuilderAPI(self.collector, self.key) as api:
                return await work(api)

        return asyncio.run(talk())

    def register(self) -> None:
        self._do(lambda api: api.register())

    def appear(self) -> None:
        """Say that it is there, and take nothing."""
        self._do(
            lambda api: api.request("POST", "/v1/attempts?wait=0", body=_claim().model_dump_json().encode())
        )

    def take(self) -> Lease:
        """Take the next job, as soon as there is one."""
        lease: Lease | None = self._do(lambda api: api.claim(_claim()))
        assert lease is not None
        return lease

    def log(self, lease: Lease, text: str) -> None:
        self._do(lambda api: api.log(lease, 0, text))

    def fail(self, lease: Lease, text: str) -> None:
        self._do(lambda api: api.fail(lease, "build", text))


def _claim() -> Claim:
    return Claim(targets=[TARGET], name="by-hand")


@dataclass
class Client:
    """A machine with its Portage."""

    world: World
    machine: Machine
    state: Path

    def run(self, *arguments: str, code: int = 0) -> CompletedProcess[str]:
        """Run `gentwoo`; it must end with `code`."""
        done = self.machine.gentwoo(*arguments, check=False)
        assert done.returncode == code, f"{arguments}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run(*arguments, "--json", code=code).stdout)
        return document

    def start(self, *arguments: str) -> Process:
        log = self.machine.home / "command.log"
        log.unlink(missing_ok=True)
        return Process(self.machine.argv(*arguments), log=log, env=environment(**self.machine.env))

    def end_watcher(self) -> None:
        """End the process that waits in the background."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.state / WATCHER).read_text()), signal.SIGKILL)


@dataclass
class Bench:
    """A collector with one target, its builder, and machines."""

    binhost: Binhost
    builder: Builder
    directory: Path

    def client(self, name: str, *, use: str = "", setup: bool = True) -> Client:
        """A machine that agreed to everything."""
        home = self.directory / name
        world = World.create(home / "w")
        values = {
            "BINPKG_GPG_VERIFY_GPG_HOME": str(world.root / "etc/portage/gnupg"),
            "CFLAGS": CFLAGS,
            "GPG_VERIFY_USER_DROP": "",
            "GPG_VERIFY_GROUP_DROP": "",
            "PORTAGE_TRUST_HELPER": "",
            "USE": use,
        }
        with (world.root / "etc/portage/make.conf").open("a") as file:
            file.writelines(f'{variable}="{value}"\n' for variable, value in values.items())
        world.ebuild(CPV, iuse="gtk")
        state = home / "s"
        toml = world.settings_toml(collector=self.binhost.collector.url, state_dir=state)
        env = {"PORTAGE_OVERRIDE_EPREFIX": str(world.root)}
        client = Client(world, Machine(home / "m", toml, env=env), state)
        client.machine.register()
        if setup:
            client.run("binhost", "setup", "--yes", "--target", TARGET)
        return client

    def publish(self, client: Client, cpv: str = CPV, **env: str) -> None:
        """Build a package as the operator would, and publish it."""
        client.world.emerge("--buildpkgonly", f"={cpv}", env=env)
        (package,) = client.world.pkgdir.rglob("*.gpkg.tar")
        self.binhost.publish(TARGET, package)
        shutil.rmtree(client.world.pkgdir)
        client.world.pkgdir.mkdir()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with short_directory() as directory, running_binhost(directory / "c") as binhost:
        binhost.add_target(TARGET)
        builder = Builder(binhost.collector.url, create_key(directory / "builder.key"))
        builder.register()
        binhost.collector.bdcs("admin", "builders", "approve", str(builder.key.machine), "--target", TARGET)
        yield Bench(binhost, builder, directory)


@pytest.fixture
def client(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A machine of its own for each test, whose packages nobody else has."""
    made = bench.client(f"m{abs(hash(request.node.name)) % 10**6}")
    try:
        yield made
    finally:
        made.end_watcher()


# Agreeing


def test_nothing_is_told_before_somebody_agreed(bench: Bench, client: Client) -> None:
    done = client.run("build", "--plan", "app-misc/alpha", code=2)
    assert bench.binhost.collector.url in done.stdout
    assert '"cpv":' in done.stdout
    assert "--yes" in done.stderr
    client.run("build", "--plan", "--yes", "app-misc/alpha")
    client.run("build", "--plan", "app-misc/alpha")  # once is enough


def test_who_is_not_registered_is_told_to(client: Client) -> None:
    shutil.rmtree(client.state)
    assert "gentwoo register" in client.run("build", "app-misc/alpha", code=78).stderr


def test_install_needs_the_binhost(bench: Bench) -> None:
    client = bench.client("unset", setup=False)
    assert "gentwoo binhost setup" in client.run("install", "--yes", "app-misc/alpha", code=78).stderr
    done = client.run("build", "--plan", "--yes", "--target", TARGET, "app-misc/alpha")
    assert CPV in done.stdout
    assert (
        "no target nowhere"
        in client.run("build", "--plan", "--yes", "--target", "nowhere", "app-misc/alpha", code=0).stdout
    )


# Plans


def test_packages_of_private_repositories_are_not_told(client: Client) -> None:
    config = client.machine.config
    config.write_text(config.read_text() + 'repositories = ["guru"]\n')
    done = client.run("build", "--plan", "app-misc/alpha")  # no question: nothing is sent
    assert "nothing is told about packages of the repository gentoo" in done.stdout


def test_why_tells_the_difference_to_each_build(bench: Bench, client: Client) -> None:
    client.world.ebuild("app-misc/differs-1.0", iuse="gtk")
    assert "no build of this version is published" in client.run("why", "--yes", "app-misc/differs").stdout
    bench.publish(client, "app-misc/differs-1.0", USE="gtk")
    done = client.run("why", "--yes", "app-misc/differs")
    assert "build 1 is not it: built with USE=gtk; yours has -gtk" in done.stdout
    bench.publish(client, "app-misc/differs-1.0")
    done = client.run("why", "app-misc/differs")
    assert "is published as wanted here" in done.stdout
    assert "--getbinpkg" in done.stdout
    document = client.json("why", "app-misc/differs")
    assert [package["state"] for package in document["packages"]] == ["published"]


# Installing


def test_what_is_published_is_installed_at_once(bench: Bench, client: Client) -> None:
    client.world.ebuild("app-misc/ready-1.0", iuse="gtk")
    bench.publish(client, "app-misc/ready-1.0")
    done = client.run("install", "--yes", "app-misc/ready")
    assert "There as binaries, 1:\n  app-misc/ready-1.0\n" in done.stdout
    assert client.world.is_installed("app-misc/ready-1.0")
    assert "::: completed emerge (1 of 1) app-misc/ready-1.0" in client.world.log.read_text(errors="replace")
    assert "=== (1 of 1) Merging Binary" in client.world.log.read_text(errors="replace")
    assert "emerge would merge nothing" not in done.stdout
    assert "nothing to upgrade" in client.run("upgrade", "--all", "--yes").stdout


def test_it_goes_back_to_the_version_before(bench: Bench, client: Client) -> None:
    for version in ("1.0", "2.0"):
        client.world.ebuild(f"app-misc/moving-{version}")
        bench.publish(client, f"app-misc/moving-{version}")
    client.run("install", "--yes", "app-misc/moving")
    assert client.world.is_installed("app-misc/moving-2.0")
    done = client.run("downgrade", "--yes", "moving")
    assert "app-misc/moving-1.0 in place of app-misc/moving-2.0" in done.stdout
    assert client.world.is_installed("app-misc/moving-1.0")
    assert "nothing that is lower" in client.run("downgrade", "--yes", "app-misc/moving", code=1).stderr
    client.run("upgrade", "--yes", "app-misc/moving")
    assert client.world.is_installed("app-misc/moving-2.0")
    code, output = converse(client, "remove", "--non-interactive", "app-misc/moving", talk=[])
    assert (code, "add --yes" in output) == (2, True), output
    client.run("remove", "--yes", "app-misc/moving")
    assert not client.world.is_installed("app-misc/moving-2.0")


# Waiting


def test_two_ask_for_the_same_and_one_gives_up(bench: Bench) -> None:
    first, second = bench.client("first"), bench.client("second")
    for client in (first, second):
        client.world.ebuild("app-misc/shared-1.0")
    bench.builder.appear()
    try:
        one = first.json("build", "--yes", "--no-wait", "app-misc/shared")
        two = second.json("build", "--yes", "--no-wait", "app-misc/shared")
        assert [state["packages"][0]["answer"] for state in (one, two)] == ["queued", "joined"]
        assert one["packages"][0]["job"] == two["packages"][0]["job"]
        assert [build["id"] for build in first.json("builds")["builds"]] == [one["id"]]
        assert one["id"] in first.run("builds").stdout
        assert "cancelled" in first.run("builds", "cancel", one["id"]).stdout
        assert first.json("notifications")["awaited"] == []
        lease = bench.builder.take()
        bench.builder.log(lease, "compiling…\n")
        bench.builder.fail(lease, "it does not compile")
        assert second.run("builds", "log", two["id"], "-f").stdout == "compiling…\n"
        assert "failed: it does not compile" in second.run("builds", "show", two["id"]).stdout
        assert "made no request" in second.run("builds", "show", one["id"], code=1).stderr
        refused = second.run("build", "app-misc/shared", code=1)
        assert "it does not compile" in refused.stdout
        assert "queued" in second.run("builds", "retry", two["id"]).stdout
        second.run("builds", "cancel", two["id"])
    finally:
        first.end_watcher()
        second.end_watcher()


def test_who_left_is_told_by_the_next_command(bench: Bench, client: Client) -> None:
    client.world.ebuild("app-misc/later-1.0")
    bench.builder.appear()
    done = client.run("install", "--yes", "--no-wait", "app-misc/later", code=75)
    assert "the next `gentwoo` command tells" in done.stdout
    assert "app-misc/later" in client.run("notifications").stdout
    bench.builder.fail(bench.builder.take(), "no")
    until(lambda: (client.state / notifications.NEWS).exists(), what="the watcher notes it")
    client.world.log.touch()
    told = client.run("history").stderr
    assert "app-misc/later: app-misc/later-1.0 failed: no; " in told
    assert "app-misc/later" not in client.run("history").stderr
    document = client.json("notifications")
    assert [entry["state"] for entry in document["notifications"]] == ["incomplete"]
    assert document["awaited"] == []
    client.run("notifications", "--clear")
    assert client.json("notifications")["notifications"] == []


def test_waiting_survives_a_restart_of_the_collector(bench: Bench, client: Client) -> None:
    client.world.ebuild("app-misc/patient-1.0")
    bench.builder.appear()
    with client.start("install", "--yes", "app-misc/patient") as waiting:
        waiting.until_printed("Request [a-z2-7]+; ")
        bench.binhost.collector.kill()
        waiting.until_printed("; waiting goes on")
        bench.binhost.collector.start()
        waiting.until_printed("answers again")
        bench.publish(client, "app-misc/patient-1.0")
        assert waiting.wait(120) == 0, waiting.output
    assert client.world.is_installed("app-misc/patient-1.0")


# On a terminal


def test_the_questions_of_a_terminal(bench: Bench, client: Client) -> None:
    client.world.ebuild("app-misc/asked-1.0")
    bench.builder.appear()
    code, output = converse(client, "install", "app-misc/asked", talk=[("now and later? [Y/n]", "n\n")])
    assert (code, "nothing was sent" in output) == (1, True), output
    talk = [("now and later? [Y/n]", "\n"), ("Go on? [Y/n]", "n\n")]
    code, output = converse(client, "install", "app-misc/asked", talk=talk)
    assert (code, "Nothing was done" in output) == (1, True), output
    assert "To be built for amd64, 1; how long is not known" in output
    code, output = converse(client, "install", "--non-interactive", "app-misc/asked", talk=[])
    assert (code, "Go on?" in output, "add --yes" in output) == (2, False, True), output
    talk = [("Go on? [Y/n]", "y\n"), ("1st in the queue", "\x03")]
    code, output = converse(client, "install", "app-misc/asked", talk=talk)
    assert code == 130, output
    assert "the next `gentwoo` command tells" in output
    (request,) = client.json("notifications")["awaited"]
    client.run("builds", "cancel", request["id"])


def test_what_failed_is_compiled_here_if_somebody_says_so(bench: Bench, client: Client) -> None:
    client.world.ebuild("app-misc/stubborn-1.0")
    client.run("build", "--plan", "--yes", "app-misc/stubborn")
    bench.builder.appear()

    def fail() -> None:
        bench.builder.fail(bench.builder.take(), "not here")

    talk: list[tuple[str, str | Callable[[], None]]] = [
        ("Go on? [Y/n]", "y\n"),
        ("Ctrl-C", fail),
        ("compile them here? [y/N]", "y\n"),
    ]
    code, output = converse(client, "install", "app-misc/stubborn", talk=talk)
    assert code == 0, output
    assert "0 of 1 packages are there" in output
    assert client.world.is_installed("app-misc/stubborn-1.0")


def converse(
    client: Client, *arguments: str, talk: Sequence[tuple[str, str | Callable[[], None]]]
) -> tuple[int, str]:
    """Run `gentwoo` on a terminal; type, or do, what belongs to each text once it is seen."""
    argv = [str(word) for word in client.machine.argv(*arguments)]
    variables = {**environment(**client.machine.env), "TERM": "xterm"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, variables)
    output, seen, waiting = "", 0, list(talk)
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1.0)[0]:
                try:
                    output += os.read(terminal, 4096).decode(errors="replace")
                except OSError:  # its other end is closed
                    break
            if waiting and (place := output.find(waiting[0][0], seen)) >= 0:
                seen = place + 1
                action = waiting.pop(0)[1]
                if isinstance(action, str):
                    os.write(terminal, action.encode())
                else:
                    action()
        else:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


# With a real builder


def test_what_is_not_there_is_built_and_installed(bench: Bench, client: Client) -> None:
    """With this machine's USE, signed, and told as it goes; asked for again, it is there at once.

    So much is published that the index waits for more of it: emerge is run when it lists what was built,
    since it would compile it before.
    """
    client.world.ebuild("app-misc/library-1.0", slot="0/3")
    client.world.ebuild(
        "app-misc/program-1.0",
        iuse="gtk",
        depend="app-misc/library:=",
        rdepend="app-misc/library:=",
        phases={"pkg_postinst": 'use gtk && touch "${EROOT}/var/tmp/with-gtk"'},
    )
    (client.world.root / "etc/portage/package.use").write_text("app-misc/program gtk\n")
    with running_builder(bench.binhost, client.world, client.world.root.parent / "b", TARGET):
        with Shelf(bench.binhost.data).hurrying(TARGET):
            done = client.run("install", "--yes", "app-misc/program")
        assert "To be built for amd64, 2" in done.stdout
        assert "app-misc/library-1.0: is there\n" in done.stdout
        assert "2 of 2 packages are there." in done.stdout
        assert "The binhost's index lists it in " in done.stdout
        log = client.world.log.read_text(errors="replace")
        assert log.count("Merging Binary") == 2
        assert "Compiling/Merging" not in log
        assert (client.world.root / "var/tmp/with-gtk").exists()
        again = client.run("build", "--plan", "app-misc/program")
        assert "There as binaries, 1:\n  app-misc/program-1.0\n" in again.stdout
        (request,) = client.json("builds")["builds"]
        assert "app-misc/library" in client.run("builds", "log", request["id"], "app-misc/library").stdout
        log = client.run("builds", "log", request["id"], "app-misc/program").stdout
        assert ">>> Emerging binary (1 of 2) app-misc/library-1.0" in log
