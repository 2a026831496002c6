# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo` commands that die at a chosen moment: SIGKILL at the Nth step of some modules.

    with CrashLab() as lab:
        outcome = lab.run(["register", "--renew"], modules=["registration", "outbox"], step=17)
        assert outcome.was_killed

A step is a return from, or a suspension of, a function of these modules of gentwoo_client. One process
imports everything once and forks for each command. Run as a program, this file is that process: a line of
JSON in, a line of JSON out.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit code, or that it was killed; what it printed; and the steps it took."""

    exit_code: int | None
    was_killed: bool
    output: str
    steps: int


class CrashLab:
    """The process that forks. Use as a context manager."""

    def __enter__(self) -> Self:
        environment = {name: text for name, text in os.environ.items() if not name.startswith("GENTWOO_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crashing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
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

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        modules: Sequence[str] = (),
        step: int = 0,
        check: bool = False,
    ) -> Outcome:
        """Run `gentwoo ARGUMENTS`; kill it at `step`, counted from 1 (0: never). Blocks until it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {"arguments": [str(word) for word in arguments], "modules": list(modules), "step": step}
        print(json.dumps(task), file=self._process.stdin, flush=True)
        outcome = Outcome(**json.loads(self._process.stdout.readline()))
        if check and outcome.exit_code != 0:
            raise AssertionError(f"gentwoo {arguments}: {outcome}")
        return outcome


class _Assassin:
    """Counts steps in all threads, and strikes."""

    def __init__(self, modules: Sequence[str], step: int) -> None:
        self._files = {str(ROOT / "gentwoo_client" / f"{module}.py") for module in modules}
        self._step = step
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code.co_filename in self._files:
            self.count += 1
            if self.count == self._step:
                os.kill(os.getpid(), signal.SIGKILL)


def _serve() -> None:
    from gentwoo_client import collector_api, follow, outbox, registration, uploader
    from gentwoo_client.cli import main

    del collector_api, follow, outbox, registration, uploader  # imported for the children's sake
    for line in sys.stdin:
        task = json.loads(line)
        reading, writing = os.pipe()
        counting, counted = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            assassin = _Assassin(task["modules"], task["step"])
            if task["modules"]:
                threading.setprofile(assassin)
                sys.setprofile(assassin)
            code = 70
            try:
                code = main(task["arguments"])
                sys.stdout.flush()
            finally:
                os.write(counted, str(assassin.count).encode())
                os._exit(code)
        os.close(writing)
        os.close(counted)
        with open(reading) as file:
            output = file.read()
        with open(counting) as file:
            steps = int(file.read() or task["step"])
        _, status = os.waitpid(pid, 0)
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        outcome = Outcome(exit_code=exit_code, was_killed=was_killed, output=output, steps=steps)
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    _serve()
