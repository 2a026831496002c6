# SPDX-License-Identifier: GPL-2.0-or-later
"""The fleet's table of predictions: one document for everybody, so that nobody says what they will build."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import ETag, hdrs, web
from pydantic import BaseModel, ConfigDict, Field

from bdcs.services.predictions import PredictionTable
from bdcs.web.openapi import Operation
from bdcs.web.operations import route

MAX_AGE: Final = 3600  # seconds that others may keep it


class PredictionsDocument(BaseModel):
    """How long packages take to build, on a machine of median speed with nothing beside it."""

    model_config = ConfigDict(extra="forbid")

    format: int
    fitted_at: int = Field(description="Unix seconds at which a figure was last published; 0: never.")
    machines: int = Field(description="Rounded: the machines of the package that most recorded.")
    origin: float = Field(description="Logarithm of seconds around which slopes of machines turn.")
    packages: dict[str, list[list[Any]]] = Field(
        description="CATEGORY/NAME: first [log, spread, machines] of all versions, then [major, log,"
        " spread, machines] of major ones; `log` is the natural logarithm of seconds, `spread` the standard"
        " deviation between machines."
    )


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/predictions",
        name="predictions",
        summary="How long packages take to build, whole, with an ETag",
        answers={200: PredictionsDocument},
        problems=(500, 503),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionsAPI:
    """The table."""

    table: PredictionTable

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name."""
        route(app, OPERATIONS, self)

    async def predictions(self, request: web.Request) -> web.Response:
        """GET the table; 304 where the reader has it already."""
        served = await self.table.served()
        headers = {
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
            hdrs.CACHE_CONTROL: f"public, max-age={MAX_AGE}",
        }
        if served.etag in {tag.value for tag in request.if_none_match or ()}:
            response = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        elif "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            response = web.Response(body=served.packed, headers=headers, content_type="application/json")
        else:
            response = web.Response(body=served.body, headers=headers, content_type="application/json")
        response.etag = ETag(value=served.etag, is_weak=True)
        return response
