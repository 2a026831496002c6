# SPDX-License-Identifier: GPL-2.0-or-later
"""The API's description (OpenAPI 3.1), made of the operations and models in force."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gentwoo_client.version import VERSION
from gentwoo_client.wire import limits
from gentwoo_client.wire.messages import Problem, SegmentPayload

SCHEMAS: Final = "#/components/schemas/"
_PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "uuid": {"type": "string", "format": "uuid"},
    "category": {"type": "string"},
    "name": {"type": "string"},
    "target": {"type": "string"},
    "file": {"type": "string", "pattern": r"\.gpkg\.tar$"},
    "build": {"type": "string", "pattern": "^[a-z2-7]{10}$"},
    "job": {"type": "integer", "minimum": 1},
    "attempt": {"type": "integer", "minimum": 1},
    "watch": {"type": "string", "pattern": "^[a-z2-7]{16}$"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of the query."""

    name: str
    schema: Mapping[str, Any]
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    name: str
    summary: str
    token: bool = False
    """Whether it needs a request token."""
    basic: bool = False
    """Whether private targets ask for a name and a token (HTTP basic)."""
    query: tuple[Parameter, ...] = ()
    request: tuple[str, type[BaseModel] | None] | None = None
    """Media type of the body and its model; None for what JSON Schema cannot describe."""
    answers: Mapping[int, type[BaseModel] | None] = field(default_factory=dict)
    media_type: str = "application/json"
    """Of the answers."""
    problems: tuple[int, ...] = ()


def document(operations: Iterable[Operation], public_url: str) -> dict[str, Any]:
    """Return the description of `operations`, served at `public_url`."""
    operations = tuple(operations)
    models = {model for operation in operations for model in _models(operation)} | {Problem, SegmentPayload}
    ordered = sorted(models, key=lambda model: model.__name__)
    modes: list[tuple[Any, Literal["validation", "serialization"]]] = [
        (model, "validation") for model in ordered
    ]
    _, schemas = models_json_schema(modes, ref_template=SCHEMAS + "{model}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GenTwoo collector",
            "version": VERSION,
            "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
            "description": "Machines send signed segments; errors are problem documents (RFC 9457).",
        },
        "servers": [{"url": public_url}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Signed by the machine's key, for one request; see docs/protocol.md.",
                },
                "target": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "Name and token that the operator made for a private target.",
                },
            },
        },
    }


def _models(operation: Operation) -> Iterable[type[BaseModel]]:
    if operation.request is not None and operation.request[1] is not None:
        yield operation.request[1]
    yield from (model for model in operation.answers.values() if model is not None)


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ] + [_in_query(parameter) for parameter in operation.query]
    if parameters:
        described["parameters"] = parameters
    if operation.token:
        described["security"] = [{"token": []}]
    if operation.basic:
        described["security"] = [{}, {"target": []}]
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _content(*operation.request)}
    answers = {
        str(status): _answer(status, model, operation.media_type)
        for status, model in operation.answers.items()
    }
    problems = {str(status): _problem(status) for status in operation.problems}
    described["responses"] = {**answers, **problems}
    return described


def _in_query(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _content(media_type: str, model: type[BaseModel] | None) -> dict[str, Any]:
    if model is not None:
        return {media_type: {"schema": {"$ref": SCHEMAS + model.__name__}}}
    if media_type != "application/jose":
        return {media_type: {}}  # OpenAPI 3.1 §4.8.14: no schema for what is not text
    schema = {
        "type": "string",
        "maxLength": limits.SEGMENT_SIZE,
        "description": "A compact JWS whose payload is a SegmentPayload; may be zstd by Content-Encoding.",
        "contentMediaType": "application/jose",
    }
    return {media_type: {"schema": schema}}


def _answer(status: int, model: type[BaseModel] | None, media_type: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if media_type != "application/json":
        answer["content"] = {media_type: {"schema": {"type": "string"}}}
    elif model is not None:
        answer["content"] = {"application/json": {"schema": {"$ref": SCHEMAS + model.__name__}}}
    return answer


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": SCHEMAS + Problem.__name__}
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": schema}},
    }
