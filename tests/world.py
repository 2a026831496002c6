# SPDX-License-Identifier: GPL-2.0-or-later
"""Small Portage worlds, in which real `emerge` works on an ebuild repository of our own.

    world = World.create(tmp_path / "world")
    world.ebuild("app-misc/alpha-1.0")
    world.emerge("=app-misc/alpha-1.0")
    world.log.read_bytes()

A world is a Gentoo Prefix: PyPI's Portage in `.portage/` takes any directory as EPREFIX
(`PORTAGE_OVERRIDE_EPREFIX`) that has `share/portage`, so one installation serves many worlds side by side.
The log of a world is `WORLD/var/log/emerge.log` and prints its root as `WORLD/`, hence `eprefix = WORLD` for
a client. No sandbox and no privilege dropping: nothing here but what these ebuilds do, and Gentoo's sandbox
program is not on PyPI. A merge takes two to three seconds on one core, nearly all of it bash.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from dev.places import PORTAGE
from tests.waiting import until

FEATURES = (
    # what needs Gentoo's sandbox program, a second user or further namespaces
    "-sandbox -usersandbox -userpriv -userfetch -usersync "
    "-network-sandbox -ipc-sandbox -pid-sandbox -mount-sandbox "
    # what only takes time here: holding merges back, fsync, stripping and inspecting what was installed
    "-merge-wait -merge-sync -news -preserve-libs -protect-owned -xattr nostrip"
)
PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG")
TIMEOUT = 90
CATEGORIES = ("acct-group", "acct-user", "app-misc", "app-portage", "virtual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emerge:
    """One finished `emerge`."""

    returncode: int
    output: str


class RunningEmerge:
    """One `emerge` at work, in a process group of its own, as on a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def sigint(self) -> None:
        """What Ctrl-C does: SIGINT to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def sigkill(self) -> None:
        """End emerge and its children without a chance to log anything."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, timeout: float = TIMEOUT) -> Emerge:
        """Wait until it is over; raises `subprocess.TimeoutExpired` after killing it."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.sigkill()
            self.process.wait()
            raise
        return Emerge(returncode=code, output=self.output)


@dataclass(frozen=True, slots=True)
class World:
    """One Prefix with its repository, profile, package database, PKGDIR and log."""

    root: Path

    @classmethod
    def create(cls, root: Path, *, repository: str = "gentoo", group: str = "root") -> "World":
        """Make a world in the new directory `root`.

        `repository` is the name of its main repository; `group` the one that takes the place of `portage`
        (files such as emerge.log become accessible to it).
        """
        world = cls(root.resolve())
        world._make_profile(repository)
        world._make_configuration(repository, group)
        return world

    @property
    def log(self) -> Path:
        return self.root / "var/log/emerge.log"

    @property
    def pkgdir(self) -> Path:
        return self.root / "var/cache/binpkgs"

    @property
    def repository(self) -> Path:
        return self.root / "repo"

    @property
    def logged_root(self) -> str:
        """The world's own root as the log prints it."""
        return f"{self.root}/"

    @property
    def portage_bin(self) -> Path:
        """The directory of emerge, portageq and the others; they need `environment()`."""
        return PORTAGE / "bin"

    def settings_toml(self, *, collector: str, state_dir: Path, **more: str) -> str:
        """A client configuration for this world; `more` holds further settings, each as TOML text."""
        lines = [
            f'collector = "{collector}"',
            f'eprefix = "{self.root}"',
            f'portage_bin = "{self.portage_bin}"',
            f'state_dir = "{state_dir}"',
            *(f"{name} = {value}" for name, value in more.items()),
        ]
        return "\n".join(lines) + "\n"

    def ebuild(
        self,
        cpv: str,
        *,
        slot: str = "0",
        depend: str = "",
        rdepend: str = "",
        pdepend: str = "",
        keywords: str = "amd64",
        iuse: str = "",
        license: str = "public-domain",
        restrict: str = "",
        src_uri: str = "",
        phases: Mapping[str, str] | None = None,
    ) -> Path:
        """Write an ebuild that installs one small file, unless `phases` (name → shell) says otherwise."""
        category, pf = cpv.split("/")
        name = package_name(pf)
        functions = {"src_install": INSTALL_ONE_FILE, **(phases or {})}
        text = "\n".join(
            [
                "EAPI=8",
                f'DESCRIPTION="{name}, to be merged in tests"',
                'HOMEPAGE="https://example.org/"',
                f'SRC_URI="{src_uri}"',
                f'LICENSE="{license}"',
                f'SLOT="{slot}"',
                f'KEYWORDS="{keywords}"',
                f'IUSE="{iuse}"',
                f'RESTRICT="{restrict}"',
                f'DEPEND="{depend}"',
                f'RDEPEND="{rdepend}"',
                f'PDEPEND="{pdepend}"',
                'S="${WORKDIR}"',
                *(f"{phase}() {{\n{textwrap.indent(body, chr(9))}\n}}" for phase, body in functions.items()),
            ]
        )
        return self.write_ebuild(category, name, pf, text + "\n")

    def write_ebuild(self, category: str, name: str, pf: str, text: str) -> Path:
        """Put the text of an ebuild where Portage looks for it.

        Portage's cache holds an ebuild of the second in which it was last cached for the same one: so each
        new text is older than the one before.
        """
        path = self.repository / category / name / f"{pf}.ebuild"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = int(path.stat().st_mtime) if path.exists() else None
        path.write_text(text)
        if before is not None:
            os.utime(path, (before - 1, before - 1))
        return path

    def emerge(self, *arguments: str, check: bool = True, env: Mapping[str, str] | None = None) -> Emerge:
        """Run emerge to its end. Raises `AssertionError` with its output where `check` and it failed."""
        done = self.start_emerge(*arguments, env=env).wait()
        if check and done.returncode:
            raise AssertionError(f"emerge {' '.join(arguments)}: exit {done.returncode}\n{done.output}")
        return done

    def start_emerge(self, *arguments: str, env: Mapping[str, str] | None = None) -> RunningEmerge:
        """Start emerge and return at once."""
        output = self.root / f"var/tmp/emerge-{len(list(self.root.glob('var/tmp/emerge-*.out')))}.out"
        with output.open("wb") as stdout:
            process = subprocess.Popen(
                [self.portage_bin / "emerge", "--color=n", "--nospinner", *arguments],
                env={**self.environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return RunningEmerge(process, output)

    def environment(self) -> dict[str, str]:
        """What Portage's commands need in their environment to work on this world."""
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return {**passed_on, "PORTAGE_OVERRIDE_EPREFIX": str(self.root)}

    def until_logged(self, text: str, timeout: float = 60) -> None:
        """Wait until `text` stands in emerge.log."""
        until(
            lambda: self.log.exists() and text in self.log.read_text(errors="replace"),
            timeout,
            what=f"{text!r} in {self.log}",
        )

    def is_installed(self, cpv: str) -> bool:
        return (self.root / "var/db/pkg" / cpv).is_dir()

    @contextlib.contextmanager
    def binhost(self) -> Iterator[str]:
        """Serve PKGDIR over HTTP on loopback; yields the URL for PORTAGE_BINHOST."""
        handler = partial(QuietHandler, directory=str(self.pkgdir))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()

    def remove(self) -> None:
        shutil.rmtree(self.root)

    def _make_profile(self, repository: str) -> None:
        profiles = self.repository / "profiles"
        files = {
            profiles / "repo_name": f"{repository}\n",
            profiles / "eapi": "8\n",
            profiles / "arch.list": "amd64\n",
            profiles / "categories": "".join(f"{category}\n" for category in CATEGORIES),
            profiles / "profiles.desc": "amd64 default stable\n",
            profiles / "default/eapi": "8\n",
            profiles / "default/make.defaults": MAKE_DEFAULTS,
            self.repository / "metadata/layout.conf": LAYOUT,
        }
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.repository / "eclass").mkdir()

    def _make_configuration(self, repository: str, group: str) -> None:
        for directory in ("etc/portage/repos.conf", "share", "usr/bin", "var/log", "var/tmp", "var/db/pkg"):
            (self.root / directory).mkdir(parents=True)
        for cache in (self.pkgdir, self.root / "var/cache/distfiles"):
            cache.mkdir(parents=True)
        (self.root / "share/portage").symlink_to(PORTAGE / "share/portage")
        configuration = self.root / "etc/portage"
        (configuration / "make.profile").symlink_to(self.repository / "profiles/default")
        (configuration / "repos.conf/main.conf").write_text(
            f"[DEFAULT]\nmain-repo = {repository}\n\n"
            f"[{repository}]\nlocation = {self.repository}\nauto-sync = no\n"
        )
        (configuration / "make.conf").write_text(
            textwrap.dedent(
                f"""\
                FEATURES="{FEATURES}"
                CLEAN_DELAY=0
                DISTDIR="{self.root}/var/cache/distfiles"
                FETCHCOMMAND="{FETCH}"
                GENTOO_MIRRORS=""
                PKGDIR="{self.pkgdir}"
                PORTAGE_GRPNAME="{group}"
                PORTAGE_TMPDIR="{self.root}/var/tmp"
                PORTAGE_USERNAME="root"
                RESUMECOMMAND="{FETCH}"
                """
            )
        )


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing about it."""

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""


def package_name(pf: str) -> str:
    """The name in `pf`, name-version or name-version-revision, of the plain names that tests use."""
    words = pf.split("-")
    version = next(number for number, word in enumerate(words) if number and word[0].isdigit())
    return "-".join(words[:version])


INSTALL_ONE_FILE = """\
echo "${PF}" > "${T}/${PN}" || die
insinto "/usr/share/${PN}-${SLOT%/*}"
doins "${T}/${PN}\""""

FETCH = r"wget -q -t 1 -T 5 -O \"\${DISTDIR}/\${FILE}\" \"\${URI}\""

MAKE_DEFAULTS = """\
ARCH="amd64"
ACCEPT_KEYWORDS="amd64"
ACCEPT_LICENSE="*"
CHOST="x86_64-pc-linux-gnu"
ELIBC="glibc"
IUSE_IMPLICIT="amd64 prefix prefix-guest"
KERNEL="linux"
USERLAND="GNU"
"""

LAYOUT = """\
masters =
sign-manifests = false
thin-manifests = true
"""
