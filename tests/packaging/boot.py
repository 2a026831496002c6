# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a root with its systemd, have it run one script, and wait until it has switched itself off."""

import os
import subprocess

from tests.packaging.container import Container
from tests.packaging.layers import MOUNT, Layers

UNIT = """\
[Unit]
After=multi-user.target
[Service]
Type=exec
ExecStart=/usr/bin/python3 /root/probe.py
ExecStopPost=/usr/bin/systemctl poweroff --no-block
[Install]
WantedBy=multi-user.target
"""


# systemd would take the file systems of the root for its own, so its mounts are those of nobody else.
START = f"""\
set -e
{MOUNT}
exec systemd-nspawn --register=no --keep-unit -q --boot --private-network --directory="$1"
"""


def boot(layers: Layers, script: str, *, timeout: float) -> str:
    """Return what was said. Raises `subprocess.TimeoutExpired`; the machine is then gone as well."""
    with Container(layers) as container:
        _prepare(container, script)
    alone = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [
            *alone,
            "--mount-proc",
            "--propagation=private",
            "sh",
            "-c",
            START,
            "sh",
            str(layers.root),
            layers.options,
        ],
        env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    return done.stdout.decode(errors="replace")


def _prepare(container: Container, script: str) -> None:
    container.path("/root/probe.py").write_text(script)
    # Debian's own, which knows no script of OpenRC's and fails.
    helper = container.path("/usr/lib/systemd/systemd-sysv-install")
    helper.unlink(missing_ok=True)
    helper.symlink_to("/bin/true")
    units = container.path("/etc/systemd/system")
    (units / "probe.service").write_text(UNIT)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "probe.service").symlink_to("../probe.service")
