# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples of docs/builds.md are what a collector says, and what the models of the wire take."""

import http.client
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import gentwoo_client.cli
from bdcs.web import attempts_api, builds_api
from dev.places import ROOT
from gentwoo_client.wire import build_messages, errors, messages
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.messages import Message
from tests.builds import TARGET, HandBuilder, Wisher, metadata, specification
from tests.packages import gpkg
from tests.processes import Collector
from tests.shelf import Shelf

TEXT = (ROOT / "docs/builds.md").read_text()
EXAMPLES: dict[str, Any] = {
    name: json.loads(text)
    for name, text in re.findall(r"<!-- ([A-Za-z: ]+) -->\n```json\n(.*?)```", TEXT, re.DOTALL)
}
(EVENTS,) = re.findall(r"<!-- events -->\n```\n(.*?)```", TEXT, re.DOTALL)
USE = {"use": ("nls",), "iuse": ("nls",)}
NEEDS = {"RDEPEND": "nls? ( virtual/libintl )"}


def model(name: str) -> type[Message]:
    """The model of the wire that an example is marked with."""
    found: type[Message] = getattr(build_messages, name, None) or getattr(messages, name)
    return found


def events(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Kind, id and document of each event of a stream."""
    pattern = r"event: (\w+)\nid: ?(.*)\ndata: (.*)\n\n"
    return [(kind, place, json.loads(data)) for kind, place, data in re.findall(pattern, text)]


def shape(document: Any) -> Any:
    """Which members there are, all the way down; of a list, those of the first."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items() if name != "built_against"}
    return [shape(document[0])] if isinstance(document, list) and document else None


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_is_what_its_model_takes_and_lacks_nothing(name: str) -> None:
    document = EXAMPLES[name]
    kind = model(name.partition(":")[0])
    read = kind.model_validate_json(json.dumps(document))
    assert not read.model_extra
    if kind is messages.Problem:
        assert errors.from_document(document, status=document["status"]).to_document() == document
    else:
        assert read.model_dump(mode="json") == document


def test_specifications_in_examples_are_specifications() -> None:
    wish = EXAMPLES["BuildWish"]["packages"][0]
    for document in (wish, EXAMPLES["JobState"]["specification"], EXAMPLES["Lease"]["job"]["specification"]):
        assert BuildSpecification.from_json(document).to_json() == document == wish


def test_events_bring_the_documents_that_are_described() -> None:
    told = events(EVENTS)
    assert [kind for kind, _, _ in told] == ["state", "log", "state"]
    for kind, _, document in told:
        read = model("BuildState" if kind == "state" else "LogLines").model_validate_json(
            json.dumps(document)
        )
        assert read.model_dump(mode="json") == document
    text = told[1][2]["text"]
    assert told[1][1] == told[2][1] == f"{told[1][2]['attempt']}:{len(text)}"


def test_every_operation_and_every_command_is_named() -> None:
    operations = [*builds_api.OPERATIONS, *attempts_api.OPERATIONS]
    paths = {re.sub(r"\{\w+\}", "{}", operation.path) for operation in operations}
    named = {re.sub(r"\{\w+\}", "{}", path) for path in re.findall(r"/v1/[a-z/{}]+", TEXT)}
    assert paths <= named
    commands = {"parameters", "search", "build", "install", "upgrade", "downgrade", "remove", "why", "set"}
    commands |= {"builds", "notifications"}
    assert commands <= set(gentwoo_client.cli.COMMANDS)
    assert [name for name in commands if f"`gentwoo {name}" not in TEXT] == []


def test_a_collector_says_the_same(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        Shelf(collector.data).add_target(TARGET, signatures="optional", cflags="-O2 -pipe")
        builder, machine = HandBuilder.approved(collector, TARGET), Wisher(collector.url)
        assert machine.register().status == 201
        machine.ask(specification("app-misc/hello-2.12", iuse=("nls",)))
        first = builder.claim()
        assert first is not None
        near = builder.upload(
            "app-misc/hello-2.12", gpkg(cpv="app-misc/hello-2.12", metadata=metadata(iuse=("nls",)))
        )
        assert builder.act(first, "publish", uploads=[near]).status == 200
        wish = specification("app-misc/hello-2.12", **USE, **NEEDS)  # type: ignore[arg-type]
        assert shape(machine.ask(wish, commit=False)) == shape(EXAMPLES["BuildState: plan"])
        request = machine.ask(wish)
        assert shape(machine.state(request["id"])) == shape(EXAMPLES["BuildState: request"])
        lease = builder.claim()
        assert lease is not None
        assert shape(lease) == shape(EXAMPLES["Lease"])
        builder.act(lease, "log", offset=0, text=">>> Emerging (1 of 1) app-misc/hello-2.12\n")
        path = f"/v1/builds/{request['id']}/events"
        address = urlsplit(collector.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        connection.request("GET", path, headers={"Authorization": f"Bearer {machine.token('GET', path)}"})
        response = connection.getresponse()
        content = gpkg(cpv="app-misc/hello-2.12", metadata=metadata(("nls",), ("nls",), **NEEDS))
        uploads = [builder.upload("app-misc/hello-2.12", content)]
        published = builder.act(lease, "publish", uploads=uploads)
        told = events(response.read().decode())
        connection.close()
        assert shape(published.document) == shape(EXAMPLES["Published"])
        assert [(kind, shape(document)) for kind, _, document in told if kind == "log"] == [
            (kind, shape(document)) for kind, _, document in events(EVENTS) if kind == "log"
        ]
        assert {json.dumps(shape(document)) for kind, _, document in told if kind == "state"} == {
            json.dumps(shape(document)) for kind, _, document in events(EVENTS) if kind == "state"
        }
        assert told[-1][2]["state"] == "published"
        job = machine.send_json("GET", f"/v1/jobs/{request['packages'][0]['job']}").document
        assert shape(job) == shape(EXAMPLES["JobState"])
