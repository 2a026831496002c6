# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifests for Kubernetes: their schemas, and what we ask of them besides."""

import copy
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bdcs.settings import load_settings
from tests.deploy.documents import DEPLOY, EXAMPLES, documents, is_pinned, parse, strings
from tests.processes import run

pytestmark = pytest.mark.engines

KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.29", "1.32")
"""The oldest that we say it needs (sidecars), and one that is about as new as this."""
SANDBOX = "builder"
"""The one container that may do what the others must not: it mounts throw-away roots."""
NEWER = frozenset({"appArmorProfile"})
"""Fields that came after 1.29, where they are dropped and do no harm."""

Document = dict[str, Any]


def kustomization() -> Document:
    (document,) = documents(KUBERNETES / "kustomization.yaml")
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def everything() -> list[Document]:
    """What `kubectl apply --kustomize` applies, with the examples of secrets."""
    files = [KUBERNETES / name for name in (*kustomization()["resources"], "secrets.example.yaml")]
    return [document for file in files for document in documents(file)]


def pods(found: list[Document]) -> Iterator[tuple[str, Document]]:
    """Templates of pods, with the names of what makes them."""
    for document in found:
        if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield f"{document['kind']} {document['metadata']['name']}", document["spec"]["template"]


def problems(found: list[Document]) -> Iterator[str]:
    """What must not be."""
    for name, template in pods(found):
        spec = template["spec"]
        if spec.get("automountServiceAccountToken") is not (name == "Deployment autoscale"):
            yield f"{name}: token of the service account"
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if field in spec:
                yield f"{name}: {field}"
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            for problem in _container_problems(container, spec.get("securityContext", {})):
                yield f"{name}, {container['name']}: {problem}"
        yield from (f"{name}: {problem}" for problem in _volume_problems(spec))
        wanted = next(one for one in found if f"{one['kind']} {one['metadata']['name']}" == name)["spec"]
        selected = wanted.get("selector", {}).get("matchLabels", {})
        if not selected.items() <= template["metadata"]["labels"].items():
            yield f"{name}: selects other pods"
    yield from _selector_problems(found)
    yield from _reference_problems(found)


def _container_problems(container: Document, pod: Document) -> Iterator[str]:
    if not is_pinned(container["image"]):
        yield f"{container['image']} is not pinned"
    for kind in ("requests", "limits"):
        if set(container.get("resources", {}).get(kind, {})) != {"cpu", "memory"}:
            yield f"no {kind}"
    context = {**pod, **container.get("securityContext", {})}
    if context.get("privileged"):
        yield "privileged"
    if container["name"] == SANDBOX:
        return
    if context.get("capabilities", {}).get("drop") != ["ALL"] or context["capabilities"].get("add"):
        yield "capabilities"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may get more rights"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "system calls are not filtered"
    if container["image"].partition(":")[0].endswith("/gentwoo"):
        if not context.get("runAsNonRoot") or context.get("runAsUser") not in (10001, 10002):
            yield "runs as root"
        if not context.get("readOnlyRootFilesystem"):
            yield "writes into its image"


def _volume_problems(spec: Document) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    mounted = set()
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        for mount in container.get("volumeMounts", []):
            mounted.add(mount["name"])
    if mounted != volumes.keys():
        yield f"volumes {sorted(mounted ^ volumes.keys())}"
    for volume in volumes.values():
        if "hostPath" in volume:
            yield "sees the node's files"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"{volume['name']} may fill the node"


def _selector_problems(found: list[Document]) -> Iterator[str]:
    labels = [(name, template["metadata"]["labels"]) for name, template in pods(found)]
    for document in found:
        name, spec = f"{document['kind']} {document['metadata']['name']}", document.get("spec", {})
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"].get("matchLabels", {}),
        }.get(document["kind"])
        if selector and not any(selector(spec).items() <= label.items() for _, label in labels):
            yield f"{name}: selects nothing"


