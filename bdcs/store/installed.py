# SPDX-License-Identifier: GPL-2.0-or-later
"""One installation as statements name it: by the parameters `machine`, `package` and `version`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, bindparam, literal_column

from bdcs.store.tables import installations

KEY: Final = ("machine", "package", "version")

# The sum keeps PostgreSQL from the index that has all machines with the version: it thinks them few.
IS_IT: Final[ColumnElement[bool]] = (
    (installations.c.machine_id == bindparam("machine"))
    & (installations.c.package_id == bindparam("package"))
    & (installations.c.version_id + literal_column("0") == bindparam("version"))
)
