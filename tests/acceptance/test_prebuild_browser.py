# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of what is worth building in a real browser, full and empty."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.acceptance.test_pages_browser import AXE, LARGEST_PAGE, RULES, SCHEMES, WIDTHS, browser, visit
from tests.prebuild_scene import left_behind
from tests.public_surface import Surface

__all__ = ["browser"]

KINDS = ("full", "empty")


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("prebuild")
    with Surface(left_behind(home, is_crowded=request.param == "full")) as surface:
        yield surface.url


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_page(browser: Browser, url: str, width: int, scheme: str) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "bypass_csp": True}
    with browser.new_context(**options) as context:  # type: ignore[arg-type]
        page = context.new_page()
        assert visit(page, f"{url}/prebuild") == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        for details in page.locator("details > summary").all():
            details.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "… when all is open"
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("tags => axe.run({runOnly: tags})", RULES)
        told = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found["violations"]]
        assert told == [], json.dumps(told, indent=1)


def test_the_strict_policy_holds_and_little_is_loaded(browser: Browser, url: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))
        assert visit(page, f"{url}/prebuild") == []
        assert len(loaded) <= 4
        assert all(each.startswith(url) for each in loaded)
        sizes = [page.request.get(each).headers.get("content-length") for each in loaded]
        assert sum(int(size or 0) for size in sizes) <= LARGEST_PAGE
        assert page.locator("h1").inner_text() == "What to build next"
