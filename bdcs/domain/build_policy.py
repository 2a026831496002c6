# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator decides about builds on request: quotas, leases, for how long things count. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bdcs.domain.jobs import Failure

DAY: Final = 86_400  # seconds
SHORTEST_LEASE: Final = 10
"""Seconds of a lease, at least: a builder says three times in it that it is at work."""
GONE: Final = 600
"""Seconds for which it is remembered that builders were lost with a job: that is not the package's fault."""

_PASSING: Final = frozenset((Failure.FETCH, Failure.DEPENDENCIES))
_NOBODYS: Final = frozenset((Failure.LOST, Failure.BUILDER))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPolicy:
    """The rules that requests and jobs follow. The defaults are those of the settings."""

    lease: int = 60
    """Seconds that a builder has an attempt before it must say that it is still at work."""
    lasting: int = DAY
    """Seconds for which it is remembered that a package cannot be built."""
    passing: int = 3600
    """Seconds for which it is remembered that something it needs could not be had: that may pass."""
    open_requests: int = 100
    """Requests of one machine that may be open at a time."""
    open_packages: int = 5000
    """Packages that one machine may wait for."""
    requests_per_day: int = 1000
    """Requests that one machine may make in 24 hours for what has to be built."""

    def remembered(self, failure: Failure) -> int:
        """Return the seconds for which a failure is remembered: who asks is refused, unless to retry."""
        if failure in _PASSING:
            return self.passing
        return min(GONE, self.passing) if failure in _NOBODYS else self.lasting


DEFAULT: Final = BuildPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """For how many days what has ended is kept. The defaults are those of the settings."""

    logs: int = 30
    """Logs of attempts that came to what was wished for."""
    failed_logs: int = 90
    """Logs of all others."""
    requests: int = 180
    """Requests and jobs, with their attempts; their logs no longer than they."""
    builders: int = 30
    """Builders that are not heard of any more."""
