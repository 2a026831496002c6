# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo verify`: prove that records come from a machine, in this order, unchanged."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gentwoo_client.errors import DONE, FAILED, GentwooError, InvalidEvidence, UsageError, printable
from gentwoo_client.settings import Settings

NAME = "verify"
HELP = "check signatures and chain of segments in a file"
DASHED_VALUES = ("--public-key",)
"""One key in 64 begins with a dash: it is base64url."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    parser.description = (
        "Check segments: the key makes the machine's UUID, the signature covers the bytes, and each "
        "segment names the digest of the one before. FILE holds segments in compact form, one a line, "
        'or JSON documents {"public_key": "…", "segments": ["…", …]}, one for each machine, which '
        "need nothing else."
    )
    parser.add_argument("file", metavar="FILE", help="the file, or - for standard input")
    parser.add_argument(
        "--public-key",
        metavar="KEY",
        help="the machine's public key in base64url (default: the one in FILE, else this machine's own)",
    )


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Segments of one machine, in order; the key that came along, if any."""

    public_key: str | None
    segments: tuple[bytes, ...]


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print one line for each segment; return 0 if all are valid, else 1."""
    content = sys.stdin.buffer.read() if arguments.file == "-" else Path(arguments.file).read_bytes()
    is_valid = True
    for evidence in _read(content):
        is_valid &= _verify(evidence, arguments.public_key, settings)
    return DONE if is_valid else FAILED


def _read(content: bytes) -> Iterator[_Evidence]:
    text = content.strip()
    if not text:
        raise InvalidEvidence("there is no segment in it")
    if not text.startswith(b"{"):
        yield _Evidence(None, tuple(text.split()))
        return
    decoder = json.JSONDecoder()
    rest = text.decode(errors="replace")
    while rest:
        try:
            document, end = decoder.raw_decode(rest)
            segments = tuple(segment.encode() for segment in document["segments"])
            public_key = document.get("public_key")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidEvidence(f"it is neither segments nor JSON with segments: {error}") from None
        if not segments:
            raise InvalidEvidence("there is no segment in it")
        yield _Evidence(public_key if isinstance(public_key, str) else None, segments)
        rest = rest[end:].lstrip()


def _verify(evidence: _Evidence, given_key: str | None, settings: Settings) -> bool:
    from gentwoo_client.wire.errors import ProtocolError
    from gentwoo_client.wire.identity import parse_public_key
    from gentwoo_client.wire.segments import open_segment, peek_machine

    expected_seq: int | None = None
    expected_prev: str | None = None
    is_valid = True
    for number, compact in enumerate(evidence.segments, 1):
        try:
            text = given_key or evidence.public_key
            public_key = parse_public_key(text) if text else _own_key(str(peek_machine(compact)), settings)
            opened = open_segment(compact, public_key)
        except ProtocolError as error:
            print(f"segment {number}: INVALID: {printable(str(error))}")
            return False
        segment = opened.segment
        line = f"{segment.machine}  {segment.first_seq}-{segment.last_seq}  {opened.digest}"
        if expected_seq is not None and (segment.first_seq, segment.prev) != (expected_seq, expected_prev):
            print(f"{line}  INVALID: it does not continue the segment before")
            is_valid = False
        else:
            print(f"{line}  valid, for {segment.audience}")
        expected_seq, expected_prev = segment.last_seq + 1, opened.digest
    return is_valid


def _own_key(machine: str, settings: Settings) -> bytes:
    """The public key of this very machine, if the segment is from it."""
    from gentwoo_client.machine_key import load_machine_key
    from gentwoo_client.privileges import enter_state_directory

    advice = "give the machine's public key with --public-key"
    try:
        enter_state_directory(settings.state_dir)
        key = load_machine_key(settings.state_dir)
    except GentwooError as error:
        raise UsageError(f"the public key of {machine} is needed: {error}", advice=advice) from error
    if str(key.machine) != machine:
        raise UsageError(f"the segment is of {machine}, this machine is {key.machine}", advice=advice)
    return key.public