def _reference_problems(found: list[Document]) -> Iterator[str]:
    """ConfigMaps, Secrets, service accounts, services, ports: what is named is there, in that namespace."""
    there = {
        (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in found
    }
    for name, template in pods(found):
        namespace = next(
            one["metadata"]["namespace"]
            for one in found
            if f"{one['kind']} {one['metadata']['name']}" == name
        )
        spec = template["spec"]
        named = [("ServiceAccount", spec["serviceAccountName"])] if "serviceAccountName" in spec else []
        named += [("Secret", one["secret"]["secretName"]) for one in spec["volumes"] if "secret" in one]
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                kind = "ConfigMap" if "configMapRef" in source else "Secret"
                named.append((kind, next(iter(source.values()))["name"]))
        for kind, wanted in named:
            if (kind, namespace, wanted) not in there:
                yield f"{name}: no {kind} {wanted}"
    for one in found:
        if one["kind"] == "Ingress":
            for rule in one["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    service = path["backend"]["service"]
                    known = there.get(("Service", one["metadata"]["namespace"], service["name"]))
                    ports = [] if known is None else [port["name"] for port in known["spec"]["ports"]]
                    if service["port"]["name"] not in ports:
                        yield f"Ingress {one['metadata']['name']}: no such service"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_what_kubernetes_takes(everything: list[Document], version: str) -> None:
    for document in everything:
        assert kubernetes_validate.validate(without(document, NEWER), version, strict=True)


def without(document: Any, names: frozenset[str]) -> Any:
    """The document without these members, wherever they are."""
    if isinstance(document, dict):
        return {key: without(value, names) for key, value in document.items() if key not in names}
    return [without(each, names) for each in document] if isinstance(document, list) else document


def test_what_kubernetes_does_not_take_is_found(everything: list[Document]) -> None:
    for document in everything:
        if document["kind"] in ("Deployment", "NetworkPolicy", "Ingress", "PodDisruptionBudget"):
            with pytest.raises(Exception, match="Additional properties are not allowed"):
                kubernetes_validate.validate({**document, "specs": {}}, VERSIONS[-1], strict=True)


def test_nothing_is_amiss(everything: list[Document]) -> None:
    assert list(problems(everything)) == []


def _collector(found: list[Document]) -> Document:
    spec: Document = _one(found, "Deployment", "collector")["spec"]["template"]["spec"]
    return spec


def _one(found: list[Document], kind: str, name: str) -> Document:
    (document,) = [one for one in found if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return document


BREAK: dict[str, Callable[[list[Document]], object]] = {
    "is not pinned": lambda found: _collector(found)["containers"][0].update(image="gentwoo:latest"),
    "no limits": lambda found: _collector(found)["containers"][0]["resources"].pop("limits"),
    "runs as root": lambda found: _collector(found)["securityContext"].pop("runAsNonRoot"),
    "capabilities": lambda found: _collector(found)["containers"][0]["securityContext"].pop("capabilities"),
    "privileged": lambda found: _one(found, "Deployment", "builder")["spec"]["template"]["spec"][
        "containers"
    ][0]["securityContext"].update(privileged=True),
    "selects other pods": lambda found: _one(found, "Deployment", "collector")["spec"]["selector"][
        "matchLabels"
    ].update(x="y"),
    "selects nothing": lambda found: _one(found, "Service", "collector")["spec"]["selector"].update(x="y"),
    "no ConfigMap": lambda found: _one(found, "ConfigMap", "bdcs")["metadata"].update(name="bcds"),
    "no Secret": lambda found: _one(found, "Secret", "signing-key")["metadata"].update(namespace="default"),
    "no such service": lambda found: _one(found, "Service", "collector")["metadata"].update(name="c"),
    "sees the node's files": lambda found: _collector(found)["volumes"][0].update(hostPath={"path": "/"}),
    "token of the service account": lambda found: _collector(found).pop("automountServiceAccountToken"),
    "volumes": lambda found: _collector(found)["volumes"].pop(),
}


@pytest.mark.parametrize("problem", BREAK)
def test_what_is_amiss_is_found(everything: list[Document], problem: str) -> None:
    changed = copy.deepcopy(everything)
    BREAK[problem](changed)
    assert any(problem in found for found in problems(changed))


def test_settings_are_what_bdcs_takes(everything: list[Document]) -> None:
    """Each key is a setting: bdcs refuses what it does not know."""
    given = _one(everything, "ConfigMap", "bdcs")["data"]
    assert all(name.startswith("BDCS_") for name in given)
    secrets = _one(everything, "Secret", "bdcs")["stringData"]
    assert {name for name in secrets if name.startswith("BDCS_")} <= EXAMPLES.keys()
    settings = load_settings({}, {**given, "BDCS_BUS": secrets["BDCS_BUS"]}, Path("/dev/null"))
    assert settings.address == ("0.0.0.0", 8642)
    assert settings.store.startswith("postgresql:")
    (host,) = {
        rule["host"] for one in everything if one["kind"] == "Ingress" for rule in one["spec"]["rules"]
    }
    assert settings.public_url == f"https://{host}"
    builder = _one(everything, "Deployment", "builder")
    (pool,) = settings.capacity
    about = builder["metadata"]
    assert (pool.engine, pool.place) == ("kubernetes", f"{about['namespace']}/{about['name']}")
    arguments = builder["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [f"--target={target}" for target in pool.targets] == [
        word for word in arguments if word.startswith("--target")
    ]
    assert f"--collector={settings.public_url}" in arguments


def test_programs_take_their_arguments(everything: list[Document]) -> None:
    for _, template in pods(everything):
        spec = template["spec"]
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            if "args" in container:
                first = ["builder"] if container["name"] == SANDBOX else []
                assert parse([*first, *container["args"]])


def test_the_autoscaler_may_change_one_number_of_one_deployment(everything: list[Document]) -> None:
    rules = [rule for one in everything if "Role" in one["kind"] for rule in one.get("rules", [])]
    assert rules == [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "resourceNames": ["builder"],
            "verbs": ["get", "patch"],
        }
    ]
    binding = _one(everything, "RoleBinding", "autoscale")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "autoscale", "namespace": "gentwoo"}]
    assert "replicas" not in _one(everything, "Deployment", "builder")["spec"], "each apply would set it back"


