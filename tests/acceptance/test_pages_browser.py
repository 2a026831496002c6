# SPDX-License-Identifier: GPL-2.0-or-later
"""Every page in a real browser: phone and desktop, light and dark, by keyboard, and against WCAG 2.2 AA."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import insert

from bdcs.store.engine import create_writer
from bdcs.store.store import transaction
from bdcs.store.tables import watch_events
from dev.places import ROOT
from tests.ebuild_repositories import Tree
from tests.fleet import Member, all_merge, join
from tests.packages import make_gpkg
from tests.peer import request
from tests.processes import Collector
from tests.waiting import until

CHROMIUM = Path("/usr/bin/chromium")
AXE = ROOT / ".node" / "node_modules" / "axe-core" / "axe.min.js"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LARGEST_PAGE = 40 * 1024  # bytes on the wire, of a first visit without images
SMALLEST_TARGET = 24  # px
WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")
MACHINE = "machine"
FEED = "feed"
COMPARED = (
    "dev-lang/python", "app-misc/alpha", "sys-kernel/gentoo-kernel-bin", "app-misc/beta", "app-misc/gamma",
    "app-misc/delta",
)  # fmt: skip
PATHS = [
    "/",
    "/packages",
    "/packages?q=alhpa",
    "/packages/dev-libs",
    "/packages/dev-lang/python",
    "/packages/dev-libs/rare",
    "/packages/dev-lang/python/versions",
    "/packages/dev-lang/python/failures",
    "/packages/dev-lang/python/times",
    "/compare?p=dev-lang/python&p=app-misc/alpha",
    "/packages?sort=installed",
    "/repositories/gentoo",
    "/fleet",
    f"{MACHINE}&view=overview",
    f"{MACHINE}&view=records",
    f"{MACHINE}&view=installed",
    f"{MACHINE}&view=failures",
    "/machine",
    "/machine?link=expired",
    "/about/methods",
    "/about/privacy",
    "/about/status",
    "/targets",
    "/targets/v3",
    "/targets/v3/packages",
    "/targets/v3/packages?q=gamma",
    "/targets/v3/packages/app-misc/alpha",
    "/targets/v3/generations/2",
    "/targets/empty",
    "/developers",
    "/exposure?atoms=%3Cdev-lang/python-3.14%20%3Cdev-libs/rare-2",
    "/exposure?atoms=python",
    "/removal",
    "/removal?atoms=dev-lang/python%20app-misc/alpha",
    "/watch",
    FEED,
    "/leaving",
    "/packages?sort=risers",
    "/compare?" + "&".join(f"p={each}" for each in COMPARED),
    "/nothing",
]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, Member]]:
    """A collector that knows twelve machines; the second value has done more than the others."""
    with Collector(tmp_path_factory.mktemp("browser")) as collector:
        members = join(collector.url, 12)
        all_merge(
            members, "dev-lang/python-3.13.9", "app-misc/alpha-1.0", "sys-kernel/gentoo-kernel-bin-6.12.54"
        )
        busy = members[0]
        for number in range(60):
            busy.now += 86_400 * (number % 7)
            busy.merge(f"dev-lang/python-3.14.{number}", seconds=40 * number)
        busy.fail("www-client/firefox-144.0.2")
        busy.fail("dev-lang/rust-1.91.0", cause="interrupted")
        make_targets(collector, tmp_path_factory.mktemp("packages"))
        make_catalogue(collector, tmp_path_factory.mktemp("repository"))
        make_news(collector)
        for atom in ("<dev-lang/python-3.14", "www-client/firefox"):
            collector.bdcs("admin", "leaving", "add", atom, "--on", "2026-12-24", "--reason", "no upstream")
        collector.stop()
        collector.start()
        until(lambda: b"not yet since" not in request(collector.url, "GET", "/about/status").body)
        yield collector, busy


def make_targets(collector: Collector, directory: Path) -> None:
    """A target with two builds of a package with many USE flags, and an empty one."""
    for name in ("v3", "empty"):
        made_for = ("--chost", "x86_64-pc-linux-gnu", "--profile", "default/linux/amd64/23.0/desktop/plasma")
        flags = ("--cflags=-O2 -pipe -march=x86-64-v3", "--signatures", "optional")
        collector.bdcs("target", "add", name, *made_for, *flags)
    use = [f"flag_number_{number}" for number in range(40)]
    for enabled in (use[:20], use[10:30]):
        path = directory / "alpha-1.0-1.gpkg.tar"
        make_gpkg(path, metadata={"IUSE": " ".join(use), "USE": " ".join(enabled)})
        collector.bdcs("publish", "--target", "v3", str(path))
        path.unlink()


def make_catalogue(collector: Collector, directory: Path) -> None:
    """A repository in which some packages depend on others."""
    tree = Tree.create(directory / "gentoo")
    tree.add("dev-lang/python-3.13.9", SLOT="3.13")
    for number in range(12):
        tree.add(f"app-misc/user-{number}", RDEPEND="<dev-lang/python-3.14:3.13[ssl]")
        tree.add(
            f"app-misc/other-user-of-python-{number}-with-a-long-name-1.0", BDEPEND="a? ( dev-lang/python )"
        )
    collector.bdcs("repository", "add", "gentoo", "--location", str(tree.root))
    collector.bdcs("repository", "sync", "gentoo")


def make_news(collector: Collector) -> None:
    """The operator's feed, and an event of each topic in it."""
    collector.bdcs("admin", "watch", "add", "dev-lang/python")
    writer = create_writer(collector.data / "bdcs.sqlite")
    with transaction(writer) as connection:
        for number, topic in enumerate(("adoption", "failures", "removal")):
            text = f"dev-lang/python-3.14.{number} is on 10 of 10 machines, as is told of {topic}"
            row = {"category": "dev-lang", "name": "python", "topic": topic, "text": text, "facts": "{}"}
            connection.execute(insert(watch_events).values(**row, created_at=1_795_000_000 + number))
    writer.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def address(collector: Collector, member: Member, path: str) -> str:
    """The whole address of `path`; a machine's own page gets a fresh link, a feed's is its owner's."""
    if path == FEED:
        (line,) = collector.bdcs("admin", "watch", "list", "--json").stdout.splitlines()
        return collector.url + str(json.loads(line)["feed"]).removesuffix(".atom")
    if not path.startswith(MACHINE):
        return collector.url + path
    answer = member.peer.authorized("POST", member.peer.path + "/report-links")
    return f"{collector.url}/machine?{urlsplit(answer.document['url']).query}{path.removeprefix(MACHINE)}"


