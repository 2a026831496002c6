# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build sees: a command line for bubblewrap (bwrap(1), from 0.8 on).

Inside are only the throw-away tree and programs to build with. A tree that is a Gentoo Prefix is seen where
the Prefix is, below a `/` that is empty but for /usr, /opt, a few files of /etc and what is declared
`readable`, all of it read-only. A tree that is a whole system is seen as `/`, without what does not belong to
the system: HIDDEN. Everything else of this machine is not there: no home, no state, no other build, no
socket, no device that stores anything, no process. Nothing of our environment goes in.

Where the builder is root, so are the builds, since Portage sets owners; of root's capabilities they have what
that needs. They have no CAP_SYS_ADMIN (to mount), CAP_MKNOD, CAP_SYS_PTRACE or CAP_NET_ADMIN, no
CAP_DAC_READ_SEARCH, which opens every file of a file system that any file is seen of (open_by_handle_at(2)),
and `/proc/sys` is read-only. An ordinary user builds in a user namespace, in which nobody else exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
)
SYSTEM: Final = ("usr", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Directories at the top of a system that programs come from."""
ETC: Final = (
    "alternatives",
    "ca-certificates",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "login.defs",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "perl",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "wgetrc",
)
"""What of /etc programs need beside a Prefix; nothing that is secret."""
HIDDEN: Final = (
    "boot",
    "home",
    "media",
    "mnt",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "var/lib/bdcs",
    "var/lib/bdcs-builder",
    "var/lib/bdcs-signer",
    "var/lib/gentwoo",
    "var/log",
    "var/spool",
    "var/tmp",
)
"""What of a whole system is empty inside."""
HOST_NAME: Final = "builder"
KERNEL: Final = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
"""Settings of the whole machine, which root could change: bubblewrap leaves them as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What programs inside find."""

    tree: Path
    """The throw-away tree, in the mount namespace that bubblewrap is started in."""
    seen: Path
    """The same tree as we see it."""
    eprefix: Path | None
    """Where it is seen; None for `/`."""
    root: Path
    """The system around a Prefix."""
    readable: Sequence[Path] = ()
    """Paths of this machine that may be read inside, where they are outside."""
    hidden: Sequence[Path] = ()
    """Directories that are empty inside, whatever is in the tree: the builder's own, and such as it."""
    writable: Mapping[str, Path] = field(default_factory=dict)
    """Paths inside, and what is seen there."""
    read_only: Mapping[str, Path] = field(default_factory=dict)
    is_root: bool
    """Whether bubblewrap runs as root."""
    has_network: bool = False

    def command(self, argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """Return the command line that runs `argv` inside, with exactly this environment."""
        return ["bwrap", *self._isolation(), *self._mounts(), *_environment(environment), *argv]

    def _isolation(self) -> Iterator[str]:
        yield from ("--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-pid", "--unshare-uts")
        yield from ("--unshare-cgroup-try", "--hostname", HOST_NAME)
        if not self.has_network:
            yield "--unshare-net"
        if self.is_root:
            yield from ("--cap-drop", "ALL")
            for capability in CAPABILITIES:
                yield from ("--cap-add", capability)
        else:
            yield "--unshare-user"

    def _mounts(self) -> Iterator[str]:
        yield from self._system() if self.eprefix is None else self._surroundings(self.eprefix)
        for name in KERNEL:
            yield from ("--ro-bind-try", name, name)
        for path in self.readable:
            yield from ("--ro-bind", str(path), str(path))
        for inside, outside in self.read_only.items():
            yield from ("--ro-bind", str(outside), inside)
        for inside, outside in self.writable.items():
            yield from ("--bind", str(outside), inside)
        if self.eprefix is not None:
            yield from ("--remount-ro", "/")
        yield from ("--chdir", "/")

    def _system(self) -> Iterator[str]:
        yield from ("--bind", str(self.tree), "/", "--dev", "/dev", "--proc", "/proc")
        for path in dict.fromkeys([*(Path("/", name).resolve() for name in HIDDEN), *self.hidden]):
            inside = self.seen / path.relative_to("/")
            if inside.is_dir() and not inside.is_symlink():
                yield from ("--tmpfs", str(path))

    def _surroundings(self, eprefix: Path) -> Iterator[str]:
        for name in SYSTEM:
            path = self.root / name
            if path.is_symlink():
                yield from ("--symlink", str(path.readlink()), f"/{name}")
            elif path.is_dir():
                yield from ("--ro-bind", str(path), f"/{name}")
        for path in self.hidden:
            if path.parts[1] in SYSTEM and (self.root / path.relative_to("/")).is_dir():
                yield from ("--tmpfs", str(path))
        for name in ETC:
            yield from ("--ro-bind-try", str(self.root / "etc" / name), f"/etc/{name}")
        yield from ("--dev", "/dev", "--proc", "/proc")
        for name in ("tmp", "run", "var/tmp", "home", "root"):
            yield from ("--tmpfs", f"/{name}")
        yield from ("--bind", str(self.tree), str(eprefix))


def _environment(environment: Mapping[str, str]) -> Iterator[str]:
    yield "--clearenv"
    for name, value in environment.items():
        yield from ("--setenv", name, value)
