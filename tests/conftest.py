# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every test: in continuous integration nothing may be skipped."""

import os
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import stores, warm

STRICT = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# A slow machine is no failure. New examples are drawn wherever somebody is there to look into what they show.
settings.register_profile(
    "gentwoo", deadline=None, derandomize=STRICT, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gentwoo")

# A shell that runs the suite in the background has SIGINT ignored, by which tests end what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

warm.begin()

if stores.IS_POSTGRESQL:  # before any module of tests takes a function from the engine
    stores.use_postgresql()


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that names its reason. An expected failure (xfail) is no skip."""
    if not STRICT or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"skipped, which CI=true forbids: {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    forbid_skip(report)
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another engine leave out what is about SQLite's files."""
    if not stores.IS_POSTGRESQL:
        return
    left_out = [item for item in items if item.get_closest_marker("sqlite")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module", autouse=stores.IS_POSTGRESQL)
def on_postgresql_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a module's tests start on PostgreSQL has no store of another engine."""
    yield
    stores.require_postgresql(tmp_path_factory.getbasetemp())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    yield
    if stores.IS_POSTGRESQL:
        stores.finish_test(getattr(item, "funcargs", {}).get("tmp_path"))
