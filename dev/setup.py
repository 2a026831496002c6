# SPDX-License-Identifier: GPL-2.0-or-later
"""`make setup`: give this clone everything that its other commands need.

Each step has a stamp: a digest of what the step was made from. A step whose stamp still fits costs nothing,
so a second run only compares digests. On a Debian machine, as root, missing Debian packages are installed
first; elsewhere they are named, and the tests that need them will say so.

Standard library only: this runs before anything is installed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from dev.places import (
    CLIENT_LOCK,
    LOCK,
    NODE,
    PORTAGE,
    ROOT,
    USER_PYTHON,
    VENV,
    client_venv,
    find_interpreter,
    user_venv,
)
from dev.quietly import quietly

STAMP = ".setup-stamp"
OTHER_PYTHONS = ("3.12", "3.13")
PORTAGE_REQUIREMENT = "portage==3.0.83"

DEBIAN_PACKAGES = {
    "bwrap": "bubblewrap",
    "chromium": "chromium",
    "gcc": "gcc",
    "git": "git",
    "gpg": "gpg",
    "gpg-agent": "gpg-agent",
    "gpgconf": "gpgconf",
    "gpgv": "gpgv",
    "nginx": "nginx-light",
    "npm": "npm",
    "ps": "procps",
    "rsync": "rsync",
    "runuser": "util-linux",
    "wget": "wget",
    "bzip2": "bzip2",
    "zstd": "zstd",
}
"""Program that must be on PATH → the Debian package that has it."""

ENGINE_PACKAGES = {
    "docker-compose": "docker-compose",
    "haproxy": "haproxy",
    "initdb": "postgresql",
    "ip": "iproute2",
    "promtool": "prometheus",
    "rabbitmq-server": "rabbitmq-server",
    "ruby": "ruby",
}
"""What `make test-engines` and `make run-cluster` need besides, and nothing else does."""

PLACES = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
)
"""Where programs are looked for: Debian keeps those of PostgreSQL's server beside PATH."""


class SetupFailed(Exception):
    """A step could not be done; the text says which command failed and what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One directory to make, from inputs whose digest tells whether it is still right."""

    name: str
    directory: Path
    inputs: tuple[str, ...]
    make: Callable[[], None]

    def digest(self) -> str:
        return hashlib.sha256("\0".join(self.inputs).encode()).hexdigest()

    @property
    def stamp(self) -> Path:
        return self.directory / STAMP

    def is_done(self) -> bool:
        return self.stamp.is_file() and self.stamp.read_text() == self.digest()

    def run(self) -> None:
        self.stamp.unlink(missing_ok=True)
        self.make()
        self.stamp.write_text(self.digest())


