# SPDX-License-Identifier: GPL-2.0-or-later
"""Engines are chosen here, by what the setting `capacity` says, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from bdcs.capacity.drivers import Driver
from bdcs.capacity.local import LocalProcesses, Prepare
from bdcs.domain.capacity_pools import Pool
from bdcs.errors import LibraryMissing


def driver_of(pool: Pool, *, directory: Path, prepare: Prepare) -> Driver:
    """Return who starts the pool's builders; nothing is asked yet.

    `directory` and `prepare` are for builders of this host. Raises `LibraryMissing`, `CapacityRefused`.
    """
    options = pool.options
    match pool.engine:
        case "local":
            return LocalProcesses(pool.name, directory, prepare)
        case "asg":
            try:
                from bdcs.capacity.auto_scaling_group import AutoScalingGroup
            except ImportError as error:
                raise LibraryMissing("capacity", f"asg:{pool.place}", "boto3", "s3") from error
            return AutoScalingGroup(
                pool.place, region=options.get("region"), endpoint=options.get("endpoint")
            )
        case "kubernetes":
            from bdcs.capacity.kubernetes import Deployment

            return Deployment(pool.place, **options)
        case "marathon":
            from bdcs.capacity.marathon import Application

            return Application(pool.place, **options)
        case "command":
            from bdcs.capacity.command import Command

            return Command(pool.place, pool.name, pool.targets, timeout=options.get("timeout"))
        case engine:
            raise AssertionError(f"the setting names no {engine}")
