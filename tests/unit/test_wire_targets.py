# SPDX-License-Identifier: GPL-2.0-or-later
"""The document of a target: what one side writes the other reads, and nothing else gets through."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import InvalidTarget
from gentwoo_client.wire.targets import (
    Target,
    TargetKey,
    is_target_name,
    targets_from_json,
    targets_to_json,
)

FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
URL = "https://bdcs.example.org/binhost"
TARGET = Target(
    name="amd64-v3",
    chost="x86_64-pc-linux-gnu",
    profile="default/linux/amd64/23.0/systemd",
    cflags="-O2 -pipe -march=x86-64-v3",
    cpu="x86-64-v3",
    toolchain="gcc 15, glibc 2.42",
    description="für alle",
    signatures="required",
    private=False,
    url=f"{URL}/amd64-v3",
    packages=50_000,
    timestamp=1_795_326_925,
    keys=(
        TargetKey(fingerprint=FINGERPRINT, expires_at=1_826_862_925, url=f"{URL}/keys/{FINGERPRINT}.asc"),
        TargetKey(fingerprint="A" * 64, expires_at=None, url=f"{URL}/keys/{'A' * 64}.asc"),
    ),
)
WITHOUT = object()


def document(**changes: object) -> dict[str, Any]:
    """The document of TARGET with some members exchanged, or left out (WITHOUT)."""
    members = {**TARGET.to_json(), **changes}
    return {name: value for name, value in members.items() if value is not WITHOUT}


def test_a_target_survives_the_way_over_the_wire() -> None:
    targets = (TARGET, replace(TARGET, name="other", keys=(), timestamp=0, cflags=""))
    assert targets_from_json(json.loads(json.dumps(targets_to_json(targets)))) == targets


def test_times_are_written_as_everywhere_else() -> None:
    assert TARGET.keys[0].to_json()["expires_at"] == "2027-11-22T05:55:25+00:00"


def test_members_of_a_newer_collector_are_passed_over() -> None:
    assert Target.from_json(document(mascot="larry")) == TARGET


@pytest.mark.parametrize("member", sorted(TARGET.to_json()))
@pytest.mark.parametrize(
    "value",
    [WITHOUT, None, 3.5, [], {}, "\n", -1],
    ids=lambda value: "absent" if value is WITHOUT else repr(value),
)
def test_each_member_must_be_there_and_right(member: str, value: object) -> None:
    if (member, value) == ("keys", []):
        value = [None]  # none at all is right: nothing was ever signed
    with pytest.raises(InvalidTarget) as refused:
        Target.from_json(document(**{member: value}))
    assert refused.value.field == member
    assert refused.value.members() == {"field": refused.value.field}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", "keys"),
        ("name", ".."),
        ("name", "../etc"),
        ("name", "a/b"),
        ("name", "a" * (limits.TARGET_NAME_LENGTH + 1)),
        ("chost", "x86_64"),
        ("chost", "x86_64-pc-linux-gnu; rm -rf /"),
        ("profile", "/default"),
        ("profile", "default/../../etc"),
        ("cflags", "-O2 $(id)"),
        ("cflags", "-O2\nsync-uri = http://evil"),
        ("cpu", "a\x1b[2J"),
        ("description", "x" * (limits.TARGET_LINE_LENGTH + 1)),
        ("signatures", "never"),
        ("private", 1),
        ("url", "https://bdcs.example.org/binhost/a/"),
        ("url", "https://bdcs.example.org"),
        ("url", "https://u" + ":p@example.org/binhost/a"),
        ("url", "https://bdcs.example.org/a\nlocation=/etc"),
        ("url", "file:///etc"),
        ("packages", True),
        ("timestamp", limits.TIME_MAX + 1),
        ("keys", [TARGET.keys[0].to_json()] * (limits.KEYS_PER_TARGET + 1)),
    ],
)
def test_what_could_do_harm_in_a_configuration_is_refused(member: str, value: object) -> None:
    with pytest.raises(InvalidTarget) as refused:
        Target.from_json(document(**{member: value}))
    assert refused.value.field == member


@pytest.mark.parametrize(
    "key",
    [
        None,
        {},
        {**TARGET.keys[0].to_json(), "fingerprint": FINGERPRINT.lower()},
        {**TARGET.keys[0].to_json(), "fingerprint": FINGERPRINT[-16:]},
        {**TARGET.keys[0].to_json(), "expires_at": 1_826_862_925},
        {**TARGET.keys[0].to_json(), "expires_at": "tomorrow"},
        {**TARGET.keys[0].to_json(), "url": "keys/1.asc"},
    ],
)
def test_a_key_must_be_one(key: object) -> None:
    with pytest.raises(InvalidTarget):
        Target.from_json(document(keys=[key]))


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"targets": {}}, {"targets": [None]}, {"targets": [document(), document()]}],
)
def test_a_list_that_is_none_is_refused(answer: object) -> None:
    with pytest.raises(InvalidTarget):
        targets_from_json(answer)


@pytest.mark.parametrize("name", ["a", "amd64-v3", "x86_64.musl", "9"])
def test_names(name: str) -> None:
    assert is_target_name(name)
