# SPDX-License-Identifier: GPL-2.0-or-later
"""`make test-packaging`: real emerge, OpenRC and systemd in throw-away roots.

First it is tried what this machine can do of that. What it cannot is said with its reason, before the tests
and once more after them, and is left out: a container may forbid namespaces, a network may have no Debian.
Exit code 0: all that can be tested here passed, be it much or little. Anything else: a test failed, or the
root could not be made although this machine has everything for it.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.dist import git
from dev.gentoo_root import RootFailed, Unavailable, base_root, remove
from dev.places import PACKAGING, PKGCHECK, ROOT, VENV
from dev.quietly import quietly
from tests.packaging.boot import boot
from tests.packaging.container import Container
from tests.packaging.layers import Layers

PKGCHECK_REQUIREMENT = "pkgcheck==0.10.37"  # later ones want a bash that Debian does not have
BOOT_TIMEOUT = 300.0
DEBIAN_PACKAGES = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "systemd-nspawn": "systemd-container",
}
PROBE = 'open("/root/probed", "w").write("booted")'


class Impossible(Exception):
    """This machine cannot do it; the text says why."""


def history() -> None:
    """See that the commits are there of which the Manifests speak. Raises `Impossible`."""
    try:
        if git("rev-parse", "--is-shallow-repository").strip() != "false":
            raise Impossible("this clone is shallow")
    except (subprocess.CalledProcessError, OSError) as error:
        raise Impossible(f"no clone of git: {error}") from error


def pkgcheck() -> None:
    """Make `.pkgcheck/venv`. Raises `Impossible`."""
    program = PKGCHECK / "venv/bin/pkgcheck"
    if program.is_file():
        return
    shutil.rmtree(PKGCHECK, ignore_errors=True)
    PKGCHECK.mkdir()
    _run(sys.executable, "-m", "venv", PKGCHECK / "venv")
    _run(PKGCHECK / "venv/bin/python", "-m", "pip", "install", "--quiet", PKGCHECK_REQUIREMENT)


def root() -> None:
    """Make the root, and see that something can be run in it. Raises `Impossible`, and `RootFailed`."""
    if os.geteuid() != 0:
        raise Impossible("only root can")
    _install()
    try:
        base_root()
    except Unavailable as error:
        raise Impossible(str(error)) from error
    _try_in_root("true")


def traces() -> None:
    """See that strace may look into what runs in a root. Raises `Impossible`."""
    _try_in_root("runuser", "-u", "nobody", "--", "strace", "-D", "-f", "-o", "/dev/null", "true")


def nspawn() -> None:
    """See that a systemd boots here. Raises `Impossible`."""
    try:
        with _trial() as layers:
            said = boot(layers, PROBE, timeout=BOOT_TIMEOUT)
            if not (layers.changes / "root/probed").is_file():
                raise Impossible(f"systemd does not boot: {said[-500:]}")
    except (subprocess.TimeoutExpired, AssertionError, OSError) as error:
        raise Impossible(str(error)) from error


def _try_in_root(*command: str) -> None:
    try:
        with _trial() as layers, Container(layers) as container:
            container.run(*command)
    except (AssertionError, OSError) as error:
        raise Impossible(str(error)) from error


@contextmanager
def _trial() -> Iterator[Layers]:
    """A root to try things in."""
    directory = PACKAGING / "trial"
    remove(directory)
    try:
        yield Layers.over((base_root(),), directory)
    finally:
        remove(directory)


def _install() -> None:
    """Install Debian's packages for programs that are missing. Raises `Impossible`."""
    missing = [package for program, package in DEBIAN_PACKAGES.items() if not shutil.which(program)]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Impossible(f"missing here (names of Debian's packages): {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ("apt-get", "-qq", "-o", "Acquire::Retries=5")
    _run(*apt, "update", environment=environment)
    _run(*apt, "install", "-y", "--no-install-recommends", *missing, environment=environment)


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    code, output = quietly(*command, environment=environment)
    if code:
        raise Impossible(f"{' '.join(map(str, command))} ended with {code}: {output[-500:]}")


ABILITIES: dict[str, tuple[Callable[[], None], str, str]] = {
    "history": (history, "", "the release's Manifests"),
    "pkgcheck": (pkgcheck, "", "the overlay as pkgcheck sees it"),
    "root": (root, "", "emerge and OpenRC in a throw-away root"),
    "traces": (traces, "root", "which files the daemon opens"),
    "nspawn": (nspawn, "root", "a booted systemd"),
}
"""What may be possible: how to find out, what it needs besides, and what is tested with it."""


def abilities() -> tuple[list[str], list[str]]:
    """What this machine can do, and a line about each thing that it cannot. Raises `RootFailed`."""
    able: list[str] = []
    unable: list[str] = []
    for name, (find_out, needed, what) in ABILITIES.items():
        try:
            if needed and needed not in able:
                raise Impossible("there is no root")
            find_out()
        except Impossible as error:
            unable.append(f"NOT TESTED HERE: {what}: {error}")
            say(unable[-1])
        else:
            say(f"{what}: can be tested here")
            able.append(name)
    return able, unable


def say(text: str) -> None:
    print(f"test-packaging: {text}", flush=True)


def run_tests(able: list[str]) -> int:
    """Run the tests of these abilities; return pytest's exit code."""
    command = [str(VENV / "bin/python"), "-m", "pytest", "-p", "no:xdist", "tests/packaging"]
    environment = {**os.environ, "GENTWOO_PACKAGING": " ".join(able)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def main() -> int:
    os.umask(0o022)
    PACKAGING.mkdir(exist_ok=True)
    with (PACKAGING / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            for left in PACKAGING.glob("work-*"):
                remove(left)
            able, unable = abilities()
        except RootFailed as error:
            say(f"the root could not be made: {error}")
            return 1
        code = run_tests(able) if able else 0
    for line in unable:
        say(line)
    return code


if __name__ == "__main__":
    sys.exit(main())
