# SPDX-License-Identifier: GPL-2.0-or-later
"""`make test-packaging`: real emerge, OpenRC and systemd in throw-away roots.

First it is tried what this machine can do of that, and what it cannot is said with its reason: a container
may forbid namespaces, a network may have no Debian. Those tests are left out, all others have to pass.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dev.gentoo_root import RootFailed, base_root
from dev.places import PACKAGING, PKGCHECK, ROOT, VENV
from tests.packaging.boot import boot
from tests.packaging.container import Container

PKGCHECK_REQUIREMENT = "pkgcheck==0.10.37"  # later ones want a bash that Debian does not have
BOOT_TIMEOUT = 120.0
DEBIAN_PACKAGES = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "systemd-nspawn": "systemd-container",
}
PROBE = 'open("/root/probed", "w").write("booted")'


class Impossible(Exception):
    """This machine cannot do it; the text says why."""


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
    """Make the root, and see that something can be run in it. Raises `Impossible`."""
    if os.geteuid() != 0:
        raise Impossible("only root can")
    _install()
    try:
        base = base_root()
        with Container(base) as container:
            container.run("emerge", "--version")
    except (RootFailed, AssertionError, OSError) as error:
        raise Impossible(str(error)) from error


def nspawn() -> None:
    """See that a systemd boots here. Raises `Impossible`."""
    if shutil.which("systemd-nspawn") is None:
        raise Impossible("there is no systemd-nspawn")
    trial = PACKAGING / "trial"
    try:
        shutil.rmtree(trial, ignore_errors=True)
        _run("cp", "-a", "--reflink=auto", base_root(), trial)
        said = boot(trial, PROBE, timeout=BOOT_TIMEOUT)
        if not (trial / "root/probed").is_file():
            raise Impossible(f"systemd does not boot: {said[-500:]}")
    except (subprocess.TimeoutExpired, RootFailed, OSError) as error:
        raise Impossible(str(error)) from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _install() -> None:
    """Install Debian's packages for programs that are missing, where that is possible."""
    missing = [package for program, package in DEBIAN_PACKAGES.items() if not shutil.which(program)]
    if missing and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _run("apt-get", "update", "-qq", environment=environment)
        install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
        _run(*install, *missing, environment=environment)


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise Impossible(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout[-500:]}")


ABILITIES: dict[str, tuple[Callable[[], None], str]] = {
    "pkgcheck": (pkgcheck, "the overlay as pkgcheck sees it"),
    "root": (root, "emerge and OpenRC in a throw-away root"),
    "nspawn": (nspawn, "a booted systemd"),
}
"""What may be possible: how to find out, and what is tested with it. `nspawn` needs `root`."""


def abilities() -> list[str]:
    """What this machine can do; what it cannot is said."""
    able: list[str] = []
    for name, (find_out, what) in ABILITIES.items():
        try:
            if name == "nspawn" and "root" not in able:
                raise Impossible("there is no root to boot")
            find_out()
        except Impossible as error:
            print(f"test-packaging: NOT TESTED HERE: {what}: {error}", flush=True)
        else:
            print(f"test-packaging: {what}: can be tested here", flush=True)
            able.append(name)
    return able


def main() -> int:
    os.umask(0o022)
    able = abilities()
    if not able:
        return 0
    command = [str(VENV / "bin/python"), "-m", "pytest", "-p", "no:xdist", "tests/packaging"]
    environment = {**os.environ, "GENTWOO_PACKAGING": " ".join(able)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
