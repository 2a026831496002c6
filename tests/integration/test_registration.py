# SPDX-License-Identifier: GPL-2.0-or-later
"""Registering, renewing and forgetting: what they promise, also when killed between any two steps."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gentwoo_client.locks import SENDER, exclusive_lock
from gentwoo_client.machine_key import KEY_NAME, NEW_KEY_NAME, load_machine_key
from tests.collector_simulator import CollectorSimulator
from tests.crashing import CrashLab, Outcome
from tests.integration.test_uploader import add_records, packages

STEPPED = ("registration.py", "machine_key.py", "outbox.py", "collector_api.py")
DEATHS = 10


@pytest.fixture(scope="module")
def lab() -> Iterator[CrashLab]:
    with CrashLab("gentwoo_client") as lab:
        yield lab


@pytest.fixture
async def collector() -> AsyncIterator[CollectorSimulator]:
    async with CollectorSimulator() as simulator:
        yield simulator


class Machine:
    """A machine without a daemon, whose log is empty: records are put into its journal directly."""

    def __init__(self, home: Path, lab: CrashLab, collector: CollectorSimulator) -> None:
        self.home = home
        self.state_dir = home / "state"
        self.config = home / "gentwoo.toml"
        self._lab = lab
        self._collector = collector
        home.mkdir(exist_ok=True)
        (home / "emerge.log").touch()
        self.configure(f'collector = "{collector.url}"')

    def configure(self, text: str) -> None:
        self.config.write_text(f'{text}\nlog = "{self.home}/emerge.log"\nstate_dir = "{self.state_dir}"\n')

    async def gentwoo(self, *arguments: str, step: int = 0) -> Outcome:
        words = ["--config", str(self.config), *arguments]
        return await asyncio.to_thread(self._lab.run, words, places=STEPPED, step=step)

    async def does(self, *arguments: str) -> str:
        outcome = await self.gentwoo(*arguments)
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    async def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((await self.gentwoo("status", "--json")).output)
        return status

    async def uuid(self) -> UUID:
        return UUID((await self.status())["machine"])

    async def names(self) -> list[str]:
        """What the collector has of the machine's identity now."""
        return [record["name"] for record in self._collector.records(await self.uuid())]

    def copy(self, home: Path) -> "Machine":
        shutil.copytree(self.state_dir, home / "state")
        return Machine(home, self._lab, self._collector)


@pytest.fixture
def machine(tmp_path: Path, lab: CrashLab, collector: CollectorSimulator) -> Machine:
    return Machine(tmp_path / "machine", lab, collector)


async def test_registering_twice_changes_nothing(machine: Machine, collector: CollectorSimulator) -> None:
    first = await machine.does("register")
    key = (machine.state_dir / KEY_NAME).read_bytes()
    second = await machine.does("register")
    assert "Registered with" in first
    assert "Already registered with" in second
    assert (machine.state_dir / KEY_NAME).read_bytes() == key
    assert list(collector.machines) == [await machine.uuid()]


async def test_it_shows_what_is_sent_to_whom(machine: Machine, collector: CollectorSimulator) -> None:
    (machine.home / "emerge.log").write_text(
        "1763771600: Started emerge on: Nov 22, 2025 00:33:20\n"
        "1763771601:  *** emerge hello\n"
        "1763771602:  >>> emerge (1 of 1) app-misc/hello-2.12 to /\n"
        "1763771625:  ::: completed emerge (1 of 1) app-misc/hello-2.12 to /\n"
    )
    machine.configure(f'collector = "{collector.url}"\nrepositories = ["*"]')
    output = await machine.does("register")
    assert collector.url in output
    assert "1 records" in output
    assert '"name": "hello"' in output


async def test_without_a_collector_it_says_what_to_write(machine: Machine) -> None:
    machine.configure("")
    outcome = await machine.gentwoo("register", "--non-interactive")
    assert outcome.exit_code == 78
    assert 'collector = "https://…"' in outcome.output
    assert str(machine.config) in outcome.output


async def test_plain_http_to_another_machine_is_refused(machine: Machine) -> None:
    outcome = await machine.gentwoo("register", "--collector", "http://bdcs.example.org")
    assert outcome.exit_code == 78
    assert "--insecure" in outcome.output


async def test_the_choice_is_remembered(machine: Machine, collector: CollectorSimulator) -> None:
    machine.configure("")
    await machine.does("register", "--collector", collector.url, "--history", "none")
    assert (await machine.status())["collector"] == collector.url
    await machine.does("push")


