# SPDX-License-Identifier: GPL-2.0-or-later
"""The applications for Marathon: its schema, and what we ask of them besides."""

import copy
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.deploy.documents import DEPLOY, entrypoint_secrets, is_pinned, parse, settings_of
from tests.haproxy import PROGRAM as HAPROXY
from tests.processes import run

pytestmark = pytest.mark.engines

MARATHON = DEPLOY / "marathon"
APPLICATIONS = sorted(path.stem for path in MARATHON.glob("*.json"))
SCHEMA = json.loads((Path(__file__).parent / "marathon_app.schema.json").read_text())
FRAME = """
defaults
    mode http
    timeout connect 3s
    timeout client 180s
    timeout http-request 70s
    timeout server 60s
frontend f
    bind 127.0.0.1:8642
    default_backend b
backend b
    balance leastconn
{options}
    server s 127.0.0.1:8643 check
"""


def application(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((MARATHON / f"{name}.json").read_text())
    return document


def problems(document: dict[str, Any]) -> Iterator[str]:
    """What must not be."""
    yield from (error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document))
    docker = document.get("container", {}).get("docker", {})
    if not is_pinned(docker.get("image", "")):
        yield "the image is not pinned"
    given = [(each["key"], each["value"]) for each in docker.get("parameters", [])]
    if docker.get("privileged") or ("cap-drop", "ALL") not in given:
        yield "may do what it likes"
    is_ours = docker.get("image", "").partition(":")[0].endswith("/gentwoo")
    if is_ours and not {"user", "read-only"} <= dict(given).keys():
        yield "runs as root, or writes into its image"
    for key, value in document.get("env", {}).items():
        if re.search("PASSWORD|SECRET|TOKEN", key) and not key.endswith("_FILE"):
            yield f"{key} is no file"
        if key.endswith("_FILE") and (
            key.removesuffix("_FILE") not in entrypoint_secrets() or not value.startswith("/run/secrets/")
        ):
            yield f"{key} is not read"
    if not {"upgradeStrategy", "taskKillGracePeriodSeconds", "cpus", "mem"} <= document.keys():
        yield "says nothing of upgrades, of its end, or of what it needs"
    ports = len(document.get("portDefinitions", document.get("container", {}).get("portMappings", [])))
    for check in document.get("healthChecks", []):
        if "portIndex" in check and check["portIndex"] >= ports:
            yield "a health check of no port"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_nothing_is_amiss(name: str) -> None:
    assert application(name)["id"] == f"/gentwoo/{name}"
    assert list(problems(application(name))) == []


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("instancs",), 2, "Additional properties"),
        (("constraints", 0, 1), "UNIQE", "is not one of"),
        (("constraints", 1), ["gentwoo", "LIKE"], "too short"),
        (("cmd",), "bdcs serve", "valid under each of"),
        (("networks", 0, "mode"), "bridge", "is not one of"),
        (("upgradeStrategy", "minimumHealthCapacity"), 2, "greater than the maximum"),
        (("healthChecks", 0, "command"), {"value": "true"}, "should not be valid"),
        (("healthChecks", 0, "portIndex"), 1, "health check of no port"),
        (("container", "docker", "image"), "gentwoo:latest", "not pinned"),
        (("container", "docker", "privileged"), True, "may do what it likes"),
        (("container", "docker", "parameters"), [], "may do what it likes"),
        (("env", "PGPASSWORD"), "x", "is no file"),
        (("env", "BDCS_SIGNER_FILE"), "/run/secrets/x", "is not read"),
        (("id",), "/GenTwoo/collector", "does not match"),
    ],
)
def test_what_is_amiss_is_found(place: tuple[str | int, ...], value: object, problem: str) -> None:
    changed: Any = copy.deepcopy(application("collector"))
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    found = list(problems(changed))
    assert any(problem in each for each in found), found