def call(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run `command`, silent unless it fails; raises `SetupFailed` with what it printed."""
    code, output = quietly(*command, cwd=cwd)
    if code:
        raise SetupFailed(f"{' '.join(map(str, command))}\n{output}")


def make_venv(python: Path | str, directory: Path, requirements: Sequence[str | Path]) -> None:
    """A virtual environment of `python` in `directory`, with `requirements` (arguments of pip install)."""
    if not works(directory / "bin/python"):
        shutil.rmtree(directory, ignore_errors=True)
        call(python, "-m", "venv", directory)
    call(directory / "bin/python", "-m", "pip", "install", "--quiet", *requirements)


def works(python: Path) -> bool:
    """Whether this interpreter still starts (its base may have been removed since)."""
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def locked(lock: Path) -> list[str | Path]:
    """pip's arguments for exactly what `lock` says, each file with its hash."""
    return ["--require-hashes", "--no-deps", "-r", lock]


def make_main() -> None:
    """`.venv`: client, collector, tests and tools, with the tree itself installed editable."""
    make_venv(sys.executable, VENV, locked(LOCK))
    pip = (VENV / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    # By a .pth file that holds a path; the finder that setuptools would write takes longer than a bare start.
    call(*pip, "--config-settings", "editable_mode=compat", "-e", ROOT)


def make_client_venv(python: Path, directory: Path) -> None:
    """The client's dependencies and test tools under another interpreter; the tree itself by a .pth file."""
    make_venv(python, directory, locked(CLIENT_LOCK))
    for packages in directory.glob("lib/python3*/site-packages"):
        (packages / "gentwoo.pth").write_text(f"{ROOT}\n")


def make_user_venv(directory: Path) -> None:
    """The client's dependencies where an ordinary user may enter; the tests bring the code themselves."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    make_venv(USER_PYTHON, directory, locked(CLIENT_LOCK))


def make_node() -> None:
    """`.node/`: what browser tests load into pages, as dev/node/package-lock.json says."""
    NODE.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "dev/node" / name, NODE / name)
    call("npm", "ci", "--silent", "--no-audit", "--no-fund", cwd=NODE)


def steps() -> Iterable[Step]:
    """Every directory that this machine can have; what it cannot have is said and left out."""
    lock, client_lock = LOCK.read_text(), CLIENT_LOCK.read_text()
    metadata = (ROOT / "setup.cfg").read_text().partition("[tool:pytest]")[0]
    yield Step(name=".venv", directory=VENV, inputs=(sys.version, lock, metadata), make=make_main)
    yield Step(
        name=".portage",
        directory=PORTAGE,
        inputs=(sys.version, PORTAGE_REQUIREMENT),
        make=partial(make_venv, sys.executable, PORTAGE, [PORTAGE_REQUIREMENT]),
    )
    for version in OTHER_PYTHONS:
        python, directory = find_interpreter(version), client_venv(version)
        if python is None:
            say(f"no Python {version} here: the client's tests under it will be skipped")
            continue
        yield Step(
            name=directory.name,
            directory=directory,
            inputs=(str(python), client_lock, str(ROOT)),
            make=partial(make_client_venv, python, directory),
        )
    if os.geteuid() == 0 and USER_PYTHON.exists():
        directory = user_venv()
        yield Step(
            name=str(directory),
            directory=directory,
            inputs=(client_lock,),
            make=partial(make_user_venv, directory),
        )
    if shutil.which("npm"):
        package_lock = (ROOT / "dev/node/package-lock.json").read_text()
        yield Step(name=".node", directory=NODE, inputs=(package_lock,), make=make_node)


def missing_debian_packages(wanted: Mapping[str, str]) -> list[str]:
    """Debian packages for the programs that are `wanted` and this machine does not have."""
    missing = [package for program, package in wanted.items() if not shutil.which(program, path=PLACES)]
    if USER_PYTHON.exists() and not has_ensurepip(USER_PYTHON):
        missing.append("python3-venv")
    return missing


def has_ensurepip(python: Path) -> bool:
    """Whether `python` can make virtual environments; Debian packs that apart."""
    for library in Path("/usr/lib").glob("python3.*/ensurepip"):
        if library.parent.name == python.resolve().name:
            return True
    return False


def install_debian_packages(wanted: Mapping[str, str]) -> None:
    """Install what is missing where that is possible, else name it and go on."""
    missing = missing_debian_packages(wanted)
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        say(f"missing here, and needed by some tests (names of Debian's packages): {names}")
        return
    say(f"installing Debian packages: {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
    ):
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            say(f"{' '.join(command)} failed; going on without.\n{done.stderr}")


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def run_step(step: Step) -> str | None:
    """Do one step; the text of its failure, or None."""
    say(f"making {step.name}")
    try:
        step.run()
    except (SetupFailed, OSError) as error:
        return f"{step.name}: {error}"
    return None


def take_turn(lock: IO[str]) -> None:
    """Wait until no other is at work in this clone."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another `make` that sets this clone up")
        fcntl.flock(lock, fcntl.LOCK_EX)


def main(arguments: Sequence[str]) -> int:
    """Bring the clone up to date, with `engines` for all engines; 0 when everything possible is there."""
    os.umask(0o022)  # the ordinary user of the tests has to enter what is made here
    with (ROOT / ".setup.lock").open("w") as lock:
        take_turn(lock)
        install_debian_packages(DEBIAN_PACKAGES | (ENGINE_PACKAGES if "engines" in arguments else {}))
        pending = [step for step in steps() if not step.is_done()]
        with ThreadPoolExecutor(max_workers=2) as pool:
            failures = [failure for failure in pool.map(run_step, pending) if failure]
    if (VENV / "bin/python").exists():
        # As what is installed has it; else each start compiles anew where PYTHONDONTWRITEBYTECODE is set.
        call(VENV / "bin/python", "-m", "compileall", "-q", ROOT / "gentwoo_client", ROOT / "bdcs")
    for failure in failures:
        say(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted; the next `make` goes on from here")
        sys.exit(130)
