# SPDX-License-Identifier: GPL-2.0-or-later
"""What evidence does when it is damaged."""

from importlib import resources

import pytest

from bdcs.errors import EvidenceDamaged
from bdcs.store.evidence import KEPT_SIZE, EvidenceCodec

DICTIONARY = (resources.files("bdcs.store") / "dictionaries" / "segments.zdict").read_bytes()


def test_the_newest_dictionary_compresses_and_every_one_is_read() -> None:
    old, new = EvidenceCodec({1: DICTIONARY}), EvidenceCodec({1: DICTIONARY, 2: DICTIONARY + b"more"})
    assert new.dictionary_id == 2
    assert new.decompress(1, old.compress(b"text")) == b"text"
    assert new.decompress(2, new.compress(b"text")) == b"text"


@pytest.mark.parametrize(
    "damage", [lambda stored: stored[:-1], lambda stored: b"", lambda stored: b"\xff" * 20]
)
def test_damage_is_told(damage: object) -> None:
    codec = EvidenceCodec({1: DICTIONARY})
    assert callable(damage)
    with pytest.raises(EvidenceDamaged):
        codec.decompress(1, damage(codec.compress(b"some text " * 20)))


def test_a_missing_dictionary_is_told() -> None:
    codec = EvidenceCodec({1: DICTIONARY})
    with pytest.raises(EvidenceDamaged, match="dictionary 2"):
        codec.decompress(2, codec.compress(b"text"))


def test_nothing_is_inflated_beyond_what_a_segment_can_be() -> None:
    codec = EvidenceCodec({1: DICTIONARY})
    with pytest.raises(EvidenceDamaged):
        codec.decompress(1, codec.compress(b"\0" * (KEPT_SIZE + 1)))
