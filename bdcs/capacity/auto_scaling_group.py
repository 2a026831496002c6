# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that are instances of an AWS Auto Scaling group. A builder's name is its instance's id.

The group starts instances and replaces broken ones; who is to go is chosen here. So that AWS does not choose
as well (when it balances zones, or somebody lowers the number by hand), instances are protected from that as
long as they are not dismissed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from bdcs.capacity.drivers import Fleet
from bdcs.domain.batches import batches
from bdcs.errors import CapacityRefused, CapacityUnavailable

CONNECT: Final = 5  # seconds
READ: Final = 30
PROTECTED_AT_ONCE: Final = 50  # instances that one request may name
_PASSING: Final = frozenset(
    (
        "ScalingActivityInProgress",
        "ResourceContention",
        "Throttling",
        "ThrottlingException",
        "ServiceUnavailable",
    )
)
"""What passes by itself."""


class AutoScalingGroup:
    """One group; `endpoint` is for services that speak like AWS."""

    def __init__(self, group: str, *, region: str | None, endpoint: str | None) -> None:
        self._group = group
        self._region = region
        self._endpoint = endpoint
        self._client: Any = None
        self._unprotected: list[str] = []

    async def look(self) -> Fleet:
        """Return the desired capacity and the instances that are there to stay."""
        return await asyncio.to_thread(self._look)

    async def tend(self) -> None:
        """Protect instances that `look` found to be new."""
        await asyncio.to_thread(self._protect)

    async def resize(self, wanted: int, _spare: Sequence[str] = ()) -> None:
        """Set the desired capacity, without regard to the group's own cool-down."""
        await self._call(
            "set_desired_capacity",
            AutoScalingGroupName=self._group,
            DesiredCapacity=wanted,
            HonorCooldown=False,
        )

    async def dismiss(self, names: Sequence[str]) -> None:
        """Terminate these instances, and lower the desired capacity with each."""
        await asyncio.to_thread(self._dismiss, names)

    async def close(self) -> None:
        """End connections."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    # In a thread.

    async def _call(self, operation: str, **values: Any) -> Any:
        return await asyncio.to_thread(lambda: self._do(operation, **values))

    def _look(self) -> Fleet:
        found = self._do("describe_auto_scaling_groups", AutoScalingGroupNames=[self._group])
        groups = found["AutoScalingGroups"]
        if not groups:
            raise CapacityRefused(f"AWS has no Auto Scaling group {self._group} in that region")
        (group,) = groups
        staying = [one for one in group["Instances"] if not one["LifecycleState"].startswith("Terminat")]
        self._unprotected = [
            one["InstanceId"]
            for one in staying
            if one["LifecycleState"] == "InService" and not one["ProtectedFromScaleIn"]
        ]
        return Fleet(
            wanted=group["DesiredCapacity"],
            members=frozenset(one["InstanceId"] for one in staying),
            least=group["MinSize"],
            most=group["MaxSize"],
        )

    def _protect(self) -> None:
        for some in batches(self._unprotected, PROTECTED_AT_ONCE):
            self._do(
                "set_instance_protection",
                AutoScalingGroupName=self._group,
                InstanceIds=some,
                ProtectedFromScaleIn=True,
            )

    def _dismiss(self, names: Sequence[str]) -> None:
        for name in names:
            self._do(
                "terminate_instance_in_auto_scaling_group",
                InstanceId=name,
                ShouldDecrementDesiredCapacity=True,
            )

    def _do(self, operation: str, **values: Any) -> Any:
        """Ask AWS. Raises `CapacityRefused`, `CapacityUnavailable`."""
        try:
            if self._client is None:
                self._client = self._connected()
            return getattr(self._client, operation)(**values)
        except ClientError as error:
            code, status = (
                error.response["Error"]["Code"],
                error.response["ResponseMetadata"]["HTTPStatusCode"],
            )
            if code in _PASSING or status >= 500:
                raise CapacityUnavailable(f"Auto Scaling group {self._group}: {error}") from error
            raise CapacityRefused(f"Auto Scaling group {self._group}: {error}") from error
        except (BotoCoreError, ResponseParserError) as error:
            reason = str(error).partition("\n")[0]
            raise CapacityUnavailable(f"Auto Scaling group {self._group}: {reason}") from error

    def _connected(self) -> Any:
        config = Config(
            connect_timeout=CONNECT, read_timeout=READ, retries={"mode": "standard", "max_attempts": 3}
        )
        return boto3.client(
            "autoscaling", region_name=self._region, endpoint_url=self._endpoint, config=config
        )
