# SPDX-License-Identifier: GPL-2.0-or-later
"""`make screenshots`: pictures of pages about a simulated fleet, and of a terminal, into `docs/pictures`.

`.run/screenshots` gets every page in both widths and both colour schemes besides, to be looked at.
"""

import html
import json
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, sync_playwright

from benchmarks.fleet import load_store
from dev.demo import SEED, page
from dev.places import ROOT, VENV
from dev.run import ENVIRONMENT, Job, chosen_port, wait_until_listening
from dev.session import CannotRun

CHROMIUM = Path("/usr/bin/chromium")
MACHINES = 500
UNTIL = 1_795_305_600  # 22 November 2026: the same pictures from the same sources
ADVISORY = """Package   Vulnerable   Unaffected
{package}   < {newest}   >= {newest}"""
DOCUMENTED = {
    "package": "/packages/dev-qt/qtcore",
    "versions": "/packages/dev-qt/qtcore/versions",
    "failures": "/packages/dev-qt/qtcore/failures",
    "times": "/packages/dev-qt/qtcore/times",
    "compare": "/compare?p=dev-qt/qtcore&p=kde-plasma/breeze&p=dev-db/postgresql&p=dev-qt/qtgui"
    "&p=kde-plasma/oxygen&p=kde-plasma/kwin",
    "fleet": "/fleet",
    "leaving": "/leaving",
}
"""Pages that the documentation shows, by the names of their pictures."""
OTHERS = {
    "home": "/",
    "packages": "/packages",
    "category": "/packages/kde-plasma",
    "risers": "/packages?sort=risers",
    "repository": "/repositories/guru",
    "developers": "/developers",
    "watch": "/watch",
}
LEAVING = ("dev-qt/qtscript", "no upstream, nothing needs it any more")
DEPENDENT = "kde-plasma"
"""A category whose packages need Qt in the repository that is made here."""
HISTORY = ROOT / "tests/data/emerge-logs/emlop-10000.log"
NEVER_BUILT = ("dev-db/postgresql", "dev-qt/qtwebengine", "kde-plasma/kwin")
COMMAND = "emerge -pu @world | gentwoo predict"
PRETENDED = """
These are the packages that would be merged, in order:

Calculating dependencies... done!
[ebuild     U  ] dev-qt/qtcore-5.15.3:5/5.15.3::gentoo [5.15.2-r1:5/5.15.2::gentoo]
[ebuild     U  ] dev-qt/qtgui-5.15.3:5/5.15::gentoo [5.15.2-r1:5/5.15::gentoo]
[ebuild  N     ] dev-qt/qtwebengine-5.15.3:5/5.15::gentoo
[ebuild  N     ] dev-db/postgresql-13.3:13::gentoo
[ebuild     U  ] kde-plasma/kwin-5.22.0:5::gentoo [5.21.5:5::gentoo]

Total: 5 packages (3 upgrades, 2 new)
"""
TERMINAL = """<!doctype html><meta charset="utf-8"><title>terminal</title><style>
body {{ margin: 0; background: #1d1929; color: #ebe8f3; font: 14px/1.45 monospace; }}
pre {{ margin: 0; padding: 16px 20px; }} b {{ color: #7fdca4; }}</style><pre><b>$</b> {command}
{output}</pre>"""
WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")
DOCUMENT = {"width": 1000, "height": 760}
HEIGHTS = {"compare": 980, "exposure": 900, "leaving": 520, "removal": 648, "feed": 440}
PLACES = {"removal": "#h-1"}
"""What a picture begins with, where that is not the top of the page."""
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
            more = dress(job)
            job.stop()
            serve(job)
            take_all(job, more)
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


def dress(job: Job) -> dict[str, str]:
    """Give the collector what a fleet does not bring: a repository, what leaves, a watch; more pages."""
    package, versions = most_varied(job)
    make_repository(job, job.home / "gentoo", package, versions)
    job.bdcs("repository", "add", "gentoo", "--location", job.home / "gentoo")
    job.bdcs("repository", "sync", "gentoo")
    job.bdcs("admin", "watch", "add", package)
    job.stop()
    serve(job)  # a watched package is looked at, and what changes after that is news
    for atom, reason in (LEAVING, (f"<{package}-{versions[0]}", "fails with the newest compiler")):
        job.bdcs("admin", "leaving", "add", atom, "--on", "2026-12-24", "--reason", reason)
    watch = json.loads(job.bdcs("admin", "watch", "list", "--json").splitlines()[0])
    return {
        "removal": "/removal?" + urlencode({"atoms": f"<{package}-{versions[0]}"}),
        "exposure": "/exposure?" + urlencode({"atoms": ADVISORY.format(package=package, newest=versions[0])}),
        "feed": watch["feed"].removeprefix(job.url).removesuffix(".atom"),
    }


