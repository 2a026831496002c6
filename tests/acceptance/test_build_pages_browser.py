# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages about builds in a real browser: how they look, that they renew themselves, and that they need not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.test_pages_browser import AXE, LARGEST_PAGE, RULES, browser, visit
from tests.build_scene import LOG, Scene

__all__ = ["browser"]

LOOKS = ((360, "dark"), (1440, "light"))
PATIENCE = 60_000  # ms
expect.set_options(timeout=PATIENCE)
PATHS = [
    "/builds",
    "/builds/queue",
    "/builds/finished",
    "/builders",
    "job failed",
    "own failed",
    "job long",
    "job building",
    "job arm",
    "request failed",
    "/packages",
    "/packages/app-misc",
    "/packages/app-misc/plain",
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene.start(tmp_path_factory.mktemp("browser")) as scene:
        yield scene


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene.start(tmp_path_factory.mktemp("quiet"), is_quiet=True) as scene:
        yield scene


@pytest.fixture
def quiet(another: Scene) -> Iterator[Scene]:
    """A collector at which nothing happens but what the test does, with packages that no other test has."""
    yield another
    another.calm_down()


def address(scene: Scene, path: str) -> str:
    """The whole address of a path, of a job (as its asker may see it), or of a request."""
    kind, _, name = path.partition(" ")
    paths = {
        "job": f"/jobs/{scene.jobs.get(name)}",
        "own": f"/jobs/{scene.jobs.get(name)}?request={scene.requests.get(name)}",
        "request": f"/builds/{scene.requests.get(name)}",
    }
    return scene.collector.url + paths.get(kind, path)


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("path", PATHS)
def test_page(browser: Browser, scene: Scene, path: str, width: int, scheme: str) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "bypass_csp": True}
    with browser.new_context(**options) as context:  # type: ignore[arg-type]
        page = context.new_page()
        assert visit(page, address(scene, path)) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "… when all is open"
        page.evaluate(AXE.read_text("utf-8"))
        rest = "{exclude: [['.many']]}"  # hundreds of lines, all alike
        found = page.evaluate(f"tags => axe.run({rest}, {{runOnly: tags}})", RULES)
        told = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found["violations"]]
        assert told == [], json.dumps(told, indent=1)


@pytest.mark.parametrize("path", ["/builds", "job long", "job building"])
def test_the_strict_policy_holds_and_little_is_loaded(browser: Browser, scene: Scene, path: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))
        assert visit(page, address(scene, path)) == []
        first = [url for url in loaded if "/events" not in url]
        assert len(first) <= 4
        assert all(url.startswith(scene.collector.url) for url in loaded)
        sizes = [page.request.get(url).headers.get("content-length") for url in first]
        assert sum(int(size or 0) for size in sizes) <= LARGEST_PAGE


def test_without_script_a_log_is_read_and_loaded_again(browser: Browser, quiet: Scene) -> None:
    quiet.ask("job", "app-misc/read-1.0")
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address(quiet, "/builds"))
        page.get_by_role("link", name="app-misc/read-1.0").click()
        assert "It is the next in the queue" in page.locator("main").inner_text()
        quiet.take("job", log="one\ntwo\n")
        page.get_by_role("link", name="Refresh").first.click()
        assert page.locator("#log li").all_inner_texts() == ["1\none", "2\ntwo"]
        page.get_by_role("link", name="Whole log as text").click()
        assert page.locator("body").inner_text() == "one\ntwo\n"


def test_a_job_is_followed_from_the_queue_to_its_end(browser: Browser, quiet: Scene) -> None:
    """Nothing is loaded again, nothing complains, and what a build prints stays text."""
    quiet.ask("job", "app-misc/whole-1.0")
    with browser.new_context() as context:
        page = context.new_page()
        complaints = watch(page)
        page.goto(address(quiet, "job job"))
        page.evaluate("window.same = true")
        expect(page.locator("#lead")).to_contain_text("It is the next in the queue")
        quiet.take("job", log="the first line\n")
        expect(page.locator("#lead")).to_contain_text("workhorse has been at it")
        expect(page.locator("#log li")).to_have_text(["1the first line"])
        quiet.print("job", LOG)
        expect(page.locator("#log li.err")).to_have_count(2)
        expect(page.locator("#log b.g")).to_have_text("green")
        expect(page.locator("#log li").nth(5)).to_contain_text("<script>alert(1)</script> & more")
        expect(page.locator("#log summary").last).to_contain_text("compile")
        expect(page.locator(".logbar")).to_contain_text("10 lines")
        quiet.print("job", "the end, without a newline")
        quiet.publish("job")
        expect(page.locator("#log li").last).to_contain_text("the end")
        expect(page.locator("#lead")).to_contain_text("It is in the index of amd64")
        expect(page.locator("#said")).to_have_text("app-misc/whole-1.0: published")
        expect(page.locator("#attempts")).to_contain_text("published")
        expect(page.locator("#log-state")).to_have_text("published")
        assert page.evaluate("window.same")
        assert page.locator("main script").count() == 0
        assert complaints == []


def test_the_log_is_followed_until_one_scrolls_up(browser: Browser, quiet: Scene) -> None:
    quiet.ask("job", "app-misc/scrolled-1.0")
    quiet.take("job", log="".join(f"line {number}\n" for number in range(300)))
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        page.goto(address(quiet, "job job"))
        follow = page.get_by_role("button", name="Follow")
        follow.click()
        expect(follow).to_have_attribute("aria-pressed", "true")
        quiet.print("job", "".join(f"more {number}\n" for number in range(300)))
        expect(page.locator("#L600")).to_be_in_viewport(timeout=PATIENCE)
        page.keyboard.press("PageUp")
        expect(follow).to_have_attribute("aria-pressed", "false")
        quiet.print("job", "".join(f"last {number}\n" for number in range(100)))
        expect(page.locator("#L700")).to_be_attached(timeout=PATIENCE)
        expect(page.locator("#L700")).not_to_be_in_viewport()


def test_lists_renew_themselves_and_leave_alone_what_has_the_focus(browser: Browser, quiet: Scene) -> None:
    quiet.ask("job", "app-misc/listed-1.0")
    with browser.new_context() as context:
        page = context.new_page()
        complaints = watch(page)
        page.goto(address(quiet, "/builds/queue"))
        row = page.locator("tbody tr")
        expect(row).to_contain_text("queued")
        link = row.get_by_role("link").first
        link.focus()
        quiet.take("job")
        expect(page.locator("#lead")).to_contain_text("1 job on its way")
        with page.expect_response(lambda answer: answer.url.endswith("/builds/queue"), timeout=PATIENCE):
            pass
        expect(link).to_be_focused()
        page.get_by_role("searchbox").focus()
        expect(row).to_contain_text("building")
        quiet.publish("job")
        expect(page.locator("#jobs")).to_contain_text("Nothing waits to be built.")
        assert complaints == []


def watch(page: Page) -> list[str]:
    """What the browser complains about from now on."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints
