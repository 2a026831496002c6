# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tracker makes of situations that the scenario logs do not show."""

import json

import pytest

from gentwoo_client.log.tracker import AT_WORK_FOR_AT_MOST, FORGOTTEN_AFTER, LoggedChange, MergeTracker

NOW = 1_795_307_000
DAY = 86400


def log(*records: str) -> bytes:
    """Records as `SECONDS|TEXT`, the seconds counted from `NOW`."""
    lines = []
    for record in records:
        seconds, _, text = record.partition("|")
        lines.append(f"{NOW + int(seconds)}: {text}\n")
    return "".join(lines).encode()


def begun(at: int, options: str = "x") -> list[str]:
    return [f"{at}|Started emerge on: Nov 22, 2026 00:33:45", f"{at}| *** emerge {options}"]


def start(at: int, cpv: str, place: str = "1 of 1", root: str = "/") -> str:
    return f"{at}| >>> emerge ({place}) {cpv} to {root}"


def phase(at: int, what: str, cpv: str, place: str = "1 of 1") -> str:
    return f"{at}| === ({place}) {what} ({cpv}::/var/db/repos/gentoo/x.ebuild)"


def done(at: int, cpv: str, place: str = "1 of 1", root: str = "/") -> str:
    return f"{at}| ::: completed emerge ({place}) {cpv} to {root}"


def ended(at: int, how: str = "successfully") -> list[str]:
    return [
        f"{at}| *** Finished. Cleaning up...",
        f"{at}| *** exiting {how}.",
        f"{at}| *** terminating.",
    ]


UNSUCCESSFULLY = "unsuccessfully with status '1'"


def brief(changes: list[LoggedChange]) -> list[str]:
    return [
        " ".join([change.event, change.name, *([change.cause] if change.cause else [])]) for change in changes
    ]


def test_killed_run_is_told_when_its_package_starts_again() -> None:
    tracker = MergeTracker()
    assert not tracker.feed(log(*begun(0), start(0, "a/one-1"), phase(1, "Compiling/Merging", "a/one-1")))
    changes = tracker.feed(log(*begun(900), start(900, "a/one-1"), done(960, "a/one-1"), *ended(960)))
    assert brief(changes) == ["failure one interrupted", "install one"]
    assert (changes[0].at, changes[0].time_delta, changes[0].concurrency) == (NOW + 900, None, None)
    assert (changes[1].time_delta, changes[1].concurrency) == (60, 1.0)
    assert tracker.open_items == 0


def test_killed_run_does_not_block_a_later_one() -> None:
    """The later run fails; at the latest the next start of a process gives the failure to it."""
    tracker = MergeTracker()
    tracker.feed(log(*begun(0), start(0, "a/dead-1")))
    tracker.feed(log(*begun(900), start(900, "a/two-1"), phase(901, "Compiling/Merging", "a/two-1")))
    assert tracker.feed(log(*ended(950, UNSUCCESSFULLY))) == []
    changes = tracker.feed(log(*begun(2000)))
    assert brief(changes) == ["failure two build"]
    assert (changes[0].at, changes[0].time_delta) == (NOW + 950, 50)


def test_of_two_runs_the_one_heard_of_again_did_not_fail() -> None:
    tracker = MergeTracker()
    tracker.feed(log(*begun(0), start(0, "a/one-1", "3 of 9"), *begun(5), start(6, "a/two-1")))
    assert tracker.feed(log(*ended(10, UNSUCCESSFULLY))) == []
    changes = tracker.feed(log(phase(11, "Merging", "a/two-1")))
    assert brief(changes) == ["failure one fetch"]
    assert changes[0].at == NOW + 10
    assert brief(tracker.feed(log(done(12, "a/two-1"), *ended(12)))) == ["install two"]


def test_two_failing_runs_are_decided_when_none_is_open() -> None:
    tracker = MergeTracker()
    tracker.feed(log(*begun(0), start(0, "a/one-1"), *begun(5), start(6, "a/two-1")))
    assert tracker.feed(log(*ended(10, UNSUCCESSFULLY))) == []
    assert sorted(brief(tracker.feed(log(*ended(20, UNSUCCESSFULLY))))) == [
        "failure one fetch",
        "failure two fetch",
    ]