async def test_another_collector_needs_a_renewal(machine: Machine, collector: CollectorSimulator) -> None:
    await machine.does("register")
    async with CollectorSimulator() as other:
        outcome = await machine.gentwoo("register", "--collector", other.url)
        assert outcome.exit_code == 78
        assert f"gentwoo register --renew --collector {other.url}" in outcome.output
        machine.configure(f'collector = "{other.url}"')
        assert (await machine.gentwoo("push")).exit_code == 78
        add_records(machine.state_dir, 1)
        await machine.does("register", "--renew")
        await machine.does("push")
        assert len(other.records(await machine.uuid())) == 1


async def test_a_machine_that_awaits_approval_is_told_so(
    machine: Machine, collector: CollectorSimulator
) -> None:
    collector.approves = False
    assert "has to approve" in await machine.does("register")
    add_records(machine.state_dir, 1)
    outcome = await machine.gentwoo("push")
    assert outcome.exit_code == 78
    status = await machine.status()
    assert (status["state"], status["stopped"]["reason"]) == ("awaiting-approval", "awaiting-approval")
    collector.machines[await machine.uuid()].is_approved = True
    await machine.does("push")
    assert await machine.names() == packages(1)


@pytest.mark.parametrize("command", ["push", "show", "forget", "report"])
async def test_unregistered_commands_name_the_command_to_run(machine: Machine, command: str) -> None:
    outcome = await machine.gentwoo(command)
    assert outcome.exit_code == 78
    assert "gentwoo register" in outcome.output


async def test_a_clone_becomes_a_machine_of_its_own(
    machine: Machine, collector: CollectorSimulator, tmp_path: Path
) -> None:
    await machine.does("register")
    add_records(machine.state_dir, 1)
    await machine.does("push")
    clone = machine.copy(tmp_path / "clone")
    add_records(clone.state_dir, 2, 3)
    add_records(machine.state_dir, 4)
    await machine.does("push")
    outcome = await clone.gentwoo("push")
    assert outcome.exit_code == 78
    assert "gentwoo register --renew" in outcome.output
    assert (await clone.status())["stopped"]["reason"] == "fork"
    await clone.does("register", "--renew")
    await clone.does("push")
    assert await machine.names() == packages(1, 4)
    assert await clone.names() == packages(2, 3)
    assert await machine.uuid() != await clone.uuid()


async def test_the_old_identity_stays_unless_asked(machine: Machine, collector: CollectorSimulator) -> None:
    await machine.does("register")
    first = await machine.uuid()
    await machine.does("register", "--renew")
    second = await machine.uuid()
    assert set(collector.machines) == {first, second}
    output = await machine.does("register", "--renew", "--forget-old")
    assert str(first) in output
    assert str(second) in output
    assert set(collector.machines) == {await machine.uuid()}
    assert sorted(path.name for path in machine.state_dir.glob("*.key*")) == [KEY_NAME]


async def test_forgetting_erases_and_stops_until_registered_again(
    machine: Machine, collector: CollectorSimulator
) -> None:
    await machine.does("register")
    add_records(machine.state_dir, 1)
    await machine.does("push")
    first = await machine.uuid()
    assert (await machine.gentwoo("forget")).exit_code == 2, "nobody was asked"
    await machine.does("forget", "--yes")
    assert first in collector.forgotten
    assert not (machine.state_dir / KEY_NAME).exists()
    outcome = await machine.gentwoo("push")
    assert outcome.exit_code == 78
    assert "forgotten" in outcome.output
    await machine.does("register")
    add_records(machine.state_dir, 2)
    await machine.does("push")
    assert await machine.names() == packages(1, 2)
    assert await machine.uuid() != first


async def test_a_new_identity_is_not_taken_under_a_daemons_feet(
    machine: Machine, collector: CollectorSimulator, tmp_path: Path
) -> None:
    await machine.does("register")
    copy = machine.copy(tmp_path / "copy")
    await machine.does("forget", "--yes")
    with exclusive_lock(copy.state_dir, SENDER):
        outcome = await copy.gentwoo("register")
        assert outcome.exit_code == 1
        assert "stop it first" in outcome.output
    first = await copy.uuid()
    await copy.does("register")
    assert await copy.uuid() != first


async def test_history_cannot_change_for_the_same_identity(machine: Machine) -> None:
    await machine.does("register")
    outcome = await machine.gentwoo("register", "--history", "none")
    assert outcome.exit_code == 2
    assert "--renew" in outcome.output


async def test_history_none_after_forgetting_sends_only_what_is_new(
    machine: Machine, collector: CollectorSimulator
) -> None:
    await machine.does("register")
    add_records(machine.state_dir, 1)
    await machine.does("push")
    await machine.does("forget", "--yes")
    await machine.does("register", "--history", "none")
    add_records(machine.state_dir, 2)
    await machine.does("push")
    assert await machine.names() == packages(2)
    assert (await machine.status())["withheld"] == {"history": 1}


