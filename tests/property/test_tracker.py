# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds of the tracker for every log."""

from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gentwoo_client.log.tracker import LoggedChange, MergeTracker

LOGS = Path(__file__).parents[1] / "data" / "emerge-logs"
SCENARIOS = [path.read_bytes().splitlines(True) for path in sorted((LOGS / "scenarios").iterdir())]
REAL = (LOGS / "emlop-10000.log").read_bytes().splitlines(True)
PARALLEL = (LOGS / "qlop-parallel.log").read_bytes().splitlines(True)

damaged_lines = st.one_of(
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"") + b"\n"),
    st.tuples(st.sampled_from(REAL), st.integers(0, 60), st.binary(max_size=3)).map(
        lambda hit: (hit[0][: hit[1]] + hit[2].replace(b"\n", b"\0") + hit[0][hit[1] + 2 : -1]) + b"\n"
    ),
)
stretches = st.integers(0, len(REAL) - 60).flatmap(
    lambda begin: st.integers(1, 60).map(lambda length: REAL[begin : begin + length])
)
logs = st.lists(
    st.one_of(st.sampled_from(SCENARIOS), stretches, st.just(PARALLEL), st.lists(damaged_lines, max_size=3)),
    max_size=6,
).map(lambda parts: [line for part in parts for line in part])


def from_start(changes: list[LoggedChange], offset: int) -> list[LoggedChange]:
    return [change._replace(end=change.end + offset) for change in changes]


@settings(max_examples=300, deadline=None)
@given(logs, st.randoms(use_true_random=False), st.data())
def test_cutting_and_reloading_anywhere_changes_nothing(
    lines: list[bytes], random: object, data: st.DataObject
) -> None:
    """Any chunking, with a dump and load between chunks, gives the same changes at the same offsets."""
    whole = MergeTracker().feed(b"".join(lines))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=8)))
    tracker, pieces, offset = MergeTracker(), [], 0
    for begin, end in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        chunk = b"".join(lines[begin:end])
        pieces += from_start(tracker.feed(chunk), offset)
        offset += len(chunk)
        if data.draw(st.booleans()):
            tracker = MergeTracker.load(tracker.dump())
    assert pieces == whole


@settings(max_examples=20, deadline=None)
@given(logs)
def test_reloading_after_every_line_changes_nothing(lines: list[bytes]) -> None:
    whole = MergeTracker().feed(b"".join(lines))
    tracker, pieces, offset = MergeTracker(), [], 0
    for line in lines:
        pieces += from_start(tracker.feed(line), offset)
        offset += len(line)
        tracker = MergeTracker.load(tracker.dump())
    assert pieces == whole


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000), st.randoms(use_true_random=False))
def test_arbitrary_bytes_never_raise(data: bytes, random: object) -> None:
    MergeTracker().feed(data)


@settings(max_examples=200, deadline=None)
@given(logs, st.data())
def test_shuffled_lines_never_raise_and_the_state_survives(lines: list[bytes], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(lines)) if len(lines) < 200 else lines[::-1]
    tracker = MergeTracker()
    tracker.feed(b"".join(shuffled))
    assert MergeTracker.load(tracker.dump()).dump() == tracker.dump()


@settings(max_examples=300, deadline=None)
@given(logs, damaged_lines, st.data())
def test_completions_are_never_lost_to_a_bad_line(
    lines: list[bytes], bad: bytes, data: st.DataObject
) -> None:
    """A line without a stamp, wherever it stands, changes nothing."""
    bad = b"x" + bad
    at = data.draw(st.integers(0, len(lines)))
    hurt = MergeTracker().feed(b"".join([*lines[:at], bad, *lines[at:]]))
    whole = MergeTracker().feed(b"".join(lines))
    assert [change._replace(end=0) for change in hurt] == [change._replace(end=0) for change in whole]


def installs(changes: list[LoggedChange]) -> list[LoggedChange]:
    return [change for change in changes if change.event == "install" and "failpost" not in change.name]


def whats(changes: list[LoggedChange]) -> Counter[object]:
    """What was installed where and when."""
    return Counter(
        (change.category, change.name, change.version, change.root, change.at) for change in changes
    )


def hows(changes: list[LoggedChange]) -> set[object]:
    """How, in place of what, and how long it took; of each also None, for unknown."""
    return {
        (change.category, change.name, how)
        for change in changes
        for how in (change.install_type, change.replaces, change.time_delta, None)
    }


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SCENARIOS), st.sampled_from(SCENARIOS), st.data())
def test_interleaved_runs_install_what_each_installs(
    one: list[bytes], two: list[bytes], data: st.DataObject
) -> None:
    """Two independent runs at the same time, mixed line by line, install the same as one after the other.

    Lines do not say of which run they are. Where one's end was taken for the other's, the type and the
    duration of a merge may be unknown, and what it replaced; they are never wrong.
    """
    two = [line.replace(b"app-misc/", b"app-other/").replace(b"dev-libs/", b"dev-other/") for line in two]
    two = [line.replace(b"x11-libs/", b"x11-other/").replace(b"media-", b"other-") for line in two]
    two = [line.replace(b"sys-apps/", b"sys-other/") for line in two]
    mixed, left, right = [], one[:], two[:]
    while left or right:
        take_left = bool(left) and (not right or data.draw(st.booleans()))
        mixed.append((left if take_left else right).pop(0))
    apart = installs([*MergeTracker().feed(b"".join(one)), *MergeTracker().feed(b"".join(two))])
    together = installs(MergeTracker().feed(b"".join(mixed)))
    assert whats(together) == whats(apart)
    assert hows(together) <= hows(apart)
