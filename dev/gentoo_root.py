# SPDX-License-Identifier: GPL-2.0-or-later
"""A root file system to merge our packages into, as near to Gentoo as PyPI and Debian allow.

Debian 13 with OpenRC, systemd and Python 3.13 (the first of Debian's that an ebuild may name), PyPI's Portage
in `/opt/portage`, and the libraries of the collector, which on Gentoo would be packages of their own. It is
made once, in `.packaging/`; tests work on copies. Needs root, since nobody else can make one.
"""

import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from dev.places import LOCK, PACKAGING, PORTAGE, VENV, client_venv
from dev.quietly import quietly

PYTHON = "3.13"
PYINOTIFY = "pyinotify==0.9.6"
SUITE = "trixie"
PACKAGES = (
    "bubblewrap busybox-syslogd bzip2 cron dbus file fish git gpg gpg-agent gpgv groff-base iproute2"
    " libxml2-utils mandoc openrc patch procps python3 python3-pip python3-setuptools python3-wheel"
    " shellcheck strace systemd util-linux wget xz-utils zsh zstd"
)
ATTEMPTS = 3
FALLBACK_MIRROR = "http://deb.debian.org/debian"


class RootFailed(Exception):
    """The root could not be made; the text says why."""


class Unavailable(RootFailed):
    """What it is made of, or the right to make it, is not to be had here."""


def base_root() -> Path:
    """Return the root, made if need be. Raises `RootFailed`, or `Unavailable`."""
    root, stamp = PACKAGING / "root", PACKAGING / "root.stamp"
    made_from = "\n".join([SUITE, PACKAGES, LOCK.read_text(), Path(__file__).read_text()])
    if stamp.is_file() and stamp.read_text() == made_from:
        return root
    if os.geteuid() != 0:
        raise Unavailable("only root can make a root file system with other users' files")
    if not client_venv(PYTHON).is_dir():
        raise Unavailable(f"there is no Python {PYTHON} to fetch the libraries for the root with")
    stamp.unlink(missing_ok=True)
    remove(root)
    PACKAGING.mkdir(exist_ok=True)
    _debian(root)
    _libraries(root)
    _portage(root)
    _distfiles(root)
    _system(root)
    stamp.write_text(made_from)
    return root


def remove(directory: Path) -> None:
    """Remove a directory with everything in it. Raises `RootFailed` where something is mounted there."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [mount for mount in mounts if mount == str(directory) or mount.startswith(f"{directory}/")]
    if inside:
        raise RootFailed(f"{', '.join(inside)}: mounted, so {directory} is not removed")
    if directory.exists():
        shutil.rmtree(directory)


def _debian(root: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise Unavailable("there is no mmdebstrap")
    # What it mounts is seen by nobody else, and is gone with it, however it ends.
    alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private")
    options = (
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES.split())}",
        '--aptopt=Acquire::Retries "5"',
        "--dpkgopt=force-unsafe-io",
    )
    for attempt in range(1, ATTEMPTS + 1):
        remove(root)
        try:
            _run(*alone, "mmdebstrap", *options, SUITE, root, _mirror())
        except RootFailed as error:
            if attempt == ATTEMPTS:
                raise Unavailable(str(error)) from error
        else:
            return


def _mirror() -> str:
    """Where this machine gets Debian from; another place may be out of reach."""
    for path in sorted(Path("/etc/apt").glob("sources.list*")) + sorted(
        Path("/etc/apt/sources.list.d").glob("*")
    ):
        if path.is_file():
            for url in re.findall(r"https?://\S+", path.read_text()):
                if re.search(r"/debian/?$", url):
                    return str(url)
    return FALLBACK_MIRROR


def _libraries(root: Path) -> None:
    """What the client and the collector import: the client's from its test environment, the rest fetched."""
    source = next(client_venv(PYTHON).glob("lib/python3*/site-packages"))
    target = root / f"usr/local/lib/python{PYTHON}/dist-packages"
    shutil.copytree(
        source,
        target,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("gentwoo*", "pip*", "pyinotify*", "__pycache__"),
    )
    there = {_normal(path.name.partition("-")[0]) for path in target.glob("*.dist-info")}
    wanted = PACKAGING / "libraries.lock"
    wanted.write_text("".join(text for name, text in _locked() if name in _closure() - there - {"pyinotify"}))
    pip = (client_venv(PYTHON) / "bin/python", "-m", "pip", "install", "--quiet", "--target", target)
    _run(*pip, "--no-deps", "--require-hashes", "-r", wanted)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _locked() -> list[tuple[str, str]]:
    """Name and text of each entry of the lock file."""
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK.read_text(), flags=re.MULTILINE)[1:]
    return [(_normal(re.split(r"[=\[ ]", entry, maxsplit=1)[0]), entry) for entry in entries]


