# SPDX-License-Identifier: GPL-2.0-or-later
"""What root does in the collector's directory leaves nothing behind that its owner cannot use."""

import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages import make_gpkg
from tests.processes import run
from tests.signing import short_directory

COMMANDS = """
import os, sys
from bdcs.cli import main

package = sys.argv[1]
for data in sys.argv[2:]:  # the first is root's own: what it loads, the owner of the next need not be able to
    for words in (
        ["schema", "upgrade"],
        ["serve", "--check"],
        ["target", "add", "amd64", "--chost", "x86_64-pc-linux-gnu", "--profile", "default",
         "--cflags=-O2", "--signatures", "optional"],
        ["publish", package, "--target", "amd64"],
        ["prune", "--builds"],
        ["check"],
    ):
        code = main([*words, "--data", data])
        if code:
            sys.exit(f"{words}: {code}")
print("at last", os.geteuid(), os.getegid(), os.getuid(), os.environ["HOME"])
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as directory:
        directory.chmod(0o755)
        yield directory


def test_root_becomes_the_owner_of_the_data_directory(directory: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    own, others = directory / "own", directory / "others"
    for data in (own, others):
        data.mkdir(mode=0o700)
    os.chown(others, nobody.pw_uid, nobody.pw_gid)
    package = make_gpkg(directory / "alpha-1.0.gpkg.tar", build_id=1)
    package.chmod(0o644)
    done = run([sys.executable, "-c", COMMANDS, package, own, others], check=True)
    # libpq and boto3 look for passwords and certificates in HOME; that of root they cannot enter any more.
    assert f"at last {nobody.pw_uid} {nobody.pw_gid} {nobody.pw_uid} {nobody.pw_dir}\n" in done.stdout
    there = list(others.rglob("*"))
    assert others / "binhost/amd64/Packages" in there
    assert {path.stat().st_uid for path in there} == {nobody.pw_uid}
    assert {path.stat().st_uid for path in own.rglob("*")} == {0}
