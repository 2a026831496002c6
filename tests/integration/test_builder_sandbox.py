# SPDX-License-Identifier: GPL-2.0-or-later
"""What an ebuild finds that wants to get out of its build: nothing of this machine, nothing that stays."""

import asyncio
import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.builder import process
from bdcs.builder.building import ATTEMPTS, DISTFILES, BuildRoot, Workshop, sandbox_of
from bdcs.builder.limits import Limits
from bdcs.builder.root import throw_away_root
from dev.places import PORTAGE
from tests.workshops import READABLE, Place, Result, wish

pytestmark = [pytest.mark.timeout(300)]

CPV = "app-misc/evil-1.0"
SECRET = "the-secret-of-this-test"
SLEEPER = "271828182"
"""Seconds that another process of this machine sleeps, by which it could be known."""


BY_HANDLE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer(bytes.fromhex(sys.argv[1]))
for seen in sys.argv[2:]:
    found = libc.open_by_handle_at(os.open(seen, os.O_RDONLY), handle, os.O_RDONLY)
    print(os.read(found, 100) if found >= 0 else os.strerror(ctypes.get_errno()))
print("tried")
"""
"""Opens a file by its handle, given something else of its file system."""


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    """A TCP port on loopback that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def accept(server: socket.socket) -> None:
    """Take connections until the server is shut down."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place.create(tmp_path_factory.mktemp("builder"))
    data = place.workshop.data
    (data / "machine.key").write_text(SECRET)
    (data / "attempts/other").mkdir()
    (data / "attempts/other/source").write_text(SECRET)
    (place.world.root.parent / "neighbour").write_text(SECRET)
    return place


@pytest.fixture(scope="module")
def result(place: Place, listener: int) -> Result:
    """What the ebuild printed: `got NAME` for each thing that it could do."""
    data, world = place.workshop.data, place.world.root
    attempts = {
        "key": f"grep -q . {data}/machine.key",
        "other-build": f"grep -q . {data}/attempts/other/source",
        "neighbour": f"grep -q . {world.parent}/neighbour",
        "builder-directory": f'test -n "$(ls -A {data})"',
        "root-home": 'test -n "$(ls -A /root | grep -v pyenv)" -o -e /root/.profile -o -e /root/.bashrc',
        "homes": 'test -n "$(ls -A /home)"',
        "run": 'test -n "$(ls -A /run)"',
        "shadow": "test -e /etc/shadow",
        "this-repository": f"test -e {Path(__file__)}",
        "processes": f"grep -aq {SLEEPER[:-1]}[{SLEEPER[-1]}] /proc/[0-9]*/cmdline",
        "environment": f"grep -aq {SECRET} /proc/[0-9]*/environ",
        "network": f"(: < /dev/tcp/127.0.0.1/{listener})",
        "names": "getent hosts example.org",
        "write-usr": "touch /usr/evil",
        "write-top": "touch /evil",
        "write-portage": f"touch {place.workshop.build_root.readable[0]}/evil",
        "write-distfiles": 'touch "${DISTDIR}/evil" "${PORTAGE_ACTUAL_DISTDIR:-/x}/evil"',
        "mount": "mount -t tmpfs tmpfs /mnt || mount -o remount,rw /usr",
        "device": 'mknod "${T}/disk" b 8 0',
        # Opened for writing, and nothing is written: it would be a setting of this very machine.
        "kernel": ": >> /proc/sys/kernel/core_pattern",
        "sysrq": ": >> /proc/sysrq-trigger",
        "cgroups": "ls /sys/fs/cgroup/*",
        "own-tree": 'touch "${EPREFIX}/usr/evil"',
        "own-temporary": 'touch "${T}/evil"',
    }
    probes = "\n".join(
        f"( {command} ) 2>/dev/null && echo 'got {name}'" for name, command in attempts.items()
    )
    place.world.ebuild(CPV, phases={"src_compile": f"{probes}\necho 'probes done'"})
    sleeper = subprocess.Popen(["sleep", SLEEPER])
    os.environ["BUILDER_SECRET"] = SECRET
    try:
        return place.build(wish(CPV))
    finally:
        del os.environ["BUILDER_SECRET"]
        sleeper.kill()
        sleeper.wait()


def test_it_gets_nothing_but_what_is_its_own(result: Result) -> None:
    assert "probes done" in result.output, result.output
    got = [line.removeprefix("got ") for line in result.output.splitlines() if line.startswith("got ")]
    assert got == ["own-tree", "own-temporary"], result.output


def test_what_it_writes_vanishes(place: Place, result: Result) -> None:
    assert [package.name for package in result.packages] == [CPV]
    assert not (place.world.root / "usr/evil").exists()
    assert not list(place.world.pkgdir.rglob("*.tar"))
    assert not (place.workshop.data / "attempts/1").exists()
    assert not list((place.workshop.data / "distfiles").iterdir())


def test_nothing_stays_mounted(place: Place, result: Result) -> None:
    assert str(place.workshop.data) not in Path("/proc/self/mountinfo").read_text()


def test_a_whole_system_has_no_homes_and_no_state(tmp_path: Path) -> None:
    """… for whoever builds in it: root sees the tree where we do not, in a mount namespace of its own."""
    data, other = tmp_path / "builder", tmp_path / "other"
    for directory in (data / ATTEMPTS, data / DISTFILES, other):
        directory.mkdir(parents=True)
    (data / "machine.key").write_text(SECRET)
    build_root = BuildRoot(hidden=(other,))
    workshop = Workshop(build_root, data, Limits(), make_jobs=1)

    async def look() -> bytes:
        said: list[bytes] = []
        async with throw_away_root(Path("/"), data / ATTEMPTS / "1", size=1 << 26) as root:
            words = sandbox_of(workshop, root, None, has_network=False).command(
                ("find", "/home", "/root", "/tmp", "/run", "/var/log", "-mindepth", "1"), {}
            )
            hidden = [word for before, word in itertools.pairwise(words) if before == "--tmpfs"]
            assert {str(data), str(other)} <= set(hidden)
            assert await process.run([*root.enter(), *words], said.append) == 0
        return b"".join(said)

    # Of /tmp there are only the empty directories that stand for ours.
    found = {Path(line) for line in asyncio.run(look()).decode().splitlines()}
    assert all(path in data.parents or path in (data, other) for path in found), found


def test_no_file_is_opened_by_its_handle(tmp_path: Path) -> None:
    """… of a file system that something is seen of, such as that of the distfiles, in which the key lies."""
    data, eprefix = tmp_path / "builder", tmp_path / "prefix"
    for directory in (data / ATTEMPTS, data / DISTFILES, eprefix / "var/tmp"):
        directory.mkdir(parents=True)
    for name in ("distfiles", "binpkgs"):
        (eprefix / "var/cache" / name).mkdir(parents=True)
    (data / "machine.key").write_text(SECRET)
    handle = handle_of(data / "machine.key")
    workshop = Workshop(BuildRoot(eprefix=eprefix, readable=READABLE), data, Limits(), make_jobs=1)
    python = str(PORTAGE / "bin/python")
    seen = (f"{eprefix}/var/cache/distfiles", "/usr")

    async def look() -> str:
        said: list[bytes] = []
        async with throw_away_root(eprefix, data / ATTEMPTS / "1", size=1 << 26) as root:
            for has_network in (False, True):
                box = sandbox_of(workshop, root, None, has_network=has_network)
                words = box.command((python, "-c", BY_HANDLE, handle.hex(), *seen), {})
                await process.run([*root.enter(), *words], said.append)
        return b"".join(said).decode()

    said = asyncio.run(look())
    assert said.count("tried") == 2, said
    assert SECRET not in said


def handle_of(path: Path) -> bytes:
    """The handle of a file; one of nothing where its file system has none."""
    size = 128
    handle = ctypes.create_string_buffer(size.to_bytes(4, "little") + bytes(4 + size))
    mount = ctypes.c_int()
    here = -100  # AT_FDCWD
    ctypes.CDLL(None).name_to_handle_at(here, bytes(path), handle, ctypes.byref(mount), 0)
    return handle.raw
