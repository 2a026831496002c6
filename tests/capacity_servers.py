# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of Kubernetes' and Marathon's APIs that drivers use, on loopback, as these document them.

with running(Kubernetes()) as cluster:
    cluster.url, cluster.replicas, cluster.add_pod("builder-1")
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

VERSION = "1.31"
MERGE = "application/merge-patch+json"
NAMESPACE, NAME = "builds", "builder"
LABELS = {"app": NAME}
TOKEN = "s3cret"


@dataclass
class Answer:
    """What a server says."""

    status: int
    document: Any


@dataclass
class Request:
    """What it is asked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    document: Any


@dataclass
class Simulator:
    """Something that answers; `trouble` is answered instead, once for each."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    trouble: list[Answer] = field(default_factory=list)

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.trouble.pop(0) if self.trouble else self.reply(request)

    def reply(self, request: Request) -> Answer:
        raise NotImplementedError


S = TypeVar("S", bound=Simulator)


@contextlib.contextmanager
def running(simulator: S) -> Iterator[S]:
    """Have it answer on a port of its own."""
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(
                self.command,
                parts.path,
                parse_qs(parts.query),
                {name.lower(): value for name, value in self.headers.items()},
                json.loads(content) if content else None,
            )
            with turn:
                answer = simulator.answer(request)
            body = json.dumps(answer.document).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_PATCH = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    simulator.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield simulator
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def merged(document: Any, patch: Any) -> Any:
    """The document after a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@dataclass
class Kubernetes(Simulator):
    """A cluster with one Deployment; what it is told has to be valid by Kubernetes' own schemas."""

    replicas: int = 0
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    may_list_pods: bool = True
    version: int = 1

    def add_pod(self, name: str, phase: str = "Running") -> None:
        self.pods[name] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABELS},
            "spec": {"containers": [{"name": NAME, "image": "bdcs"}]},
            "status": {"phase": phase},
        }

    def cost(self, name: str) -> str | None:
        annotations: dict[str, str] = self.pods[name]["metadata"].get("annotations", {})
        return annotations.get("controller.kubernetes.io/pod-deletion-cost")

    @property
    def scale(self) -> dict[str, Any]:
        """The scale subresource; a number that is 0 is left out, as in Go's JSON."""
        spec = {"replicas": self.replicas} if self.replicas else {}
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "resourceVersion": str(self.version)},
            "spec": spec,
            "status": {"replicas": len(self.pods), "selector": f"app={NAME}"},
        }

    @property
    def deployment(self) -> dict[str, Any]:
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "resourceVersion": str(self.version)},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": LABELS},
                "template": {
                    "metadata": {"labels": LABELS},
                    "spec": {"containers": [{"name": NAME, "image": "bdcs"}]},
                },
            },
        }

    def reply(self, request: Request) -> Answer:
        if request.headers.get("authorization") not in (None, f"Bearer {TOKEN}"):
            return _status(401, "Unauthorized")
        deployment = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}"
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        if request.path == deployment:
            return Answer(200, self.deployment)
        if request.path == f"{deployment}/scale":
            return self._scaled(request)
        if request.path == pods:
            if not self.may_list_pods:
                return _status(403, "pods is forbidden")
            return self._listed(request)
        if request.path.startswith(f"{pods}/"):
            return self._annotated(request)
        found = _DISCOVERY.get(request.path)
        return _status(404, "the server could not find the requested resource") if found is None else found

    def _scaled(self, request: Request) -> Answer:
        if request.method != "GET":
            patched = request.document
            if request.method == "PATCH":
                if request.headers["content-type"] != MERGE:
                    return _status(415, "the body of the request was in an unknown format")
                patched = merged(self.scale, request.document)
            kubernetes_validate.validate(patched, VERSION, strict=True)
            self.replicas = patched["spec"].get("replicas", 0)
            self.version += 1
        return Answer(200, self.scale)

    def _listed(self, request: Request) -> Answer:
        assert request.query["labelSelector"] == [f"app={NAME}"]
        names = sorted(self.pods)
        first = int(request.query.get("continue", ["0"])[0] or 0)
        page = names[first : first + 2]  # a cluster may send fewer than one asks for
        follows = {"continue": str(first + 2)} if first + 2 < len(names) else {}
        document = {
            "kind": "PodList",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": "1", **follows},
            "items": [self.pods[name] for name in page],
        }
        return Answer(200, document)

    def _annotated(self, request: Request) -> Answer:
        name = request.path.rpartition("/")[2]
        if name not in self.pods:
            return _status(404, f'pods "{name}" not found')
        self.pods[name] = merged(self.pods[name], request.document)
        kubernetes_validate.validate(self.pods[name], VERSION, strict=True)
        return Answer(200, self.pods[name])


def _status(code: int, message: str) -> Answer:
    return Answer(
        code,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "code": code,
        },
    )


def _resource(name: str, kind: str, **more: str) -> dict[str, Any]:
    verbs = ["get", "list", "patch", "update"]
    return {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs, **more}


_GROUP = {"groupVersion": "apps/v1", "version": "v1"}
_DISCOVERY = {
    "/api": Answer(200, {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
    "/apis": Answer(
        200,
        {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [{"name": "apps", "versions": [_GROUP], "preferredVersion": _GROUP}],
        },
    ),
    "/api/v1": Answer(
        200,
        {"kind": "APIResourceList", "groupVersion": "v1", "resources": [_resource("pods", "Pod")]},
    ),
    "/apis/apps/v1": Answer(
        200,
        {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": "apps/v1",
            "resources": [
                _resource("deployments", "Deployment"),
                _resource("deployments/scale", "Scale", group="autoscaling", version="v1"),
            ],
        },
    ),
}


@dataclass
class Marathon(Simulator):
    """A Marathon with one application."""

    application: str = "gentwoo/amd64"
    instances: int = 0
    deployments: list[str] = field(default_factory=list)

    def reply(self, request: Request) -> Answer:
        if request.path != f"/v2/apps/{self.application}":
            return Answer(404, {"message": "App does not exist"})
        if request.method == "PUT":
            assert "force" not in request.query
            assert set(request.document) == {"instances"}, request.document
            if self.deployments:
                locked = "App is locked by one or more deployments."
                return Answer(409, {"message": locked, "deployments": [{"id": self.deployments[0]}]})
            self.instances = request.document["instances"]
            return Answer(200, {"version": "2026-11-22T17:00:00.000Z", "deploymentId": "d-1"})
        app = {
            "id": f"/{self.application}",
            "instances": self.instances,
            "tasksRunning": self.instances,
            "tasksStaged": 0,
            "deployments": [{"id": number} for number in self.deployments],
        }
        return Answer(200, {"app": app})
