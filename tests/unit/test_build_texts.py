# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are told of plans, of requests in flight and of how they ended."""

import io
from typing import Any

import pytest

from gentwoo_client.building.plan_text import (
    Kept,
    duration,
    kept_lines,
    left_out_lines,
    near_lines,
    news_line,
    ordinal,
    outcome_lines,
    plan_lines,
    state_words,
)
from gentwoo_client.building.progress import Live, Plain, bar, display_on, live_lines
from gentwoo_client.errors import CollectorUnreachable
from gentwoo_client.wire.build_messages import BuildState, NearMiss, PackageStatus
from gentwoo_client.wire.records import format_time

NOW = 1_800_000_000


def package(cpv: str, state: str, **more: Any) -> PackageStatus:
    answer = {"published": "published", "refused": "refused"}.get(state, "queued")
    values = {
        "cpv": cpv,
        "digest": cpv,
        "answer": answer,
        "state": state,
        "url": None,
        "refusal": None,
        "reason": None,
        "near": [],
        "job": None,
        "position": None,
        "expected_seconds": None,
        "finish_at": None,
        **more,
    }
    return PackageStatus.model_validate(values)


def request(*packages: PackageStatus, state: str = "open", **more: Any) -> BuildState:
    values = {
        "id": "abcdefghij",
        "target": "amd64",
        "state": state,
        "atoms": ["app-misc/alpha"],
        "created_at": format_time(NOW),
        "finished_at": None,
        "finish_at": None,
        "version": "1",
        "packages": [one.model_dump() for one in packages],
        **more,
    }
    return BuildState.model_validate(values)


def near(*difference: str, build_id: int | None = 3) -> NearMiss:
    return NearMiss(cpv="app-misc/b-1", url="http://x/b", build_id=build_id, difference=list(difference))


# Durations and places


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (3599, "1 h"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (21, "21st"), (113, "113th")],
)
def test_ordinals(number: int, text: str) -> None:
    assert ordinal(number) == text


# Plans


def test_a_plan_tells_what_comes_what_is_built_and_what_is_not() -> None:
    plan = request(
        package("app-misc/a-1", "published"),
        package(
            "app-misc/b-1", "queued", expected_seconds=120, near=[near("built with USE=-gtk; yours has gtk")]
        ),
        package("app-misc/c-1", "waiting", answer="joined"),
        package("app-misc/d-1", "refused", reason="nobody builds for amd64 now"),
        state="planned",
    )
    assert plan_lines(plan, [Kept(cpv="app-misc/e-1", reason="it is ours")]) == [
        "There as binaries, 1:",
        "  app-misc/a-1",
        "To be built for amd64, 2; about 2 min of building, and 1 of which it is not known:",
        "  app-misc/b-1  about 2 min",
        "      build 3 is not it: built with USE=-gtk; yours has gtk",
        "  app-misc/c-1  on its way already, time not known",
        "Not built there, 2:",
        "  app-misc/d-1  nobody builds for amd64 now",
        "  app-misc/e-1  it is ours",
    ]


def test_nothing_is_said_of_what_there_is_none_of() -> None:
    assert plan_lines(request(package("app-misc/a-1", "published")), []) == [
        "There as binaries, 1:",
        "  app-misc/a-1",
    ]
    assert kept_lines([Kept(cpv="app-misc/e-1", reason="why")]) == [
        "Not built there, 1:",
        "  app-misc/e-1  why",
    ]


def test_every_difference_is_told_below_the_other() -> None:
    assert near_lines([near("one", "two"), near(build_id=None)]) == [
        "build 3 is not it: one",
        "                   two",
        "build is not it: it differs in what is not told",
    ]


def test_what_the_collector_says_cannot_command_the_terminal() -> None:
    evil = package("app-misc/a-1", "failed", reason="boom\x1b[2J\nmore")
    assert state_words(evil) == "failed: boom [2J more"


# In flight


def test_states_in_words() -> None:
    assert state_words(package("a/b-1", "waiting")) == "waits for what it needs"
    assert (
        state_words(package("a/b-1", "queued", position=2, expected_seconds=30))
        == "queued, 2nd in the queue, about 30 s"
    )
    assert state_words(package("a/b-1", "building")) == "is being built"
    assert state_words(package("a/b-1", "mismatch", reason="USE")) == "what was built is another build: USE"
    assert state_words(package("a/b-1", "cancelled")) == "cancelled"


def test_bars_fill_and_stay_full() -> None:
    assert bar(0, 10) == "[....................]"
    assert bar(5, 10) == "[##########..........]"
    assert bar(50, 10) == "[####################]"


