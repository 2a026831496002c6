# SPDX-License-Identifier: GPL-2.0-or-later
"""Contrast of all pairs of colours that meet, read from the stylesheet (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLESHEET = resources.files("bdcs.web").joinpath("static", "gentwoo.css").read_text("utf-8")
TOKEN = re.compile(r"--([a-z0-9-]+):\s*(?:light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)|(#[0-9a-f]{6}));")
TEXT, GRAPHIC = 4.5, 3.0
GROUNDS = ("bg", "surface", "sunken")
PAIRS = [
    *((word, ground, TEXT) for word in ("text", "muted", "link") for ground in GROUNDS),
    *((state, f"{state}-bg", TEXT) for state in ("ok", "warn", "bad", "info")),
    *(("text", f"{state}-bg", TEXT) for state in ("warn", "bad")),
    *(("link", f"{state}-bg", TEXT) for state in ("warn", "bad")),
    ("on-brand", "brand", TEXT),
    ("on-brand-dim", "brand", TEXT),
    *(("edge", ground, GRAPHIC) for ground in GROUNDS),
    *(("focus", ground, GRAPHIC) for ground in GROUNDS),
    *((f"c{number}", "surface", GRAPHIC) for number in range(6)),
]


def tokens(scheme: int) -> dict[str, str]:
    """The colour of each token in the light (0) or dark (1) scheme."""
    return {name: both or pair[scheme] for name, *pair, both in TOKEN.findall(STYLESHEET)}


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "ground", "least"), PAIRS)
def test_contrast(front: str, ground: str, least: float, scheme: int) -> None:
    colours = tokens(scheme)
    darker, lighter = sorted((luminance(colours[front]), luminance(colours[ground])))
    assert (lighter + 0.05) / (darker + 0.05) >= least


def test_all_colours_are_tokens() -> None:
    """Outside of the tokens only white and the colour of a button's text on the bar may be written out."""
    rules = STYLESHEET.partition("/* ---- base")[2]
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", rules)) <= {"#fff", "#1d1929"}


def test_the_stylesheet_is_small() -> None:
    import gzip

    assert len(gzip.compress(STYLESHEET.encode(), 9)) <= 8 * 1024
