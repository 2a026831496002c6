# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs` commands that die at a chosen moment: SIGKILL at the Nth step of some packages of bdcs.

    with CollectorCrashLab() as lab:
        outcome = lab.run(["publish", file, "--target", "here"], packages=["blobs", "services"], step=17)
        assert outcome.was_killed

A step is a call into a function or method of C (a system call, an SQL statement, a piece of hashing), or the
return from it, in the code of these packages. One process imports everything once and forks for each command.
Run as a program, this file is that process: a line of JSON in, a line of JSON out.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from tests.crashing import Outcome
from tests.processes import environment

ROOT = Path(__file__).parents[1]


class CollectorCrashLab:
    """The process that forks. Use as a context manager."""

    def __init__(self, **settings: str) -> None:
        """`settings`: more environment, such as BDCS_DATA."""
        self._environment = environment(**settings)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.collector_crashing"],
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

    def run(self, arguments: Sequence[str | Path], *, packages: Sequence[str] = (), step: int = 0) -> Outcome:
        """Run `bdcs ARGUMENTS`; kill it at `step`, counted from 1 (0: never). Blocks until it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {"arguments": [str(word) for word in arguments], "packages": list(packages), "step": step}
        print(json.dumps(task), file=self._process.stdin, flush=True)
        return Outcome(**json.loads(self._process.stdout.readline()))


class _Assassin:
    """Counts steps in all threads, and strikes."""

    def __init__(self, packages: Sequence[str], step: int) -> None:
        self._places = tuple(str(ROOT / "bdcs" / package) for package in packages)
        self._step = step
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event.startswith("c_") and frame.f_code.co_filename.startswith(self._places):
            self.count += 1
            if self.count == self._step:
                os.kill(os.getpid(), signal.SIGKILL)


def _serve() -> None:
    from bdcs.cli import importing, main, publish
    from bdcs.services import importing as reading
    from bdcs.services import uploads

    del importing, publish, reading, uploads  # imported for the children's sake
    for line in sys.stdin:
        task = json.loads(line)
        reading_end, writing_end = os.pipe()
        counting, counted = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(writing_end, 1)
            os.dup2(writing_end, 2)
            assassin = _Assassin(task["packages"], task["step"])
            code = 70
            try:
                if task["packages"]:
                    threading.setprofile(assassin)
                    sys.setprofile(assassin)
                code = main(task["arguments"])
                sys.stdout.flush()
            finally:
                os.write(counted, str(assassin.count).encode())
                os._exit(code)
        os.close(writing_end)
        os.close(counted)
        with open(reading_end) as file:
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
