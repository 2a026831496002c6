# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemon and one-shot push, both as an ordinary user whose only privilege is group `portage`.

Needs root, since only root can become that user. Where the machine has no group `portage`, or no user
`gentwoo-test` in it, they are made (groupadd, useradd: system accounts without home and shell) and left
there: a machine to test on is meant, as in continuous integration. The client's code is copied to a directory
that the user may enter, and runs under Debian's Python, since root's own interpreter lies under root's home.
"""

import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dev.places import ROOT, user_venv
from tests.processes import Collector, Machine, Process
from tests.records import compared, install, replacement
from tests.waiting import until
from tests.world import World

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

USER = "gentwoo-test"
GROUP = "portage"


@pytest.fixture(scope="module")
def user() -> pwd.struct_passwd:
    """The ordinary user, made if missing."""
    if not any(group.gr_name == GROUP for group in grp.getgrall()):
        subprocess.run(["groupadd", "--system", GROUP], check=True)
    if not any(entry.pw_name == USER for entry in pwd.getpwall()):
        options = ["--system", "--no-create-home", "--home-dir=/dev/null", "--shell=/usr/sbin/nologin"]
        subprocess.run(["useradd", *options, "--user-group", f"--groups={GROUP}", USER], check=True)
    assert USER in grp.getgrnam(GROUP).gr_mem
    return pwd.getpwnam(USER)


@pytest.fixture
def home(user: pwd.struct_passwd) -> Iterator[Path]:
    """A directory that the user may enter, with a state directory of their own in it."""
    with tempfile.TemporaryDirectory(prefix="gentwoo-unprivileged-", dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o755)
        state = home / "state"
        state.mkdir(mode=0o700)
        os.chown(state, user.pw_uid, user.pw_gid)
        yield home


@pytest.fixture
def command(home: Path) -> Sequence[str | Path]:
    """`gentwoo` as that user, from a copy of the client that they may read."""
    code = home / "code"
    shutil.copytree(
        ROOT / "gentwoo_client", code / "gentwoo_client", ignore=shutil.ignore_patterns("__pycache__")
    )
    python = user_venv() / "bin/python"
    return ["runuser", "-u", USER, "--", "env", f"PYTHONPATH={code}", python, "-m", "gentwoo_client"]


@pytest.fixture
def world(home: Path) -> World:
    world = World.create(home / "world", group=GROUP)
    world.ebuild("app-misc/alpha-1.0")
    world.emerge("=app-misc/alpha-1.0")
    facts = world.log.stat()
    assert (facts.st_mode & 0o777, grp.getgrgid(facts.st_gid).gr_name) == (0o660, GROUP)
    return world


@pytest.fixture
def machine(
    home: Path, world: World, command: Sequence[str | Path], collector: Collector
) -> Iterator[Machine]:
    toml = world.settings_toml(collector=collector.url, state_dir=home / "state")
    machine = Machine(home, toml, command)
    yield machine
    machine.gentwoo("forget", "--yes", check=False)


def owners(directory: Path) -> set[str]:
    return {pwd.getpwuid(path.stat().st_uid).pw_name for path in (directory, *directory.rglob("*"))}


def real_user(process: Process) -> str:
    """Whom the client itself runs as: runuser stays its parent, as root."""
    (child,) = process.children()
    return pwd.getpwuid(Path(f"/proc/{child}").stat().st_uid).pw_name


def fresh(collector: Collector, count: int, since: int) -> list[dict[str, object]]:
    """Wait until `count` records beyond the first `since` are durable, and return those."""

    def enough() -> list[dict[str, object]]:
        records = collector.export()[since:]
        return records if len(records) >= count else []

    return until(enough, 60, what=f"{count} records")


def test_daemon_as_an_ordinary_user(machine: Machine, world: World, collector: Collector) -> None:
    since = len(collector.export())
    machine.register()
    with machine.daemon() as daemon:
        assert compared(fresh(collector, 1, since)) == [install("app-misc/alpha-1.0")]
        assert real_user(daemon) == USER
        world.emerge("=app-misc/alpha-1.0")
        expected = replacement("app-misc/alpha-1.0", "app-misc/alpha-1.0")
        assert compared(fresh(collector, 2, since + 1)) == expected

        second = machine.gentwoo("daemon", check=False)
        assert second.returncode == 1
        assert "already" in second.stderr
        assert daemon.is_running()
        assert daemon.stop() in (0, 128 + 15, -15), daemon.output
    assert owners(machine.home / "state") == {USER}


def test_push_as_an_ordinary_user(machine: Machine, world: World, collector: Collector) -> None:
    since = len(collector.export())
    machine.register()
    machine.gentwoo("push")
    assert compared(collector.export()[since:]) == [install("app-misc/alpha-1.0")]
    world.emerge("--unmerge", "app-misc/alpha")
    machine.gentwoo("push")
    machine.gentwoo("push")
    records = collector.export()[since:]
    assert [record["event"] for record in records] == ["install", "uninstall"]
    assert owners(machine.home / "state") == {USER}


@pytest.mark.parametrize("mode", ["daemon", "push"])
def test_unregistered_it_ends_with_78_and_the_command_to_run(machine: Machine, mode: str) -> None:
    done = machine.gentwoo(mode, check=False)
    assert done.returncode == 78
    assert "gentwoo register" in done.stderr


def test_root_may_run_the_commands_and_leaves_everything_to_the_user(
    machine: Machine, world: World, collector: Collector
) -> None:
    """As root, commands drop to the owner of the state directory before they touch it."""
    since = len(collector.export())
    as_root = Machine(machine.home, machine.toml, machine.command[4:])
    as_root.register()
    assert owners(machine.home / "state") == {USER}
    as_root.gentwoo("push")
    assert owners(machine.home / "state") == {USER}
    assert compared(collector.export()[since:]) == [install("app-misc/alpha-1.0")]


def test_a_person_who_may_not_read_the_state_is_told_what_to_use(machine: Machine) -> None:
    machine.register()
    nobody = Machine(machine.home, machine.toml, ["runuser", "-u", "nobody", "--", *machine.command[4:]])
    done = nobody.gentwoo("status", check=False)
    assert done.returncode == 77
    assert str(machine.home / "state") in done.stderr
