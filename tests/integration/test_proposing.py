# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that no target fits, with real Portage and a real collector: told why, they propose one."""

import contextlib
import json
import os
import pty
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.binhost import Binhost, running_binhost
from tests.processes import Machine, environment
from tests.signing import short_directory
from tests.world import World

pytestmark = [pytest.mark.timeout(300)]

CPV = "app-misc/alpha-1.0"


@dataclass
class Client:
    """A machine, and `gentwoo` for it."""

    world: World
    machine: Machine

    def run(self, *arguments: str, code: int = 0) -> CompletedProcess[str]:
        """Run `gentwoo`; it must end with `code`."""
        done = self.machine.gentwoo(*arguments, check=False)
        assert done.returncode == code, f"{arguments}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def answer(self, *arguments: str, question: str, reply: str) -> tuple[int, str]:
        """Run `gentwoo` on a terminal, and reply once to a question; exit code and all that was shown."""
        argv = [str(word) for word in self.machine.argv(*arguments)]
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(argv[0], argv, environment(**self.machine.env))
        output, replied = "", False
        deadline = time.monotonic() + 120
        with contextlib.suppress(OSError):  # its other end is closed
            while time.monotonic() < deadline:
                if select.select([terminal], [], [], 1.0)[0]:
                    output += os.read(terminal, 4096).decode(errors="replace")
                if question in output and not replied:
                    os.write(terminal, f"{reply}\n".encode())
                    replied = True
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def new_client(home: Path, binhost: Binhost, cflags: str, *, registered: bool = True) -> Client:
    world = World.create(home / "w")
    values = {
        "BINPKG_GPG_VERIFY_GPG_HOME": str(world.root / "etc/portage/gnupg"),
        "CFLAGS": cflags,
        "GPG_VERIFY_USER_DROP": "",
        "GPG_VERIFY_GROUP_DROP": "",
        "PORTAGE_TRUST_HELPER": "",
    }
    with (world.root / "etc/portage/make.conf").open("a") as file:
        file.writelines(f'{name}="{value}"\n' for name, value in values.items())
    world.ebuild(CPV)
    toml = world.settings_toml(collector=binhost.collector.url, state_dir=home / "s")
    client = Client(world, Machine(home / "m", toml, env={"PORTAGE_OVERRIDE_EPREFIX": str(world.root)}))
    if registered:
        client.machine.register()
    return client


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def binhost(directory: Path) -> Iterator[Binhost]:
    """A binhost without a target for any of the machines here; administrators are asked."""
    with running_binhost(directory / "c") as binhost:
        binhost.add_target("arm", chost="aarch64-unknown-linux-gnu")
        yield binhost


def proposals(binhost: Binhost, cflags: str) -> list[dict[str, Any]]:
    done = binhost.collector.bdcs("admin", "proposals", "list", "--all", "--json")
    return [found for found in json.loads(done.stdout)["proposals"] if found["cflags"] == cflags]


def told(done: CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_a_target_is_proposed_accepted_and_set_up(directory: Path, binhost: Binhost) -> None:
    """`install` and `setup` say why there is none, and propose one; then an administrator makes it."""
    cflags = "-O2 -march=x86-64 -fno-plt"
    client = new_client(directory / "one", binhost, cflags)
    for words in (("build", "app-misc/alpha"), ("binhost", "setup")):
        nobody = told(client.run(*words, code=1))
        assert "arm: CHOST differs" in nobody
        assert "gentwoo binhost propose --yes" in nobody
    assert proposals(binhost, cflags) == []
    asked = told(client.run("install", "--yes", "app-misc/alpha", code=75))
    assert "an administrator there decides" in asked
    assert '"cpu": "x86-64"' in asked
    client.run("binhost", "setup", "--yes", code=75)
    (proposed,) = proposals(binhost, cflags)
    assert (proposed["machines"], proposed["profile"], proposed["arch"]) == (1, "default", "amd64")
    binhost.collector.bdcs("admin", "proposals", "accept", str(proposed["id"]))
    assert "is for this machine already" in client.run("binhost", "propose").stdout
    assert "(exact)" in client.run("binhost", "setup", "--yes").stdout
    plan = client.run("build", "--plan", "--yes", "app-misc/alpha").stdout
    assert CPV in plan


def test_who_is_refused_is_told_why(directory: Path, binhost: Binhost) -> None:
    cflags = "-O1"
    client = new_client(directory / "two", binhost, cflags)
    client.run("binhost", "propose", "--yes", code=75)
    (proposed,) = proposals(binhost, cflags)
    binhost.collector.bdcs("admin", "proposals", "refuse", str(proposed["id"]), "--reason", "too slow")
    assert "too slow" in told(client.run("binhost", "propose", "--yes", code=1))


def test_at_a_terminal_it_is_asked(directory: Path, binhost: Binhost) -> None:
    cflags = "-O2 -fno-common"
    client = new_client(directory / "three", binhost, cflags)
    code, shown = client.answer("binhost", "propose", question="Propose it?", reply="n")
    assert (code, "nothing was proposed" in shown) == (1, True), shown
    assert proposals(binhost, cflags) == []
    code, shown = client.answer("binhost", "propose", question="Propose it?", reply="y")
    assert (code, "administrator" in shown) == (75, True), shown
    assert len(proposals(binhost, cflags)) == 1
    assert "nobody is here" in told(client.run("binhost", "propose", "--non-interactive", code=1))


def test_what_nobody_else_may_build_with_is_not_proposed(directory: Path, binhost: Binhost) -> None:
    client = new_client(directory / "bad", binhost, "-O2 -fplugin=/x.so")
    done = client.run("binhost", "propose", "--yes", code=1)
    assert "-fplugin=/x.so is none of the flags that are allowed" in told(done)


def test_who_is_not_registered_is_told_to(directory: Path, binhost: Binhost) -> None:
    client = new_client(directory / "four", binhost, "-O2", registered=False)
    assert "gentwoo register" in told(client.run("binhost", "propose", "--yes", code=1))


def test_where_targets_are_made_at_once_it_is_one_command(directory: Path) -> None:
    with running_binhost(directory / "a", proposals="accept") as binhost:
        client = new_client(directory / "five", binhost, "-O2 -pipe -march=x86-64")
        done = client.run("binhost", "setup", "--yes", "--json")
        document = json.loads(done.stdout)
        assert (document["target"], document["fits"]) == ("amd64-x86-64", "exact")
        again = json.loads(client.run("binhost", "propose", "--json").stdout)
        assert (again["target"], again["new"]) == (document["target"], False)
