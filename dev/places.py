# SPDX-License-Identifier: GPL-2.0-or-later
"""Where `make setup` puts things, for the scripts behind make and for the tests."""

import hashlib
import os
import shutil
import stat
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PORTAGE = ROOT / ".portage"
NODE = ROOT / ".node"
PACKAGING = ROOT / ".packaging"
PKGCHECK = ROOT / ".pkgcheck"
LOCK = ROOT / "requirements.lock"
CLIENT_LOCK = ROOT / "requirements-client.lock"
CONTAINER_LOCK = ROOT / "deploy/container/requirements.lock"
USER_PYTHON = Path("/usr/bin/python3")
"""An interpreter that every user may start, unlike one under root's home."""


def client_venv(version: str) -> Path:
    """The client's environment under Python `version`, such as "3.12"."""
    return ROOT / f".venv-{version}"


def user_venv() -> Path:
    """The environment for tests that run as an ordinary user: in the clone where such a user may enter it,
    else under /var/tmp."""
    if may_enter(ROOT):
        return ROOT / ".venv-user"
    return Path("/var/tmp") / f"gentwoo-{hashlib.sha256(bytes(ROOT)).hexdigest()[:12]}" / "venv"


def may_enter(directory: Path) -> bool:
    """Whether everybody may pass through `directory` and all directories above it."""
    return all(
        path.stat().st_mode & stat.S_IXOTH and path.stat().st_mode & stat.S_IROTH
        for path in (directory, *directory.parents)
    )


def find_interpreter(version: str) -> Path | None:
    """A Python of this minor version: the newest of pyenv, else the one on PATH (a shim is none)."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/{version}.*/bin/python"))
    if found:
        return found[-1]
    command = shutil.which(f"python{version}")
    if command is None or "shims" in Path(command).parts:
        return None
    return Path(command)
