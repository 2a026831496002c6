# SPDX-License-Identifier: GPL-2.0-or-later
"""The API's description is valid, and says what is served."""

from openapi_spec_validator import OpenAPIV31SpecValidator

from bdcs.web.api import OPERATIONS
from bdcs.web.openapi import document


def test_the_description_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(document(OPERATIONS, "https://collector.example")).validate()


def test_every_operation_is_described_with_its_problems() -> None:
    described = document(OPERATIONS, "https://collector.example")
    for operation in OPERATIONS:
        found = described["paths"][operation.path][operation.method.lower()]
        assert found["operationId"] == operation.name
        assert set(found["responses"]) == {
            str(status) for status in (*operation.answers, *operation.problems)
        }
    assert {"Problem", "SegmentPayload", "Record"} <= set(described["components"]["schemas"])