def visit(page: Page, url: str) -> list[str]:
    """Load `url`; return what the browser complained about, but for the status that the page has itself."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    answer = page.goto(url)
    assert answer is not None
    expected = f"the server responded with a status of {answer.status} "
    return [each for each in complaints if answer.ok or expected not in each]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PATHS)
def test_page(
    browser: Browser, collector: tuple[Collector, Member], path: str, width: int, scheme: str
) -> None:
    url = address(*collector, path)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "bypass_csp": True}
    with browser.new_context(**options) as context:  # type: ignore[arg-type]
        page = context.new_page()
        assert visit(page, url) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        for details in page.locator("details > summary").all():
            details.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "… when all is open"
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("tags => axe.run({runOnly: tags})", RULES)
        told = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found["violations"]]
        assert told == [], json.dumps(told, indent=1)


@pytest.mark.parametrize("path", PATHS)
def test_the_strict_policy_holds_and_little_is_loaded(
    browser: Browser, collector: tuple[Collector, Member], path: str
) -> None:
    url = address(*collector, path)
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))
        assert visit(page, url) == []
        assert len(loaded) <= 4
        assert all(each.startswith(collector[0].url) for each in loaded)
        sizes = [page.request.get(each).headers.get("content-length") for each in loaded]
        assert sum(int(size or 0) for size in sizes) <= LARGEST_PAGE
        assert page.locator("h1").count() == 1


def test_search_by_keyboard(browser: Browser, collector: tuple[Collector, Member]) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(collector[0].url + "/about/methods")
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == "Skip to the content"
        page.get_by_role("searchbox").fill("alpha")
        page.keyboard.press("Enter")
        page.wait_for_url("**/packages/app-misc/alpha")
        assert "10 of 10 machines" in page.locator("main").inner_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_targets_are_large_enough(browser: Browser, collector: tuple[Collector, Member], width: int) -> None:
    """Links of the frame and buttons: 24 px at least; what to search with on a phone: 44 px."""
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        page = context.new_page()
        page.goto(collector[0].url + "/packages")
        boxes = [
            each.bounding_box() for each in page.locator(".nav a, .foot li a, .brand, .find button").all()
        ]
        assert all(box and box["height"] >= SMALLEST_TARGET for box in boxes), boxes
        if width == WIDTHS[0]:
            box = page.get_by_role("searchbox").bounding_box()
            assert box
            assert box["height"] >= 44


def test_what_a_column_says_shows_on_hover_without_script(
    browser: Browser, collector: tuple[Collector, Member]
) -> None:
    with browser.new_context(java_script_enabled=False, viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        page.goto(address(*collector, f"{MACHINE}&view=overview"))
        last = page.locator("figure").first.locator("g.at").last
        assert not last.locator("text").is_visible()
        last.locator(".hit").hover()
        assert last.locator("text").is_visible()