def most_varied(job: Job) -> tuple[str, list[str]]:
    """The package of which most versions are shown, and these, the newest first."""
    found: dict[str, list[str]] = {}
    for each in document(job, "/v1/packages")["packages"]:
        package = f"{each['category']}/{each['name']}"
        shown = document(job, f"/v1/packages/{package}")["versions"]
        found[package] = [version["version"] for version in shown]
    return max(found.items(), key=lambda each: len(each[1]))


def make_repository(job: Job, root: Path, needed: str, versions: list[str]) -> None:
    """An ebuild repository with some packages of the fleet, of which some depend on `needed`."""
    (root / "profiles").mkdir(parents=True)
    (root / "profiles/repo_name").write_text("gentoo\n")
    for version in versions:
        add_ebuild(root, needed, version)
    for number, each in enumerate(document(job, f"/v1/categories/{DEPENDENT}")["most_installed"][:9]):
        package = f"{each['category']}/{each['name']}"
        newest = document(job, f"/v1/packages/{package}")["versions"][0]["version"]
        if package == needed:
            continue
        atom = f"={needed}-{versions[-1]}" if number % 3 else f"<{needed}-{versions[0]}"
        add_ebuild(root, package, newest, RDEPEND=f"X? ( {atom} )" if number % 2 else atom)


def add_ebuild(root: Path, package: str, version: str, **values: str) -> None:
    """An empty ebuild, and what the metadata cache says of it."""
    category, _, name = package.partition("/")
    for directory in (root / package, root / "metadata/md5-cache" / category):
        directory.mkdir(parents=True, exist_ok=True)
    (root / package / f"{name}-{version}.ebuild").touch()
    lines = {"EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", "DESCRIPTION": name, **values}
    text = "".join(f"{key}={value}\n" for key, value in sorted(lines.items()))
    (root / "metadata/md5-cache" / category / f"{name}-{version}").write_text(text)


def document(job: Job, path: str) -> dict[str, Any]:
    """A JSON document of the collector."""
    found = json.loads(page(job, path))
    assert isinstance(found, dict)
    return found


def take_all(job: Job, more: dict[str, str]) -> None:
    """Take every picture."""
    shown, looked_at = ROOT / "docs" / "pictures", ROOT / ".run" / "screenshots"
    shutil.rmtree(looked_at, ignore_errors=True)
    for directory in (shown, looked_at):
        directory.mkdir(parents=True, exist_ok=True)
    documented = {**DOCUMENTED, **more}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        for name, path in documented.items():
            size = {**DOCUMENT, "height": HEIGHTS.get(name, DOCUMENT["height"])}
            at = job.url + path + PLACES.get(name, "")
            take(browser, at, shown / f"{name}.png", size, "light", whole=False)
        terminal = job.home / "terminal.html"
        terminal.write_text(TERMINAL.format(command=html.escape(COMMAND), output=html.escape(predict(job))))
        take(
            browser,
            terminal.as_uri(),
            shown / "predict.png",
            {"width": 900, "height": 100},
            "dark",
            whole=True,
        )
        for name, path in {**documented, **OTHERS}.items():
            for width, scheme in product(WIDTHS, SCHEMES):
                path_of_it = looked_at / f"{name}-{width}-{scheme}.png"
                take(browser, job.url + path, path_of_it, {"width": width, "height": 900}, scheme, whole=True)
        browser.close()


def predict(job: Job) -> str:
    """What `gentwoo predict` says to the list on a machine that never built some of it."""
    while not document(job, "/v1/predictions")["packages"]:
        job.check()
        time.sleep(0.5)
    own = job.home / "emerge.log"
    lines = HISTORY.read_text().splitlines(keepends=True)
    own.write_text("".join(line for line in lines if not any(name in line for name in NEVER_BUILT)))
    (job.home / "machine").mkdir()
    job.config.write_text(f'collector = "{job.url}"\nlog = "{own}"\nstate_dir = "{job.home}/machine"\n')
    done = subprocess.run(
        [VENV / "bin/gentwoo", "--config", job.config, "predict"],
        input=PRETENDED,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "COLUMNS": "100"},
        check=False,
    )
    if done.returncode:
        raise CannotRun(f"gentwoo predict: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def take(browser: Browser, url: str, path: Path, size: dict[str, int], scheme: str, *, whole: bool) -> None:
    """Take a picture of a page."""
    options = {"viewport": size, "color_scheme": scheme}
    with browser.new_context(**options) as context:  # type: ignore[arg-type]
        opened = context.new_page()
        answer = opened.goto(url)
        if answer is not None and not answer.ok:
            raise CannotRun(f"{url}: {answer.status}")
        opened.screenshot(path=path, full_page=whole)
        print(path.relative_to(ROOT), flush=True)


if __name__ == "__main__":
    sys.exit(main())
