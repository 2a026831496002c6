# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs as a service of a booted systemd, tries our units, and leaves what it saw in /root/result.json."""

import ctypes
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULT = Path("/root/result.json")
COLLECTOR = "http://127.0.0.1:8642"
CONFIG = Path("/etc/gentwoo/gentwoo.toml")
TRACES = Path("/var/lib/gentwoo/traces")
STRACE = "@STRACE@"
DEADLINE = 180.0
seen: dict[str, Any] = {}


def sh(command: str) -> tuple[int, str]:
    done = subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    return done.returncode, done.stdout


def show(unit: str, name: str) -> str:
    return sh(f"systemctl show --value -p {name} {unit}")[1].strip()


def until(condition: Callable[[], Any]) -> Any:
    """The first true answer, or the last one when the time is over."""
    deadline = time.monotonic() + DEADLINE
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def journal(unit: str) -> str:
    return sh(f"journalctl --no-pager -o cat -u {unit}")[1]


def records() -> list[dict[str, Any]]:
    lines = sh("runuser -u bdcs -- bdcs export")[1].splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def dropin(text: str) -> None:
    directory = Path("/run/systemd/system/gentwoo.service.d")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "test.conf").write_text(f"[Service]\n{text}\n")
    sh("systemctl daemon-reload")


def main_pid() -> int:
    return int(show("gentwoo", "MainPID") or 0)


def signal_daemon(number: signal.Signals) -> int:
    """Send a signal to the daemon; return which process that was."""
    pid = main_pid()
    if pid <= 0:
        raise RuntimeError("gentwoo does not run")
    os.kill(pid, number)
    return pid


def running_again(before: int) -> bool:
    return bool(until(lambda: main_pid() not in (0, before) and show("gentwoo", "ActiveState") == "active"))


def starts() -> None:
    seen["bdcs"] = sh("systemctl start bdcs")
    seen["register"] = sh(f"gentwoo register --non-interactive --collector {COLLECTOR}")
    seen["enable"] = sh("systemctl enable --now gentwoo")
    seen["active"] = show("gentwoo", "ActiveState")
    status = Path(f"/proc/{main_pid()}/status").read_text()
    seen["user"] = sh("id -u gentwoo")[1].strip() in re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE)
    seen["capabilities"] = re.findall(r"^Cap(?:Eff|Prm|Bnd):\s+(\w+)", status, re.MULTILINE)
    inside = f"nsenter -t {main_pid()} -m -- "
    seen["writes the log"] = sh(f"{inside} sh -c 'echo >> /var/log/emerge.log'")
    seen["reads shadow"] = sh(f"{inside} runuser -u gentwoo -- cat /etc/shadow")


def arrived() -> list[dict[str, Any]]:
    """Installations of one package that were recorded as they happened."""
    package = ("live", "install", "acct-group", "portage")
    return [r for r in records() if (r["observed"], r["event"], r["category"], r["name"]) == package]


def records_arrive() -> None:
    seen["emerge"] = sh("emerge --oneshot acct-group/portage")
    seen["record"] = until(arrived)
    members = Path(f"/sys/fs/cgroup/{show('gentwoo', 'ControlGroup')}/cgroup.procs").read_text().split()
    seen["memory"] = sum(most_memory(pid) for pid in members)
    # What the kernel lets anybody here know of its clock, inside of the unit or not.
    timex = ctypes.create_string_buffer(512)
    seen["adjtimex"] = ctypes.CDLL(None).adjtimex(timex)