@pytest.mark.parametrize("name", ["collector", "autoscale"])
def test_settings_are_what_bdcs_takes(name: str) -> None:
    settings = settings_of(application(name)["env"])
    assert settings.store.startswith("postgresql:")
    if name == "autoscale":
        (pool,) = settings.capacity
        assert pool.engine == "marathon"
        assert pool.place.endswith(application("builder")["id"])
        assert [f"--target={target}" for target in pool.targets] == [
            word for word in _builder_words() if word.startswith("--target=")
        ]
        assert pool.options["authorization"].startswith("/run/secrets/")


def _builder_words() -> list[str]:
    _, _, command = application("builder")["cmd"].partition("exec bdcs ")
    return shlex.split(command)


def test_programs_take_their_arguments() -> None:
    for name in ("collector", "signer", "autoscale"):
        assert parse(application(name)["args"])
    assert parse(_builder_words())


def test_who_is_where() -> None:
    """Each collector has the signer of its host; two of them are never on one."""
    for name in ("collector", "signer", "proxy"):
        assert ["hostname", "UNIQUE"] in application(name)["constraints"]
    collector, signer = application("collector"), application("signer")
    assert collector["constraints"] == signer["constraints"]
    assert collector["instances"] == signer["instances"]
    sockets = [
        {volume["hostPath"] for volume in each["container"]["volumes"]} & {"/run/bdcs-signer"}
        for each in (collector, signer)
    ]
    assert all(sockets)
    keys = {"/var/lib/bdcs-signer"}
    assert not keys & {volume["hostPath"] for volume in collector["container"]["volumes"]}
    users = {
        name: next(each["value"] for each in application(name)["container"]["docker"]["parameters"])
        for name in ("collector", "signer")
    }
    assert users == {"collector": "10001:10001", "signer": "10002:10002"}
    assert signer["args"][-1] == "10001"
    assert collector["dependencies"] == [signer["id"]]


def test_a_collector_is_replaced_one_at_a_time_and_no_port_is_fixed() -> None:
    collector = application("collector")
    strategy = collector["upgradeStrategy"]
    assert strategy["maximumOverCapacity"] == 0, "there is no third host for it"
    assert collector["instances"] * (1 - strategy["minimumHealthCapacity"]) == 1
    (port,) = collector["container"]["portMappings"]
    assert port["hostPort"] == 0
    (ready,) = collector["readinessChecks"]
    assert (ready["path"], ready["portName"]) == ("/readyz", port["name"])


def test_builders_end_what_they_build() -> None:
    builder = application("builder")
    assert "instances" not in builder, "each update would set it back"
    arguments = parse(_builder_words())
    assert builder["taskKillGracePeriodSeconds"] >= arguments.patience + 30
    assert builder["mem"] >= (arguments.disk + arguments.memory) * 1024


def test_haproxy_takes_what_the_labels_add(tmp_path: Path) -> None:
    assert HAPROXY is not None
    options = application("collector")["labels"]["HAPROXY_0_BACKEND_HTTP_OPTIONS"]
    file = tmp_path / "haproxy.cfg"
    file.write_text(FRAME.format(options=options))
    run([HAPROXY, "-c", "-f", file], env=dict(os.environ), check=True)
    file.write_text(FRAME.format(options=options.replace("retry-on", "retry-no")))
    assert run([HAPROXY, "-c", "-f", file], env=dict(os.environ)).returncode != 0


def test_what_lies_on_agents_is_asked_for_where_it_lies() -> None:
    """Secrets and homes are on agents with one attribute; elsewhere Docker would make empty directories."""
    places: dict[str, set[str]] = {}
    for name in APPLICATIONS:
        document = application(name)
        kinds = {each[2] for each in document.get("constraints", []) if each[:2] == ["gentwoo", "LIKE"]}
        for volume in document["container"].get("volumes", []):
            assert len(kinds) == 1, name
            places.setdefault(volume["hostPath"], set()).update(kinds)
    assert all(len(kinds) == 1 for kinds in places.values()), places


def test_the_proxy_has_the_sites_certificate() -> None:
    """Without `--ssl-certs` marathon-lb makes one that it signs itself."""
    document = application("proxy")
    words = document["args"]
    (volume,) = document["container"]["volumes"]
    file = Path(words[words.index("--ssl-certs") + 1])
    assert str(file.parent) == volume["containerPath"]
