# SPDX-License-Identifier: GPL-2.0-or-later
"""Generations in a real store: each stays what it was, whatever comes after."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, select

from bdcs.domain.builds import Build
from bdcs.domain.packages_index import LEAD, STEP
from bdcs.domain.targets import Cause
from bdcs.errors import FilesDeleted, NoSuchBuild, NoSuchGeneration
from bdcs.services import generations, targets
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.store import transaction
from tests.index_rows import NAME, START, IndexRows, made


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[IndexRows]:
    created = IndexRows.create(tmp_path)
    yield created
    created.engine.dispose()


@pytest.fixture
def connection(rows: IndexRows) -> Iterator[Connection]:
    with transaction(rows.engine) as opened:
        yield opened


def target_of(connection: Connection) -> Target:
    return targets.require(connection, NAME)


def add(connection: Connection, *builds: dict[str, Any], **more: Any) -> list[int]:
    """Publish builds that are made of `tests.index_rows.made`; return their ids."""
    target = target_of(connection)
    ids = []
    for values in builds:
        done = connection.execute(tables.builds.insert().values(target_id=target.id, **values))
        assert done.inserted_primary_key is not None
        ids.append(int(done.inserted_primary_key[0]))
    advance(connection, ids, [], **more)
    return ids


def advance(
    connection: Connection, added: list[int], removed: list[int], *, now: float = START, **more: Any
) -> generations.Generation:
    return generations.advance(
        connection,
        target_of(connection),
        added,
        removed,
        **{"cause": Cause.PUBLISH, **more},
        actor="admin",
        now=now,
    )


def members(connection: Connection, number: int) -> set[int]:
    return {build.id for build in generations.members(connection, target_of(connection), number)}


def test_a_publication_makes_a_generation(connection: Connection) -> None:
    first, second = add(connection, made("dev-libs/alpha-1.0"), made("dev-libs/beta-2"), note="both")
    target = target_of(connection)
    assert (target.generation, target.timestamp) == (1, START)
    (generation,) = generations.log(connection, target)
    assert (generation.added, generation.removed, generation.builds) == (2, 0, 2)
    assert (generation.cause, generation.note, generation.actor) == (Cause.PUBLISH, "both", "admin")
    assert generation.at == START
    assert not generation.kept
    assert members(connection, 1) == {first, second}
    assert all(
        connection.scalars(select(tables.builds.c.visible).where(tables.builds.c.id.in_([first, second])))
    )


def test_what_is_withdrawn_says_since_when(connection: Connection) -> None:
    (number,) = add(connection, made("dev-libs/alpha-1.0"))
    advance(connection, [], [number], now=START + 100, cause=Cause.WITHDRAW)
    row = connection.execute(select(tables.builds)).one()
    assert (row.visible, row.withdrawn_at, row.deleted_at) == (False, START + 100, None)
    assert (members(connection, 1), members(connection, 2)) == ({number}, set())
    advance(connection, [number], [], now=START + 200)
    row = connection.execute(select(tables.builds)).one()
    assert (row.visible, row.withdrawn_at) == (True, None)


def test_the_index_is_dated_ahead_of_the_one_before(connection: Connection) -> None:
    add(connection, made("dev-libs/alpha-1.0"))
    add(connection, made("dev-libs/alpha-1.1"), now=START + 2)
    assert target_of(connection).timestamp == START + STEP
    for number in range(40):
        add(connection, made(f"dev-libs/beta-{number}"), now=START + 2)
    assert target_of(connection).timestamp <= START + 2 + LEAD + STEP


@pytest.mark.parametrize(("added", "removed"), [([1], []), ([], [1, 2]), ([2], [])])
def test_builds_are_neither_added_nor_removed_twice(
    rows: IndexRows, added: list[int], removed: list[int]
) -> None:
    assert rows.publish([made("dev-libs/alpha-1.0")]) == [1]
    with pytest.raises(ValueError, match="the builds to"), transaction(rows.engine) as connection:
        advance(connection, added, removed)
    with transaction(rows.engine) as connection:
        assert (target_of(connection).generation, members(connection, 1)) == (1, {1})


def test_a_target_does_not_touch_builds_of_another(connection: Connection) -> None:
    (number,) = add(connection, made("dev-libs/alpha-1.0"))
    other = targets.add(connection, "other", now=START, chost="i686-pc-linux-gnu", profile="default")
    with pytest.raises(ValueError, match="not in the newest generation"):
        generations.advance(connection, other, [], [number], cause=Cause.WITHDRAW, actor="admin", now=START)


def test_a_difference_names_changed_use_and_version(connection: Connection) -> None:
    first = add(
        connection,
        made("dev-libs/alpha-1.0") | {"use": "amd64 ssl", "iuse": "ssl gtk"},
        made("dev-libs/beta-1.0"),
        made("dev-libs/gamma-1.0"),
    )
    second = add(
        connection,
        made("dev-libs/alpha-1.0", 2) | {"use": "amd64 gtk", "iuse": "ssl gtk"},
        made("dev-libs/beta-1.1"),
        made("dev-libs/delta-1.0"),
    )
    advance(connection, [], first)
    difference = generations.diff(connection, target_of(connection), 1, 3)
    assert [build.cpv for build in difference.came] == ["dev-libs/delta-1.0"]
    assert [build.cpv for build in difference.went] == ["dev-libs/gamma-1.0"]
    use, version = difference.changed
    assert (str(use.before), str(use.after)) == ("dev-libs/alpha-1.0-1", "dev-libs/alpha-1.0-2")
    assert (set(use.use_gained), set(use.use_lost)) == ({"gtk"}, {"ssl"})
    assert (version.before.version, version.after.version, version.is_other_version) == ("1.0", "1.1", True)
    assert members(connection, 3) == set(second)
    back = generations.diff(connection, target_of(connection), 3, 1)
    assert [build.cpv for build in back.went] == ["dev-libs/delta-1.0"]
    assert generations.diff(connection, target_of(connection), 2, 2).came == ()


def test_generations_that_are_not_there(connection: Connection) -> None:
    add(connection, made("dev-libs/alpha-1.0"))
    target = target_of(connection)
    with pytest.raises(NoSuchGeneration):
        generations.diff(connection, target, 1, 2)
    with pytest.raises(NoSuchGeneration):
        generations.rollback(connection, target, 2, actor="admin")
    with pytest.raises(NoSuchGeneration):
        generations.keep(connection, target, 7)
    assert len(generations.diff(connection, target, 0, 1).came) == 1


def test_rolling_back_is_a_generation_of_its_own(connection: Connection) -> None:
    old = add(connection, made("dev-libs/alpha-1.0"), made("dev-libs/beta-1"))
    new = add(connection, made("dev-libs/alpha-1.1"))
    advance(connection, [], [old[0]])
    made_by_it = generations.rollback(connection, target_of(connection), 1, actor="admin", now=START + 50)
    assert (made_by_it.number, made_by_it.cause, made_by_it.note) == (4, Cause.ROLLBACK, "to generation 1")
    assert (made_by_it.added, made_by_it.removed, made_by_it.builds) == (1, 1, 2)
    assert members(connection, 4) == set(old)
    assert members(connection, 3) == {old[1], *new}
    generations.rollback(connection, target_of(connection), 2, actor="admin", now=START + 60)
    assert members(connection, 5) == {*old, *new}


def test_nobody_goes_back_to_files_that_are_gone(connection: Connection) -> None:
    (number,) = add(connection, made("dev-libs/alpha-1.0", 3))
    advance(connection, [], [number])
    generations.set_deleted(connection, [number], START + 10)
    with pytest.raises(FilesDeleted, match=r"dev-libs/alpha-1\.0-3"):
        generations.rollback(connection, target_of(connection), 1, actor="admin")
    assert target_of(connection).generation == 2


def test_files_expire_unless_their_generation_is_kept(connection: Connection) -> None:
    first = add(connection, made("dev-libs/alpha-1.0"))
    second = add(connection, made("dev-libs/beta-1.0"))
    advance(connection, [], first, now=START + 10)
    advance(connection, [], second, now=START + 20)
    target = target_of(connection)

    def expired(before: float) -> list[int]:
        return [number for number, _ in generations.expired(connection, target, before)]

    assert expired(START + 10) == []
    assert expired(START + 11) == first
    assert expired(START + 30) == first + second
    generations.keep(connection, target, 1)
    assert expired(START + 30) == second
    assert generations.kept_builds(connection, target) == {first[0]: 1}
    generations.keep(connection, target, 2)
    assert expired(START + 30) == []
    assert generations.kept_builds(connection, target) == {first[0]: 2, second[0]: 2}
    generations.keep(connection, target, 2, kept=False)
    generations.keep(connection, target, 1, kept=False)
    assert generations.expired(connection, target, START + 30) == [
        (first[0], made("dev-libs/alpha-1.0")["path"]),
        (second[0], made("dev-libs/beta-1.0")["path"]),
    ]
    generations.set_deleted(connection, first, START + 30)
    assert expired(START + 40) == second


def test_builds_are_named_alone_or_all_of_a_version(connection: Connection) -> None:
    one, two, other = add(
        connection, made("dev-libs/alpha-1.0", 1), made("dev-libs/alpha-1.0", 2), made("dev-libs/beta-1", 1)
    )

    def named(*names: str) -> list[int]:
        return [build.id for build in generations.named(connection, target_of(connection), names)]

    assert named("dev-libs/alpha-1.0") == [one, two]
    assert named("dev-libs/alpha-1.0-2", "dev-libs/beta-1", "dev-libs/alpha-1.0-2") == [two, other]
    with pytest.raises(NoSuchBuild, match="alpha-2"):
        named("dev-libs/alpha-2")


def test_a_hundred_generations_of_a_thousand_builds_stay_apart(connection: Connection) -> None:
    ids = add(connection, *(made(f"dev-libs/p{number}-1") for number in range(1000)))
    for number in range(100):
        advance(connection, [], ids[number * 10 : number * 10 + 10])
    for number in (1, 2, 50, 101):
        assert members(connection, number) == set(ids[(number - 1) * 10 :])
    assert len(generations.diff(connection, target_of(connection), 1, 101).went) == 1000


class History(RuleBasedStateMachine):
    """Publications, withdrawals, rollbacks and deletions at random, beside a model that forgets no state."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.rows = IndexRows.create(Path(self.directory.name))
        self.states: list[frozenset[int]] = [frozenset()]
        self.deleted: set[int] = set()
        self.names: dict[int, tuple[str, str]] = {}
        self.numbers = itertools.count(1)
        self.now = float(START)

    def teardown(self) -> None:
        self.rows.engine.dispose()
        self.directory.cleanup()

    @property
    def newest(self) -> frozenset[int]:
        return self.states[-1]

    @rule(
        packages=st.lists(
            st.tuples(st.sampled_from("abc"), st.sampled_from(["1.0", "1.1"]), st.sampled_from(["", "f"])),
            min_size=1,
            max_size=3,
        ),
        data=st.data(),
        seconds=st.integers(min_value=0, max_value=20),
    )
    def publish(self, packages: list[tuple[str, str, str]], data: st.DataObject, seconds: int) -> None:
        self.now += seconds
        removed = data.draw(st.sets(st.sampled_from(sorted(self.newest)))) if self.newest else set()
        builds = [
            made(f"dev-libs/{name}-{version}", next(self.numbers)) | {"use": use, "iuse": "f"}
            for name, version, use in packages
        ]
        ids = self.rows.publish(builds, removed, now=self.now)
        self.names.update((number, (name, use)) for number, (name, _, use) in zip(ids, packages, strict=True))
        self.states.append(self.newest - removed | set(ids))

    @precondition(lambda self: self.newest)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        removed = data.draw(st.sets(st.sampled_from(sorted(self.newest)), min_size=1))
        self.rows.publish([], removed, now=self.now)
        self.states.append(self.newest - removed)

    @precondition(lambda self: len(self.states) > 1)
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(min_value=1, max_value=len(self.states) - 1))
        with transaction(self.rows.engine) as connection:
            target = target_of(connection)
            if self.states[number] & self.deleted:
                with pytest.raises(FilesDeleted):
                    generations.rollback(connection, target, number, actor="admin", now=self.now)
                return
            generations.rollback(connection, target, number, actor="admin", now=self.now)
        self.states.append(self.states[number])

    @precondition(lambda self: len(self.states) > 1)
    @rule(data=st.data(), kept=st.booleans())
    def keep(self, data: st.DataObject, kept: bool) -> None:
        number = data.draw(st.integers(min_value=1, max_value=len(self.states) - 1))
        with transaction(self.rows.engine) as connection:
            generations.keep(connection, target_of(connection), number, kept=kept)

    @rule()
    def delete_expired(self) -> None:
        self.now += 1
        with transaction(self.rows.engine) as connection:
            target = target_of(connection)
            expired = {number for number, _ in generations.expired(connection, target, self.now)}
            kept = {each.number for each in generations.log(connection, target) if each.kept}
            needed = self.newest.union(*(self.states[number] for number in kept))
            assert expired == set(self.names) - needed - self.deleted
            generations.set_deleted(connection, expired, self.now)
        self.deleted |= expired

    @invariant()
    def every_generation_is_what_it_was(self) -> None:
        with transaction(self.rows.engine) as connection:
            target = target_of(connection)
            assert target.generation == len(self.states) - 1
            for number, state in enumerate(self.states):
                assert members(connection, number) == state
            visible = {build.id for build in generations.visible(connection, target)}
            assert visible == self.newest
            log = generations.log(connection, target)
            assert [each.builds for each in reversed(log)] == [len(state) for state in self.states[1:]]
            for each in log:
                before, after = self.states[each.number - 1], self.states[each.number]
                assert (each.added, each.removed) == (len(after - before), len(before - after))

    @precondition(lambda self: len(self.states) > 1)
    @rule(data=st.data())
    def differences_agree(self, data: st.DataObject) -> None:
        numbers = st.integers(min_value=0, max_value=len(self.states) - 1)
        before, after = data.draw(numbers), data.draw(numbers)
        with transaction(self.rows.engine) as connection:
            found = generations.diff(connection, target_of(connection), before, after)
        old, new = self.states[before], self.states[after]

        def ids(builds: list[Build]) -> set[int]:
            return {build.id for build in builds}

        assert ids([*found.came, *(change.after for change in found.changed)]) == new - old
        assert ids([*found.went, *(change.before for change in found.changed)]) == old - new
        for change in found.changed:
            assert change.before.name == change.after.name


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
