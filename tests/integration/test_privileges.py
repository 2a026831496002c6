# SPDX-License-Identifier: GPL-2.0-or-later
"""Root becomes the owner of the state; a stranger is told the command to use. Real users, real processes."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from gentwoo_client.errors import GentwooError, NotRegistered
from gentwoo_client.privileges import do_as_owner, enter_state_directory
from tests.processes import environment

# A venv of root's own interpreter cannot be entered by anybody else, so the system's does it.
SYSTEM_PYTHON = "/usr/bin/python3"
ENTER = (
    "import os, sys\n"
    "from pathlib import Path\n"
    "from gentwoo_client.errors import GentwooError\n"
    "from gentwoo_client.privileges import enter_state_directory\n"
    "try:\n"
    "    enter_state_directory(Path(sys.argv[1]), create=sys.argv[2] == 'create')\n"
    "except GentwooError as error:\n"
    "    print(error, error.advice)\n"
    "    sys.exit(error.exit_code)\n"
    "print(os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups()), oct(os.umask(0)))\n"
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return state


def enter(state: Path, *words: str, how: str = "enter") -> subprocess.CompletedProcess[str]:
    argv = [*words, SYSTEM_PYTHON, "-c", ENTER, str(state), how]
    return subprocess.run(argv, env=environment(), cwd="/", text=True, capture_output=True, check=False)


def test_root_becomes_the_owner_with_all_its_groups(state: Path) -> None:
    user = pwd.getpwnam("nobody")
    os.chown(state, user.pw_uid, user.pw_gid)
    done = enter(state)
    groups = sorted(os.getgrouplist("nobody", user.pw_gid))
    assert done.stdout.split(maxsplit=3)[:3] == [str(user.pw_uid)] * 2 + [str(user.pw_gid)], done.stderr
    assert f"{groups} 0o77" in done.stdout


def test_a_stranger_is_told_the_command(state: Path) -> None:
    done = enter(state, "runuser", "-u", "nobody", "--")
    assert done.returncode == 77
    assert "sudo -u root gentwoo" in done.stdout


def test_a_stranger_may_not_create_it(state: Path) -> None:
    done = enter(state / "new", "runuser", "-u", "nobody", "--", how="create")
    assert done.returncode == 77


def test_it_is_created_for_its_owner_alone(state: Path) -> None:
    new = state / "a" / "b"
    assert enter(new, how="create").returncode == 0
    assert new.stat().st_mode & 0o777 == 0o700


def test_directories_above_it_can_be_passed(tmp_path: Path) -> None:
    state = tmp_path / "above" / "state"
    result = enter(state, how="create")
    assert result.returncode == 0, result.stdout
    assert state.parent.stat().st_mode & 0o777 == 0o755
    assert state.stat().st_mode & 0o777 == 0o700


def test_a_file_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for state in (tmp_path / "file", tmp_path / "file" / "state"):
        result = enter(state, how="create")
        assert result.returncode == 78
        assert "is not a directory" in result.stdout


def test_an_owner_who_may_not_write_is_told_so(state: Path) -> None:
    user = pwd.getpwnam("nobody")
    os.chown(state, user.pw_uid, user.pw_gid)
    state.chmod(0o500)
    result = enter(state, "runuser", "-u", "nobody", "--")
    assert result.returncode == 77
    assert "chmod 700" in result.stdout


def test_without_state_the_machine_is_not_registered(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        with pytest.raises(NotRegistered):
            enter_state_directory(tmp_path / "absent")
    finally:
        os.umask(umask)


def test_root_has_the_owner_do_it_and_stays_root(state: Path) -> None:
    user = pwd.getpwnam("nobody")
    os.chown(state, user.pw_uid, user.pw_gid)
    umask = os.umask(0o022)
    try:
        assert do_as_owner(state, lambda: [os.getuid(), os.umask(0)]) == [user.pw_uid, 0o077]
        assert (os.geteuid(), os.umask(0o022)) == (0, 0o022)
    finally:
        os.umask(umask)


def test_what_goes_wrong_as_owner_is_raised_here(state: Path) -> None:
    def fail() -> None:
        raise NotRegistered("no such machine", advice="register it")

    with pytest.raises(GentwooError, match="no such machine") as caught:
        do_as_owner(state, fail)
    assert (caught.value.exit_code, caught.value.advice) == (78, "register it")
    with pytest.raises(GentwooError, match="unexpected ZeroDivisionError"):
        do_as_owner(state, lambda: 1 // 0)
    with pytest.raises(GentwooError, match="ended with -9"):
        do_as_owner(state, lambda: os.kill(os.getpid(), 9))


def test_ctrl_c_in_the_child_is_one_here(state: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do_as_owner(state, interrupt)


def test_the_system_interpreter_is_new_enough() -> None:
    found = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; print(sys.version_info >= (3, 11))"],
        text=True,
        capture_output=True,
        check=True,
    )
    assert found.stdout.strip() == "True", sys.version
