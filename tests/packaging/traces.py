# SPDX-License-Identifier: GPL-2.0-or-later
"""What strace saw the daemon open and run, and what of that docs/privacy.md allows it.

Each process has a file of its own, so that no call is torn into two lines, and each path is the one that the
kernel has for the open file, whatever link or directory it was reached by.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CALLS = "open,openat,openat2,creat,execve,execveat"

# -D: it stays whose child it is, with the number that its supervisor knows.
STRACE = f"strace -D -ff -qq -y -s 4096 -e trace={CALLS} -o"

_OPENED = re.compile(r"^(?:open|openat|openat2|creat)\(.*\) = \d+<(.*)>$", re.MULTILINE)
_EXECUTED = re.compile(r'^execve(?:at)?\(.*?"([^"]*)".*\) = 0$', re.MULTILINE)
_DENIED = re.compile(r"^(.*) = -1 (?:EACCES|EPERM) .*$", re.MULTILINE)

# The first five are what DESIGN §4 and docs/privacy.md list; then what any Python needs, and the resolver.
_ALLOWED = re.compile(
    "|".join(
        (
            r"/etc/gentwoo/gentwoo\.toml",
            r"/var/lib/gentwoo(/.*)?",
            r"/var/log(/emerge\.log[^/]*)?",
            r"/var/db/pkg(/[^/]+(/[^/]+(/repository)?)?)?",
            r"/var/db/repos(/[^/]+(/ebuild)?/profiles/repo_name)?",
            r"/usr/(bin|lib|lib64|share/(locale|zoneinfo))(/.*)?",
            r"/usr/local/lib/python3[^/]*(/.*)?",
            r"/etc/(ld\.so\.cache|localtime|nsswitch\.conf|passwd|group|hosts|host\.conf|resolv\.conf|gai\.conf)",
            r"/etc/(ssl/openssl\.cnf|ssl/certs(/.*)?|python3[^/]*/.*)",
            r"/dev/(null|urandom|random)",
            # Rust's standard library, in cryptography and pydantic, counts the processors that it may use.
            r"/proc/\d+/(cgroup|mountinfo)|/sys/fs/cgroup(/.*)?",
            r"/proc/\d+/(fd|maps|mounts|stat|status)",
            r"/proc/(stat|cpuinfo|meminfo|filesystems|sys/vm/overcommit_memory)",
            r"/sys/devices/system/cpu(/.*)?",
        )
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """All processes of one service together."""

    opened: frozenset[str]
    executed: frozenset[str]
    denied: tuple[str, ...]
    """Calls that the kernel refused, as strace prints them: what was tried, but not allowed."""

    @classmethod
    def read(cls, directory: Path) -> Self:
        text = "\n".join(path.read_text(errors="replace") for path in sorted(directory.iterdir()))
        return cls(
            opened=frozenset(_OPENED.findall(text)),
            executed=frozenset(_EXECUTED.findall(text)),
            denied=tuple(_DENIED.findall(text)),
        )

    def unexpected(self) -> list[str]:
        """What was opened and may not be."""
        return sorted(path for path in self.opened if not _ALLOWED.fullmatch(path))
