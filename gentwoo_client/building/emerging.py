# SPDX-License-Identifier: GPL-2.0-or-later
"""Running emerge on this terminal, as whoever runs us."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence

from gentwoo_client.errors import DONE, FAILED, NoPermission, NotConfigured
from gentwoo_client.privileges import command_as
from gentwoo_client.settings import Settings

INTERRUPTED = 130
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def check_may_merge(settings: Settings) -> None:
    """See that this user may install packages, before anybody waits for them. Raises `NoPermission`."""
    database = f"{settings.eprefix}/var/db/pkg"
    if os.path.isdir(database) and not os.access(database, os.W_OK, effective_ids=True):
        raise NoPermission(
            f"{database}: this user may not install packages", advice=f"use `{command_as('root')}`"
        )


def run_emerge(settings: Settings, words: Sequence[str]) -> int:
    """Run `emerge WORDS` to its end; return the exit code that this means for us. Raises `NotConfigured`."""
    emerge = settings.portage_bin / "emerge"
    print(f">>> {shlex.join(['emerge', *words])}", flush=True)
    sys.stderr.flush()
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    try:
        process = subprocess.Popen([emerge, *words], env=environment)
    except OSError as error:
        raise NotConfigured(
            f"{emerge}: {error.strerror}", advice="set `portage_bin` to the directory of Portage's commands"
        ) from None
    code = _wait(process)
    if code in (-signal.SIGINT, INTERRUPTED):
        return INTERRUPTED
    return DONE if code == 0 else FAILED


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for its end; Ctrl-C is emerge's, which is told by the terminal and cleans up."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
