# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing leaks from the future: what comes later in a log never changes what was foretold before."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gentwoo_client.foretelling.replaying import line, replay
from gentwoo_client.log.merges import Happening, MergeReader
from gentwoo_client.portage.pretended import pretended_merges

LOGS = Path(__file__).parents[1] / "data" / "emerge-logs"
REAL = (LOGS / "emlop-10000.log").read_bytes().splitlines(True)
LATER = [path.read_bytes() for path in sorted((LOGS / "scenarios").iterdir())]


def happenings(lines: bytes) -> list[Happening]:
    return MergeReader().read(lines)


def foretold(lines: list[bytes]) -> list[dict[str, object]]:
    return [line(one) for one in replay(happenings(b"".join(lines)), {})]


WHOLE = foretold(REAL)
ENDS = [
    number for number, each in enumerate(REAL) if b": completed emerge" in each and each.endswith(b" to /\n")
]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(REAL)), st.sampled_from([b"", *LATER]))
def test_another_future_changes_no_past_forecast(cut: int, later: bytes) -> None:
    past = foretold(REAL[:cut])
    assert past == WHOLE[: len(past)]
    assert foretold([*REAL[:cut], later])[: len(past)] == past


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(ENDS), st.integers(1, 100_000))
def test_how_long_a_merge_takes_does_not_change_what_was_foretold_of_it(end: int, longer: int) -> None:
    cpv = REAL[end].split()[-3].decode()
    later = [b"%d%b" % (int(each[:10]) + longer, each[10:]) for each in REAL[end : end + 100]]
    known = len(foretold(REAL[:end]))
    as_it_was, as_it_would_be = foretold(REAL[: end + 1])[known:], foretold([*REAL[:end], *later])[known:]
    for one, other in zip(as_it_was, as_it_would_be, strict=False):
        assert one["cpv"] == other["cpv"] == cpv
        assert {**one, "actual": 0, "recorded_at": ""} == {**other, "actual": 0, "recorded_at": ""}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_no_text_is_too_strange_for_a_plan(text: str) -> None:
    pretended_merges(text)
    pretended_merges(f"[ebuild  N ] {text}")
