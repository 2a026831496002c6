# SPDX-License-Identifier: GPL-2.0-or-later
"""A root file system with processes of its own: mounts, processes and network of nobody else.

    with Container(layers) as container:
        container.run("emerge", "app-portage/gentwoo")

When it ends, the kernel ends all that runs in it, so that no supervisor or daemon is left behind.
"""

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.packaging.layers import MOUNT, Layers
from tests.waiting import until

START = f"""\
set -e
{MOUNT}
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for name in null zero full random urandom tty; do
	touch "$1/dev/$name"
	mount --bind "/dev/$name" "$1/dev/$name"
done
mkdir "$1/dev/pts" "$1/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$1/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
ln -s pts/ptmx "$1/dev/ptmx"
ln -s /proc/self/fd "$1/dev/fd"
ln -s fd/0 "$1/dev/stdin"
ln -s fd/1 "$1/dev/stdout"
ln -s fd/2 "$1/dev/stderr"
mount -t proc proc "$1/proc"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mkdir -p "$1/run/lock"
ip link set lo up
exec chroot "$1" python3 -c "$3"
"""
# As an init has to: what lost its parent is waited for, else a supervisor that ended would seem to live.
INIT = """\
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
os.write(1, b"ready\\n")
while True:
    signal.sigwait([signal.SIGCHLD])
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""
OPENRC = (
    "starting started stopping inactive wasinactive failed hotplugged daemons options exclusive scheduled tmp"
)
SYSLOG = """\
import os, socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
os.chmod("/dev/log", 0o666)
file = open("/var/log/messages", "ab", 0)
while True:
    file.write(log.recv(65536) + b"\\n")
"""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "CLEAN_DELAY": "0",
    "NOCOLOR": "yes",
}
READY_TIMEOUT = 120.0
COMMAND_TIMEOUT = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One finished command."""

    code: int
    output: str


class Container:
    """Use as a context manager. Needs root, util-linux and iproute2."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        # It ends with us, however we end.
        alone = [
            "setpriv",
            "--pdeathsig=KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--net",
            "--uts",
            "--ipc",
        ]
        self._process = subprocess.Popen(
            [*alone, "--propagation=private", "sh", "-c", START, "sh", *self._words()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], READY_TIMEOUT)
        line = os.read(self._process.stdout.fileno(), 4096) if ready else b"nothing said"
        if line != b"ready\n":
            self.__exit__(None, None, None)
            raise AssertionError(f"no container: {line.decode(errors='replace')}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self._pid = int(until(lambda: children.read_text().split(), what="the container's first process")[0])
        return self

    def _words(self) -> tuple[str, str, str]:
        """The arguments of `START`."""
        return str(self.layers.root), self.layers.options, INIT

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._pid:
            until(lambda: not Path(f"/proc/{self._pid}").exists(), what="the container's end")

    def argv(self, *command: str) -> list[str]:
        """The words that run `command` inside."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--net", "--uts", "--ipc"]
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return [*enter, "--root", "--wd", "env", "-i", *variables, *command]

    def run(
        self, *command: str, check: bool = True, typed: str | None = None, timeout: float = COMMAND_TIMEOUT
    ) -> Done:
        """Run a command to its end. `typed`: what a person types, on a terminal of its own."""
        argv = self.argv(*command) if typed is None else self.argv(*_on_a_terminal(command))
        done = subprocess.run(
            argv,
            input="" if typed is None else typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}")
        return Done(code=done.returncode, output=done.stdout)

    def shell(self, script: str, *, check: bool = True, typed: str | None = None) -> Done:
        return self.run("sh", "-ec", script, check=check, typed=typed)

    def begin_openrc(self) -> None:
        """Make what an init that is OpenRC's would have made at boot, and a syslog."""
        for name in OPENRC.split():
            self.run("mkdir", "-p", f"/run/openrc/{name}")
        self.run("touch", "/run/openrc/softlevel")
        self.shell(f"python3 -c '{SYSLOG}' < /dev/null > /dev/null 2>&1 &")
        until(self.path("/dev/log").exists, what="the container's syslog")

    def path(self, name: str) -> Path:
        """A file inside, seen from outside; what is mounted over the root is seen as well."""
        return Path(f"/proc/{self._pid}/root") / name.lstrip("/")

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process, by its number inside."""
        self.run("kill", f"-{number.value}", str(pid))


def _on_a_terminal(command: Sequence[str]) -> list[str]:
    import shlex

    return ["script", "--quiet", "--return", "--command", shlex.join(command), "/dev/null"]
