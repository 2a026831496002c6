# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left of builds goes after its time, a few rows at a time, and a kill leaves nothing that lies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, func, insert, select

from bdcs.blobs.attempt_logs import AttemptLogs
from bdcs.domain.build_policy import DAY, Keeping
from bdcs.services import build_upkeep, builder_pages
from bdcs.services.build_upkeep import BuildUpkeep, Dropped
from bdcs.services.checking_builds import check_builds
from bdcs.services.targets import add, listed
from bdcs.store import schema
from bdcs.store.engine import create_reader, create_writer
from bdcs.store.store import transaction
from bdcs.store.tables import attempts, builder_targets, builders, jobs, machines, members, requests
from tests.builds import specification
from tests.crashing import CrashLab
from tests.processes import BDCS, run
from tests.store_access import copy_data

NOW = 1_800_000_000
KEEPING = Keeping(logs=30, failed_logs=90, requests=180)
KILLS = 12


@dataclass
class History:
    """A store with builds that ended so many days ago."""

    data: Path
    now: int = NOW
    writer: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.writer = create_writer(self.data / "bdcs.sqlite")
        with transaction(self.writer) as connection:
            schema.upgrade(connection)
            add(connection, "amd64", chost="x86_64-pc-linux-gnu", profile="default", now=0)
            machine = {"uuid": str(UUID(int=1)), "public_key": b"", "state": "approved"}
            connection.execute(insert(machines).values(**machine, registered_at=0, head_seq=0))

    def build(self, *days: float, state: str = "published", request: bool = True) -> int:
        """A job with an attempt for each of `days` ago, the last of which was its end, and a request."""
        ended = self.now - int(days[-1] * DAY)
        with transaction(self.writer) as connection:
            cpv = f"app-misc/p{connection.scalar(select(func.count()).select_from(jobs))}x-1"
            wish = specification(cpv)
            job = connection.execute(
                insert(jobs)
                .values(
                    target_id=1,
                    digest=wish.digest(),
                    cpv=cpv,
                    category="app-misc",
                    name=cpv,
                    version="1",
                    repository="test",
                    specification=json.dumps(wish.to_json()),
                    state=state,
                    priority=100,
                    origin="request",
                    created_at=ended,
                    queued_at=ended,
                    finished_at=ended,
                    failed_until=ended + DAY if state == "failed" else None,
                )
                .returning(jobs.c.id)
            ).scalar_one()
            for number, ago in enumerate(days, 1):
                self._attempt(connection, job, number, ago, state)
            if request:
                values = {"id": f"request{job}", "target_id": 1, "created_at": ended, "finished_at": ended}
                connection.execute(insert(requests).values(**values, note="[]"))
                member = {"request_id": f"request{job}", "position": 0, "cpv": cpv, "digest": wish.digest()}
                ends = {"job_id": job, "answer": "queued", "state": state}
                connection.execute(insert(members).values(**member, **ends))
        return int(job)

    def _attempt(self, connection: Connection, job: int, number: int, ago: float, state: str) -> None:
        ended = self.now - int(ago * DAY)
        row = connection.execute(
            insert(attempts)
            .values(
                job_id=job,
                number=number,
                builder="b1",
                started_at=ended - 10,
                lease_until=ended,
                finished_at=ended,
                state=state,
                log_size=5,
            )
            .returning(attempts.c.id)
        ).scalar_one()
        self.logs.append(row, 0, b"line\n")

    @property
    def logs(self) -> AttemptLogs:
        return AttemptLogs(self.data)

    def upkeep(self, keeping: Keeping = KEEPING) -> BuildUpkeep:
        return BuildUpkeep(
            reader=create_reader(self.data / "bdcs.sqlite"),
            writer=self.writer,
            logs=self.logs,
            keeping=keeping,
            now=lambda: self.now,
        )

    def builder(self, name: str, days: float, drained_by: str | None = None) -> None:
        """A builder that was last heard of so many days ago, all of one machine."""
        with transaction(self.writer) as connection:
            connection.execute(
                insert(builders).values(
                    machine_id=1,
                    name=name,
                    targets='["amd64"]',
                    seen_at=self.now - int(days * DAY),
                    draining=False,
                    drained_by=drained_by,
                )
            )

    def builders(self) -> list[str]:
        """The names of those who are known."""
        with transaction(self.writer) as connection:
            return list(connection.scalars(select(builders.c.name).order_by(builders.c.name)))

    def counts(self) -> tuple[int, ...]:
        """Requests, members, jobs, attempts, logs."""
        with transaction(self.writer) as connection:
            rows = [
                connection.scalar(select(func.count()).select_from(table)) or 0
                for table in (requests, members, jobs, attempts)
            ]
        return (*rows, len(self.logs.listed()))


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path)
    yield history
    history.writer.dispose()