async def test_a_lost_journal_is_noticed_before_anything_is_sent(
    machine: Machine, collector: CollectorSimulator
) -> None:
    await machine.does("register")
    add_records(machine.state_dir, 1)
    await machine.does("push")
    for path in machine.state_dir.glob("journal.sqlite*"):
        path.unlink()
    outcome = await machine.gentwoo("register")
    assert outcome.exit_code == 78
    assert "gentwoo register --renew" in outcome.output


async def test_a_lost_key_is_noticed(machine: Machine) -> None:
    await machine.does("register")
    (machine.state_dir / KEY_NAME).unlink()
    for command in ("register", "push"):
        outcome = await machine.gentwoo(command)
        assert outcome.exit_code == 78, outcome.output
    await machine.does("register", "--renew")
    await machine.does("push")


async def test_report_prints_nothing_but_the_link(machine: Machine, collector: CollectorSimulator) -> None:
    await machine.does("register")
    output = await machine.does("report")
    assert output.splitlines()[0] == f"{collector.url}/machine?link=secret"


async def test_show_prints_the_very_payload(machine: Machine, collector: CollectorSimulator) -> None:
    await machine.does("register")
    add_records(machine.state_dir, 1, 2)
    shown = json.loads(await machine.does("show", "--json"))
    pretty = await machine.does("show")
    await machine.does("push")
    assert shown["records"] == collector.records(await machine.uuid())
    assert (shown["machine"], shown["audience"]) == (str(await machine.uuid()), collector.url)
    assert "app-misc/package2-1::gentoo" in pretty
    assert "Nothing waits" in await machine.does("show")


Prepare = Callable[[str], Awaitable[Machine]]


async def killed_everywhere(prepare: Prepare, *arguments: str) -> AsyncIterator[Machine]:
    """Yield machines on which the command was killed, at steps spread over its whole run.

    `prepare` makes a machine that is ready for the command, in a place of the name given.
    """
    steps = (await (await prepare("undisturbed")).gentwoo(*arguments)).steps
    assert steps > DEATHS
    for death in range(1, DEATHS + 1):
        machine = await prepare(f"killed-{death}")
        outcome = await machine.gentwoo(*arguments, step=death * steps // (DEATHS + 1))
        assert outcome.was_killed, outcome.output
        yield machine


async def test_registration_killed_at_any_step_is_repaired_by_another(
    tmp_path: Path, lab: CrashLab, collector: CollectorSimulator
) -> None:
    async def prepare(name: str) -> Machine:
        return Machine(tmp_path / name, lab, collector)

    async for killed in killed_everywhere(prepare, "register"):
        await killed.does("register")
        add_records(killed.state_dir, 1, 2)
        await killed.does("push")
        assert await killed.names() == packages(1, 2)


async def test_renewal_killed_at_any_step_loses_and_repeats_nothing(
    machine: Machine, collector: CollectorSimulator, tmp_path: Path
) -> None:
    async def prepare(name: str) -> Machine:
        return machine.copy(tmp_path / name)

    await machine.does("register")
    add_records(machine.state_dir, 1)
    await machine.does("push")
    first = await machine.uuid()
    add_records(machine.state_dir, 2, 3)
    async for killed in killed_everywhere(prepare, "register", "--renew"):
        # Whether or not the renewal came through, the key and the journal agree.
        assert (await killed.status())["stopped"] is None
        await killed.does("register", "--renew")
        await killed.does("push")
        assert await killed.names() == packages(2, 3)
        assert not (killed.state_dir / NEW_KEY_NAME).exists()
    assert [record["name"] for record in collector.records(first)] == packages(1)


async def test_forgetting_killed_at_any_step_is_finished_by_another(
    tmp_path: Path, lab: CrashLab, collector: CollectorSimulator
) -> None:
    async def prepare(name: str) -> Machine:
        machine = Machine(tmp_path / name, lab, collector)
        await machine.does("register")
        add_records(machine.state_dir, 1)
        await machine.does("push")
        (machine.home / "first").write_text(str(await machine.uuid()))
        return machine

    async for killed in killed_everywhere(prepare, "forget", "--yes"):
        first = UUID((killed.home / "first").read_text())
        outcome = await killed.gentwoo("forget", "--yes")
        assert outcome.exit_code in (0, 78), outcome.output
        assert first in collector.forgotten
        await killed.does("register")
        await killed.does("push")
        assert await killed.names() == packages(1)
        assert load_machine_key(killed.state_dir).machine == await killed.uuid() != first
