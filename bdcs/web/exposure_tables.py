# SPDX-License-Identifier: GPL-2.0-or-later
"""Who has what an advisory is about, or what is to go, as tables of plain values."""

from __future__ import annotations

from bdcs.services.exposure import Exposure, Removal
from bdcs.web.data_tables import DataTable, shown
from gentwoo_client.wire.leaving import Leaving


def exposure_table(found: Exposure) -> DataTable:
    """The versions that are asked about, and what would be left to who has them."""
    return DataTable.of(
        ("category", "name", "version", "slot", "machines", "left", "left_version", "left_slot"),
        (
            (
                package.category,
                package.name,
                each.figure.version,
                each.slot,
                each.figure.machines,
                each.left.kind,
                each.left.version,
                each.left.slot,
            )
            for package in found.packages
            for each in package.versions
        ),
    )


def dependents_table(found: Removal) -> DataTable:
    """Who in the repositories would miss what goes: the first ones of each package."""
    return DataTable.of(
        ("needed", "category", "name", "versions", "atoms", "perhaps", "machines"),
        (
            (
                f"{package.category}/{package.name}",
                row.category,
                row.name,
                " ".join(row.versions),
                " ".join(row.atoms),
                "yes" if row.perhaps else "no",
                shown(row.machines),
            )
            for package, who in zip(found.exposure.packages, found.dependents, strict=True)
            for row in (who.rows if who is not None else ())
        ),
    )


def leaving_table(found: list[Leaving]) -> DataTable:
    """The list of what leaves."""
    return DataTable.of(
        ("atom", "leaves_on", "machines", "reason"),
        ((str(each.atom), each.leaves_on, each.machines, each.reason) for each in found),
    )