def test_each_goes_after_its_own_time(history: History) -> None:
    for days in (1, 31, 91, 181):
        history.build(days)
        history.build(days, state="failed")
    upkeep = history.upkeep()
    planned = upkeep.planned()
    dropped = upkeep.tidy()
    assert planned == dropped == Dropped(logs=5, requests=2, jobs=2)
    assert history.counts() == (6, 6, 6, 6, 3)
    assert upkeep.tidy() == Dropped()
    with transaction(history.writer) as connection:
        gone = connection.scalars(select(attempts.c.log_deleted_at).order_by(attempts.c.id)).all()
    assert [when is not None for when in gone] == [False, False, True, False, True, True]
    assert check_builds(upkeep.reader, history.data).first == []
    upkeep.close()


def test_of_many_a_few_go_at_a_time(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_upkeep, "AT_ONCE", 2)
    for _ in range(5):
        history.build(100, 200)
    upkeep = history.upkeep()
    assert upkeep.tidy() == Dropped(logs=10, requests=5, jobs=5)
    assert history.counts() == (0, 0, 0, 0, 0)
    upkeep.close()


def test_what_is_still_wanted_stays(history: History) -> None:
    kept = history.build(400)
    history.build(400, state="failed", request=False)
    with transaction(history.writer) as connection:  # somebody still waits for something else of the request
        connection.execute(requests.update().values(finished_at=None))
        connection.execute(jobs.update().where(jobs.c.id != kept).values(failed_until=history.now + 1))
    upkeep = history.upkeep()
    assert upkeep.planned() == upkeep.tidy() == Dropped(logs=2)
    assert history.counts() == (1, 1, 2, 2, 0)
    upkeep.close()


def test_what_is_at_work_stays(history: History) -> None:
    job = history.build(400, request=False)
    with transaction(history.writer) as connection:
        connection.execute(jobs.update().values(state="building", finished_at=None))
        connection.execute(attempts.update().values(state="leased", finished_at=None))
    upkeep = history.upkeep()
    assert upkeep.tidy() == Dropped()
    assert history.counts() == (0, 0, 1, 1, 1)
    assert check_builds(upkeep.reader, history.data).first == []
    assert job == 1
    upkeep.close()


def test_builders_that_are_long_gone_are_forgotten(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_upkeep, "AT_ONCE", 2)
    for number in range(5):
        history.builder(f"i-{number}", 31, drained_by="autoscale" if number % 2 else None)
    history.builder("at-work", 31)
    history.builder("drained", 31, drained_by="operator")
    history.builder("here", 6)
    for _ in range(2):
        history.build(40)
    with transaction(history.writer) as connection:
        connection.execute(attempts.update().where(attempts.c.id == 1).values(machine_id=1, builder="i-1"))
        at_work = {"machine_id": 1, "builder": "at-work", "state": "leased", "finished_at": None}
        connection.execute(attempts.update().where(attempts.c.id == 2).values(**at_work))
        connection.execute(jobs.update().where(jobs.c.id == 2).values(state="building", finished_at=None))
        connection.execute(insert(builder_targets).values(machine_id=1, target_id=1, approved_at=0))
    upkeep = history.upkeep()
    assert upkeep.planned().builders == upkeep.tidy().builders == 5
    assert history.builders() == ["at-work", "drained", "here"]
    assert upkeep.tidy() == Dropped()
    with transaction(history.writer) as connection:
        assert list(connection.scalars(select(attempts.c.builder).order_by(attempts.c.id))) == [
            "i-1",
            "at-work",
        ]
        (target,) = listed(connection)
        rows = builder_pages.listed(connection, [target], history.now).rows
    assert [row.name for row in rows] == ["here"]
    upkeep.close()


