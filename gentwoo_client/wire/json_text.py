# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON that cannot be read in two ways (RFC 7493): strict in, deterministic out."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import NoReturn

from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import InvalidJSON


def dump(value: object) -> bytes:
    """`value` as compact UTF-8 JSON, members in the order of the mapping.

    Raises `InvalidJSON` where JSON has no form for it: NaN, infinity, lone surrogates.
    """
    try:
        return _ENCODE(value).encode()
    except (ValueError, RecursionError):  # UnicodeEncodeError is a ValueError
        raise InvalidJSON("a value that JSON cannot hold") from None


def load(text: bytes) -> object:
    """The value that `text` writes.

    Raises `InvalidJSON` on anything but UTF-8, on duplicate members, NaN and infinity, on numbers of
    thousands of digits, and where nesting exceeds what Python can hold. Values are not bounded otherwise:
    see `check_extra`.
    """
    try:
        return _DECODE(text.decode())
    except InvalidJSON:
        raise
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InvalidJSON("not JSON in UTF-8") from None


def load_object(text: bytes) -> dict[str, object]:
    """The object that `text` writes. Raises `InvalidJSON`, also where it is no object."""
    value = load(text)
    if not isinstance(value, dict):
        raise InvalidJSON("not a JSON object")
    return value


def check_extra(extra: Mapping[str, object]) -> None:
    """See that unknown members stay within the limits. Raises `InvalidJSON`."""
    if not extra:
        return
    if len(extra) > limits.EXTRA_FIELDS:
        raise InvalidJSON(f"more than {limits.EXTRA_FIELDS} unknown fields")
    for value in _values(extra):
        if isinstance(value, int) and abs(value) > limits.INTEGER_MAX:
            raise InvalidJSON("an integer beyond 2^53 - 1 in an unknown field")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidJSON("an infinite number in an unknown field")
    if len(dump(extra)) > limits.EXTRA_SIZE:
        raise InvalidJSON(f"unknown fields of more than {limits.EXTRA_SIZE} bytes")


def _values(extra: Mapping[str, object]) -> Iterator[object]:
    """Every value at any depth. Raises `InvalidJSON` where they are nested too deeply; does not recurse."""
    level: list[object] = list(extra.values())
    for _ in range(limits.JSON_DEPTH + 1):
        yield from level
        containers = [value for value in level if isinstance(value, list | dict)]
        if not containers:
            return
        level = [
            inner for value in containers for inner in (value.values() if isinstance(value, dict) else value)
        ]
    raise InvalidJSON(f"an unknown field nested more than {limits.JSON_DEPTH} deep")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJSON("a member that occurs twice")
    return members


def _constant(name: str) -> NoReturn:
    raise InvalidJSON(f"{name} is not a number of JSON")


_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_DECODE = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_constant).decode
