# SPDX-License-Identifier: GPL-2.0-or-later
"""Each problem survives the way through a problem document, and odd documents still mean something."""

import json
from collections.abc import Iterator

import pytest

from gentwoo_client.wire import errors
from gentwoo_client.wire.errors import PROBLEMS, Conflict, Delayed, ProtocolError, from_document
from gentwoo_client.wire.messages import Problem


def kinds(base: type[ProtocolError] = ProtocolError) -> Iterator[type[ProtocolError]]:
    """Every error class of the wire protocol below `base`; whoever uses it may have some of their own."""
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from kinds(kind)


def example(kind: type[ProtocolError]) -> ProtocolError:
    """An error of `kind`."""
    if issubclass(kind, Conflict):
        return kind("here", seq=7, segment="A" * 43)
    if issubclass(kind, Delayed):
        return kind("here", retry_after=30)
    return kind("here")


@pytest.mark.parametrize("kind", PROBLEMS.values(), ids=list(PROBLEMS))
def test_problem_survives_the_document(kind: type[ProtocolError]) -> None:
    """The client gets the error that the collector raised, with its data."""
    error = example(kind)
    document = error.to_document()
    Problem.model_validate_json(json.dumps(document))
    again = from_document(json.loads(json.dumps(document)), status=kind.status)
    assert type(again) is kind
    assert again.to_document() == document
    assert again.advice


def test_every_answerable_class_is_listed() -> None:
    """A class with a slug of its own is in PROBLEMS, and the drawing in the docstring names every class."""
    for kind in kinds():
        if "slug" in vars(kind):
            assert PROBLEMS[kind.slug] is kind
        if kind not in (Delayed,):
            assert f" {kind.__name__}" in str(errors.__doc__)


@pytest.mark.parametrize(
    ("document", "status", "slug"),
    [
        (None, 404, "not-found"),
        ([], 418, "internal"),
        ({"type": "about:blank", "detail": 5}, 403, "forbidden"),
        ({"type": "urn:gentwoo:problem:forgotten"}, 403, "forbidden"),
        ({"type": "urn:gentwoo:problem:invented"}, 429, "too-many-requests"),
        ({"type": "urn:gentwoo:problem:gap"}, 409, "internal"),
        ({"type": "urn:gentwoo:problem:gap", "head": {"seq": True, "segment": None}}, 409, "internal"),
        ({"type": "urn:gentwoo:problem:unavailable", "retry_after": "soon"}, 503, "unavailable"),
        ({"type": ["urn"]}, 500, "internal"),
    ],
)
def test_odd_documents_mean_their_status(document: object, status: int, slug: str) -> None:
    """What no collector of ours would answer is still an error, never an exception of another kind."""
    assert from_document(document, status=status).slug == slug
