# SPDX-License-Identifier: GPL-2.0-or-later
"""How long merges take: accuracy on a real log, and what each part of the method must do."""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.domain.duration_fit import Cell, alone, effect_of, fit
from gentwoo_client.foretelling.own_history import walk_quickly, walk_through
from gentwoo_client.foretelling.package_moves import package_moves
from gentwoo_client.foretelling.replaying import (
    EMLOP,
    LISTS,
    LOCAL,
    SUMS,
    Method,
    line,
    methods,
    replay,
    text,
)
from gentwoo_client.log.merges import MOST_JOBS, Beginning, Happening, MergeReader, read_happenings
from gentwoo_client.prediction.accuracy import coverage, errors, is_scored
from gentwoo_client.prediction.averages import median, robust_mean, settled
from gentwoo_client.prediction.correction import Correction
from gentwoo_client.prediction.fleet import ORIGIN, Effect, FleetTable, InvalidTable, PackageEffects, place
from gentwoo_client.prediction.history import Walk
from gentwoo_client.prediction.intervals import Intervals
from gentwoo_client.prediction.merges import BINARY, SOURCE, Circumstances, Merge, likeness, renamed
from gentwoo_client.prediction.model import EXPERTS, LocalModel
from gentwoo_client.prediction.schedule import Planned, schedule
from gentwoo_client.prediction.sharing import Sharing, left_of

LOGS = Path(__file__).parents[1] / "data" / "emerge-logs"
REAL = LOGS / "emlop-10000.log"


@pytest.fixture(scope="module")
def happenings() -> list[Happening]:
    return list(read_happenings([str(REAL)]))


@pytest.fixture(scope="module")
def table(happenings: list[Happening]) -> dict[str, Method]:
    return {method.name: method for method in methods(happenings, {}, None)}


# Accuracy -------------------------------------------------------------------------------------------------


def test_emlops_method_is_replayed_as_it_is(table: dict[str, Method]) -> None:
    errors = table[EMLOP].errors
    assert (errors.merges, round(100 * errors.mean, 1), round(100 * errors.median, 1)) == (363, 38.5, 22.2)


def test_errors_on_a_real_log(table: dict[str, Method]) -> None:
    emlop, local = table[EMLOP].errors, table[LOCAL].errors
    assert local.merges == emlop.merges
    assert local.mean <= 0.60 * emlop.mean
    assert local.median <= 0.70 * emlop.median
    assert math.log(local.factor) <= 0.68 * math.log(emlop.factor)
    assert abs(local.bias - 1) <= abs(emlop.bias - 1)


def test_lists_are_scheduled(table: dict[str, Method]) -> None:
    assert table[LISTS].errors.merges == table[SUMS].errors.merges > 0
    assert table[LISTS].errors.mean <= 0.6 * table[SUMS].errors.mean


def test_intervals_hold_four_times_out_of_five(happenings: list[Happening]) -> None:
    scored = [one for one in replay(happenings, {}) if is_scored(one)]
    held = coverage(scored)
    assert held is not None
    assert 0.78 <= held <= 0.90


def test_what_a_line_says(happenings: list[Happening]) -> None:
    first = line(next(replay(happenings, {})))
    assert first.keys() == {
        "recorded_at", "cpv", "actual", "predicted", "low", "high", "method", "kind", "emlop",
    }  # fmt: skip
    assert json.loads(json.dumps(first)) == first


def test_a_quick_walk_ends_where_a_whole_one_does(happenings: list[Happening]) -> None:
    whole, quick = Walk(), Walk()
    for _ in walk_through(whole, happenings):
        pass
    walk_quickly(quick, happenings)
    for name in ("kio", "kwallet", "plasma"):
        merge = Merge("kde-frameworks", name, "5.45.0")
        one, other = (walk.foretell(merge, Circumstances(1_521_000_000)) for walk in (whole, quick))
        assert one is not None
        assert other is not None
        assert other.seconds == pytest.approx(one.seconds, rel=0.1)


def test_what_rests_on_the_table_of_today_says_so(happenings: list[Happening]) -> None:
    names = {f"{each.category}/{each.name}" for each in happenings}
    effects = PackageEffects(whole=Effect(log=4.0, spread=0.3, machines=20), majors={})
    known = FleetTable(fitted_at=0, machines=20, packages=dict.fromkeys(names, effects))
    rows = text(methods(happenings, {}, known))
    starred = [row for row in rows if "today" in row]
    assert len(starred) == 3
    assert all("*" in row for row in starred)
    assert not any("*" in row for row in rows if row not in starred)


