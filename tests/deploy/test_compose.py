# SPDX-License-Identifier: GPL-2.0-or-later
"""The compose file: what docker-compose makes of it, without an engine; and what stands beside it."""

import copy
import ipaddress
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bdcs.settings import load_settings
from tests.deploy.documents import DEPLOY, entrypoint_secrets, is_pinned, parse, settings_of
from tests.haproxy import CONFIGURATION
from tests.haproxy import PROGRAM as HAPROXY
from tests.processes import run

pytestmark = pytest.mark.engines

COMPOSE = DEPLOY / "compose"
ONCE = {"schema", "bucket"}
"""What does its work and ends."""
PRIVILEGED = {"builder"}
STATEFUL = {"postgresql", "rabbitmq", "s3", "prometheus"}
"""Images of others, which drop rights by themselves."""


@pytest.fixture(scope="module")
def effective(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What docker-compose says the file means, where nothing is set."""
    tree = tmp_path_factory.mktemp("tree") / "deploy"
    shutil.copytree(DEPLOY, tree, ignore=shutil.ignore_patterns("secrets", ".env"))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GENTWOO", "COMPOSE"))}
    done = run(
        ["docker-compose", "-f", tree / "compose/compose.yaml", "--profile", "builder", "config"], env=env
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


def problems(document: dict[str, Any]) -> Iterator[str]:
    """What must not be."""
    for name, service in document["services"].items():
        if not is_pinned(service["image"]):
            yield f"{name}: {service['image']} is not pinned"
        for port in service.get("ports", []):
            host = port.split(":")[0] if isinstance(port, str) else str(port.get("host_ip", "0.0.0.0"))
            if not re.fullmatch(r"\d+(?:\.\d+){3}", host) or not ipaddress.ip_address(host).is_loopback:
                yield f"{name}: {port} is published to everybody"
        if service.get("privileged") or "/var/run/docker.sock" in str(service.get("volumes")):
            yield f"{name}: may do everything"
        if name not in STATEFUL | ONCE and service.get("cap_drop") != ["ALL"]:
            yield f"{name}: keeps capabilities"
        if name not in PRIVILEGED and service.get("cap_add"):
            yield f"{name}: has capabilities"
        if name not in ONCE | PRIVILEGED and "test" not in service.get("healthcheck", {}):
            yield f"{name}: nobody asks how it is"
        if (service.get("restart") == "unless-stopped") != (name not in ONCE):
            yield f"{name}: restart"
        yield from _environment_problems(name, service, document)
    for name, secret in document["secrets"].items():
        if set(secret) != {"file"}:
            yield f"secret {name} is no file"


def _environment_problems(name: str, service: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    environment = {key: str(value) for key, value in service.get("environment", {}).items()}
    given = {secret["source"] for secret in service.get("secrets", [])}
    for key, value in environment.items():
        if re.search("PASSWORD|SECRET|TOKEN", key) and not key.endswith("_FILE"):
            yield f"{name}: {key} is no file"
        if value.startswith("/run/secrets/") and value.removeprefix("/run/secrets/") not in given:
            yield f"{name}: {key} names a secret that it does not get"
        read = entrypoint_secrets() if service["image"].startswith("localhost/gentwoo:") else {key[:-5]}
        if key.endswith("_FILE") and key.removesuffix("_FILE") not in read:
            yield f"{name}: the entry point does not read {key}"
    if given - document["secrets"].keys():
        yield f"{name}: no such secret"


def test_docker_compose_takes_it_and_nothing_is_amiss(effective: dict[str, Any]) -> None:
    assert set(effective["services"]) >= {
        "haproxy",
        "collector1",
        "collector2",
        "signer",
        "builder",
        *STATEFUL,
    }
    assert list(problems(effective)) == []


@pytest.mark.parametrize(
    ("service", "key", "value", "problem"),
    [
        ("haproxy", "image", "docker.io/library/haproxy:latest", "is not pinned"),
        ("haproxy", "image", "haproxy", "is not pinned"),
        ("haproxy", "ports", ["8642:8080/tcp"], "published to everybody"),
        ("haproxy", "ports", ["0.0.0.0:8642:8080/tcp"], "published to everybody"),
        ("collector1", "privileged", True, "may do everything"),
        ("collector1", "cap_drop", [], "keeps capabilities"),
        ("signer", "cap_add", ["SYS_ADMIN"], "has capabilities"),
        ("collector1", "healthcheck", {}, "nobody asks"),
        ("collector2", "environment", {"PGPASSWORD": "x"}, "is no file"),
        ("collector2", "environment", {"BDCS_SIGNER_FILE": "/run/secrets/x"}, "does not get"),
    ],
)
def test_what_is_amiss_is_found(
    effective: dict[str, Any], service: str, key: str, value: object, problem: str
) -> None:
    changed = copy.deepcopy(effective)
    changed["services"][service][key] = value
    assert any(problem in found for found in problems(changed))


def test_collectors_know_what_they_are_told(effective: dict[str, Any]) -> None:
    services = effective["services"]
    for name in ("collector1", "collector2", "schema"):
        settings = settings_of({key: str(value) for key, value in services[name]["environment"].items()})
        proxy = ipaddress.ip_address(services["haproxy"]["networks"]["inside"]["ipv4_address"])
        assert all(proxy in network for network in settings.trusted_proxies)
        assert settings.trusted_proxies
        (subnet,) = effective["networks"]["inside"]["ipam"]["config"]
        assert ipaddress.ip_network(subnet["subnet"]) in settings.metrics_readers
    assert services["collector1"]["environment"] == services["collector2"]["environment"]


def test_programs_take_their_arguments(effective: dict[str, Any]) -> None:
    for name in ("schema", "signer", "builder"):
        command = effective["services"][name]["command"]
        assert parse(["builder", *command] if name == "builder" else command)


def test_haproxy_takes_its_environment(effective: dict[str, Any], tmp_path: Path) -> None:
    """Names of containers are known inside alone, so their addresses stand for them here."""
    service = effective["services"]["haproxy"]
    environment = {key: str(value) for key, value in service["environment"].items()}
    known = set(re.findall(r"\$\{(GENTWOO_\w+)|defined\((GENTWOO_\w+)\)", CONFIGURATION.read_text()))
    assert set(environment) <= {one or other for one, other in known}
    for name in ("collector1", "collector2"):
        address = effective["services"][name]["networks"]["inside"]["ipv4_address"]
        environment = {key: value.replace(name, address) for key, value in environment.items()}
    make_secrets(tmp_path)
    environment["GENTWOO_CERTIFICATE"] = str(tmp_path / "secrets/certificate")
    assert HAPROXY is not None
    run([HAPROXY, "-c", "-f", CONFIGURATION], env={**os.environ, **environment}, check=True)
    (mounted,) = service["volumes"]
    assert mounted.startswith(str(Path(mounted.split(":")[0]).parent))
    assert mounted.split(":")[0].endswith("/deploy/haproxy/haproxy.cfg")


def test_every_file_that_it_names_is_there(effective: dict[str, Any]) -> None:
    for service in effective["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("/") or Path(source).is_file(), source
        if "build" in service:
            place = Path(service["build"]["dockerfile"])
            assert (DEPLOY.parent / place).is_file()


def make_secrets(directory: Path) -> None:
    """Run secrets.sh there."""
    shutil.copy(COMPOSE / "secrets.sh", directory)
    run([directory / "secrets.sh"], check=True)


def test_secrets_are_made_once_and_are_readable_to_nobody_else(
    effective: dict[str, Any], tmp_path: Path
) -> None:
    make_secrets(tmp_path)
    made = tmp_path / "secrets"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {Path(secret["file"]).name for secret in effective["secrets"].values()} <= {
        path.name for path in made.iterdir()
    }
    contents = {path.name: path.read_bytes() for path in made.iterdir()}
    (user,) = json.loads(contents["rabbitmq-definitions"])["users"]
    bus = contents["bus-url"].decode()
    assert bus == f"amqp://gentwoo:{user['password']}@rabbitmq/%2F"
    assert load_settings({}, {"BDCS_BUS": bus}, Path("/dev/null")).bus == bus
    assert len({contents["postgresql-password"], contents["s3-password"], user["password"]}) == 3
    assert len(user["password"]) == 48
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made / "certificate")
    make_secrets(tmp_path)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == contents, "nothing is made anew"


def test_prometheus_takes_its_files(effective: dict[str, Any], tmp_path: Path) -> None:
    inside = "/etc/prometheus/"
    for volume in effective["services"]["prometheus"]["volumes"]:
        source, _, place = volume.partition(":")
        if place.startswith(inside):
            file = tmp_path / place.removeprefix(inside).removesuffix(":ro")
            file.parent.mkdir(exist_ok=True)
            shutil.copy(source, file)
    done = run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=True)
    assert "2 rule files found" in done.stdout
    targets = re.findall(r'"(\w+):\d+"', (COMPOSE / "prometheus.yaml").read_text())
    assert set(targets) <= set(effective["services"])


def test_no_secret_can_be_committed() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/compose/secrets/bus-url", "deploy/compose/.env"],
        cwd=DEPLOY.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(ignored.stdout.splitlines()) == 2
