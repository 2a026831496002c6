# SPDX-License-Identifier: GPL-2.0-or-later
"""The signer's loop: a thread takes connections, one more serves each; packages are signed one by one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import select
import selectors
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from bdcs import service_manager
from bdcs.domain.signing_keys import expiry_warning
from bdcs.errors import (
    CollectorError,
    GpgFailed,
    SignerCannotListen,
    SignerDiskFull,
    SignerFailed,
    SignerRefused,
)
from bdcs.signer import home, protocol
from bdcs.signer.keyring import Keyring
from bdcs.signer.packages import sign_package
from bdcs.signer.protocol import BrokenMessage

log = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds that a client has for its request, and again for taking the answer; then it is cut off."""

CONNECTIONS: Final = 64
"""How many may be open at once, nearly all of them waiting for their turn; more are told to come later."""

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def serve(keyring: Keyring, listener: socket.socket, path: Path, allowed: Collection[int]) -> None:
    """Sign for the users `allowed` (numbers) until SIGTERM or SIGINT; what was begun is finished first.

    `path` is where `listener` is bound; it is removed at the end.
    """
    with home.in_use(keyring.home), _stop_signals() as stopping:
        server, ours = _Server(keyring, allowed), path.stat()
        print(f"listening on {path}", file=sys.stderr, flush=True)
        try:
            service_manager.ready()
            server.take(listener, stopping)
        finally:
            service_manager.stopping()
            _remove(path, ours)
            listener.close()
            server.finish()
    log.info("stopped")


