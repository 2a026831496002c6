# SPDX-License-Identifier: GPL-2.0-or-later
"""Events as they are on the wire: routing keys, documents, schemas."""

import json
import re
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dev.places import ROOT
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import Malformed
from gentwoo_client.wire.events import (
    KEY_SIZE,
    MODELS,
    OPERATOR,
    PUBLIC,
    BuildEvent,
    Event,
    MachineEvent,
    PublicationEvent,
    event_of,
    schema_of,
)

ID = "4dbb4c3f-4e7c-4ee1-a3bf-4a3a2f5b3c55"
BUILD = BuildEvent(
    id=ID,
    at=1_795_364_640,
    target="amd64-23.0",
    category="dev-lang",
    name="rust",
    version="1.91.0-r1",
    repository="gentoo",
    state="failed",
    job=7,
    failure="build",
)
PUBLICATION = PublicationEvent(
    id=ID,
    at=1_795_364_640,
    target="amd64",
    category="app-misc",
    name="c++filt",
    version="1.0",
    repository="gentoo",
    state="published",
    build_id=None,
    path="app-misc/c++filt/c++filt-1.0-1.gpkg.tar",
    size=20480,
    generation=17,
)
MACHINE = MachineEvent(id=ID, at=1_795_364_640, machine=ID, state="awaiting-approval", approved=False)
EVENTS: tuple[Event, ...] = (BUILD, PUBLICATION, MACHINE)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.KIND)
def test_what_one_writes_the_other_reads(event: Event) -> None:
    document = json.loads(json.dumps(event.to_json()))
    assert event_of(event.KIND, document) == event
    assert event_of(event.KIND, {**document, "unheard_of": [1]}) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.KIND)
def test_schemas_are_those_of_the_models(event: Event) -> None:
    schema = schema_of(type(event))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    document = event.to_json()
    validator.validate(document)
    for name in document:
        assert not validator.is_valid({**document, name: ["wrong"]}), name
        assert not validator.is_valid({key: value for key, value in document.items() if key != name}), name
        with pytest.raises(Malformed, match=name):
            event_of(event.KIND, {**document, name: ["wrong"]})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("id", "7"),
        ("at", "yesterday"),
        ("at", 7),
        ("target", "../x"),
        ("category", "Böse"),
        ("name", "a b"),
        ("version", "latest"),
        ("repository", "-x"),
        ("state", "\x1b[31m"),
        ("state", ""),
        ("build_id", True),
        ("build_id", -1),
        ("size", 2.5),
        ("size", limits.INTEGER_MAX + 1),
        ("path", "/etc/passwd"),
        ("path", "a/../../b"),
        ("path", "x" * 2000),
    ],
)
def test_what_no_event_can_say_is_refused(member: str, value: object) -> None:
    with pytest.raises(Malformed, match=member):
        PublicationEvent.from_json({**PUBLICATION.to_json(), member: value})


def test_only_known_kinds_are_events() -> None:
    with pytest.raises(Malformed):
        event_of("weather", BUILD.to_json())
    with pytest.raises(Malformed):
        event_of("build", [])


def test_routing_keys() -> None:
    assert BUILD.key == "build.amd64-23%2E0.dev-lang.rust.failed"
    assert PUBLICATION.key == "publication.amd64.app-misc.c++filt.published"
    assert MACHINE.key == "machine.awaiting-approval"


def test_machines_are_told_of_on_another_exchange() -> None:
    assert {model.KIND: model.EXCHANGE for model in MODELS.values()} == {
        "build": PUBLIC,
        "publication": PUBLIC,
        "machine": OPERATOR,
    }


words = st.text("abcxyz.+-_0189", min_size=1, max_size=limits.NAME_LENGTH)


@given(target=words, category=words, name=words)
def test_a_key_has_always_as_many_words_and_fits(target: str, category: str, name: str) -> None:
    key = replace(BUILD, target=target, category=category, name=name).key
    assert len(key.encode()) <= KEY_SIZE
    kind, *rest, state = key.split(".")
    assert (kind, state, len(rest)) == ("build", "failed", 3)
    assert all(rest)
    if len(key) < KEY_SIZE:
        assert [word.replace("%2E", ".") for word in rest] == [target, category, name]


def test_the_document_names_what_there_is() -> None:
    text = (ROOT / "docs/events.md").read_text()
    (row_of,) = [dict(re.findall(r"^\| `(build|publication|machine)` (\|.*)$", text, re.MULTILINE))]
    for kind, model in MODELS.items():
        words = set(re.findall(r"`([a-z_-]+)`", row_of[kind]))
        names: set[str] = {one.name for one in fields(model)} - {"id", "at"}  # type: ignore[arg-type]
        assert words == names | set(model.STATES), kind
        assert f"/schemas/events/{kind}.json" in text


def test_the_example_of_the_document_is_an_event() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/events.md").read_text(), re.DOTALL)
    document: dict[str, Any] = json.loads(block)
    assert PublicationEvent.from_json(document).to_json() == document
