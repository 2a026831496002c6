# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may touch the state directory, and as whom a command goes on.

The state belongs to the user that the daemon runs as. Root takes that user's identity before anything in the
directory is read or written, so that no command leaves files behind that the daemon cannot open; anybody else
is told which command to use.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import shlex
import stat
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from gentwoo_client.errors import FAILED, GentwooError, NoPermission, NotRegistered, SettingsError

T = TypeVar("T")

SERVICE_USER = "gentwoo"
"""Owner of a state directory that root creates, where the system has such a user (acct-user/gentwoo)."""


def enter_state_directory(state_dir: Path, *, create: bool = False) -> None:
    """Become the state directory's owner if we are root, and make sure that it can be used.

    What is created afterwards is readable to that user alone (umask 077). With `create` a directory that does
    not exist is made. Raises `NotRegistered` where there is none, `NoPermission` where this user may not
    read and write it.
    """
    umask = os.umask(0o077)
    try:
        owner = os.stat(state_dir)
    except (FileNotFoundError, NotADirectoryError):
        if not create:
            raise NotRegistered(
                f"this machine is not registered: there is no {state_dir}", advice="run `gentwoo register`"
            ) from None
        _create(state_dir, umask)
        owner = os.stat(state_dir)
    except PermissionError as error:
        raise _refused(state_dir, None) from error
    if not stat.S_ISDIR(owner.st_mode):
        raise SettingsError(f"{state_dir}: is not a directory", advice="name another --state-dir")
    if os.geteuid() == 0 and owner.st_uid != 0:
        become(owner.st_uid, owner.st_gid)
    if not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        if os.geteuid() == owner.st_uid:
            raise NoPermission(
                f"{state_dir}: may not be written, though it is this user's own",
                advice=f"run `chmod 700 {shlex.quote(str(state_dir))}`, or have its file system mounted"
                " writable",
            )
        raise _refused(state_dir, owner.st_uid)


def read_as_owner(state_dir: Path, read: Callable[[], str]) -> str:
    """Return what `read` returns as the state directory's owner, while this process stays who it is.

    For commands that must write elsewhere as root. Empty where the state may not be used, or `read` fails.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException), open(writing, "wb") as answer:
            enter_state_directory(state_dir)
            answer.write(read().encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        content = answer.read()
    os.waitpid(child, 0)
    return content.decode()


def do_as_owner(state_dir: Path, work: Callable[[], T]) -> T:
    """Have a child do `work` as the state directory's owner, on this terminal; return what it returns.

    That must be a value of JSON. For commands that go on as root afterwards, as emerge wants it. Raises what
    `work` raises: of errors of ours message, advice and exit code; `KeyboardInterrupt`; `BrokenPipeError`.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_do(state_dir, work, writing))
    os.close(writing)
    interrupted = False
    content = b""
    with open(reading, "rb", buffering=0) as answer:
        while True:
            try:
                piece = answer.read(1 << 16)
            except KeyboardInterrupt:  # the child was told as well, and may have something to say
                interrupted = True
                continue
            if not piece:
                break
            content += piece
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if interrupted or code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code == _BROKEN_PIPE:
        raise BrokenPipeError
    result: T = _result(content, code)
    return result


_INTERRUPTED = 130
_BROKEN_PIPE = 141


def _do(state_dir: Path, work: Callable[[], object], writing: int) -> int:
    """In the child: the exit code."""
    document: dict[str, object]
    try:
        try:
            enter_state_directory(state_dir)
            document = {"result": work()}
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _BROKEN_PIPE
    except Exception as error:
        document = {"error": _described(error)}
    with open(writing, "wb") as answer:
        answer.write(json.dumps(document).encode())
    return 0


def _described(error: Exception) -> dict[str, object]:
    if isinstance(error, GentwooError) or hasattr(error, "problem"):
        message, advice = str(error), getattr(error, "advice", None)
    else:
        message = f"unexpected {type(error).__name__}: {error}"
        advice = "please report this, with the output of the same command and --log-level debug"
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            traceback.print_exception(error)
    return {"message": message, "advice": advice, "code": getattr(error, "exit_code", FAILED)}


def _result(content: bytes, code: int) -> Any:
    if not content:
        raise GentwooError(f"the process that has this machine's key ended with {code}")
    document = json.loads(content)
    if "error" in document:
        error = GentwooError(document["error"]["message"], advice=document["error"]["advice"])
        error.exit_code = document["error"]["code"]
        raise error
    return document["result"]


def become(uid: int, gid: int) -> None:
    """Take the identity of user `uid` for good, with the groups that the system gives it."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        os.setgroups([gid])
        os.setgid(gid)
    else:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
    os.setuid(uid)


def command_as(user: str) -> str:
    """The command line that runs what was asked for as `user`."""
    return shlex.join(["sudo", "-u", user, "gentwoo", *sys.argv[1:]])


def _create(state_dir: Path, umask: int) -> None:
    """Make the directory. Those above it are made as any program makes them (`umask`): others pass them."""
    try:
        private = os.umask(umask)
        try:
            state_dir.parent.mkdir(parents=True, exist_ok=True)
        finally:
            os.umask(private)
        state_dir.mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SettingsError(
            f"{error.filename}: is not a directory", advice="name another --state-dir"
        ) from error
    except PermissionError as error:
        raise NoPermission(
            f"{error.filename}: may not be created",
            advice="run the command as root, or name another --state-dir",
        ) from error
    if os.geteuid() == 0:
        try:
            entry = pwd.getpwnam(SERVICE_USER)
        except KeyError:
            return
        os.chown(state_dir, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def _refused(state_dir: Path, uid: int | None) -> NoPermission:
    try:
        user = SERVICE_USER if uid is None else pwd.getpwuid(uid).pw_name
    except KeyError:
        user = f"#{uid}"
    return NoPermission(
        f"{state_dir}: only the user {user} may use this machine's state",
        advice=f"use `{command_as(user)}`, or run it as root",
    )
