# SPDX-License-Identifier: GPL-2.0-or-later
"""What the acceptance tests begin with: new interpreters, and a collector of their own."""

from collections.abc import Iterator

import pytest

from tests import stores, warm
from tests.processes import Collector


@pytest.fixture(scope="module", autouse=not stores.IS_POSTGRESQL)
def started_anew() -> Iterator[None]:
    """Here every command starts as people start it; on PostgreSQL the same tests are quicker."""
    with warm.anew():
        yield


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A real `bdcs serve` on loopback with an empty store, one for each test module."""
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running