def test_cause_is_unknown_where_one_of_two_runs_was_interrupted() -> None:
    tracker = MergeTracker()
    tracker.feed(log(*begun(0), start(0, "a/one-1"), *begun(5), start(6, "a/two-1")))
    tracker.feed(log(*ended(10, UNSUCCESSFULLY)))
    assert sorted(brief(tracker.feed(log("20| *** terminating.")))) == ["failure one", "failure two"]


def test_synchronizing_meanwhile_does_not_end_the_build() -> None:
    tracker = MergeTracker()
    changes = tracker.feed(
        log(
            *begun(0),
            start(0, "a/one-1"),
            *begun(5, "--sync"),
            "9| *** terminating.",
            done(20, "a/one-1"),
            *ended(20),
        )
    )
    assert brief(changes) == ["install one"]
    assert changes[0].time_delta == 20


def test_long_dead_item_is_given_up_at_the_start_of_a_process() -> None:
    tracker = MergeTracker()
    tracker.feed(log(*begun(0), start(0, "a/one-1")))
    assert tracker.feed(log(*begun(FORGOTTEN_AFTER - 10), f"{FORGOTTEN_AFTER - 9}| *** terminating.")) == []
    changes = tracker.feed(log(*begun(FORGOTTEN_AFTER + 10)))
    assert brief(changes) == ["failure one interrupted"]
    assert changes[0].time_delta is None


def test_item_open_for_a_week_no_longer_counts() -> None:
    tracker = MergeTracker()
    tracker.feed(log(*begun(0), start(0, "a/dead-1")))
    late = AT_WORK_FOR_AT_MOST - 50
    changes = tracker.feed(log(*begun(late), start(late, "a/two-1"), done(late + 100, "a/two-1")))
    assert changes[0].concurrency == 1.5


def test_item_from_before_the_boot_no_longer_counts() -> None:
    tracker = MergeTracker()
    tracker.feed(log(*begun(0), start(0, "a/dead-1")))
    tracker.boot(NOW + 500)
    changes = tracker.feed(log(*begun(600), start(600, "a/two-1"), done(700, "a/two-1")))
    assert changes[0].concurrency == 1.0


def test_boot_does_not_touch_what_was_over_before() -> None:
    """Told at whatever time, a boot acts at its own place in the log."""
    tracker = MergeTracker()
    tracker.feed(log(*begun(0, "--jobs=2"), start(0, "a/one-1", "1 of 2"), start(0, "a/two-1", "2 of 2")))
    tracker.boot(NOW + 500)
    changes = tracker.feed(log(done(100, "a/one-1", "1 of 2"), done(100, "a/two-1", "2 of 2")))
    assert [change.concurrency for change in changes] == [2.0, 2.0]


@pytest.mark.parametrize("option", ["--buildpkgonly", "--fetchonly", "--fetch-all-uri"])
def test_run_that_installs_nothing_gives_no_record(option: str) -> None:
    for how in ("successfully", UNSUCCESSFULLY):
        records = log(*begun(0, f"--ask {option} a/one"), start(0, "a/one-1"), *ended(9, how))
        assert MergeTracker().feed(records) == []


def test_success_is_no_failure_since_the_status_is_logged() -> None:
    """An item without completion in a run that succeeded lost its record. Before 2007 it had failed."""
    records = log(*begun(0), start(0, "a/one-1"), *ended(9))
    assert MergeTracker().feed(records) == []
    assert brief(MergeTracker().feed(records.replace(b"17953", b"11853"))) == ["failure one fetch"]


def test_clock_put_back_makes_the_duration_unknown() -> None:
    changes = MergeTracker().feed(log(*begun(0), start(0, "a/one-1"), done(-500, "a/one-1")))
    assert (changes[0].time_delta, changes[0].concurrency, changes[0].start_seen) == (None, None, True)


