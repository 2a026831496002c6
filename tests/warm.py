# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs` processes that begin at once: forked from one that has imported everything.

A collector takes a second of a processor to be imported, a small command half of one, and the suites start
thousands. What starts here is a process as any other, with arguments, environment, directory and channels of
its own; only its interpreter is no new one. What a new one may show (what is imported when, what is read of
the environment at the start) is tested by tests/house, and by tests/acceptance on SQLite: `anew`.

Each process of pytest has one that others are forked from, when it first needs it; what was started lives on
without it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final

from dev.places import ROOT

BDCS: Final = (sys.executable, "-m", "bdcs")
IMPORTED: Final = (
    "alembic.command",
    "bdcs.cli.existing",
    "bdcs.cli.publisher",
    "bdcs.server.running",
    "uvloop",
)
"""What most commands import sooner or later."""
READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "TZ", "SSL_", "OPENSSL_", "LD_", "MALLOC_")
"""What the names begin with of variables that Python and libraries read once."""
_LONGEST: Final = 1 << 20  # bytes of a request
_NUMBER: Final = 8  # bytes


class Forked:
    """A process that was started here, for those who know `subprocess.Popen`."""

    def __init__(self, argv: Sequence[str], report: socket.socket) -> None:
        self.args = argv
        self.returncode: int | None = None
        self._report = report
        self.pid = self._told(None)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit code. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            try:
                self.returncode = self._told(timeout)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0) from None
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _told(self, timeout: float | None) -> int:
        self._report.settimeout(timeout)
        number = self._report.recv(_NUMBER)
        assert number, "what others are forked from has ended"
        return int.from_bytes(number, "little", signed=True)


@dataclass(frozen=True, slots=True)
class _Request:
    """What to start."""

    words: list[str]
    env: dict[str, str]
    cwd: str


_FORKING: Final = [False]
"""Whether to fork; the last one holds."""


def begin() -> None:
    """Fork what suits from now on; who does not say so, such as benchmarks, has all of it started anew."""
    _FORKING.append(True)


@contextlib.contextmanager
def anew() -> Iterator[None]:
    """Have every process start with an interpreter of its own meanwhile."""
    _FORKING.append(False)
    try:
        yield
    finally:
        _FORKING.pop()


def suits(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether that command can be forked, and means the same then."""
    is_ours = tuple(argv[:3]) == BDCS
    return _FORKING[-1] and is_ours and _read_at_start(env) == _read_at_start(_environment())


def start(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: IO[bytes], errors: IO[bytes]
) -> Forked:
    """Start a command that suits, its standard input empty."""
    request = json.dumps(asdict(_Request(list(argv[3:]), dict(env), str(cwd)))).encode()
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its, open(os.devnull, "rb") as nothing:
        descriptors = [its.fileno(), nothing.fileno(), output.fileno(), errors.fileno()]
        socket.send_fds(_source(), [request], descriptors)
    return Forked(argv, ours)


def run(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command that suits to its end, as `subprocess.run` does with `capture_output` and `text`."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start(argv, env=env, cwd=cwd, output=output, errors=errors)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(list(argv), code, _text(output), _text(errors))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@cache
def _source() -> socket.socket:
    """Start the process that others are forked from; return the socket that it is asked by."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(its.fileno())],
            env=_environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def main(descriptor: int) -> None:
    """Fork until nobody can ask any more; in what was forked, do what was asked for."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that those who are forked share it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as channel, selectors.DefaultSelector() as events:
        events.register(channel, selectors.EVENT_READ)
        request = _fork_who_is_asked_for(channel, events)
    if request is None:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request.env)
    os.chdir(request.cwd)
    sys.argv[1:] = request.words
    runpy.run_module("bdcs", run_name="__main__", alter_sys=True)


def _fork_who_is_asked_for(channel: socket.socket, events: selectors.BaseSelector) -> _Request | None:
    """Return what a process that was just forked is to do; or None, when nobody can ask any more."""
    reports: dict[int, int] = {}
    while True:
        for key, _ in events.select():
            if key.fileobj is not channel:
                events.unregister(key.fd)
                _report_end(key.fd, reports.pop(key.fd))
                continue
            text, received, _, _ = socket.recv_fds(channel, _LONGEST, 4)
            if not text:
                return None
            pid = os.fork()
            if pid == 0:
                _take_channels(received[1:])
                for number in (received[0], *reports, *reports.values()):
                    os.close(number)
                return _Request(**json.loads(text))
            report, *others = received
            for number in others:
                os.close(number)
            ending = os.pidfd_open(pid)
            reports[ending] = report
            events.register(ending, selectors.EVENT_READ)
            _tell(report, pid)


def _take_channels(descriptors: Sequence[int]) -> None:
    for channel, number in enumerate(descriptors):
        os.dup2(number, channel)
        os.close(number)


def _report_end(ending: int, report: int) -> None:
    ended = os.waitid(os.P_PIDFD, ending, os.WEXITED)
    assert ended is not None
    _tell(report, ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)
    os.close(report)
    os.close(ending)


def _tell(report: int, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody may listen any more
        os.write(report, number.to_bytes(_NUMBER, "little", signed=True))


if __name__ == "__main__":
    main(int(sys.argv[1]))
