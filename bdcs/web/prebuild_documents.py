# SPDX-License-Identifier: GPL-2.0-or-later
"""What is worth building, as the API describes and says it."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from bdcs.domain.thresholds import ROUNDING, Thresholds
from bdcs.services.prebuild_public import Prospects
from bdcs.web.data_tables import DataTable
from bdcs.web.documents import Machines

CURVE: Final = 5
"""Builds of a package whose coverage is told in a table."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProspectDocument(_Strict):
    """A build that is worth making."""

    target: str
    category: str
    name: str
    version: str
    slot: str
    repository: str
    use: str = Field(description="Flags that are enabled, and, with `-`, those that are not.")
    machines: Machines = Field(description="That asked for it, or for an earlier version like it.")
    likely: Machines = Field(description="… and that have the package and are likely to ask as they did.")
    build_seconds: int = Field(description="That a builder of the target needs.")
    saved_seconds: int = Field(description="Of compiling, for all of these machines together.")
    known: bool = Field(description="Whether the time follows from earlier builds; else it is assumed.")


class CoverageDocument(_Strict):
    """How many builds of a package serve how many of the machines that asked for it."""

    target: str
    category: str
    name: str
    slot: str
    repository: str
    machines: Machines = Field(description="That asked for it in any variant.")
    variants: int = Field(description="Choices of flags that are each wanted by `threshold` machines.")
    served: Machines = Field(description="Whom the builds serve that are there.")
    by_1: Machines | None = Field(description="Whom the best build serves; null: there is none to make.")
    by_2: Machines | None = Field(description="… the best two; null: there are no more.")
    by_3: Machines | None
    by_4: Machines | None
    by_5: Machines | None


class UnbuiltDocument(_Strict):
    """A package that many machines have, and nobody has built here."""

    category: str
    name: str
    machines: Machines
    seconds: int = Field(description="That it takes on a machine of median speed.")


class PrebuildDocument(_Strict):
    """What is worth building before anyone asks."""

    targets: list[str] = Field(description="Those that are for everybody.")
    next: list[ProspectDocument] = Field(description="The best first.")
    coverage: list[CoverageDocument]
    unbuilt: list[UnbuiltDocument]
    threshold: int = Field(description="Figures of fewer machines are not shown.")
    rounding: int


def prebuild_tables(found: Prospects) -> dict[str, DataTable]:
    """All tables, by name."""
    return {"next": _next(found), "coverage": _coverage(found), "unbuilt": _unbuilt(found)}


def prebuild_document(found: Prospects, thresholds: Thresholds) -> dict[str, object]:
    """The JSON document."""
    return {
        "targets": list(found.targets),
        **{name: table.to_objects() for name, table in prebuild_tables(found).items()},
        "threshold": thresholds.machines,
        "rounding": ROUNDING,
    }


def _next(found: Prospects) -> DataTable:
    rows = []
    for each in found.next:
        candidate = each.pick.candidate
        one = candidate.specification
        flags = (flag if is_on else f"-{flag}" for flag, is_on in candidate.variant.flags.items())
        rows.append(
            (
                candidate.target.name,
                *(one.cpv.category, one.cpv.name, one.cpv.version),
                one.slot.partition("/")[0],
                one.repository,
                " ".join(flags),
                *(each.machines, each.likely, candidate.seconds, each.saved, candidate.is_known),
            )
        )
    return DataTable.of(tuple(ProspectDocument.model_fields), rows)


def _coverage(found: Prospects) -> DataTable:
    rows = []
    for each in found.coverage:
        key = each.place.key
        curve = (*each.curve, *(None,) * CURVE)[:CURVE]
        place = (each.place.target.name, key.category, key.name, key.slot, key.repository)
        rows.append((*place, each.place.machines, each.variants, each.served, *curve))
    return DataTable.of(tuple(CoverageDocument.model_fields), rows)


def _unbuilt(found: Prospects) -> DataTable:
    rows = ((each.category, each.name, each.machines, each.seconds) for each in found.unbuilt)
    return DataTable.of(tuple(UnbuiltDocument.model_fields), rows)
