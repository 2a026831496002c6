# SPDX-License-Identifier: GPL-2.0-or-later
"""Portage's binrepos.conf: the section `[gentwoo]`, put there, found again and taken away byte for byte.

`/etc/portage/binrepos.conf` is a directory, whose files Portage reads in the order of their names, or one
file. What setup writes stands between two lines of comment, and a third comment holds, as JSON, what else it
did; so `remove` needs no other memory:

    # gentwoo binhost: begin. Written by `gentwoo binhost setup`, …
    # {"collector": "https://bdcs.example.org", "target": "amd64-v3", …}
    [gentwoo]
    priority = 10
    sync-uri = https://bdcs.example.org/binhost/amd64-v3
    verify-signature = true
    # gentwoo binhost: end

Everything outside of these lines stays as it is.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from gentwoo_client.errors import BinhostRefused, NoPermission
from gentwoo_client.privileges import command_as
from gentwoo_client.wire.targets import is_fingerprint, is_target_name

SECTION: Final = "gentwoo"
FILE_NAME: Final = "gentwoo.conf"
PRIORITY: Final = 10

_BEGIN = "# gentwoo binhost: begin."
_NOTE = (
    f"{_BEGIN} Written by `gentwoo binhost setup`, which overwrites changes; `gentwoo binhost remove` takes"
    " it away."
)
_END = "# gentwoo binhost: end"
_BLOCK = re.compile(rb"^# gentwoo binhost: begin\..*?^# gentwoo binhost: end\n?", re.MULTILINE | re.DOTALL)
_MARK = re.compile(rb"^# gentwoo binhost: (?:begin\.|end$)", re.MULTILINE)
_HEADING = re.compile(rb"^\[" + SECTION.encode() + rb"\]", re.MULTILINE)
_CREDENTIALS = re.compile(r"(?P<user>[A-Za-z0-9._~-]+):(?P<token>[A-Za-z0-9._~-]+)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a private target asks for, by HTTP basic.

    Only characters that need no encoding anywhere: Portage undoes none for the index, and wget gets the same.
    """

    user: str
    token: str = field(repr=False)

    @property
    def pair(self) -> tuple[str, str]:
        """User and token, as HTTP basic wants them."""
        return self.user, self.token

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """The credentials in `NAME:TOKEN`. Raises ValueError."""
        match = _CREDENTIALS.fullmatch(text.strip())
        if match is None:
            raise ValueError("not NAME:TOKEN, each of letters, digits and any of “._~-”")
        return cls(match["user"], match["token"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The section, and what setup did besides writing it."""

    collector: str
    target: str
    url: str
    """Portage's sync-uri, without credentials."""
    verify: bool
    """verify-signature: whether Portage refuses what is not signed."""
    home: str
    """The GnuPG home that the keys were put into."""
    keys: tuple[str, ...]
    """Fingerprints that packages are accepted from."""
    imported: tuple[str, ...] = ()
    """Those of `keys` that were not in `home` before."""
    trust: Mapping[str, int] = field(default_factory=dict)
    """The ownertrust that the other ones had before."""
    made: tuple[str, ...] = ()
    """Files and directories that were not there before."""
    modes: Mapping[str, int] = field(default_factory=dict)
    """The modes that files and directories had before."""
    group: int | None = None
    """The group that the file had before it came to hold a token."""
    joined: bool = False
    """Whether the file did not end in a line feed before."""
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the section is or goes."""

    path: Path
    """The file itself: what a symbolic link leads to."""
    directory: Path | None
    """binrepos.conf, where that is a directory or shall become one."""

    @classmethod
    def find(cls, configuration: Path) -> Place:
        """The place below `configuration` (`/etc/portage`). Raises `PermissionError`."""
        binrepos = Path(os.path.realpath(configuration / "binrepos.conf"))
        if binrepos.exists() and not binrepos.is_dir():
            return cls(binrepos, None)
        return cls(Path(os.path.realpath(binrepos / FILE_NAME)), binrepos)

    def others(self) -> Iterator[Path]:
        """The other files that Portage reads: none whose name begins with a dot or ends in a tilde."""
        if self.directory is None or not self.directory.is_dir():
            return
        for path in sorted(self.directory.rglob("*")):
            parts = path.relative_to(self.directory).parts
            is_read = not any(part.startswith(".") or part.endswith("~") for part in parts)
            if is_read and path.is_file() and Path(os.path.realpath(path)) != self.path:
                yield path


def read(place: Place) -> tuple[bytes | None, Entry | None]:
    """The file's content (None: there is none), and the entry in it, if setup wrote one.

    Raises `BinhostRefused` where what setup wrote cannot be read any more, and `NoPermission`.
    """
    try:
        content = place.path.read_bytes()
    except FileNotFoundError:
        return None, None
    except PermissionError:
        raise NoPermission(
            f"{place.path}: this user may not read it; there may be a token in it",
            advice=f"use `{command_as('root')}`",
        ) from None
    return content, parse(content, place.path)


def parse(content: bytes, path: Path) -> Entry | None:
    """The entry that setup wrote into `content`; None where it wrote none. Raises `BinhostRefused`."""
    blocks, marks = _BLOCK.findall(content), _MARK.findall(content)
    if not marks:
        return None
    try:
        if len(blocks) != 1 or len(marks) != 2:
            raise ValueError
        return _entry(blocks[0].decode())
    except (ValueError, KeyError, TypeError, configparser.Error):
        raise BinhostRefused(
            f"{path}: what `gentwoo binhost setup` wrote was changed, so it is not known what it did",
            advice=f"take the lines from “{_BEGIN}” to “{_END}” out by hand, then run setup again",
        ) from None


def check_ours(content: bytes | None, place: Place) -> None:
    """See that nobody else has a section of our name: Portage would mix the two. Raises `BinhostRefused`."""
    found = [place.path] if content is not None and _HEADING.search(_BLOCK.sub(b"", content)) else []
    for path in place.others():
        with contextlib.suppress(OSError):
            if _HEADING.search(path.read_bytes()):
                found.append(path)
    if found:
        raise BinhostRefused(
            f"{found[0]} has a section [{SECTION}] that `gentwoo binhost setup` did not write",
            advice="take it out or give it another name, then run setup again",
        )


def with_entry(content: bytes | None, entry: Entry) -> tuple[bytes, Entry]:
    """`content` with `entry` in the place of an earlier one, or at its end; and the entry as it is there."""
    before = b"" if content is None else content
    earlier = _BLOCK.search(before)
    if earlier is None:
        entry = replace(entry, joined=bool(before) and not before.endswith(b"\n"))
        joint = b"\n" if entry.joined else b""
        return before + joint + _block(entry), entry
    return before[: earlier.start()] + _block(entry) + before[earlier.end() :], entry


def without_entry(content: bytes, entry: Entry) -> bytes:
    """`content` as it was before `with_entry`."""
    block = _BLOCK.search(content)
    if block is None:
        return content
    before = content[: block.start()]
    return (before.removesuffix(b"\n") if entry.joined else before) + content[block.end() :]


def write(path: Path, content: bytes, *, mode: int, owner: tuple[int, int]) -> None:
    """Put `content` in the place of the file, whole or not at all; nobody else may read it on the way."""
    descriptor, name = tempfile.mkstemp(prefix=".gentwoo-", dir=path.parent)  # unread by Portage: a dot
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mode_of(path: Path) -> int:
    """The permission bits of the file."""
    return stat.S_IMODE(path.stat().st_mode)


def syntax_error(place: Place) -> str | None:
    """What Portage's parser will say about binrepos.conf as a whole; None where nothing.

    It reads all files as one, and where one of them is broken it uses none.
    """
    parser = configparser.ConfigParser()
    for path in [*place.others(), place.path]:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                parser.read_file(file, source=str(path))
        except OSError:
            continue
        except configparser.Error as error:
            return " ".join(str(error).split())
    try:
        for section in parser.sections():
            dict(parser[section].items())
    except configparser.Error as error:
        return " ".join(str(error).split())
    return None


def sync_uri(entry: Entry) -> str:
    """The address for Portage, with credentials where the target is private."""
    if entry.credentials is None:
        return entry.url
    scheme, _, rest = entry.url.partition("://")
    return f"{scheme}://{entry.credentials.user}:{entry.credentials.token}@{rest}"


def _block(entry: Entry) -> bytes:
    memory = asdict(entry)
    for name in ("url", "verify", "credentials"):
        del memory[name]
    options = {
        "priority": str(PRIORITY),
        "sync-uri": sync_uri(entry),
        "verify-signature": "true" if entry.verify else "false",
    }
    lines = [
        _NOTE,
        f"# {json.dumps(memory)}",
        f"[{SECTION}]",
        *(f"{name} = {_escaped(value)}" for name, value in options.items()),
        _END,
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _escaped(value: str) -> str:
    """`%` begins an interpolation in Portage's parser, which ends emerge with a traceback."""
    return value.replace("%", "%%")


def _entry(block: str) -> Entry:
    memory: dict[str, Any] = json.loads(block.splitlines()[1].removeprefix("#"))
    parser = configparser.ConfigParser()
    parser.read_string(block)
    options = parser[SECTION]
    scheme, separator, rest = options["sync-uri"].partition("://")
    userinfo, at, address = rest.rpartition("@")
    keys, imported = tuple(memory["keys"]), tuple(memory["imported"])
    trust = {str(key): int(value) for key, value in memory["trust"].items()}
    if not is_target_name(memory["target"]) or not separator:
        raise ValueError
    if not all(map(is_fingerprint, [*keys, *imported, *trust])):
        raise ValueError
    return Entry(
        collector=str(memory["collector"]),
        target=memory["target"],
        url=f"{scheme}://{address}",
        verify=options["verify-signature"] == "true",
        home=str(memory["home"]),
        keys=keys,
        imported=imported,
        trust=trust,
        made=tuple(map(str, memory["made"])),
        modes={str(path): int(mode) for path, mode in memory["modes"].items()},
        group=None if memory["group"] is None else int(memory["group"]),
        joined=bool(memory["joined"]),
        credentials=Credentials.parse(userinfo) if at else None,
    )
