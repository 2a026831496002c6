# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that die at a chosen moment: SIGKILL at the Nth step of some places of their code.

    with CrashLab("gentwoo_client") as lab:
        outcome = lab.run(["register", "--renew"], places=["registration.py", "outbox.py"], step=17)
        assert outcome.was_killed

What a step is, `STEPS` says for each package. One process imports everything once and forks for each command.
Run as a program, this file is that process: a line of JSON in, a line of JSON out.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

from tests.processes import environment
from tests.stores import with_store

ROOT = Path(__file__).parents[1]
STEPS: Final = {"gentwoo_client": "return", "bdcs": "c_"}
"""Beginnings of the profiler's events that count, by package. `gentwoo` steps when a function of its own
returns or is suspended; `bdcs` at each call into C (a system call, an SQL statement, some hashing) and each
return from it.
"""

IMPORTS: Final = {
    "gentwoo_client": ("collector_api", "follow", "outbox", "registration", "uploader"),
    "bdcs": (
        "cli.importing",
        "cli.prune",
        "cli.publish",
        "services.build_upkeep",
        "services.importing",
        "services.uploads",
    ),
}
"""What a package's commands import late, and each child would import anew."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit code, or that it was killed; what it printed; and the steps it took."""

    exit_code: int | None
    was_killed: bool
    output: str
    steps: int


class CrashLab:
    """The process that forks. Use as a context manager."""

    def __init__(self, package: str, **settings: str) -> None:
        """`package`: whose command line it is. `settings`: more environment, such as BDCS_DATA."""
        self._package = package
        self._environment = environment(**settings)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crashing", self._package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self._environment,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, arguments: Sequence[str | Path], *, places: Sequence[str] = (), step: int = 0) -> Outcome:
        """Run the command with `arguments`; kill it at `step`, counted from 1 (0: never), in `places`.

        Those are files and directories of the package. Blocks until it ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {
            "arguments": [str(word) for word in arguments],
            "environment": with_store(arguments, {}),
            "places": list(places),
            "step": step,
        }
        print(json.dumps(task), file=self._process.stdin, flush=True)
        return Outcome(**json.loads(self._process.stdout.readline()))


class _Assassin:
    """Counts steps in all threads, and strikes."""

    def __init__(self, package: str, places: Sequence[str], step: int) -> None:
        self._places = tuple(str(ROOT / package / place) for place in places)
        self._event = STEPS[package]
        self._step = step
        self.count = 0

    def start(self) -> None:
        """Count from now on."""
        if self._places:
            threading.setprofile(self)
            sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event.startswith(self._event) and frame.f_code.co_filename.startswith(self._places):
            self.count += 1
            if self.count == self._step:
                os.kill(os.getpid(), signal.SIGKILL)


def _serve(package: str) -> None:
    for module in IMPORTS[package]:
        importlib.import_module(f"{package}.{module}")
    main = importlib.import_module(f"{package}.cli").main
    for line in sys.stdin:
        task = json.loads(line)
        assassin = _Assassin(package, task["places"], task["step"])
        outcome = _run_forked(partial(_command, main, task), assassin, task["step"])
        print(json.dumps(asdict(outcome)), flush=True)


def _command(main: Callable[[Sequence[str]], int], task: dict[str, Any]) -> int:
    os.environ.update(task["environment"])
    return main(task["arguments"])


def _run_forked(command: Callable[[], int], assassin: _Assassin, step: int) -> Outcome:
    reading, writing = os.pipe()
    counting, counted = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        code = 70
        try:
            assassin.start()
            code = command()
            sys.stdout.flush()
        finally:
            os.write(counted, str(assassin.count).encode())
            os._exit(code)
    os.close(writing)
    os.close(counted)
    with open(reading) as file:
        output = file.read()
    with open(counting) as file:
        steps = int(file.read() or step)
    _, status = os.waitpid(pid, 0)
    was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    return Outcome(exit_code=exit_code, was_killed=was_killed, output=output, steps=steps)


if __name__ == "__main__":
    _serve(sys.argv[1])
