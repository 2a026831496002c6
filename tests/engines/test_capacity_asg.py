# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders in an AWS Auto Scaling group, played by moto's server, through real boto3."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest

from bdcs.capacity.auto_scaling_group import AutoScalingGroup
from bdcs.capacity.drivers import ChoosingDriver
from bdcs.errors import CapacityRefused, CapacityUnavailable
from tests.builds import Wisher
from tests.capacity_scene import PoolScene
from tests.processes import Collector, free_port
from tests.s3 import REGION, RunningS3, running_s3

pytestmark = pytest.mark.engines

MOST = 5


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    """Moto's server has all of AWS, not S3 alone."""
    with running_s3(tmp_path_factory.mktemp("aws")) as running:
        yield running


def client(aws: RunningS3, service: str) -> Any:
    return boto3.client(service, region_name=REGION, endpoint_url=aws.url)


@pytest.fixture
def group(aws: RunningS3) -> str:
    """An empty group of at most `MOST` instances."""
    name = f"builders-{uuid4().hex[:8]}"
    (image, *_) = client(aws, "ec2").describe_images(Owners=["amazon"])["Images"]
    scaling = client(aws, "autoscaling")
    scaling.create_launch_configuration(
        LaunchConfigurationName=name, ImageId=image["ImageId"], InstanceType="c7i.4xlarge"
    )
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchConfigurationName=name,
        MinSize=0,
        MaxSize=MOST,
        DesiredCapacity=0,
        AvailabilityZones=[f"{REGION}a"],
    )
    return name


def shown(aws: RunningS3, group: str) -> dict[str, Any]:
    (found,) = client(aws, "autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])[
        "AutoScalingGroups"
    ]
    document: dict[str, Any] = found
    return document


def instances(aws: RunningS3, group: str) -> frozenset[str]:
    return frozenset(instance["InstanceId"] for instance in shown(aws, group)["Instances"])


def driver_of(aws: RunningS3, group: str) -> AutoScalingGroup:
    return AutoScalingGroup(group, region=REGION, endpoint=aws.url)


async def test_instances_come_are_protected_and_go_one_by_one(aws: RunningS3, group: str) -> None:
    driver = driver_of(aws, group)
    assert isinstance(driver, ChoosingDriver)
    fleet = await driver.look()
    assert (fleet.wanted, fleet.members, fleet.least, fleet.most) == (0, frozenset(), 0, MOST)
    await driver.resize(3)
    fleet = await driver.look()
    assert (fleet.wanted, fleet.members) == (3, instances(aws, group))
    assert not any(one["ProtectedFromScaleIn"] for one in shown(aws, group)["Instances"])
    await driver.tend()
    assert all(one["ProtectedFromScaleIn"] for one in shown(aws, group)["Instances"])
    going = min(instances(aws, group))
    await driver.dismiss([going])
    fleet = await driver.look()
    assert (fleet.wanted, fleet.members) == (2, instances(aws, group))
    assert going not in instances(aws, group)
    (reservation,) = client(aws, "ec2").describe_instances(InstanceIds=[going])["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "terminated"
    await driver.close()


async def test_what_aws_refuses_and_who_does_not_answer(aws: RunningS3, group: str) -> None:
    with pytest.raises(CapacityRefused, match="has no Auto Scaling group nobody in that region"):
        await driver_of(aws, "nobody").look()
    with pytest.raises(CapacityUnavailable, match="invalid XML"):  # moto fails, as a broken proxy does
        await driver_of(aws, group).dismiss(["i-0123456789abcdef0"])
    away = AutoScalingGroup(group, region=REGION, endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(CapacityUnavailable, match="Could not connect"):
        await away.look()
    await away.close()


def test_only_an_instance_that_builds_nothing_is_terminated(
    aws: RunningS3, group: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The group's own limit counts; a builder is drained, ends what it builds, and only then is gone."""
    with Collector(tmp_path_factory.mktemp("collector")) as collector:
        machine = Wisher(collector.url)
        assert machine.register().status == 201
        url = f"asg:{group}?region={REGION}&endpoint={aws.url}"
        scene = PoolScene.create(collector, machine, "amd64", url)
        assert scene.autoscale()["wanted"] == 0
        request = scene.ask(8)
        assert scene.autoscale(query="max=20&startup=0&idle=0")["start"] == MOST
        ids = sorted(instances(aws, group))
        builders = [scene.builder(name) for name in ids]
        first = scene.claim(builders[0])
        assert first is not None
        for each in builders[1:]:
            lease = scene.claim(each)
            assert lease is not None
            each.act(lease, "heartbeat", release=True)
        machine.send_json("DELETE", f"/v1/builds/{request['id']}")
        again = scene.ask(1)
        lease = scene.claim(builders[0])
        assert lease is not None

        found = scene.autoscale(query="max=0")
        assert set(found["release"]) == set(ids)
        assert instances(aws, group) == {ids[0]}
        assert shown(aws, group)["DesiredCapacity"] == 1
        machine.send_json("DELETE", f"/v1/builds/{again['id']}")
        assert scene.autoscale(query="max=0")["dismissed"] == [ids[0]]
        assert not instances(aws, group)
        assert shown(aws, group)["DesiredCapacity"] == 0