def _closure() -> set[str]:
    """Everything that the collector needs, by the metadata of what is installed here."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement("gentwoo[collector]"), Requirement("greenlet")]
    while todo:
        requirement = todo.pop()
        key = (_normal(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            texts = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            continue
        for needed in map(Requirement, texts):
            environments = [
                {"extra": extra, "python_version": PYTHON} for extra in requirement.extras or {""}
            ]
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                todo.append(needed)
    return {name for name, _ in seen}


def _portage(root: Path) -> None:
    """PyPI's Portage: what runs of it is Python without compiled parts, so any Python may take it over."""
    home = root / "opt/portage"
    _run("chroot", root, "python3", "-m", "venv", "--without-pip", "--system-site-packages", "/opt/portage")
    packages = next(PORTAGE.glob("lib/python3*/site-packages"))
    target = home / f"lib/python{PYTHON}/site-packages"
    for name in ("portage", "_emerge"):
        shutil.copytree(packages / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copytree(PORTAGE / "lib/portage", home / "lib/portage", symlinks=True)
    shutil.copytree(PORTAGE / "share/portage", home / "share/portage", symlinks=True)
    # It takes its virtual environment for EPREFIX, and is told otherwise.
    (root / "share").mkdir()
    (root / "share/portage").symlink_to("/opt/portage/share/portage")
    for name in ("ebuild", "emaint", "emerge", "portageq"):
        text = (PORTAGE / "bin" / name).read_text().partition("\n")[2]
        (home / "bin" / name).write_text(f"#!/opt/portage/bin/python3\n{text}")
        (home / "bin" / name).chmod(0o755)
        wrapper = root / "usr/bin" / name
        wrapper.write_text(
            f'#!/bin/sh\nexport PORTAGE_OVERRIDE_EPREFIX=/\nexec /opt/portage/bin/{name} "$@"\n'
        )
        wrapper.chmod(0o755)


def _distfiles(root: Path) -> None:
    """The sources of the one library that the overlay has and every client needs."""
    distfiles = root / "var/cache/distfiles"
    distfiles.mkdir(parents=True)
    pip = (VENV / "bin/python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation")
    _run(*pip, "--no-binary=pyinotify", "--dest", distfiles, PYINOTIFY)


def _system(root: Path) -> None:
    """What Gentoo has and Debian lacks, or has elsewhere."""
    _run("chroot", root, "groupadd", "-g", "250", "portage")
    shell = ("-d", "/var/tmp/portage", "-s", "/bin/false")
    _run("chroot", root, "useradd", "-u", "250", "-g", "portage", *shell, "portage")
    (root / "usr/bin/gtar").symlink_to("tar")
    if not (root / "sbin/init").exists():
        (root / "sbin/init").symlink_to("/lib/systemd/systemd")
    localmount = root / "etc/init.d/localmount"
    localmount.write_text("#!/sbin/openrc-run\nstart() { return 0; }\n")
    localmount.chmod(0o755)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("")
    for name in ("hostname", "machine-id"):
        (root / "etc" / name).write_text({"hostname": "gentwoo-test\n", "machine-id": ""}[name])
    # As Gentoo installs them; who is not root would compile all of it again at each start.
    places = (f"/usr/local/lib/python{PYTHON}", "/usr/lib/python3", f"/opt/portage/lib/python{PYTHON}")
    _run("chroot", root, "python3", "-m", "compileall", "-q", "-j", "2", *places)


def _run(*command: str | Path) -> None:
    code, output = quietly(*command)
    if code:
        last = "\n".join(output.splitlines()[-15:])
        raise RootFailed(f"{Path(command[0]).name} ended with {code}:\n{last}")


def main() -> int:
    try:
        print(base_root())
    except RootFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
