# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of a `Packages` index: what clients read, and nothing that they could stumble over.

A header, then an entry for each package, each a block of `KEY: value` lines that an empty line ends. Keys,
their order and what is left out are those of Portage's own generator, so that its `PackageIndex` reads from
ours what it reads from its own. There is no escaping: what a line cannot hold is refused here, since one bad
entry ends a client's whole `emerge` with a traceback (reference/binhost.md §0, §2).

    text = header(fields, count, timestamp) + "".join(block(entry) for entry in entries)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from bdcs.errors import InvalidHeader, Unlistable
from gentwoo_client.wire.cpv import CPV

if TYPE_CHECKING:
    from bdcs.domain.gpkg.reading import Package

STEP: Final = 6  # seconds between TIMESTAMPs: Portage asks for what changed 5 s after the one it has
LEAD: Final = 60  # seconds that TIMESTAMP may be ahead of the clock before publications are batched
CHUNK_ENTRIES: Final = 128  # CPVs of a chunk, on average

_PATH: Final = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9+_.-]*/[A-Za-z0-9_][A-Za-z0-9+_-]*/[A-Za-z0-9_][A-Za-z0-9+_.-]*(?:\.gpkg\.tar|\.xpak)"
)


def path_of(cpv: CPV, build_id: int, suffix: str = ".gpkg.tar") -> str:
    """Return where below its target a package lies: CATEGORY/PN/PF-ID.gpkg.tar, as Portage names it."""
    return f"{cpv.category}/{cpv.name}/{cpv.pf}-{build_id}{suffix}"


def is_path(path: str) -> bool:
    """Whether `path` may be a PATH: it stays below the client's directory, and needs no quoting in a URL."""
    return _PATH.fullmatch(path) is not None


def is_due(now: float, timestamp: int, lead: float = LEAD) -> bool:
    """Whether an index of `timestamp` is to be written at `now`, rather than with what else may come.

    `lead`: seconds that it may be ahead.

    No publication puts it further ahead than `LEAD` and one step: beyond that the clock was set back, and to
    wait until it has caught up would be to publish nothing for as long.
    """
    return not lead < timestamp - now <= LEAD + STEP


def starts_chunk(cpv: str) -> bool:
    """Whether a chunk of the index begins with the first entry of `cpv`, a matter of its text alone.

    So the chunks follow from what is in the index, not from how it came there, and a change touches one or
    two of them.
    """
    return int.from_bytes(blake2b(cpv.encode(), digest_size=4).digest()) % CHUNK_ENTRIES == 0


# The header.

_RESERVED: Final = frozenset({"VERSION", "PACKAGES", "TIMESTAMP", "DOWNLOAD_TIMESTAMP", "REPO_REVISIONS"})
_HEADER_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_URI: Final = re.compile(r"(?:https?|ftp)://[^\s/?#@]+(?:/[^\s?#]*)?")


def header(fields: Mapping[str, str], count: int, timestamp: int) -> str:
    """Return the header's block for `count` entries, sorted by key; fields without value are left out.

    Raises `InvalidHeader`.
    """
    own = {"VERSION": "0", "PACKAGES": str(count), "TIMESTAMP": str(timestamp)}
    return _block({**checked_header(fields), **own})


def checked_header(fields: Mapping[str, str]) -> dict[str, str]:
    """Return `fields` with their white space folded, as an index may hold them. Raises `InvalidHeader`."""
    checked = {key: " ".join(value.split()) for key, value in fields.items()}
    for key, value in checked.items():
        if key in _RESERVED:
            raise InvalidHeader(f"{key} is the collector's own to write")
        if not _HEADER_KEY.fullmatch(key):
            raise InvalidHeader(f"{key[:100]!r} is no key of an index's header")
        if not value.isprintable():
            raise InvalidHeader(f"the value of {key} holds characters that cannot be printed")
    if (uri := checked.get("URI")) and not _URI.fullmatch(uri):
        raise InvalidHeader("URI is no http, https or ftp URL without user, query and fragment")
    if (ttl := checked.get("TTL")) and not _is_number(ttl):
        raise InvalidHeader("TTL is not a number of seconds")
    return checked


# An entry.


