# SPDX-License-Identifier: GPL-2.0-or-later
"""The Manifest of a package: name, size, BLAKE2B and SHA512 of every other member (GLEP 74, GLEP 78).

Portage accepts lines that lack a hash or dies of them; here each line has both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bdcs.errors import InvalidPackage

_BEGIN_MESSAGE: Final = "-----BEGIN PGP SIGNED MESSAGE-----"
_BEGIN_SIGNATURE: Final = "-----BEGIN PGP SIGNATURE-----"
_END_SIGNATURE: Final = "-----END PGP SIGNATURE-----"
_HEX: Final = re.compile(r"[0-9A-Fa-f]{128}")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_HASHES: Final = ("BLAKE2B", "SHA512")


@dataclass(frozen=True, slots=True)
class Record:
    """What the Manifest says of one member, or what one member is."""

    size: int
    """Bytes."""
    blake2b: str
    """Hexadecimal, small letters."""
    sha512: str


def difference(said: Record, found: Record) -> str:
    """In what two records differ, for people."""
    if said.size != found.size:
        return f"{found.size} bytes instead of {said.size}"
    return "BLAKE2B" if said.blake2b != found.blake2b else "SHA512"


class Hashes:
    """BLAKE2B and SHA512 of what passes."""

    def __init__(self) -> None:
        self._size = 0
        self._blake2b = hashlib.blake2b()
        self._sha512 = hashlib.sha512()

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece."""
        self._size += len(data)
        self._blake2b.update(data)
        self._sha512.update(data)

    def record(self) -> Record:
        """What passed so far."""
        return Record(self._size, self._blake2b.hexdigest(), self._sha512.hexdigest())


def record_of(data: bytes) -> Record:
    """The record of `data`."""
    hashes = Hashes()
    hashes.feed(data)
    return hashes.record()


def text(records: Iterable[tuple[str, Record]]) -> bytes:
    """The Manifest of members with these names (without directory), unsigned, in this order."""
    lines = (
        f"DATA {name} {record.size} BLAKE2B {record.blake2b} SHA512 {record.sha512}\n"
        for name, record in records
    )
    return "".join(lines).encode()


def is_signed(data: bytes | bytearray) -> bool:
    """Whether a signature of whatever kind is in a Manifest; Portage looks no closer either."""
    return b"-----BEGIN PGP" in data


def parse(data: bytes) -> Mapping[str, Record]:
    """What a Manifest, plain or clear-signed, says of each name. The signature is not verified.

    Raises `InvalidPackage` for anything but lines of DATA, in one cleartext signature framework (RFC 9580
    §7) at most, with nothing before or behind it.
    """
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise InvalidPackage("Manifest is not plain ASCII") from None
    if is_signed(data):
        lines = _signed_lines(lines)
    records: dict[str, Record] = {}
    for line in lines:
        if line:
            name, record = _record(line)
            if name in records:
                raise InvalidPackage(f"Manifest names {name!r} twice")
            records[name] = record
    return records


def _signed_lines(lines: list[str]) -> list[str]:
    """The lines that the signature in `lines` is for."""
    while lines and not lines[-1]:
        lines.pop()
    framed = lines[:1] == [_BEGIN_MESSAGE] and lines[-1] == _END_SIGNATURE
    if not framed or sum(line.startswith("-----") for line in lines) != 3 or _BEGIN_SIGNATURE not in lines:
        raise InvalidPackage("Manifest is not one clear-signed text")
    first = lines.index("") + 1 if "" in lines else 0
    for header in lines[1 : first - 1]:
        if not header.startswith("Hash: "):
            raise InvalidPackage(f"Manifest has an unknown header above its text: {header!r:.100}")
    signature = lines.index(_BEGIN_SIGNATURE)
    if not 2 <= first <= signature:
        raise InvalidPackage("Manifest is not one clear-signed text")
    return lines[first:signature]


def _record(line: str) -> tuple[str, Record]:
    words = line.split(" ")
    if len(words) != 7 or words[0] != "DATA" or not _SIZE.fullmatch(words[2]):
        raise InvalidPackage(f"Manifest has a line that is not DATA with both hashes: {line!r:.200}")
    hashes = dict(zip(words[3::2], words[4::2], strict=True))
    if sorted(hashes) != sorted(_HASHES):
        raise InvalidPackage(f"Manifest lacks BLAKE2B or SHA512 of {words[1]!r:.100}")
    if not all(_HEX.fullmatch(value) for value in hashes.values()):
        raise InvalidPackage(f"Manifest has something that is no hash for {words[1]!r:.100}")
    return words[1], Record(int(words[2]), *(hashes[name].lower() for name in _HASHES))
