# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents of statistics, as the API describes them. A null figure is not shown."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bdcs.web.documents import Machines


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WeekDocument(_Strict):
    """Machines at the end of a week."""

    week: str = Field(description="Its Monday, in UTC.")
    machines: Machines | None


class ShareDocument(WeekDocument):
    """Machines with a version at the end of a week."""

    version: str


class AdoptionDocument(_Strict):
    """How fast those who have had a version took it."""

    version: str
    since: str = Field(description="The day on which as many machines as `threshold` had it.")
    holders: Machines
    hours_to_10: float | None = Field(description="Until 10 % of the holders had it.")
    hours_to_50: float | None
    hours_to_90: float | None


class StuckDocument(_Strict):
    """A version that machines have although a newer one has been there for weeks."""

    version: str
    machines: Machines
    peak: Machines
    newer: str
    newer_since: str


class RepositoryPartDocument(_Strict):
    """Machines that have the package from a repository."""

    repository: str
    machines: Machines


class OriginDocument(_Strict):
    """Machines that have the package from source, or from a binary package."""

    origin: Literal["source", "binary"]
    machines: Machines | None


class TimeDocument(_Strict):
    """Machines that build the package in a time between the two."""

    from_seconds: float
    to_seconds: float
    machines: Machines


class FailureDocument(_Strict):
    """Machines that failed to build a version, of those that tried; the interval is Wilson's, 95 %."""

    version: str
    tried: Machines
    failed: Machines | None
    rate: float | None
    low: float | None
    high: float | None
    failing_since: str | None


class DiscardedDocument(_Strict):
    """Machines that removed the package within a day."""

    machines: Machines | None


class VersionPartDocument(_Strict):
    """Machines that went from this version to an older one."""

    version: str
    machines: Machines


class TypicalDocument(_Strict):
    """Seconds that so many per cent of the machines build the package in."""

    p10: int
    p50: int
    p90: int


class PackageStatisticsDocument(_Strict):
    """All that may be said of a package beside who has it now."""

    category: str
    name: str
    history: list[WeekDocument]
    shares: list[ShareDocument]
    adoption: list[AdoptionDocument]
    stuck: list[StuckDocument]
    repositories: list[RepositoryPartDocument]
    origins: list[OriginDocument]
    times: list[TimeDocument]
    failures: list[FailureDocument]
    discarded: list[DiscardedDocument]
    downgrades: list[VersionPartDocument]
    typical_seconds: TypicalDocument | None
    threshold: int
    rounding: int


class RankedDocument(_Strict):
    """A package in a ranking."""

    category: str
    name: str
    machines: Machines
    change: int | None = Field(description="Against four weeks ago; null where that is not shown.")
    seconds: int | None = Field(description="To build it, the median.")


class RankingDocument(_Strict):
    """The first packages in an order."""

    packages: list[RankedDocument]


class OverviewDocument(_Strict):
    """What is installed of a category or from a repository."""

    name: str
    packages: int
    installations: int
    most_installed: list[RankedDocument]


class FleetWeekDocument(_Strict):
    """What the fleet did in a week."""

    week: str
    machines: Machines | None
    merges_a_day: int | None
    compiling_hours: int | None
    saved_hours: int | None = Field(description="Of building, by binary packages.")


class FleetDocument(_Strict):
    """The fleet over time."""

    machines: Machines | None
    weeks: list[FleetWeekDocument]


class ComparisonRowDocument(WeekDocument):
    """Machines with a package at the end of a week."""

    package: str


class ComparisonDocument(_Strict):
    """Several packages, week by week."""

    history: list[ComparisonRowDocument]
