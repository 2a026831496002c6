# SPDX-License-Identifier: GPL-2.0-or-later
"""Bringing the directory of an ebuild repository up to date, by git or rsync as commands.

What comes is somebody else's: no hook, filter, submodule or configuration of it runs, symbolic links become
plain files (git) or stay away (rsync), nobody is asked for a password, and everything has a time limit.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from bdcs.domain.ebuild_repositories import SyncType
from bdcs.errors import RepositoryRefused, SyncFailed
from bdcs.services.repositories import Repository

GIT_LIMIT: Final = 1800.0
"""Seconds; the first clone of ::gentoo takes some minutes."""
RSYNC_LIMIT: Final = 3600.0
SHORT_LIMIT: Final = 60.0  # seconds of what needs no network
SILENCE: Final = 180  # seconds that a server may say nothing
LARGEST_FILE: Final = "8m"  # rsync: no file of an ebuild repository is larger
TOLD: Final = 1000  # characters of what a command said that are passed on
LOOK: Final = 0.1  # seconds between two looks whether to stop

_GIT_SETTINGS: Final = (
    "core.hooksPath=/dev/null",
    "core.symlinks=false",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "gc.autoDetach=false",
    "http.followRedirects=initial",
    f"http.lowSpeedTime={SILENCE}",
    "http.lowSpeedLimit=1",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "submodule.recurse=false",
    "transfer.fsckObjects=true",
)
_RSYNC_OPTIONS: Final = (
    "--recursive",
    "--no-links",
    "--times",
    "--chmod=D755,F644",
    "--delete",
    "--force",
    "--whole-file",
    f"--max-size={LARGEST_FILE}",
    f"--timeout={SILENCE}",
    "--contimeout=30",
    "--exclude=/.git",
    "--exclude=/distfiles",
    "--exclude=/packages",
)


def sync(repository: Repository, stopping: threading.Event) -> None:
    """Bring its directory up to date; a local one is taken as it is. Ended early when `stopping` is set.

    Raises `SyncFailed`, `RepositoryRefused` where the directory is somebody else's.
    """
    if repository.sync_type is SyncType.GIT:
        _git(repository, stopping)
    elif repository.sync_type is SyncType.RSYNC:
        _rsync(repository, stopping)


def revision(repository: Repository, stopping: threading.Event) -> str | None:
    """Return the commit that its directory holds; None where it is not one that was synced by git.

    Raises `SyncFailed`.
    """
    if repository.sync_type is not SyncType.GIT:
        return None
    return _run([*_git_command(repository.location), "rev-parse", "HEAD"], SHORT_LIMIT, stopping).strip()


def _git(repository: Repository, stopping: threading.Event) -> None:
    location, uri = repository.location, repository.sync_uri
    if not (location / ".git").is_dir():
        _require_empty(location)
        location.mkdir(mode=0o755, parents=True, exist_ok=True)
        _run(
            [*_git_command(location), "init", "--quiet", "--template=", "--initial-branch=main"],
            SHORT_LIMIT,
            stopping,
        )
    git = _git_command(location)
    fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--update-shallow"]
    _run([*git, *fetch, "--", uri, "HEAD"], GIT_LIMIT, stopping)
    _run([*git, "reset", "--quiet", "--hard", "FETCH_HEAD"], GIT_LIMIT, stopping)


def _git_command(location: Path) -> list[str]:
    settings = [word for setting in _GIT_SETTINGS for word in ("-c", setting)]
    return ["git", *settings, "-C", str(location)]


def _rsync(repository: Repository, stopping: threading.Event) -> None:
    location = repository.location
    if not (location / "profiles").is_dir():
        _require_empty(location)
    location.mkdir(mode=0o755, parents=True, exist_ok=True)
    source = repository.sync_uri.rstrip("/") + "/"
    _run(["rsync", *_RSYNC_OPTIONS, "--", source, f"{location}/"], RSYNC_LIMIT, stopping)


def _require_empty(location: Path) -> None:
    """See that nothing is lost when a repository is put there. Raises `RepositoryRefused`."""
    try:
        is_empty = not any(location.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise SyncFailed(f"{location}: {error.strerror}") from error
    if not is_empty:
        raise RepositoryRefused(f"{location} holds something else; it would be overwritten")


def _run(argv: Sequence[str], limit: float, stopping: threading.Event) -> str:
    """Run a command to its end and return what it printed. Raises `SyncFailed`."""
    program = shutil.which(argv[0])
    if program is None:
        raise SyncFailed(f"the command {argv[0]} is not installed")
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=messages,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
        try:
            _wait(process, limit, stopping)
        finally:
            _end(process)
        if process.returncode:
            raise SyncFailed(f"{argv[0]}: {_told(messages) or f'exit code {process.returncode}'}")
        return _told(output)


def _wait(process: subprocess.Popen[bytes], limit: float, stopping: threading.Event) -> None:
    deadline = time.monotonic() + limit
    while True:
        try:
            process.wait(LOOK)
            return
        except subprocess.TimeoutExpired:
            if stopping.is_set():
                raise SyncFailed("interrupted, since the collector stops") from None
            if time.monotonic() > deadline:
                raise SyncFailed(f"ended after {limit:.0f} seconds") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """See that nothing of the command is left, also not its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _told(file: IO[bytes]) -> str:
    """The end of what a command said, in one line."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - TOLD, 0))
    return " ".join(file.read().decode("utf-8", "replace").split())


def _environment() -> dict[str, str]:
    """Next to nothing of ours; a proxy and the ssh agent's socket are needed to get out."""
    passed_on = ("PATH", "HOME", "SSH_AUTH_SOCK", "http_proxy", "https_proxy", "no_proxy")
    kept = {name: os.environ[name] for name in passed_on if name in os.environ}
    return {
        **kept,
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=30",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
