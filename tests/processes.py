# SPDX-License-Identifier: GPL-2.0-or-later
"""Real `bdcs` and `gentwoo` processes: started, watched and ended by pid, each with its output in a file."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from dev.places import ROOT
from tests import warm
from tests.stores import with_store
from tests.waiting import DEADLINE, until

GENTWOO = (sys.executable, "-m", "gentwoo_client")
BDCS = warm.BDCS
STOP_TIMEOUT = 60.0
LISTENING = re.compile(r"listening on (https?://\S+)")


def environment(**more: str) -> dict[str, str]:
    """This environment without settings of GenTwoo and Portage, so that tests mean what they say."""
    settings = ("GENTWOO_", "BDCS_", "PORTAGE_", "EMERGE_", "NOTIFY_SOCKET", "WATCHDOG_", "COV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return with_store((), {**kept, "PYTHONPATH": str(ROOT), **more})


def free_port() -> int:
    """A loopback TCP port that nobody holds now. Prefer port 0 where the program can tell what it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """One long-running process; ended at the latest when its `with` block ends."""

    def __init__(
        self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Start `argv`; what it prints on either channel goes to the end of `log`."""
        self.log = log
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = _start(argv, environment() if env is None else env, log.parent, output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_running():
            for child in self.children():
                os.kill(child, signal.SIGKILL)
            self.kill()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """What this process has printed so far."""
        with self.log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def children(self) -> list[int]:
        """Its child processes now: with runuser in front, the program itself."""
        try:
            pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in pids.split()]

    def until_printed(self, pattern: str | re.Pattern[str], timeout: float = DEADLINE) -> re.Match[str]:
        """Wait for `pattern` in the output; raises `AssertionError` with the output if it ends before."""

        def found() -> re.Match[str] | None:
            ended = not self.is_running()
            match = re.search(pattern, self.output)
            assert match or not ended, f"ended with {self.process.returncode}:\n{self.output}"
            return match

        match = until(found, timeout, what=f"{pattern!r} printed by {self.process.args!r}: {self.log}")
        assert match
        return match

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait for its end; return the exit code. Raises `subprocess.TimeoutExpired`."""
        return self.process.wait(timeout)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM, timeout: float = STOP_TIMEOUT) -> int:
        """Ask it to end, and wait until it has; return the exit code."""
        self.process.send_signal(with_signal)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


def _start(
    argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path, output: IO[bytes]
) -> subprocess.Popen[bytes] | warm.Forked:
    words, env = [str(word) for word in argv], with_store(argv, env)
    if warm.suits(words, env):
        return warm.start(words, env=env, cwd=cwd, output=output, errors=output)
    return subprocess.Popen(
        words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    check: bool = False,
    timeout: float = 300,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `argv` to its end, its output captured. `check`: raises `AssertionError` unless it exits with 0."""
    words, env = [str(word) for word in argv], with_store(argv, environment() if env is None else env)
    if warm.suits(words, env):
        done = warm.run(words, env=env, cwd=cwd or Path.cwd(), timeout=timeout)
    else:
        done = subprocess.run(
            words,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            cwd=cwd,
            check=False,
        )
    if check and done.returncode:
        raise AssertionError(f"{done.args}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


@dataclass
class Collector:
    """A collector with its data under `home`; may be stopped, killed and started again on the same port."""

    home: Path
    command: Sequence[str | Path] = BDCS
    options: Sequence[str] = ()
    url: str = ""
    process: Process | None = None

    @property
    def data(self) -> Path:
        return self.home / "data"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.is_running():
            self.process.kill()

    def start(self, patience: float = DEADLINE) -> None:
        """Start it and wait until it listens: first on any free port, later on the same one again."""
        self.home.mkdir(parents=True, exist_ok=True)
        listen = self.url.removeprefix("http://") or "127.0.0.1:0"
        self.process = Process(
            [*self.command, "serve", "--listen", listen, "--data", self.data, *self.options],
            log=self.home / "bdcs.log",
        )
        self.url = self.process.until_printed(LISTENING, patience)[1]

    def stop(self) -> int:
        """Ask it to end; return the exit code."""
        assert self.process is not None
        return self.process.stop()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def bdcs(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another `bdcs` command on the same data."""
        return run([*self.command, *arguments, "--data", self.data], check=check)

    def export(self) -> list[dict[str, Any]]:
        """All records that are durable, in order of arrival."""
        return [json.loads(line) for line in self.bdcs("export").stdout.splitlines()]


@dataclass
class Machine:
    """A client's configuration and state under `home`. `toml` is the text of its gentwoo.toml."""

    home: Path
    toml: str
    command: Sequence[str | Path] = GENTWOO
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self.toml)

    @property
    def config(self) -> Path:
        return self.home / "gentwoo.toml"

    def argv(self, *arguments: str) -> list[str | Path]:
        return [*self.command, "--config", self.config, *arguments]

    def gentwoo(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return run(self.argv(*arguments), env=environment(**self.env), check=check)

    def register(self) -> None:
        self.gentwoo("register", "--non-interactive")

    def daemon(self) -> Process:
        """Start `gentwoo daemon`; use it as a context manager."""
        return Process(self.argv("daemon"), log=self.home / "daemon.log", env=environment(**self.env))


def without(records: Iterable[Mapping[str, Any]], *fields: str) -> list[dict[str, Any]]:
    """The records without these fields, for comparing runs that may differ in them."""
    return [{name: value for name, value in record.items() if name not in fields} for record in records]
