# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that are pods of a Kubernetes Deployment. A builder's name is its pod's.

Only the scale subresource is changed, so the account needs no right to change what runs. Which pods go is
Kubernetes's choice: those that have not begun first, then those whose deletion costs least
(`controller.kubernetes.io/pod-deletion-cost`), and that is what we tell it of those that are idle. A pod that
goes gets SIGTERM, and its builder ends what it builds within terminationGracePeriodSeconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from bdcs.capacity.drivers import Fleet
from bdcs.capacity.http import Server, whole_number
from bdcs.errors import CapacityForbidden, CapacityMissing, CapacityRefused

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MERGE: Final = "application/merge-patch+json"
COST: Final = "controller.kubernetes.io/pod-deletion-cost"
CHEAP: Final = "-100"
PAGE: Final = 500  # pods of one answer


class Deployment:
    """One Deployment."""

    def __init__(
        self, place: str, *, server: str | None = None, token: str | None = None, ca: str | None = None
    ) -> None:
        """`place`: NAMESPACE/DEPLOYMENT. Without `server`, that of the cluster that we run in."""
        namespace, _, name = place.partition("/")
        if not namespace or not name or "/" in name:
            raise CapacityRefused(f"kubernetes: {place!r} is not NAMESPACE/DEPLOYMENT")
        self._scale = f"/apis/apps/v1/namespaces/{quote(namespace)}/deployments/{quote(name)}/scale"
        self._pods = f"/api/v1/namespaces/{quote(namespace)}/pods"
        self._server = Server(
            url=(server or _own_server()).rstrip("/"),
            credentials=_path(token, ACCOUNT / "token", is_needed=server is None),
            scheme="Bearer",
            ca=_path(ca, ACCOUNT / "ca.crt", is_needed=server is None),
        )
        self._cheap: set[str] = set()

    async def look(self) -> Fleet:
        """Return the number of replicas that it was told to have, and its pods."""
        _, scale = await self._server.ask("GET", self._scale)
        wanted = whole_number(scale, "spec", "replicas")
        return Fleet(wanted=wanted, members=await self._names(_selector(scale)))

    async def resize(self, wanted: int, spare: Sequence[str] = ()) -> None:
        """Tell it to have so many; the idle are offered first."""
        for name in spare:
            await self._mark(name, CHEAP)
        await self._server.ask("PATCH", self._scale, {"spec": {"replicas": wanted}}, kind=MERGE)

    async def tend(self) -> None:
        """Whose deletion was made cheap, and who stayed all the same, loses that."""
        for name in sorted(self._cheap):
            await self._mark(name, None)

    async def close(self) -> None:
        """End connections."""
        await self._server.close()

    async def _names(self, selector: str) -> frozenset[str] | None:
        """Return the pods that stay; None where we may not list pods."""
        names: set[str] = set()
        self._cheap = set()
        token = ""
        while True:
            path = f"{self._pods}?labelSelector={quote(selector)}&limit={PAGE}&continue={quote(token)}"
            try:
                _, pods = await self._server.ask("GET", path)
                for pod in pods.get("items") or ():
                    about, phase = pod["metadata"], pod.get("status", {}).get("phase")
                    if "deletionTimestamp" in about or phase in ("Succeeded", "Failed"):
                        continue
                    names.add(about["name"])
                    if (about.get("annotations") or {}).get(COST) == CHEAP:
                        self._cheap.add(about["name"])
                token = pods.get("metadata", {}).get("continue") or ""
            except CapacityForbidden:
                return None
            except (AttributeError, KeyError, TypeError):
                raise CapacityRefused(f"{self._server.url}{self._pods} does not answer with pods") from None
            if not token:
                return frozenset(names)

    async def _mark(self, name: str, cost: str | None) -> None:
        """Say what a pod's deletion costs, where we may, and it is still there."""
        patch = {"metadata": {"annotations": {COST: cost}}}
        try:
            await self._server.ask("PATCH", f"{self._pods}/{quote(name)}", patch, kind=MERGE)
        except (CapacityForbidden, CapacityMissing):
            return


def _selector(scale: Any) -> str:
    status = scale.get("status", {}) if isinstance(scale, dict) else {}
    return str(status.get("selector") or "")


def _own_server() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise CapacityRefused("kubernetes: this is no pod, so say where the API is: ?server=https://…")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def _path(given: str | None, default: Path, *, is_needed: bool) -> Path | None:
    if given is not None:
        return Path(given)
    return default if is_needed or default.exists() else None
