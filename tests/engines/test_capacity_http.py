# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders in Kubernetes and Marathon: what these are asked, and what is made of their answers."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from bdcs.capacity.drivers import ChoosingDriver, Fleet
from bdcs.capacity.http import MOST
from bdcs.capacity.kubernetes import Deployment
from bdcs.capacity.marathon import Application
from bdcs.errors import CapacityRefused, CapacityUnavailable
from tests.capacity_servers import NAME, NAMESPACE, TOKEN, Answer, Kubernetes, Marathon, running
from tests.processes import free_port, run

pytestmark = pytest.mark.engines


@pytest.fixture
def cluster() -> Iterator[Kubernetes]:
    with running(Kubernetes()) as cluster:
        yield cluster


@pytest.fixture
def marathon() -> Iterator[Marathon]:
    with running(Marathon()) as marathon:
        yield marathon


@asynccontextmanager
async def deployment(cluster: Kubernetes, **options: str) -> AsyncIterator[Deployment]:
    driver = Deployment(f"{NAMESPACE}/{NAME}", server=cluster.url, **options)
    try:
        yield driver
    finally:
        await driver.close()


async def test_a_deployment_is_scaled_and_its_pods_are_known(cluster: Kubernetes) -> None:
    async with deployment(cluster) as driver:
        assert not isinstance(driver, ChoosingDriver)
        assert await driver.look() == Fleet(wanted=0, members=frozenset())
        await driver.resize(3)
        assert cluster.replicas == 3
        for name in ("builder-a", "builder-b", "builder-c"):
            cluster.add_pod(name)
        cluster.add_pod("builder-z", "Failed")
        cluster.add_pod("builder-y")
        cluster.pods["builder-y"]["metadata"]["deletionTimestamp"] = "2026-11-22T17:00:00Z"
        fleet = await driver.look()
    assert fleet == Fleet(wanted=3, members=frozenset({"builder-a", "builder-b", "builder-c"}))


async def test_idle_pods_are_offered_first_and_who_stays_is_offered_no_more(cluster: Kubernetes) -> None:
    for name in ("builder-a", "builder-b"):
        cluster.add_pod(name)
    cluster.replicas = 2
    async with deployment(cluster) as driver:
        await driver.resize(1, ["builder-b", "gone"])
        assert (cluster.replicas, cluster.cost("builder-a"), cluster.cost("builder-b")) == (1, None, "-100")
        del cluster.pods["builder-a"]
        await driver.look()
        assert cluster.cost("builder-b") == "-100", "looking changes nothing"
        await driver.tend()
        assert cluster.cost("builder-b") is None


async def test_without_the_right_to_list_pods_only_their_number_is_known(cluster: Kubernetes) -> None:
    cluster.may_list_pods = False
    cluster.replicas = 2
    async with deployment(cluster) as driver:
        assert await driver.look() == Fleet(wanted=2, members=None)
        await driver.tend()