def most_memory(pid: str) -> int:
    """KiB that a process had at most; 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(map(int, re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)))


def reads() -> None:
    """The unit as it is, but for strace, which it would forbid."""
    sh(f"install -d -o gentwoo -m 700 {TRACES}")
    traced = f"ExecStart=\nExecStart=/usr/bin/{STRACE} {TRACES}/gentwoo /usr/bin/gentwoo daemon"
    dropin(f"{traced}\nSystemCallFilter=@debug\nWatchdogSec=0")
    seen["traced"] = sh("systemctl restart gentwoo")
    sh("emerge --oneshot acct-group/portage")
    seen["traced record"] = until(lambda: len(arrived()) == 2)
    seen["traced stop"] = sh("systemctl stop gentwoo")
    until(lambda: sh("pgrep strace")[0] == 1)
    sh(f"mv {TRACES} /root/traces")
    dropin("")
    sh("systemctl start gentwoo")


def crashes() -> None:
    before = signal_daemon(signal.SIGKILL)
    seen["restarted"] = running_again(before)
    dropin("WatchdogSec=10")
    sh("systemctl restart gentwoo")
    before = signal_daemon(signal.SIGSTOP)
    seen["watchdog"] = running_again(before)
    seen["watchdog result"] = "watchdog" in journal("gentwoo").lower()
    dropin("")
    sh("systemctl restart gentwoo")


def reloads() -> None:
    before = main_pid()
    CONFIG.write_text('log_level = "debug"\n')
    seen["reload"] = sh("systemctl reload gentwoo")
    seen["reloaded"] = bool(until(lambda: "the configuration was read again" in journal("gentwoo")))
    seen["same process"] = main_pid() == before


def refuses() -> None:
    CONFIG.write_text("colector = 3\n")
    seen["bad"] = sh("systemctl restart gentwoo")
    until(lambda: show("gentwoo", "ActiveState") == "failed")
    seen["bad state"] = (
        show("gentwoo", "ActiveState"),
        show("gentwoo", "ExecMainStatus"),
        show("gentwoo", "NRestarts"),
    )
    CONFIG.write_text("")
    sh("systemctl reset-failed gentwoo")


def stops() -> None:
    seen["start"] = sh("systemctl start gentwoo")
    seen["stop"] = sh("systemctl stop gentwoo")
    seen["stopped"] = (show("gentwoo", "ActiveState"), show("gentwoo", "Result"))
    dropin("TimeoutStopSec=2")
    sh("systemctl start gentwoo")
    signal_daemon(signal.SIGSTOP)
    seen["slow stop"] = sh("systemctl stop gentwoo")
    seen["slow stopped"] = (show("gentwoo", "ActiveState"), main_pid())
    sh("systemctl reset-failed gentwoo")


def periodic() -> None:
    seen["push"] = sh("systemctl start gentwoo-push.service")
    seen["push result"] = show("gentwoo-push", "Result")
    seen["timer"] = sh("systemctl enable --now gentwoo-push.timer")
    seen["next"] = show("gentwoo-push.timer", "NextElapseUSecRealtime")


def others() -> None:
    seen["key"] = sh("bdcs admin keys create --name 'Test key' --email test@example.org")
    seen["signer"] = sh("systemctl start bdcs-signer")
    seen["socket"] = bool(until(lambda: Path("/run/bdcs-signer/socket").is_socket()))
    seen["keys"] = sh("systemctl stop bdcs-signer")
    Path("/etc/bdcs/builder.env").write_text(
        f'BUILDER_OPTS="--collector {COLLECTOR} --target amd64 --disk 0.1 --name here"\n'
    )
    seen["builder"] = sh("systemctl start bdcs-builder")
    seen["builder log"] = until(lambda: "approv" in journal("bdcs-builder")) and journal("bdcs-builder")
    seen["builder stop"] = sh("systemctl stop bdcs-builder")
    seen["bdcs reload"] = sh("systemctl reload bdcs")
    seen["bdcs stop"] = sh("systemctl stop bdcs")
    seen["bdcs stopped"] = (show("bdcs", "ActiveState"), show("bdcs", "Result"))


def main() -> None:
    for step in (starts, records_arrive, reads, crashes, reloads, refuses, stops, periodic, others):
        try:
            step()
        except Exception as error:
            seen[f"error in {step.__name__}"] = repr(error)
    for unit in ("gentwoo", "bdcs", "bdcs-signer", "bdcs-builder", "gentwoo-push"):
        seen[f"journal of {unit}"] = journal(unit)[-4000:]
    RESULT.write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
