# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an engine can be reached is known from those who try."""

import pytest

from bdcs.store import contact
from bdcs.store.contact import Contact


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(contact, "time", clock)
    return clock


def test_who_never_tried_lost_nothing(clock: Clock) -> None:
    assert Contact().lost_for == 0


def test_whoever_waits_longest_counts(clock: Clock) -> None:
    known = Contact()
    with known.trying():
        clock.now += 3
        with known.trying():
            clock.now += 2
            assert known.lost_for == 5
        assert known.lost_for == 5
    assert known.lost_for == 0


def test_what_is_lost_stays_lost_until_somebody_has_contact(clock: Clock) -> None:
    known = Contact()

    def fail() -> None:
        with known.trying():
            clock.now += 6
            raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        fail()
    known.lost(clock.now - 1)
    clock.now += 1
    assert known.lost_for == 7
    with known.trying():
        assert known.lost_for == 7
    assert known.lost_for == 0