async def test_the_token_is_read_each_time(cluster: Kubernetes, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    async with deployment(cluster, token=str(token)) as driver:
        with pytest.raises(
            CapacityRefused, match=r"401: Unauthorized \(it does not take what is in .*token: "
        ):
            await driver.look()
        token.write_text(f"{TOKEN}\n")
        assert (await driver.look()).wanted == 0
        assert cluster.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
        token.unlink()
        with pytest.raises(CapacityRefused, match="No such file"):
            await driver.look()


async def test_what_may_not_be_done_is_told_apart_from_what_is_wrong(cluster: Kubernetes) -> None:
    cluster.replicas = 2
    scale = Answer(200, cluster.scale)
    async with deployment(cluster) as driver:
        for status, told in ((401, "name a file with credentials"), (404, "mend its name"), (400, "400: no")):
            cluster.trouble = [scale, Answer(status, {"message": "no"})]
            with pytest.raises(CapacityRefused, match=told):
                await driver.look()
            assert not cluster.trouble
        for status, told in ((410, "410: too old"), (429, "429: too old")):
            cluster.trouble = [scale, Answer(status, {"message": "too old"})]
            with pytest.raises(CapacityUnavailable, match=told):
                await driver.look()
        strange: list[object] = [[], {"items": [{}]}, {"items": "many"}, {"items": [{"metadata": None}]}]
        for nonsense in strange:
            cluster.trouble = [scale, Answer(200, nonsense)]
            with pytest.raises(CapacityRefused, match="does not answer with pods"):
                await driver.look()
        cluster.trouble = [Answer(403, {"message": "may not"}), Answer(404, {"message": "is gone"})]
        await driver.resize(1, ["builder-a", "builder-b"])
        assert cluster.replicas == 1
        cluster.trouble = [Answer(401, {"message": "who are you"})]
        with pytest.raises(CapacityRefused, match="401: who are you"):
            await driver.resize(0, ["builder-a"])
        assert cluster.replicas == 1


async def test_an_answer_without_end_is_not_read_to_its_end(marathon: Marathon) -> None:
    driver = Application(f"{marathon.url}/{marathon.application}")
    for status in (200, 500):
        marathon.trouble = [Answer(status, "x" * MOST)]
        with pytest.raises(CapacityRefused, match="answers with more than 16 MiB"):
            await driver.look()
    marathon.trouble = [Answer(200, "x" * (MOST - 2))]
    with pytest.raises(CapacityRefused, match="is no number"):
        await driver.look()
    assert await driver.look() == Fleet(wanted=0)
    await driver.close()


async def test_what_passes_is_another_error_than_what_does_not(cluster: Kubernetes) -> None:
    async with deployment(cluster) as driver:
        for status, kind in (
            (409, CapacityUnavailable),
            (429, CapacityUnavailable),
            (503, CapacityUnavailable),
            (403, CapacityRefused),
            (302, CapacityRefused),
        ):
            cluster.trouble = [Answer(status, {"message": "such is life"})]
            with pytest.raises(kind, match=f"{status}: such is life"):
                await driver.resize(1)
        cluster.trouble = [Answer(200, {"spec": {"replicas": "many"}})]
        with pytest.raises(CapacityRefused, match=r"spec\.replicas of the engine's answer is no number"):
            await driver.look()
    assert cluster.replicas == 0
    async with aclosing(_Nobody()) as nobody:
        with pytest.raises(CapacityUnavailable, match="does not answer"):
            await nobody.driver.look()


class _Nobody:
    """A driver of a server that is not there."""

    def __init__(self) -> None:
        self.driver = Application(f"http://127.0.0.1:{free_port()}/gentwoo/amd64")

    async def aclose(self) -> None:
        await self.driver.close()


def test_outside_of_a_cluster_one_has_to_say_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CapacityRefused, match="say where the API is"):
        Deployment(f"{NAMESPACE}/{NAME}")
    with pytest.raises(CapacityRefused, match="is not NAMESPACE/DEPLOYMENT"):
        Deployment(NAME, server="http://127.0.0.1:1")


if shutil.which("kubectl"):  # no package of Debian's has it

    async def test_kubectl_and_we_understand_the_same(cluster: Kubernetes, tmp_path: Path) -> None:
        """The server of the tests speaks Kubernetes' API as its own client does."""
        configuration = tmp_path / "configuration"
        configuration.write_text("apiVersion: v1\nkind: Config\n")

        def kubectl(*words: str) -> str:
            options = ("--server", cluster.url, "--cache-dir", tmp_path, "--kubeconfig", configuration)
            return run(["kubectl", *options, "--namespace", NAMESPACE, *words], check=True).stdout

        async with deployment(cluster) as driver:
            assert "deployment.apps/builder scaled" in kubectl("scale", f"deployment/{NAME}", "--replicas=4")
            assert (await driver.look()).wanted == 4
            await driver.resize(2)
            shown = kubectl(
                "get", f"deployment/{NAME}", "--subresource=scale", "--output=jsonpath={.spec.replicas}"
            )
            assert shown == "2"


async def test_an_application_is_scaled(marathon: Marathon) -> None:
    driver = Application(f"{marathon.url}/{marathon.application}")
    assert not isinstance(driver, ChoosingDriver)
    assert await driver.look() == Fleet(wanted=0)
    await driver.resize(3)
    assert (await driver.look()).wanted == marathon.instances == 3
    await driver.resize(1, ["somebody"])
    assert marathon.instances == 1
    await driver.close()


async def test_a_deployment_under_way_is_waited_for(marathon: Marathon) -> None:
    driver = Application(f"{marathon.url}/{marathon.application}")
    marathon.deployments = ["d-0"]
    with pytest.raises(CapacityUnavailable, match="a deployment is under way"):
        await driver.resize(3)
    marathon.trouble = [
        Answer(200, {"app": {"instances": 0, "deployments": []}}),
        Answer(409, {"message": "App is locked by one or more deployments.", "deployments": [{"id": "d-0"}]}),
    ]
    with pytest.raises(CapacityUnavailable, match="409: App is locked"):
        await driver.resize(3)
    assert marathon.instances == 0
    marathon.deployments = []
    await driver.resize(3)
    assert marathon.instances == 3
    await driver.close()


async def test_an_application_that_is_not_there_and_credentials(marathon: Marathon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("token=abc\n")
    driver = Application(f"{marathon.url}/gentwoo/other", authorization=str(secret))
    with pytest.raises(CapacityRefused, match="404: App does not exist"):
        await driver.look()
    assert marathon.requests[-1].headers["authorization"] == "token=abc"
    await driver.close()
    with pytest.raises(CapacityRefused, match="is not http://MARATHON"):
        Application("marathon.mesos:8080/app")
