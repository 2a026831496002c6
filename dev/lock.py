# SPDX-License-Identifier: GPL-2.0-or-later
"""`make lock`: write the lock files anew, with hashes, for every supported Python, without index hosts.

Needs uv, which is installed from PyPI into a throw-away environment, since only this command wants it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from dev.places import CLIENT_LOCK, CONTAINER_LOCK, LOCK, ROOT

HEADER = (
    "# Written by `make lock`. Every file with its hash; where to fetch them is the machine's own business.\n"
)
OPTIONS = (
    "--quiet",
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-header",
    "--no-emit-index-url",
    "--no-emit-find-links",
)


def compile_lock(uv: Path, target: Path, *sources: str) -> None:
    """Resolve `sources` into `target`; raises CalledProcessError where that is impossible."""
    text = subprocess.run(
        [uv, "pip", "compile", *OPTIONS, *sources], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    target.write_text(HEADER + text)


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([f"{directory}/bin/pip", "install", "--quiet", "uv"], check=True)
        uv = Path(directory, "bin/uv")
        served = [f"--extra={name}" for name in ("collector", "postgresql", "amqp", "s3")]
        compile_lock(uv, LOCK, *served, "--extra=test", "--extra=dev", "setup.cfg", "dev/client-tests.in")
        compile_lock(uv, CONTAINER_LOCK, *served, f"--constraint={LOCK.name}", "setup.cfg")
        compile_lock(uv, CLIENT_LOCK, f"--constraint={LOCK.name}", "setup.cfg", "dev/client-tests.in")
    return 0


if __name__ == "__main__":
    sys.exit(main())
