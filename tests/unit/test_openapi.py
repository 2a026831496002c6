# SPDX-License-Identifier: GPL-2.0-or-later
"""The API's description is valid, and says what is served."""

from openapi_spec_validator import OpenAPIV31SpecValidator

from bdcs.server.application import OPERATIONS
from bdcs.services.public_figures import PackageFigures, VersionFigure
from bdcs.web.documents import PackageDocument
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


def test_the_document_of_a_package_is_as_described() -> None:
    for machines, versions in ((0, ()), (25, (VersionFigure(version="1.0", machines=20),))):
        package = PackageFigures(
            category="dev-libs",
            name="openssl",
            machines=machines,
            fleet=machines,
            versions=versions,
            threshold=10,
        )
        PackageDocument.model_validate(package.to_document(), strict=False)


def test_whatever_answers_has_a_schema() -> None:
    streams = {"/v1/builds/{build}/events", "/v1/jobs/{job}/log"}
    without = {
        each.path
        for each in OPERATIONS
        for status, model in each.answers.items()
        if not model and status != 204
    }
    assert without == streams