# The model ------------------------------------------------------------------------------------------------


def learn(model: LocalModel, merge: Merge, *seconds: int, at: int = 0, concurrency: float = 1.0) -> None:
    for took in seconds:
        at += 100_000
        circumstances = Circumstances(at, 1)
        forecast = model.foretell(merge, circumstances)
        model.learn(
            merge,
            circumstances,
            seconds=took,
            concurrency=concurrency,
            ended_at=at + took,
            forecast=forecast,
        )


def seconds(model: LocalModel, merge: Merge, at_work: int = 1) -> float:
    forecast = model.foretell(merge, Circumstances(9_000_000, at_work, 1, 1))
    assert forecast is not None
    return forecast.seconds


RUST = Merge("dev-lang", "rust", "1.75.0")


def test_nothing_is_known_before_the_first() -> None:
    assert LocalModel().foretell(RUST, Circumstances(0)) is None


def test_newer_merges_weigh_more() -> None:
    model = LocalModel()
    learn(model, RUST, 1000, 1000, 1000, 2000, 2000)
    assert 1500 < seconds(model, RUST) <= 2000


def test_one_spoilt_merge_does_not_spoil_the_figure() -> None:
    model = LocalModel()
    learn(model, RUST, 1000, 1010, 990, 1005, 1000, 9000)
    assert seconds(model, RUST) < 1700


def test_binaries_have_a_history_of_their_own() -> None:
    model = LocalModel()
    learn(model, RUST, 1000)
    learn(model, RUST._replace(kind=BINARY), 12)
    assert seconds(model, RUST) == pytest.approx(1000)
    assert seconds(model, RUST._replace(kind=BINARY)) == pytest.approx(12)


def test_a_slot_has_a_history_of_its_own() -> None:
    model = LocalModel()
    old, new = Merge("sys-devel", "gcc", "12.3.0"), Merge("sys-devel", "gcc", "13.2.0")
    learn(model, old, 1000)
    learn(model, new, 3000)
    learn(model, old._replace(version="12.3.1", replaces="12.3.0"), 1000)
    learn(model, new._replace(version="13.2.1", replaces="13.2.0"), 3000)
    assert seconds(model, old._replace(version="12.4.0")) < seconds(model, new._replace(version="13.3.0"))


def test_package_moves_are_followed(tmp_path: Path) -> None:
    updates = tmp_path / "var/db/repos/gentoo/profiles/updates"
    updates.mkdir(parents=True)
    (updates / "1Q-2020").write_text("move dev-lang/rust dev-lang/rust-stage\nslotmove a/b 0 1\n")
    (updates / "2Q-2021").write_text("move dev-lang/rust-stage dev-lang/iron\nmove broken\n")
    moves = package_moves(str(tmp_path))
    assert renamed("dev-lang/rust", moves) == "dev-lang/iron"
    model = LocalModel(moves)
    learn(model, RUST, 1000)
    assert seconds(model, Merge("dev-lang", "iron", "1.80.0")) == pytest.approx(1000)
    assert renamed("a/a", {"a/a": "a/b", "b/b": "a/a"}) == "a/b"
    assert renamed("a/a", {"a/a": "b/b", "b/b": "a/a"}) in ("a/a", "b/b")


def test_what_runs_beside_it_counts() -> None:
    model = LocalModel()
    learn(model, RUST, 1000)
    assert seconds(model, RUST, at_work=4) > 1.2 * seconds(model, RUST, at_work=1)


def test_a_slow_session_is_noticed() -> None:
    model = LocalModel()
    for name in "abcdef":
        learn(model, Merge("app-misc", name, "1"), 100)
    at = 8_999_000
    for name in "abcde":
        merge, circumstances = Merge("app-misc", name, "1"), Circumstances(at, 1)
        forecast = model.foretell(merge, circumstances)
        model.learn(merge, circumstances, seconds=140, concurrency=1.0, ended_at=at + 140, forecast=forecast)
        at += 150
    assert seconds(model, Merge("app-misc", "f", "1")) > 110