def test_what_is_in_flight_is_shown_nearest_first() -> None:
    state = request(
        package("app-misc/wait-1", "waiting"),
        package("app-misc/second-1", "queued", position=2, finish_at=format_time(NOW + 300)),
        package("app-misc/first-1", "queued", position=1),
        package("app-misc/now-1", "building", expected_seconds=100, finish_at=format_time(NOW + 50)),
        package("app-misc/done-1", "published"),
        finish_at=format_time(NOW + 600),
    )
    lines = live_lines(state, began={"app-misc/now-1": NOW - 1}, now=NOW, shown=3)
    assert lines == [
        "app-misc/now-1     building [##########..........] 50 s of about 2 min",
        "app-misc/first-1   1st in the queue",
        "app-misc/second-1  2nd in the queue, ready in about 5 min",
        "and 1 more",
        "1 of 5 are there, about 10 min to go",
    ]


def test_without_an_expectation_the_time_so_far_is_shown() -> None:
    state = request(package("app-misc/now-1", "building"))
    assert live_lines(state, began={"app-misc/now-1": NOW - 20}, now=NOW, shown=3)[0].endswith(
        "building, 20 s"
    )


def test_without_a_terminal_each_change_is_one_line() -> None:
    stream = io.StringIO()
    display = display_on(stream)
    assert isinstance(display, Plain)
    display.show(request(package("a/b-1", "queued", position=1), package("a/c-1", "published")))
    display.tick()
    display.show(request(package("a/b-1", "queued", position=1), package("a/c-1", "published")))
    display.trouble(CollectorUnreachable("http://x cannot be reached"))
    display.trouble(CollectorUnreachable("http://x cannot be reached"))
    display.show(request(package("a/b-1", "published"), package("a/c-1", "published")))
    display.close()
    assert stream.getvalue().splitlines() == [
        "a/b-1: queued, 1st in the queue",
        "http://x cannot be reached; waiting goes on",
        "the collector answers again",
        "a/b-1: is there",
    ]


def test_on_a_terminal_what_is_drawn_is_taken_away_again() -> None:
    stream = io.StringIO()
    display = Live(stream, now=lambda: NOW)
    display.show(request(package("a/b-1", "building"), package("a/c-1", "queued", position=1)))
    display.tick()
    display.show(request(package("a/b-1", "published"), package("a/c-1", "building")))
    display.close()
    screen = drawn(stream.getvalue())
    assert screen == ["a/b-1: is there"]


def drawn(text: str) -> list[str]:
    """What a terminal shows that is told to go up and clear by `ESC[nF ESC[J`."""
    screen: list[str] = []
    for piece in text.split("\x1b["):
        digits = piece.partition("F")[0]
        if digits.isdigit() and piece == f"{digits}F":
            del screen[len(screen) - int(digits) :]
            continue
        screen += piece.removeprefix("J").splitlines()
    return screen


# Ended


def test_how_a_request_ended() -> None:
    state = request(
        package("a/b-1", "published"),
        package("a/c-1", "failed", reason="build: emerge failed"),
        state="incomplete",
    )
    assert outcome_lines(state) == ["a/c-1: failed: build: emerge failed", "1 of 2 packages are there."]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (
            request(package("a/b-1", "published"), state="published"),
            "app-misc/alpha: built; `gentwoo install` takes it",
        ),
        (request(package("a/b-1", "cancelled"), state="cancelled"), "app-misc/alpha: cancelled"),
        (
            request(package("a/b-1", "failed", reason="no"), package("a/c-1", "failed"), state="incomplete"),
            "app-misc/alpha: a/b-1 failed: no; 1 more; `gentwoo builds log abcdefghij` tells more",
        ),
    ],
    ids=["published", "cancelled", "incomplete"],
)
def test_news(state: BuildState, text: str) -> None:
    assert news_line(state) == text


def test_what_was_left_out_is_named_once() -> None:
    fonts, both = ["media-fonts/closed-1"], ["media-fonts/closed-1", "sys-libs/own-2"]
    state = request(
        package("app-misc/a-1", "published", left_out=fonts),
        package("app-misc/b-1", "published", left_out=both),
        state="published",
    )
    assert outcome_lines(state) == [
        "left out, since it must not be redistributed: media-fonts/closed-1, sys-libs/own-2;"
        " emerge builds it here",
        "2 of 2 packages are there.",
    ]
    assert left_out_lines([]) == []
