# SPDX-License-Identifier: GPL-2.0-or-later
"""A builder that is an ordinary user: throw-away copies, a user namespace, and nothing of others in it.

Needs root, since only root can become that user. Its code and Portage are copies that the user may enter,
both under the system's own Python: the interpreter that the tests run under may lie under root's home.
"""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.places import PORTAGE, ROOT, user_venv
from tests.processes import environment, run
from tests.workshops import CFLAGS, specification
from tests.world import World

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

USER = "nobody"
SYSTEM = Path("/usr/bin/python3")
CPV = "app-misc/alpha-1.0"
SECRET = "the-secret-of-this-test"
BUILD = """\
import asyncio, json, os, sys
from pathlib import Path
from bdcs.builder.building import ATTEMPTS, DISTFILES, Binhost, BuildFailed, BuildRoot, Workshop
from bdcs.builder.limits import Limits
from bdcs.builder.portage_config import Wish

told = json.load(sys.stdin)
data = Path(told["data"])
(data / ATTEMPTS).mkdir(parents=True)
(data / DISTFILES).mkdir()
(data / "machine.key").write_text(told["secret"])
root = BuildRoot(eprefix=Path(told["world"]), readable=(Path(told["portage"]),))
workshop = Workshop(root, data, Limits(), make_jobs=1)
printed = []

async def build():
    await workshop.check()
    wish = Wish.of(told["wish"], cflags=told["cflags"])
    binhost = Binhost(url="http://127.0.0.1:9/none", keys=None)
    try:
        async with workshop.build("1", wish, binhost, printed.append) as built:
            return [str(package.cpv) for package in built]
    except BuildFailed as failure:
        return [failure.cause.kind, failure.cause.text]

result = {"built": asyncio.run(build()), "output": b"".join(printed).decode(errors="replace")}
result |= {"uid": os.geteuid(), "left": sorted(os.listdir(data / ATTEMPTS))}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory of that user."""
    with tempfile.TemporaryDirectory(prefix="gentwoo-builder-", dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o755)
        yield home


@pytest.fixture(scope="module")
def portage(home: Path) -> Path:
    """A copy of Portage under the system's Python."""
    place = home / "portage"
    shutil.copytree(PORTAGE, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    version = run([SYSTEM, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"]).stdout.strip()
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if version != ours:
        (place / "lib" / ours).rename(place / "lib" / version)
    (place / "pyvenv.cfg").write_text(f"home = {SYSTEM.parent}\ninclude-system-site-packages = false\n")
    for link in (place / "bin").glob("python*"):
        link.unlink()
        link.symlink_to(SYSTEM)
    for script in (place / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            text = script.read_bytes()
            script.write_bytes(text.replace(os.fsencode(PORTAGE), os.fsencode(place), 1))
    return place


@pytest.fixture(scope="module")
def world(home: Path, portage: Path) -> World:
    world = World.create(home / "world")
    for name in ("emerge", "portageq", "python3"):
        command = world.root / "usr/bin" / name
        program = portage / "bin" / name
        command.write_text(f'#!/bin/sh\nexport PORTAGE_OVERRIDE_EPREFIX={world.root}\nexec {program} "$@"\n')
        command.chmod(0o755)
    (world.root / "share/portage").unlink()
    (world.root / "share/portage").symlink_to(portage / "share/portage")
    return world


@pytest.fixture(scope="module")
def code(home: Path) -> Path:
    """A copy of our own code."""
    place = home / "code"
    for name in ("bdcs", "gentwoo_client"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def built(home: Path, portage: Path, world: World, code: Path, cpv: str) -> dict[str, Any]:
    """What comes of a build by that user."""
    user = pwd.getpwnam(USER)
    data = home / f"data-{cpv.partition('/')[2]}"
    data.mkdir(mode=0o700)
    for path in (data, world.root, *world.root.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    told = {
        "data": str(data),
        "world": str(world.root),
        "portage": str(portage),
        "wish": specification(cpv).to_json(),
        "cflags": CFLAGS,
        "secret": SECRET,
    }
    done = subprocess.run(
        ["runuser", "-u", USER, "--", "env", f"PYTHONPATH={code}", user_venv() / "bin/python", "-c", BUILD],
        input=json.dumps(told),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["uid"] == user.pw_uid
    return result


def test_it_builds_and_its_ebuilds_get_nothing_else(
    home: Path, portage: Path, world: World, code: Path
) -> None:
    place = home / "data-alpha-1.0"
    probes = {
        "key": f"grep -q . {place}/machine.key",
        "data": f'test -n "$(ls -A {place})"',
        "passwords": "test -r /etc/shadow",
        "network": "(: < /dev/tcp/127.0.0.1/80) || test -e /sys/class/net/eth0",
        "write": f"touch {portage}/evil",
        "own": 'touch "${T}/evil" "${EPREFIX}/usr/evil"',
    }
    lines = [f"( {command} ) 2>/dev/null && echo 'got {name}'" for name, command in probes.items()]
    world.ebuild(CPV, phases={"src_compile": "\n".join([*lines, "echo 'probes done'"])})
    result = built(home, portage, world, code, CPV)
    assert result["built"] == [CPV], result["output"]
    assert "probes done" in result["output"]
    got = [line for line in result["output"].splitlines() if line.startswith("got ")]
    assert got == ["got own"], result["output"]
    assert result["left"] == []
    assert not (world.root / "usr/evil").exists()