def entry(package: Package, *, path: str, build_id: int | None, mtime: int) -> str:
    """Return the entry of `package`: its lines, without the empty one behind them.

    `path` is below the target, `mtime` the file's, in Unix seconds. Raises `Unlistable` where a value is not
    what clients expect there.
    """
    metadata = package.metadata
    fields = {
        "CPV": str(package.cpv),
        "PATH": path,
        "SIZE": str(package.size),
        "MD5": package.md5,
        "SHA1": package.sha1,
        "BUILD_ID": "" if build_id is None else str(build_id),
        "MTIME": str(mtime),
        "REPO": metadata.get("repository", ""),
        **{key: metadata.get(key, "") for key in _COPIED},
    }
    for key in _ORDER:
        if (value := fields[key]) and not _CHECKS[key](value):
            raise Unlistable(f"{key} cannot be {value[:100]!r} in an index")
    for key in _REQUIRED:
        if not fields[key]:
            raise Unlistable(f"an index cannot list a package without {key}")
    return _lines({key: fields[key] for key in _ORDER if fields[key] != _DEFAULTS.get(key, "")})


def block(entry: str) -> str:
    """Return the part of the index that `entry` is."""
    return f"{entry}\n\n"


def parse_entry(text: str) -> dict[str, str]:
    """Return the fields of an entry or of a header, by the names that an index has for them."""
    fields = (line.partition(":") for line in text.split("\n") if ":" in line)
    return {key: value[1:] for key, _, value in fields}


def _block(fields: Mapping[str, str]) -> str:
    return block(_lines({key: fields[key] for key in sorted(fields) if fields[key]}))


def _lines(fields: Mapping[str, str]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in fields.items())


def _is_number(text: str) -> bool:
    """Whether `text` is a decimal number that fits 63 bits."""
    return text.isascii() and text.isdigit() and len(text) < 19


def _is_cpv(text: str) -> bool:
    # Portage knows no inter-revisions, which our own CPV accepts: it would end there.
    return "." not in text.rpartition("-r")[2] if "-r" in text else True


def _matches(expression: str) -> Callable[[str], bool]:
    return lambda text, match=re.compile(expression).fullmatch: match(text) is not None  # type: ignore[misc]


def _words(expression: str) -> Callable[[str], bool]:
    """Make the check of words that blanks separate."""
    return _matches(rf"(?:{expression})(?: (?:{expression}))*")


_FLAG: Final = r"[A-Za-z0-9][A-Za-z0-9+_@-]*"  # PMS §3.1.4
_SLOT: Final = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"  # PMS §3.1.3
_TOKENS: Final = _words(r"[!-~]+")  # of a dependency specification: ASCII, nothing that ends a line

_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "BDEPEND": _TOKENS,
    "BUILD_ID": _is_number,
    "BUILD_TIME": _is_number,
    "CHOST": _matches(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"),
    "CPV": _is_cpv,
    "DEFINED_PHASES": _words(r"[a-z_]+|-"),
    "DEPEND": _TOKENS,
    "EAPI": _matches(r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"),
    "IDEPEND": _TOKENS,
    "IUSE": _words(rf"[+-]?{_FLAG}"),
    "KEYWORDS": _words(r"[~-]?[A-Za-z0-9_][A-Za-z0-9_-]*|-\*|~\*|\*\*|\*"),
    "LICENSE": _TOKENS,
    "MD5": _matches(r"[0-9a-f]{32}"),
    "PATH": is_path,
    "PDEPEND": _TOKENS,
    "PROPERTIES": _TOKENS,
    "PROVIDES": str.isprintable,
    "RDEPEND": _TOKENS,
    "REQUIRES": str.isprintable,
    "RESTRICT": _TOKENS,
    "SHA1": _matches(r"[0-9a-f]{40}"),
    "SIZE": _is_number,
    "SLOT": _matches(rf"{_SLOT}(?:/{_SLOT})?"),
    "USE": _words(_FLAG),
    "USER_PATCHES": _words(r"[0-9A-Za-z]+"),
    "MTIME": _is_number,
    "REPO": _matches(r"[A-Za-z0-9_][A-Za-z0-9_-]*"),
}
"""What values may be; in the order of Portage, which sorts by its internal names (_mtime_, repository)."""

_ORDER: Final = tuple(_CHECKS)
_DEFAULTS: Final = {"EAPI": "0", "SLOT": "0"}
"""What a client takes an absent key for; absent otherwise is empty."""
_REQUIRED: Final = ("CPV", "PATH", "SIZE", "MTIME", "MD5", "SHA1", "SLOT", "EAPI")
_COPIED: Final = tuple(key for key in _CHECKS if key not in _REQUIRED[:6] and key not in ("BUILD_ID", "REPO"))
"""What an entry has from the package's metadata under the same name."""