def test_a_stretch_of_work_is_corrected_in_hindsight() -> None:
    """All were first built while the machine was slow; that shows only when some are built again."""
    model, at = LocalModel(), 1_000_000
    for number, took in [(number, 200) for number in range(20)] + [(number, 100) for number in range(12)]:
        if number == 0:
            at += 1_000_000
        merge, circumstances = Merge("app-misc", f"p{number}", "1"), Circumstances(at, 1)
        forecast = model.foretell(merge, circumstances)
        model.learn(
            merge, circumstances, seconds=took, concurrency=1.0, ended_at=at + took, forecast=forecast
        )
        at += took
    later = model.foretell(Merge("app-misc", "p19", "1"), Circumstances(at + 1_000_000, 1))
    assert later is not None
    assert later.seconds < 170
    assert later.guesses[EXPERTS.index("stretch")] < later.guesses[EXPERTS.index("session")]


def test_a_compiler_cache_is_noticed() -> None:
    """The same version again is quick, another version is not."""
    model, at = LocalModel(), 0
    for turn in range(40):
        for number in range(4):
            merge = Merge("app-misc", f"p{number}", str((turn + number) // 2))
            again = (turn + number) % 2 == 1 and turn > 0
            at += 100_000
            circumstances = Circumstances(at, 1)
            forecast = model.foretell(merge, circumstances)
            took = 40 if again else 200
            model.learn(
                merge, circumstances, seconds=took, concurrency=1.0, ended_at=at + took, forecast=forecast
            )
    built = Merge("app-misc", "p0", "19")
    assert seconds(model, built) < 70
    assert seconds(model, built._replace(version="20")) > 130


def test_versions_are_alike_by_their_leading_parts() -> None:
    assert [likeness("12.3.0", other) for other in ("12.3.1", "12.4", "13.3.0", "12.3.0")] == [2, 1, 0, 3]


# Sharing the machine ------------------------------------------------------------------------------------


def company(sharing: Sharing, *left: float, place: int = 1, size: int = 1, jobs: int = 2) -> float:
    """How many are expected to share the machine with a merge of 100 s, itself included."""
    circumstances = Circumstances(0, 1 + len(left), jobs, size, place, left=left)
    return math.exp(sharing.expected(circumstances, 100.0))


def test_company_is_foreseen_from_what_runs_and_what_waits() -> None:
    sharing = Sharing()
    assert company(sharing) == pytest.approx(1.0)
    assert company(sharing, 10.0) < company(sharing, 90.0) == pytest.approx(company(sharing, 90.0))
    assert company(sharing, 10.0, place=2, size=2) < company(sharing, 10.0, place=2, size=9)
    assert company(sharing, 10.0, place=2, size=9, jobs=1) < company(sharing, 10.0, place=2, size=9)
    assert company(sharing, place=1, size=9) > 1.3  # a slot is free, and eight wait


def test_company_costs_large_merges_more_where_it_does() -> None:
    sharing = Sharing()
    for _ in range(100):
        sharing.compare(0.7, 0.7 * 0.9, math.log(600))
        sharing.compare(0.7, 0.0, math.log(6))
    assert sharing.slope(math.log(600)) > 0.7
    assert sharing.slope(math.log(6)) < 0.2
    assert all(0.0 <= Sharing().slope(log) <= 1.2 for log in range(-2, 15))


def test_what_runs_late_is_not_over_at_once() -> None:
    assert [left_of(100, elapsed) for elapsed in (0, 60, 99.5, 400)] == [
        100,
        40,
        pytest.approx(14.9, 0.01),
        60,
    ]


def test_a_walk_knows_what_runs_beside() -> None:
    walk = Walk()
    for number, name in enumerate(["long", "short", "long", "short"]):
        merge, took = Merge("a", name, "1"), {"long": 1000, "short": 20}[name]
        walk.began(merge, "/", Circumstances(10_000 * number, 1))
        walk.completed(merge, "/", ended_at=10_000 * number + took, seconds=took, concurrency=1.0)
    later = Circumstances(900_000, 2)
    alone = walk.foretell(Merge("a", "short", "1"), later._replace(at_work=1))
    walk.began(Merge("a", "long", "1"), "/", later._replace(at_work=1))
    walk.began(Merge("a", "short", "1"), "/", later)
    found = walk.completed(Merge("a", "short", "1"), "/", ended_at=900_030, seconds=30, concurrency=2.0)
    assert found is not None
    assert alone is not None
    assert found.forecast.seconds > 1.1 * alone.seconds


# Correction and averages ----------------------------------------------------------------------------------


def test_a_correction_is_learned_and_nothing_before() -> None:
    correction, source = Correction((0.0, 0.1), (1.0, 1.0)), random.Random(3)
    assert correction.of((1.0, 2.0)) == pytest.approx(0.2)
    for number in range(300):
        known = (float(number % 2), source.gauss(0, 1))
        off = 0.8 * known[0] - 0.3 * known[1] + source.gauss(0, 0.05)
        correction.learn(known, off if number % 20 else 9.0, 1.0)  # some are far off
    assert correction.of((1.0, 0.0)) == pytest.approx(0.8, abs=0.1)
    assert correction.of((0.0, 1.0)) == pytest.approx(-0.3, abs=0.1)
    assert correction.of((100.0, 0.0)) == 2.0


def test_middles() -> None:
    assert [median(some) for some in ([3], [1, 3], [5, 1, 3])] == [3, 2, 3]
    assert robust_mean([1, 9], [0.0, 0.5], 0.2) == pytest.approx(0.45)
    assert robust_mean([1, 9], [0.0, 5.0], 0.2) == 2.5
    assert robust_mean([1, 1, 1], [0.0, 0.1, 0.2], 0.2) == pytest.approx(0.1)
    assert robust_mean([1] * 5, [0.0, 0.0, 0.1, 0.1, 9.0], 0.2) < 0.4
    assert settled([1, 1, 1], [0.0, 0.0, 3.0]) == 0.5


# Intervals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.02, 0.2, 0.6])
def test_intervals_adapt_to_the_machine(noise: float) -> None:
    intervals, source = Intervals(), random.Random(7)
    held = []
    for _ in range(1500):
        took = max(1, round(300 * math.exp(source.gauss(0, noise))))
        low, high = intervals.around(math.log(300), 0.2)
        held.append(low <= took <= high)
        intervals.learn(math.log(300), 0.2, took, (low, high))
    assert 0.78 <= sum(held[300:]) / len(held[300:]) <= 0.90


def test_what_is_late_stays_late() -> None:
    intervals = Intervals()
    left = [intervals.beyond(math.log(100), 0.2, elapsed) for elapsed in (0, 50, 90, 110, 150, 300)]
    assert left[0] == pytest.approx(100)
    assert left[1] == pytest.approx(50, abs=10)
    assert all(each >= 1 for each in left)
    assert left[-1] > left[3]


# Schedule -------------------------------------------------------------------------------------------------


def planned(*durations: float) -> list[Planned]:
    return [Planned(seconds=each, low=each, high=each) for each in durations]


def test_one_after_the_other() -> None:
    plan = schedule(planned(10, 20, 30), 1)
    assert plan.ends == (10, 30, 60)
    assert plan.total == 60
    assert plan.beside == (1, 1, 1)
    assert 0 < plan.low < 60 < plan.high


def test_of_many_uncertain_ones_the_mean_counts() -> None:
    one = Planned(seconds=100, low=60, high=180)
    assert schedule([one], 1).total == 100
    assert 1000 < schedule([one] * 10, 1).total < 1150


def test_how_many_share_the_machine() -> None:
    assert schedule(planned(60, 20, 40), 2).beside == (2, 2, 2)
    assert schedule(planned(100, 10), 2).beside == (1.1, 2)
    assert schedule(planned(0, 10), 1).beside == (1, 1)


def test_such_lists_take_longer_here() -> None:
    assert schedule(planned(10, 10), 2, 1.5).total == 15
    assert schedule(planned(10, 10), 2, 0.5).total == 10


def test_some_at_a_time() -> None:
    assert schedule(planned(60, 20, 30, 10), 2).ends == (60, 20, 50, 60)
    assert schedule(planned(60, 20, 30), 9).total == 60
    assert schedule(planned(60, 20, 30), 10**30) == schedule(planned(60, 20, 30), 3)
    assert schedule([], 2).total == 0


def test_what_runs_goes_first() -> None:
    waiting, running = planned(100)[0], Planned(seconds=5, low=5, high=5, running=True)
    assert schedule([waiting, running], 1).ends == (105, 5)


# The fleet ------------------------------------------------------------------------------------------------


def fleet(
    seed: int, machines: int = 30, packages: int = 120
) -> tuple[FleetTable, random.Random, list[float]]:
    """A table fitted from simulated machines, and what packages really take."""
    source = random.Random(seed)
    truth = [source.gauss(4.2, 1.2) for _ in range(packages)]
    kinds = [(source.gauss(0, 0.7), math.exp(source.gauss(0, 0.12))) for _ in range(machines)]
    cells = [
        Cell(package, machine, ORIGIN + kinds[machine][0] + kinds[machine][1] * (log - ORIGIN) + noise)
        for package, log in enumerate(truth)
        for machine in source.sample(range(machines), 12)
        for noise in [source.gauss(0, 0.2)]
    ]
    found = fit(cells)
    effects = {}
    for package in range(packages):
        middle, spread = effect_of(
            found.machines[cell.machine].scaled(cell.log) for cell in cells if cell.package == package
        )
        effects[f"app-misc/p{package}"] = PackageEffects(
            whole=Effect(log=round(middle, 2), spread=round(spread, 2), machines=10), majors={}
        )
    return FleetTable(fitted_at=1, machines=machines, packages=effects), source, truth


def test_a_package_never_built_here_is_foretold_from_ten_others() -> None:
    table, source, truth = fleet(3)
    right = total = 0
    for _ in range(20):
        speed, slope = source.gauss(0, 0.7), math.exp(source.gauss(0, 0.12))
        here = [ORIGIN + speed + slope * (log - ORIGIN) + source.gauss(0, 0.25) for log in truth]
        known = source.sample(range(len(truth)), 10)
        calibration = table.calibrate({f"app-misc/p{number}": here[number] for number in known})
        assert calibration.count == 10
        for number in set(range(len(truth))) - set(known):
            forecast = calibration.foretell(f"app-misc/p{number}", "1")
            assert forecast is not None
            right += abs(forecast.mean - here[number]) <= math.log(1.5)
            total += 1
    assert right / total >= 0.75


def test_a_liar_changes_little() -> None:
    source = random.Random(5)
    honest = [Cell(package, machine, 4 + package / 10 + source.gauss(0, 0.1))
              for package in range(20) for machine in range(12)]  # fmt: skip
    lies = [Cell(package, 99, 12.0) for package in range(20)]
    before, after = fit(honest), fit([*honest, *lies])
    assert max(abs(before.packages[each] - after.packages[each]) for each in range(20)) < 0.1


def test_what_shares_the_machine_is_taken_out() -> None:
    assert alone(100, None) == alone(100, 1.0) == pytest.approx(math.log(100))
    assert alone(100, 4.0) < alone(100, 2.0) < alone(100, 1.0)


def test_without_calibrators_a_machine_is_an_ordinary_one() -> None:
    assert place([]) == (0.0, 1.0)
    speed, slope = place([(3.0, 3.7), (5.0, 5.7), (7.0, 7.7)])
    assert speed == pytest.approx(0.7, abs=0.1)
    assert slope == pytest.approx(1.0, abs=0.05)


def test_a_package_does_not_calibrate_itself() -> None:
    effect = PackageEffects(whole=Effect(log=5.0, spread=0.2, machines=10), majors={})
    table = FleetTable(fitted_at=0, machines=10, packages={"a/a": effect, "a/b": effect})
    calibration = table.calibrate({"a/a": 7.0})
    alone_forecast, other = calibration.foretell("a/a", "1"), calibration.foretell("a/b", "1")
    assert alone_forecast is not None
    assert other is not None
    assert alone_forecast.mean == pytest.approx(5.0)
    assert other.mean > 6.0


def test_major_versions_count_where_they_differ() -> None:
    effects = PackageEffects(
        whole=Effect(log=5.0, spread=0.2, machines=20),
        majors={"13": Effect(log=6.0, spread=0.1, machines=10)},
    )
    assert (effects.of("13.2.0").log, effects.of("12.1").log, effects.of("").log) == (6.0, 5.0, 5.0)


def test_the_table_survives_json() -> None:
    table, _, _ = fleet(1, packages=5)
    effects = PackageEffects(
        whole=Effect(log=5.0, spread=0.2, machines=20),
        majors={"13": Effect(log=6.0, spread=0.1, machines=10)},
    )
    table = FleetTable(fitted_at=7, machines=30, packages={**table.packages, "sys-devel/gcc": effects})
    assert FleetTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def broken() -> Iterator[object]:
    good = {"format": 1, "fitted_at": 0, "machines": 0, "origin": 3.5, "packages": {"a/b": [[5.0, 0.2, 10]]}}
    yield from (None, [], {}, "text", 5)
    for name, value in [
        ("format", 2), ("origin", 4), ("origin", "x"), ("fitted_at", -1), ("fitted_at", 1.5),
        ("machines", True),
        ("packages", []), ("packages", {"a": [[5.0, 0.2, 10]]}), ("packages", {"a/b": []}),
        ("packages", {"a/b": [[5.0, 0.2]]}), ("packages", {"a/b": [[float("nan"), 0.2, 10]]}),
        ("packages", {"a/b": [[1e9, 0.2, 10]]}), ("packages", {"a/b\x1b": [[5.0, 0.2, 10]]}),
        ("packages", {"a/b": [[5.0, 0.2, 10], ["x", 5.0, 0.2, 10]]}), ("packages", {"a/b": [5.0]}),
    ]:  # fmt: skip
        yield {**good, name: value}


@pytest.mark.parametrize("document", [*broken()])
def test_a_table_that_is_none_is_refused(document: object) -> None:
    with pytest.raises(InvalidTable):
        FleetTable.from_json(document)


def test_history_and_fleet_together() -> None:
    effect = PackageEffects(whole=Effect(log=math.log(200), spread=0.2, machines=10), majors={})
    names = [f"a/p{number}" for number in range(12)]
    table = FleetTable(fitted_at=0, machines=10, packages=dict.fromkeys([*names, "a/new"], effect))
    walk = Walk({}, table)
    for number in range(12):
        merge = Merge("a", f"p{number}", "1")
        walk.began(merge, "/", Circumstances(1000 * number, 1))
        walk.completed(merge, "/", ended_at=1000 * number + 100, seconds=100, concurrency=1.0)
    new = walk.foretell(Merge("a", "new", "1"), Circumstances(20_000, 1))
    assert new is not None
    assert new.method == "fleet"
    assert new.seconds == pytest.approx(100, rel=0.15)
    both = walk.foretell(Merge("a", "p1", "1"), Circumstances(20_000, 1))
    assert both is not None
    assert both.method == "both"
    assert walk.calibrators == 12
    assert walk.foretell(Merge("a", "new", "1", BINARY), Circumstances(20_000, 1)) is None


def test_what_is_at_work() -> None:
    lines = (LOGS / "scenarios" / "16-jobs2.log").read_bytes().splitlines(True)
    reader = MergeReader()
    first = next(number for number, each in enumerate(lines) if b"emerge (2 of 3)" in each)
    reader.read(b"".join(lines[: first + 1]))
    assert [(each.place, each.size, each.jobs, each.at_work) for each in reader.running()] == [
        (1, 3, 2, 2),
        (2, 3, 2, 2),
    ]
    assert reader.is_open
    reader.read(b"".join(lines[first + 1 :]))
    assert (reader.running(), reader.is_open) == ([], False)


def test_nonsense_of_jobs_is_as_many_as_can_be() -> None:
    log = (LOGS / "scenarios" / "16-jobs2.log").read_bytes().replace(b"--jobs=2", b"--jobs=" + b"9" * 400)
    happenings = MergeReader().read(log)
    assert {each.jobs for each in happenings if isinstance(each, Beginning)} == {MOST_JOBS}


def test_errors_of_nothing() -> None:
    assert errors([]) is None
    assert errors([(5.0, 0)]) is None


def test_beginnings_tell_the_circumstances(happenings: list[Happening]) -> None:
    first = next(each for each in happenings if isinstance(each, Beginning))
    assert (first.name, first.at_work, first.place, first.size, first.jobs) == ("parallel", 1, 1, 56, 1)
    assert {each.jobs for each in happenings if isinstance(each, Beginning)} == {1, 2}
    assert SOURCE == "source"