def bind(path: Path, owner: int) -> socket.socket:
    """Listen at `path`, in a directory that is made if need be; both then belong to the user `owner`.

    Everybody may connect: who asks is told apart by what the kernel says of them. A socket that a killed
    signer left is replaced. Raises `SignerCannotListen` where another signer listens, or nobody could.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o755, parents=True)
            os.chown(path.parent, owner, -1)
        _remove_stale(path)
        listener.bind(str(path))
        path.chmod(0o666)
        if os.geteuid() != owner:  # else it is that user's already, and a unit may forbid the very call
            os.chown(path, owner, -1)
        listener.listen(CONNECTIONS)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise SignerCannotListen(f"cannot listen at {path}: {error.strerror or error}") from error
        raise
    return listener


class _Server:
    def __init__(self, keyring: Keyring, allowed: Collection[int]) -> None:
        self._keyring = keyring
        self._allowed = frozenset(allowed)
        self._turn = threading.Lock()
        self._stopping = False
        self._threads: set[threading.Thread] = set()
        self._idle: set[socket.socket] = set()  # connections whose request has not arrived
        self._guard = threading.Lock()  # of the two sets

    def take(self, listener: socket.socket, stopping: socket.socket) -> None:
        """Take connections until something arrives at `stopping`."""
        listener.setblocking(False)
        interval = service_manager.watchdog_interval()
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(stopping, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(interval)]
                if interval is not None:
                    service_manager.alive()
                if stopping in ready:
                    return
                if not ready:
                    continue
                with contextlib.suppress(OSError):  # whoever it was has gone, or we have no descriptor left
                    self._welcome(listener.accept()[0])

    def finish(self) -> None:
        """Cut off who has not asked yet, tell those that wait to come later, and end what is under way."""
        self._stopping = True
        with self._guard:
            threads = list(self._threads)
            for connection in self._idle:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def _welcome(self, connection: socket.socket) -> None:
        refusal = self._refusal(connection)
        if refusal is not None:
            _refuse(connection, refusal)
            return
        thread = threading.Thread(target=self._serve_one, args=(connection,))
        with self._guard:
            self._threads.add(thread)
            self._idle.add(connection)
        try:
            thread.start()
        except RuntimeError as error:  # no memory, or as many threads as this user may have
            log.warning("a request was not served: %s", error)
            with self._guard:
                self._threads.discard(thread)
                self._idle.discard(connection)
            _refuse(connection, SignerFailed("the signer cannot serve more requests now"))

    def _refusal(self, connection: socket.socket) -> CollectorError | None:
        uid = _peer(connection)
        if uid not in self._allowed:
            log.warning("refused to user %d, who is not allowed to ask", uid)
            return SignerRefused(f"user {uid} may not ask this signer")
        if len(self._threads) >= CONNECTIONS:
            return SignerFailed("too many requests wait at the signer already")
        return None

    def _serve_one(self, connection: socket.socket) -> None:
        try:
            with connection:
                answer = self._answer(connection)
                connection.settimeout(PATIENCE)
                _reply(connection, answer)
        finally:
            with self._guard:
                self._idle.discard(connection)
                self._threads.discard(threading.current_thread())

    def _answer(self, connection: socket.socket) -> dict[str, Any]:
        """Return the answer to the request that arrives. Never raises: every request has an answer."""
        files: list[int] = []
        try:
            request = protocol.receive(connection, size=protocol.REQUEST_SIZE, seconds=PATIENCE, files=files)
            with self._guard:
                self._idle.discard(connection)
            return self._do(request, files, connection)
        except BrokenMessage as error:
            return protocol.error_document(SignerRefused(f"the request is not understood: {error}"))
        except CollectorError as error:
            log.warning("%s", error)
            return protocol.error_document(error)
        except OSError as error:
            log.warning("%s", error)
            kind = (
                SignerDiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else SignerFailed
            )
            return protocol.error_document(kind(f"it could not be signed: {error.strerror}"))
        except Exception:
            log.exception("a request failed")
            return protocol.error_document(GpgFailed("the signer failed; its log says why"))
        finally:
            protocol.close_all(files)

    def _do(self, request: dict[str, Any], files: Sequence[int], connection: socket.socket) -> dict[str, Any]:
        if request == {"do": "keys"}:
            return {"keys": [protocol.key_document(key) for key in self._keyring.all()]}
        if request == {"do": "sign"}:
            with self._turn:
                if self._stopping:
                    raise SignerFailed("the signer is being stopped")
                if _has_gone(connection):
                    raise SignerFailed("who asked has gone")
                return self._sign(files)
        raise SignerRefused("this signer knows no such request")

    def _sign(self, files: Sequence[int]) -> dict[str, Any]:
        if len(files) != 2:
            raise SignerRefused("two files are needed: the package, and an empty one")
        now = time.time()
        key = self._keyring.signing_key(now)
        if os.fstat(files[1]).st_size:
            raise SignerRefused("the file for the signed package is not empty")
        try:
            with _file(files[0], "rb") as source, _file(files[1], "r+b") as target:
                package = sign_package(source, target, self._keyring, key.fingerprint)
        except BaseException:
            with contextlib.suppress(OSError):  # it may be no file at all
                os.ftruncate(files[1], 0)
            raise
        log.info("signed %s/%s with %s", package.cpv.category, package.prefix, key.fingerprint)
        warning = expiry_warning(key, now)
        if warning:
            log.warning("%s", warning)
        return {"fingerprint": key.fingerprint, "warning": warning}


@contextlib.contextmanager
def _file(descriptor: int, mode: str) -> Iterator[BinaryIO]:
    """Give the file behind a descriptor that somebody sent. Raises `SignerRefused` for the wrong kind."""
    access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    wanted = (os.O_RDWR,) if "+" in mode else (os.O_RDONLY, os.O_RDWR)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or access not in wanted:
        raise SignerRefused("the package must be a readable file, that for the signed one a writable one too")
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, mode, closefd=False) as file:
        yield file  # type: ignore[misc]  # a binary mode is always asked for


def _reply(connection: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # who asked has gone
        protocol.send(connection, answer)


def _refuse(connection: socket.socket, error: CollectorError) -> None:
    with connection:
        connection.setblocking(False)
        _reply(connection, protocol.error_document(error))


def _peer(connection: socket.socket) -> int:
    """Return the user (number) on the other side, as the kernel noted when it connected."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


def _has_gone(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, 0)  # POLLHUP and POLLERR are always told
    return bool(poll.poll(0))


@contextlib.contextmanager
def _stop_signals() -> Iterator[socket.socket]:
    """Give a socket at which something arrives on SIGTERM and SIGINT."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        previous = signal.set_wakeup_fd(writing.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(previous)


def _remove_stale(path: Path) -> None:
    """Remove a socket behind which nobody is. Raises `SignerCannotListen` where somebody is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
            return
    raise SignerCannotListen(f"another signer listens at {path}")


def _remove(path: Path, ours: os.stat_result) -> None:
    """Remove our socket, unless another has taken its place; its directory may be out of our reach."""
    with contextlib.suppress(OSError):
        if os.path.samestat(path.lstat(), ours):
            path.unlink()