def test_repeated_completion_is_one_install() -> None:
    """Old Portage could log its own completion twice before it started itself anew."""
    portage = "sys-apps/portage-2.1"
    restart = "3| *** RESTARTING emerge via exec() after change of portage version."
    changes = MergeTracker().feed(
        log(*begun(0), start(0, portage), done(2, portage), done(2, portage), restart, *begun(3), *ended(4))
    )
    assert brief(changes) == ["install portage"]


def test_completion_without_start_is_an_install_of_unknown_duration() -> None:
    change, again = MergeTracker().feed(log(done(5, "a/one-1"), start(6, "a/one-1"), done(7, "a/one-1")))
    assert (change.start_seen, change.install_type, change.time_delta) == (False, None, None)
    assert (again.start_seen, again.install_type, again.time_delta) == (True, "source", 1)


def test_same_version_for_two_roots_at_once() -> None:
    changes = MergeTracker().feed(
        log(
            *begun(0, "--jobs=2"),
            start(0, "a/one-1", "1 of 2", "/mnt/a b/"),
            start(1, "a/one-1", "2 of 2"),
            done(10, "a/one-1", "1 of 2", "/mnt/a b/"),
            done(20, "a/one-1", "2 of 2"),
        )
    )
    assert [(change.root, change.time_delta) for change in changes] == [("/mnt/a b/", 10), ("/", 19)]


@pytest.mark.parametrize(
    ("phases", "install_type", "cause"),
    [
        ([], None, "fetch"),
        (["Cleaning"], "source", "fetch"),
        (["Cleaning", "Compiling/Packaging"], "source", "build"),
        (["Merging"], "source", "build"),
        (["Fetching Binary"], "binary", "fetch"),
        (["Merging Binary"], "binary", "build"),
    ],
)
def test_cause_of_a_failure(phases: list[str], install_type: str | None, cause: str) -> None:
    records = log(
        *begun(0),
        start(0, "a/one-1"),
        *(phase(1, what, "a/one-1") for what in phases),
        *ended(9, UNSUCCESSFULLY),
    )
    change = MergeTracker().feed(records)[0]
    assert (change.install_type, change.cause) == (install_type, cause)


def test_failed_fetch_tells_its_ebuild() -> None:
    """Else its repository is unknown, and the record stays on the machine."""
    records = log(*begun(0), start(0, "a/one-1"), phase(1, "Cleaning", "a/one-1"), *ended(9, UNSUCCESSFULLY))
    for blocks in ([records], records.splitlines(keepends=True)):
        tracker = MergeTracker()
        changes = [change for block in blocks for change in tracker.feed(block)]
        assert [change.ebuild for change in changes] == ["/var/db/repos/gentoo/x.ebuild"]


def test_failed_removal_is_none() -> None:
    records = log(*begun(0), "1|=== Unmerging... (a/one-1)", "2| !!! unmerge FAILURE: a/one-1", *ended(2))
    assert MergeTracker().feed(records) == []


def test_removal_without_its_beginning_has_no_duration() -> None:
    change = MergeTracker().feed(log("2| >>> unmerge success: a/one-1"))[0]
    assert (change.cause, change.time_delta, change.concurrency) == ("manual", None, None)


