# SPDX-License-Identifier: GPL-2.0-or-later
"""What a builder of this host needs before the autoscaler starts it: a key, and that it is approved."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from bdcs.builder import worker
from bdcs.domain.capacity_pools import Pool
from bdcs.errors import CapacityRefused, CollectorError
from bdcs.services import capacity_standing
from bdcs.services.local_builder import Starting, admit, check
from bdcs.store.store import transaction

DIRECTORY: Final = "builders"  # below the collector's


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Gets builders of one pool ready."""

    writer: Engine
    pool: Pool
    starting: Starting
    now: Callable[[], float] = time.time

    def __call__(self, name: str, place: Path) -> Sequence[str]:
        """Return the command that starts the builder `name` in `place`; it may build when it comes.

        Raises `CapacityRefused`.
        """
        jobs = (f"--jobs={self.pool.limits.slots}",) if self.pool.limits.slots > 1 else ()
        starting = replace(
            self.starting,
            wanted=self.pool.targets,
            name=name,
            place=place.absolute(),
            options=(*self.starting.options, *jobs),
            is_attended=False,
        )
        try:
            check(starting)
            machine, public_key = worker.identity(starting.directory)
            with transaction(self.writer) as connection:
                known = admit(connection, starting, machine, public_key, self.pool.targets, self.now())
                capacity_standing.forget(connection, name, known.id)
        except CollectorError as error:
            raise CapacityRefused(f"no builder can be started here: {error}") from error
        return starting.command(self.pool.targets)
