# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what a machine wants to have built is in the catalogue."""

from __future__ import annotations

from sqlalchemy import Connection

from bdcs.services import catalogue
from gentwoo_client.wire.builds import BuildSpecification


def objection(connection: Connection, specification: BuildSpecification) -> str | None:
    """Return why there can be no such package; None where there can, or where its repository is not known.

    That what is built is what was wished for is seen when it is there (`services.attempt_publishing`).
    """
    cpv, repository = specification.cpv, specification.repository
    found = catalogue.find(connection, cpv, repository)
    if found is None:
        if catalogue.has_repository(connection, repository):
            return f"{cpv}::{repository} is not in the catalogue"
        return None
    unknown = [flag for flag in specification.use if flag not in found.flags]
    return f"the IUSE of {cpv} has no {' '.join(unknown)}" if unknown else None