@pytest.mark.parametrize(
    "damage",
    [
        b"132787\0\0\0\0== (13 of 14) Post-Build Cleaning (a/one-1::/x)",
        b"\0" * 4096 + b"1795307001:  ::: completed emerge (1 of 1) a/one-1 to /",
        b"egex-search-auto=y app-misc/alpha",
        b"1327867778",
        b"1327867778:",
        b"1327867778l:  >>> emerge (1 of 3) media-libs/jpeg-8c-r1 to /",
        b"13278677x8:  >>> emerge (1 of 3) media-libs/jpeg-8c-r1 to /",
        b"17953070011:  ::: completed emerge (1 of 1) a/one-1 to /",
        b"1795307001:  ::: completed emerge (1of1) a/one-1 to /",
        b"1795307001:  ::: completed emerge (1 of 1) media-libs/libpng to /",
        b"1795307001:  ::: completed emerge (1 of 1) a/one-1 to ",
        b"1795307001:  ::: completed emerge (1 of 1) a/one-1 to /\0\0",
        b"1795307001:  ::: completed emerge (1 of 1) a/\xff\xfe-1 to /",
        b"1795307001:  ::: completed emerge (1 of 1) a/-MERGING-one-1 to /",
        b"1795307001:  *** emerge --oneshot a/x  >>> unmerge success: a/fake-1",
        b"1795307001:  === (1 of 1) Merging (a/one-1",
        b"1795307001:  >>> unmerge success: a/one-1 ",
        b"+795307001:  >>> unmerge success: a/one-1",
        b"1795307001 :  >>> unmerge success: a/one-1",
        b"x" * (2 << 20),
        b"",
        b"\r",
    ],
)
def test_damaged_line_is_skipped_and_costs_no_other(damage: bytes) -> None:
    before, after = log(*begun(0), start(0, "a/one-1")), log(done(10, "a/one-1"), *ended(10))
    whole = MergeTracker().feed(before + after)
    hurt = MergeTracker().feed(before + damage + b"\n" + after)
    assert [change._replace(end=0) for change in hurt] == [change._replace(end=0) for change in whole]


def test_short_stamps_count() -> None:
    change = MergeTracker().feed(
        b"999999990:  >>> emerge (1 of 1) a/one-1 to /\n"
        b"1000000005:  ::: completed emerge (1 of 1) a/one-1 to /\n"
    )[0]
    assert (change.at, change.time_delta) == (1000000005, 15)


def test_lines_that_end_in_cr_count() -> None:
    records = log(*begun(0), start(0, "a/one-1"), done(10, "a/one-1"))
    changed = MergeTracker().feed(records.replace(b"\n", b"\r\n"))
    assert brief(changed) == ["install one"]
    assert changed[0].end == len(records.replace(b"\n", b"\r\n"))


def test_state_is_small_and_bounded() -> None:
    tracker = MergeTracker()
    for number in range(3000):
        tracker.feed(
            log(
                *begun(number),
                start(number, f"a/p{number}x-1"),
                f"{number}|=== Unmerging... (b/p{number}x-1)",
            )
        )
    assert tracker.open_items <= 1000
    assert len(tracker.dump()) < 300_000
    assert len(MergeTracker().dump()) < 300


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"format":99}', '{"format":1}', '{"format":1,"clock":[1]}']
)
def test_foreign_state_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        MergeTracker.load(text)


def test_state_is_json_of_one_line() -> None:
    tracker = MergeTracker()
    tracker.feed(log(*begun(0), start(0, "a/one-1", root="/mnt/x/")).replace(b"/mnt/x/", b"/mnt/\xe4\xff/"))
    assert "\n" not in tracker.dump()
    assert json.loads(tracker.dump())["format"] == 1
    assert MergeTracker.load(tracker.dump()).dump() == tracker.dump()


@pytest.mark.parametrize("old", [[], ["1| === Unmerging... (a/two-1)", "1| >>> unmerge success: a/two-1"]])
def test_merge_within_a_second_is_told_alike_whole_or_line_by_line(old: list[str]) -> None:
    """What ran beside it is then the number now, not a mean of no time."""
    lines = log(
        *begun(0, "--jobs=2 x"),
        start(0, "a/one-1", "1 of 2"),
        start(1, "a/two-2", "2 of 2"),
        phase(1, "Merging", "a/two-2", "2 of 2"),
        "1| >>> AUTOCLEAN: a/two:0",
        *old,
        done(1, "a/two-2", "2 of 2"),
    )
    changes = MergeTracker().feed(lines, locate=False)
    assert (changes[-1].time_delta, changes[-1].concurrency) == (0, 2.0)
    tracker = MergeTracker()
    assert changes == [
        change for line in lines.splitlines(True) for change in tracker.feed(line, locate=False)
    ]