def test_logs_that_no_row_names_go_and_foreign_files_stay(history: History) -> None:
    history.build(1)
    history.logs.append(7, 0, b"of a restored backup\n")
    (history.data / "logs/notes.txt").write_text("mine")
    upkeep = history.upkeep()
    report = check_builds(upkeep.reader, history.data)
    assert report.first == ["there is a log of attempt 7, and no attempt that promises it"]
    assert upkeep.planned() == upkeep.tidy() == Dropped(orphans=1)
    assert sorted(path.name for path in (history.data / "logs").iterdir()) == ["1.log", "notes.txt"]
    upkeep.close()


def test_check_names_what_does_not_fit(history: History) -> None:
    for _ in range(4):
        history.build(1)
    history.logs.remove(1)
    with transaction(history.writer) as connection:
        connection.execute(jobs.update().where(jobs.c.id == 2).values(state="building"))
        connection.execute(members.update().where(members.c.job_id == 3).values(state="waiting"))
        connection.execute(requests.update().where(requests.c.id == "request4").values(finished_at=None))
        connection.execute(jobs.delete().where(jobs.c.id == 4))
    done = run([*BDCS, "check", "--only", "builds", "--data", history.data], check=False)
    assert done.returncode == 1
    assert "4 requests, 3 jobs, 4 attempts, 3 logs, 15 B: 7 differences" in done.stdout
    for line in (
        "the log of attempt 1 has 0 bytes, and had 5 at its end",
        "job 2 is being built, and not one builder has it",
        "a package of request request3 waits for no job that is on its way",
        "request request3 has ended, and something of it waits",
        "attempt 4 is at no job",
        "a package of request request4 names a job that is not there",
        "request request4 is open, and nothing of it waits",
    ):
        assert line in done.stdout


def test_the_command_says_what_it_does(tmp_path: Path) -> None:
    history = History(tmp_path, now=DAY * 10_000)  # long ago: all of it is over
    history.build(1)
    history.writer.dispose()

    def prune(*options: str) -> str:
        return run([*BDCS, "prune", "--builds", "--data", tmp_path, *options]).stdout

    assert (
        prune("--dry-run")
        == "1 logs, 1 requests, 1 jobs, 0 builders and 0 logs of nothing would be deleted\n"
    )
    assert history.counts() == (1, 1, 1, 1, 1)
    assert json.loads(prune("--json")) == {"logs": 1, "requests": 1, "jobs": 1, "builders": 0, "orphans": 0}
    assert history.counts() == (0, 0, 0, 0, 0)
    history.writer.dispose()


def test_killed_at_any_step_no_row_promises_a_log_that_is_gone(tmp_path: Path) -> None:
    master = tmp_path / "master"
    master.mkdir()
    history = History(master, now=DAY * 10_000)
    for state in ("published", "failed"):
        for _ in range(3):
            history.build(1, 2, state=state)
    history.writer.dispose()
    places = ("blobs", "services/build_upkeep.py", "store/store.py")

    with CrashLab("bdcs") as lab:

        def prune(name: str, step: int = 0) -> tuple[Path, int, bool]:
            data = tmp_path / name
            copy_data(master, data)
            outcome = lab.run(["prune", "--builds", "--data", data], places=places, step=step)
            return data, outcome.steps, outcome.was_killed

        whole, steps, _ = prune("whole")
        assert not list((whole / "logs").iterdir())
        for kill in range(KILLS):
            data, _, was_killed = prune(f"killed{kill}", 1 + kill * (steps - 1) // KILLS)
            assert was_killed
            reader = create_reader(data / "bdcs.sqlite")
            found = check_builds(reader, data).first
            assert [text for text in found if not text.startswith("there is a log of attempt")] == []
            reader.dispose()
            again = lab.run(["prune", "--builds", "--data", data])
            assert (again.exit_code, list((data / "logs").iterdir())) == (0, [])
            reader = create_reader(data / "bdcs.sqlite")
            report = check_builds(reader, data)
            assert (report.attempts, report.differences) == (0, 0)
            reader.dispose()