def test_builders_end_what_they_build(everything: list[Document]) -> None:
    spec = _one(everything, "Deployment", "builder")["spec"]["template"]["spec"]
    arguments = " ".join(spec["containers"][0]["args"])
    patience = re.search(r"--patience=(\d+)", arguments)
    assert patience
    assert spec["terminationGracePeriodSeconds"] >= int(patience[1]) + 30
    disk, memory = (int(re.findall(rf"--{name}=(\d+)", arguments)[0]) for name in ("disk", "memory"))
    limit = spec["containers"][0]["resources"]["limits"]["memory"]
    assert disk + memory < int(limit.removesuffix("Gi"))


def test_a_collector_leaves_when_nobody_sends_it_anything(everything: list[Document]) -> None:
    """It is unready for longer than it takes to notice; then it has time to end what it began."""
    spec = _collector(everything)
    (container,) = spec["containers"]
    drain = int(_one(everything, "ConfigMap", "bdcs")["data"]["BDCS_DRAIN"])
    probe = container["readinessProbe"]
    assert drain > probe["periodSeconds"] * probe["failureThreshold"]
    assert spec["terminationGracePeriodSeconds"] >= drain + 10 + 15
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez", (
        "a store that is away is no reason to die"
    )
    budget = _one(everything, "PodDisruptionBudget", "collector")["spec"]["maxUnavailable"]
    assert budget < _one(everything, "Deployment", "collector")["spec"]["replicas"]


def test_the_signing_key_is_the_signers_alone(everything: list[Document]) -> None:
    spec = _collector(everything)
    for container in (*spec["initContainers"], *spec["containers"]):
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        is_signers = container["securityContext"].get("runAsUser") == 10002
        assert bool(mounts & {"signing-key", "signer"}) == is_signers, container["name"]
    signer = next(one for one in spec["initContainers"] if one["name"] == "signer")
    assert signer["restartPolicy"] == "Always", "a sidecar"
    assert signer["args"][-1] == str(spec["securityContext"]["runAsUser"]), (
        "it takes requests of the collector"
    )


def test_pods_of_the_restricted_namespace_keep_its_rules(everything: list[Document]) -> None:
    (label,) = {
        one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for one in everything
        if (one["kind"], one["metadata"]["name"]) == ("Namespace", "gentwoo")
    }
    assert label == "restricted"
    privileged = [
        one["metadata"]["name"]
        for one in everything
        if one["metadata"].get("namespace") == "gentwoo-builders"
    ]
    assert set(privileged) == {"builder", "autoscale", "builder-key"}


def test_no_secret_is_given_away(everything: list[Document]) -> None:
    for document in everything:
        if document["kind"] == "Secret":
            assert all("CHANGE-ME" in value for value in document["stringData"].values())
    assert "secrets.example.yaml" not in kustomization()["resources"], "it would replace what is there"


def test_every_file_is_used_and_images_are_named_once(everything: list[Document]) -> None:
    used = {*kustomization()["resources"], "kustomization.yaml", "secrets.example.yaml", "monitoring.yaml"}
    assert {path.name for path in KUBERNETES.iterdir()} == used
    images = {text for text in strings(everything) if "registry.example.org/" in text}
    named = {f"{image['name']}:{image['newTag']}" for image in kustomization()["images"]}
    assert images == named


if shutil.which("kubectl"):  # no package of Debian's has it

    def test_kubectl_makes_the_same_of_it(everything: list[Document]) -> None:
        made = list(yaml.safe_load_all(run(["kubectl", "kustomize", KUBERNETES], check=True).stdout))
        ours = [one for one in everything if one["kind"] != "Secret"]
        key = lambda one: (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])  # noqa: E731
        assert sorted(made, key=key) == sorted(ours, key=key)


def test_files_are_not_programs() -> None:
    assert not [path for path in KUBERNETES.iterdir() if path.stat().st_mode & stat.S_IXUSR]
