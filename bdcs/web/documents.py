# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents of the API that only the collector knows, as they are described. Those of machines: `wire`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Machines = Annotated[int, Field(ge=0, description="Rounded to a multiple of `rounding`.")]


class VersionMachines(BaseModel):
    """On how many machines a version is."""

    model_config = ConfigDict(extra="forbid")

    version: str
    machines: Machines


class PackageDocument(BaseModel):
    """What may be said of a package; null where a figure is not shown."""

    model_config = ConfigDict(extra="forbid")

    category: str
    name: str
    machines: Machines | None
    fleet: Machines | None = Field(description="All machines.")
    versions: list[VersionMachines] = Field(description="Those that are shown, the newest first.")
    threshold: int = Field(description="Figures of fewer machines are not shown.")
    rounding: int
