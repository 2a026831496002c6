# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of plain values, as JSON and CSV give them, and the answers that carry them.

None stands for "not shown" (fewer machines than the threshold).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from aiohttp import hdrs, web

from bdcs.web.rendering import PAGE_HEADERS, PUBLIC

Value = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTable:
    """Rows of values, and what their columns are called."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    @classmethod
    def of(cls, columns: tuple[str, ...], rows: Iterable[tuple[Value, ...]]) -> Self:
        """The table of these rows."""
        return cls(columns=columns, rows=tuple(rows))

    def to_objects(self) -> list[dict[str, Value]]:
        """Each row as a JSON object."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_csv(self) -> str:
        """The table as RFC 4180 has it; what is not shown is empty."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()


def shown(machines: int) -> int | None:
    """A count of machines; None where it is not shown."""
    return machines or None


def json_answer(document: Mapping[str, object]) -> web.Response:
    """A document that anybody may keep for a while."""
    headers = {**PAGE_HEADERS, hdrs.CACHE_CONTROL: PUBLIC}
    return web.Response(body=json.dumps(document).encode(), content_type="application/json", headers=headers)


def csv_answer(table: DataTable) -> web.Response:
    """A table that anybody may keep for a while."""
    headers = {**PAGE_HEADERS, hdrs.CACHE_CONTROL: PUBLIC}
    return web.Response(text=table.to_csv(), content_type="text/csv", charset="utf-8", headers=headers)
