# SPDX-License-Identifier: GPL-2.0-or-later
"""`make dist`: wheel and source archive of what is committed, the same bytes wherever they are made.

All times are that of the last commit that changed anything but the overlay. The Manifests of the ebuilds of
this version are written as well: those name the source archive, which therefore does not hold the overlay.
Commit them alone, and the archive of that commit is the one that they name; `make test-packaging` sees to it.
"""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from dev.places import ROOT, VENV
from gentwoo_client.version import VERSION

DIST = ROOT / "dist"
PACKAGES = ("app-portage/bdcs", "app-portage/gentwoo")


def build(output: Path, commit: str = "HEAD") -> tuple[Path, Path]:
    """Write source archive and wheel of a commit into `output`. Raises CalledProcessError."""
    epoch = int(git("log", "-1", "--format=%ct", commit, "--", ".", ":(exclude)ebuild"))
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / f"gentwoo-{VERSION}"
        tree.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(tree, filter="data")
        return build_tree(tree, epoch, output)


def build_tree(tree: Path, epoch: int, output: Path) -> tuple[Path, Path]:
    """Write source archive and wheel of `tree` into `output`, everything as old as `epoch`."""
    output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        command = [f"{VENV}/bin/python", "-m", "build", "--no-isolation", "--outdir", directory, str(tree)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        (source,), (wheel,) = Path(directory).glob("*.tar.gz"), Path(directory).glob("*.whl")
        (output / wheel.name).write_bytes(wheel.read_bytes())
        (output / source.name).write_bytes(normalised(source, epoch))
    return output / source.name, output / wheel.name


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def normalised(archive: Path, epoch: int) -> bytes:
    """The same files in order of name, of one time and nobody in particular."""
    result = io.BytesIO()
    with (
        tarfile.open(archive) as old,
        gzip.GzipFile(fileobj=result, mode="wb", filename="", mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.pax_headers = {}
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return result.getvalue()


def manifest_line(archive: Path) -> str:
    """What a thin Manifest says of a distfile (GLEP 74)."""
    content = archive.read_bytes()
    blake2b, sha512 = hashlib.blake2b(content).hexdigest(), hashlib.sha512(content).hexdigest()
    return f"DIST {archive.name} {len(content)} BLAKE2B {blake2b} SHA512 {sha512}\n"


def main() -> int:
    if git("status", "--porcelain", "--untracked-files=no"):
        print("dist: what is not committed is left out", file=sys.stderr)
    source, wheel = build(DIST)
    for package in PACKAGES:
        (ROOT / "ebuild" / package / "Manifest").write_text(manifest_line(source))
    for path in (source, wheel):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
