# SPDX-License-Identifier: GPL-2.0-or-later
"""`make screenshots`: pictures of the statistics' pages, of a simulated fleet, into `docs/pictures`.

`.run/screenshots` gets every page in both widths and both colour schemes besides, to be looked at.
"""

import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, sync_playwright

from benchmarks.fleet import load_store
from dev.demo import SEED, page
from dev.places import ROOT
from dev.run import CannotRun, Job, chosen_port, wait_until_listening

CHROMIUM = Path("/usr/bin/chromium")
MACHINES = 500
UNTIL = 1_795_305_600  # 22 November 2026: the same pictures from the same sources
DOCUMENTED = {
    "package": "/packages/dev-qt/qtcore",
    "versions": "/packages/dev-qt/qtcore/versions",
    "failures": "/packages/dev-qt/qtcore/failures",
    "times": "/packages/dev-qt/qtcore/times",
    "compare": "/compare?p=dev-qt/qtcore&p=kde-plasma/breeze&p=dev-db/postgresql",
    "fleet": "/fleet",
}
"""Pages that docs/statistics.md shows, by the names of their pictures."""
OTHERS = {
    "home": "/",
    "packages": "/packages",
    "category": "/packages/kde-plasma",
    "risers": "/packages?sort=risers",
    "repository": "/repositories/guru",
}
WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")
DOCUMENT = {"width": 1000, "height": 760}
PATIENCE = 300.0


def main() -> int:
    """Take them; return the exit code."""
    if not CHROMIUM.exists():
        print(f"screenshots: there is no {CHROMIUM}", file=sys.stderr)
        return 1
    with TemporaryDirectory() as home:
        job = Job(Path(home), chosen_port())
        job.data.mkdir()
        job.collector_config.write_text(
            f'listen = "{job.url.removeprefix("http://")}"\ndata = "{job.data}"\n'
        )
        load_store(job.data, job.url, MACHINES, SEED, UNTIL)
        try:
            serve(job)
            take_all(job.url)
        except CannotRun as error:
            print(f"screenshots: {error}", file=sys.stderr)
            return 1
        finally:
            job.stop()
    return 0


def serve(job: Job) -> None:
    """Start a collector and wait until the fleet is on its pages."""
    job.start("collector", "bdcs", "--config", job.collector_config, "serve")
    wait_until_listening(job, "collector")
    deadline = time.monotonic() + PATIENCE
    while "not yet since" in page(job, "/about/status"):
        job.check()
        if time.monotonic() > deadline:
            raise CannotRun("the figures do not appear")
        time.sleep(0.5)


def take_all(url: str) -> None:
    """Take every picture."""
    shown, looked_at = ROOT / "docs" / "pictures", ROOT / ".run" / "screenshots"
    shutil.rmtree(looked_at, ignore_errors=True)
    for directory in (shown, looked_at):
        directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        for name, path in DOCUMENTED.items():
            take(browser, url + path, shown / f"{name}.png", DOCUMENT, "light", whole=False)
        for name, path in {**DOCUMENTED, **OTHERS}.items():
            for width in WIDTHS:
                for scheme in SCHEMES:
                    size = {"width": width, "height": 900}
                    take(
                        browser,
                        url + path,
                        looked_at / f"{name}-{width}-{scheme}.png",
                        size,
                        scheme,
                        whole=True,
                    )
        browser.close()


def take(browser: Browser, url: str, path: Path, size: dict[str, int], scheme: str, *, whole: bool) -> None:
    """Take a picture of a page."""
    options = {"viewport": size, "color_scheme": scheme}
    with browser.new_context(**options) as context:  # type: ignore[arg-type]
        opened = context.new_page()
        answer = opened.goto(url)
        if answer is None or not answer.ok:
            raise CannotRun(f"{url}: {answer and answer.status}")
        opened.screenshot(path=path, full_page=whole)
        print(path.relative_to(ROOT), flush=True)


if __name__ == "__main__":
    sys.exit(main())
