# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tracker tells of logs that real Portage wrote."""

from pathlib import Path

import pytest

from gentwoo_client.log.tracker import LoggedChange, MergeTracker

LOGS = Path(__file__).parents[1] / "data" / "emerge-logs"
EPOCH = 1795307000


def changes_of(log: Path) -> list[LoggedChange]:
    """What whole lines of `log` tell."""
    data = log.read_bytes()
    return MergeTracker().feed(data[: data.rfind(b"\n") + 1])


def as_written(change: LoggedChange) -> str:
    """A change in the words of expected.txt."""
    what = ":".join(word for word in (change.install_type, change.cause) if word)
    replaced = f"was {change.replaces} " if change.replaces else ""
    cpv = f"{change.category}/{change.name}-{change.version}"
    return (
        f"{change.event} {cpv} {change.root or '-'} {what} {replaced}"
        f"at {change.at - EPOCH} took {change.time_delta} beside {change.concurrency}"
    )


def expected() -> dict[str, list[str]]:
    """The changes of each scenario, by its name."""
    scenarios: dict[str, list[str]] = {}
    for line in (LOGS / "expected.txt").read_text().splitlines():
        if line[:2].isdigit():
            lines = scenarios[line] = []
        elif line and not line.startswith("#"):
            lines.append(line)
    return scenarios


@pytest.mark.parametrize("scenario", sorted(path.stem for path in (LOGS / "scenarios").iterdir()))
def test_scenario_tells_what_happened(scenario: str) -> None:
    """Each situation gives exactly the changes that a reader of the log derives."""
    changes = changes_of(LOGS / "scenarios" / f"{scenario}.log")
    assert [as_written(change) for change in changes] == expected()[scenario]


def test_every_scenario_is_expected() -> None:
    assert sorted(expected()) == sorted(path.stem for path in (LOGS / "scenarios").iterdir())


@pytest.mark.parametrize(
    ("name", "merges", "binary", "orphans", "opened", "manual", "replaced"),
    [
        ("emlop-10000", 832, 1, 1, 58, 80, 753),
        ("emlop-sync", 1, 0, 2, 3, 0, 1),
        ("emlop-badtimestamp", 2, 0, 1, 0, 0, 0),
        ("qlop-parallel", 3, 0, 0, 3, 0, 2),
        ("qlop-sync", 3, 1, 0, 0, 4, 0),
    ],
)
def test_real_log_is_counted_exactly(
    name: str, merges: int, binary: int, orphans: int, opened: int, manual: int, replaced: int
) -> None:
    """The counts of the README. Starts without completion are failures, or still open at the end."""
    data = (LOGS / f"{name}.log").read_bytes()
    tracker = MergeTracker()
    changes = tracker.feed(data[: data.rfind(b"\n") + 1])
    installs = [change for change in changes if change.event == "install"]
    assert sum(change.start_seen for change in installs) == merges
    assert sum(change.install_type == "binary" for change in installs) == binary
    assert sum(not change.start_seen for change in installs) == orphans
    assert sum(change.event == "failure" for change in changes) + tracker.open_items == opened
    causes = [change.cause for change in changes if change.event == "uninstall"]
    assert (causes.count("manual"), causes.count("replaced")) == (manual, replaced)


def test_durations_add_up() -> None:
    """All merges of the large log take as long as its README says."""
    changes = changes_of(LOGS / "emlop-10000.log")
    assert sum(change.time_delta or 0 for change in changes if change.event == "install") == 216436


def test_replacement_in_a_log_before_2008_is_told_by_the_install() -> None:
    """There its removal looks manual, and is counted so; the install still names what it replaced."""
    changes = {
        change.name: change for change in changes_of(LOGS / "qlop-sync.log") if change.event == "install"
    }
    assert changes["gcc-config"].replaces == "1.3.6-r3"
    assert changes["gcc"].replaces is None


def test_every_end_is_just_behind_the_deciding_line() -> None:
    data = (LOGS / "emlop-10000.log").read_bytes()
    for change in MergeTracker().feed(data):
        line = data[data.rfind(b"\n", 0, change.end - 1) + 1 : change.end]
        if change.event != "failure":  # that of a run may be decided by any record of another
            assert f"{change.category}/{change.name}-{change.version}".encode() in line
