# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that ask for builds, and builders that make them by hand, against a real collector.

machine, builder = Wisher(collector.url), HandBuilder.approved(collector, "amd64")
request = machine.ask(specification("app-misc/alpha-1.0", use=("gtk",)))
lease = builder.claim()
builder.build(lease)                                  # a package by hand: uploaded and published
assert machine.state(request["id"])["state"] == "published"
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from gentwoo_client.wire.builds import BuildSpecification
from tests.packages import gpkg
from tests.peer import JSON, Answer, Peer, request
from tests.processes import Collector

TARGET = "amd64"
CHOST = "x86_64-pc-linux-gnu"
BASE = {"EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", "repository": "test", "LICENSE": "GPL-2"}


def metadata(use: Sequence[str] = (), iuse: Sequence[str] = ("gtk", "ssl"), **more: str) -> dict[str, str]:
    """What a package built with these flags says of itself."""
    return {**BASE, "IUSE": " ".join(iuse), "USE": " ".join(("amd64", *use)), "CHOST": CHOST, **more}


def specification(
    cpv: str,
    use: Sequence[str] = (),
    iuse: Sequence[str] = ("gtk", "ssl"),
    target: str = TARGET,
    **more: str,
) -> BuildSpecification:
    """The same as a wish."""
    category, _, pf = cpv.partition("/")
    return BuildSpecification.from_metadata(
        target, {"CATEGORY": category, "PF": pf, **metadata(use, iuse, **more)}
    )


class Wisher(Peer):
    """A machine that wants packages."""

    def send_json(self, method: str, path: str, document: object | None = None) -> Answer:
        """A request with a token of its own."""
        body = b"" if document is None else json.dumps(document).encode()
        headers = {"Authorization": f"Bearer {self.token(method, path, body)}"}
        return request(
            self.collector, method, path, body=body or None, headers={**headers, **(JSON if body else {})}
        )

    def wish(self, *specifications: BuildSpecification, **more: Any) -> Answer:
        """Ask for builds."""
        document = {
            "target": more.pop("target", TARGET),
            "packages": [one.to_json() for one in specifications],
            "atoms": [f"={one.cpv}" for one in specifications],
            **more,
        }
        return self.send_json("POST", "/v1/builds", document)

    def ask(self, *specifications: BuildSpecification, **more: Any) -> dict[str, Any]:
        """Ask for builds, and be answered."""
        answer = self.wish(*specifications, **more)
        assert answer.status in (200, 201), answer
        return answer.document

    def state(self, number: str, query: str = "") -> dict[str, Any]:
        """How a request stands."""
        answer = self.send_json("GET", f"/v1/builds/{number}{query}")
        assert answer.status == 200, answer
        return answer.document


@dataclass
class HandBuilder(Wisher):
    """A builder whose packages are made by hand."""

    name: str = "hand"

    @classmethod
    def approved(cls, collector: Collector, *targets: str, name: str = "hand") -> Self:
        """One that may build for `targets`, and was seen."""
        builder = cls(collector.url, name=name)
        assert builder.register().status == 201
        for target in targets:
            collector.bdcs("admin", "builders", "approve", str(builder.machine), "--target", target)
        assert builder.claim(*targets) is None
        return builder

    def claim(self, *targets: str, wait: int = 0, **more: Any) -> dict[str, Any] | None:
        """Take the next job, if there is one."""
        document = {"targets": list(targets or (TARGET,)), "name": self.name, **more}
        answer = self.send_json("POST", f"/v1/attempts?wait={wait}", document)
        assert answer.status in (201, 204), answer
        return answer.document if answer.status == 201 else None

    def act(self, lease: dict[str, Any], what: str, **document: Any) -> Answer:
        """Do something as the holder of a lease."""
        return self.send_json(
            "POST", f"/v1/attempts/{lease['attempt']}/{what}", {"fencing": lease["fencing"], **document}
        )

    def upload(self, cpv: str, content: bytes, target: str = TARGET) -> str:
        """Send a package; return the upload's name."""
        query = f"size={len(content)}&sha512={hashlib.sha512(content).hexdigest()}"
        path = f"/v1/targets/{target}/packages/{cpv}.gpkg.tar?{query}"
        bearer = self.token("PUT", path, body=None)
        answer = request(
            self.collector, "PUT", path, body=content, headers={"Authorization": f"Bearer {bearer}"}
        )
        assert answer.status == 201, answer
        name: str = answer.document["upload"]
        return name

    def package(self, cpv: str, use: Sequence[str] = (), **more: str) -> str:
        """Make a package and send it."""
        return self.upload(cpv, gpkg(cpv=cpv, metadata=metadata(use, **more)))

    def build(self, lease: dict[str, Any]) -> Answer:
        """Do what the lease says, rightly."""
        wished = lease["job"]["specification"]
        values = {key.upper(): wished[key] for key in ("depend", "rdepend", "restrict")}
        content = gpkg(cpv=wished["cpv"], metadata=metadata(wished["use"], **values))
        name = self.upload(wished["cpv"], content, lease["target"]["name"])
        return self.act(lease, "publish", uploads=[name])
