# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a root with its systemd, have it run one script, and wait until it has switched itself off."""

import os
import subprocess
from pathlib import Path

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


def boot(root: Path, script: str, *, timeout: float) -> str:
    """Return what was said. Raises `subprocess.TimeoutExpired`; the machine is then gone as well."""
    (root / "root/probe.py").write_text(script)
    # Debian's own, which knows no script of OpenRC's and fails.
    helper = root / "usr/lib/systemd/systemd-sysv-install"
    helper.unlink(missing_ok=True)
    helper.symlink_to("/bin/true")
    units = root / "etc/systemd/system"
    (units / "probe.service").write_text(UNIT)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    if not (wants / "probe.service").is_symlink():
        (wants / "probe.service").symlink_to("../probe.service")
    alone = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    nspawn = ["systemd-nspawn", "--register=no", "--keep-unit", "-q", "--boot", "--private-network"]
    done = subprocess.run(
        [*alone, "--mount-proc", "--propagation=private", *nspawn, f"--directory={root}"],
        env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    return done.stdout.decode(errors="replace")
