# SPDX-License-Identifier: GPL-2.0-or-later
"""What a collector says about its targets: the documents of `GET /v1/targets` and `GET /v1/targets/{name}`.

    {"targets": [{"name": "amd64-v3", "chost": "x86_64-pc-linux-gnu", …, "keys": [{…}]}]}

Members that this version does not know are passed over, since a newer collector may say more; those it knows
must be there and be what they should, for the answer ends up in Portage's configuration.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import InvalidTarget, InvalidTime
from gentwoo_client.wire.records import format_time, parse_time

REQUIRED: Final = "required"
OPTIONAL: Final = "optional"
SIGNATURES: Final = (REQUIRED, OPTIONAL)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NO_NAMES = frozenset({"keys"})  # its tree would be /binhost/keys/
_CHOST = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_.]+)+")
_PROFILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9+_.-]*)*")
_FLAGS = re.compile(r"[A-Za-z0-9+=_.,:/@% -]*")
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~%+-]+)+")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}(?:[0-9A-F]{24})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKey:
    """A key that signs packages of a target."""

    fingerprint: str
    """Of the primary key: 40 hexadecimal digits (OpenPGP version 4) or 64, in capitals, without blanks."""
    expires_at: int | None
    """Unix seconds; None where it never expires."""
    url: str
    """Where its public half is, ASCII-armoured."""

    def to_json(self) -> dict[str, object]:
        """The mapping that `from_json` reads."""
        expires_at = None if self.expires_at is None else format_time(self.expires_at)
        return {"fingerprint": self.fingerprint, "expires_at": expires_at, "url": self.url}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The key that a decoded JSON object describes. Raises `InvalidTarget`."""
        members = _object("keys", document)
        fingerprint = _text(members, "fingerprint", limits.FINGERPRINT_LENGTH)
        if not is_fingerprint(fingerprint):
            _refuse("fingerprint", "not 40 or 64 hexadecimal digits in capitals")
        return cls(
            fingerprint=fingerprint, expires_at=_time_or_none(members, "expires_at"), url=_url(members, "url")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One binhost tree: packages for one CHOST, profile, set of flags and toolchain, in one index.

    Built directly it is not checked: what comes from outside enters by `from_json`.
    """

    name: str
    chost: str
    profile: str
    """Relative to `profiles/` of its repository: `default/linux/amd64/23.0`."""
    cflags: str
    """What its packages are compiled with; empty where the operator says nothing."""
    cpu: str
    """The operator's words for the CPUs it is meant for, as `x86-64-v3`; may be empty."""
    toolchain: str
    """The operator's words for compiler and libc; may be empty."""
    description: str
    signatures: str
    """`required`: every package is signed by one of `keys`; `optional`: packages without signature occur."""
    private: bool
    """Whether index and packages ask for a name and a token (HTTP basic)."""
    url: str
    """Portage's sync-uri: where `Packages` is, without trailing slash."""
    packages: int
    """How many the index lists."""
    timestamp: int
    """TIMESTAMP of the index in Unix seconds; 0 before anything was published."""
    keys: tuple[TargetKey, ...]
    """Those that published packages are signed with and the one in use, which comes first."""

    def to_json(self) -> dict[str, object]:
        """The mapping that `from_json` reads."""
        return {
            "name": self.name,
            "chost": self.chost,
            "profile": self.profile,
            "cflags": self.cflags,
            "cpu": self.cpu,
            "toolchain": self.toolchain,
            "description": self.description,
            "signatures": self.signatures,
            "private": self.private,
            "url": self.url,
            "packages": self.packages,
            "timestamp": self.timestamp,
            "keys": [key.to_json() for key in self.keys],
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The target that a decoded JSON object describes. Raises `InvalidTarget`, which names the member."""
        members = _object("target", document)
        return cls(
            name=_matching(members, "name", is_target_name),
            chost=_matching(members, "chost", is_chost),
            profile=_matching(members, "profile", is_profile),
            cflags=_matching(members, "cflags", is_flags),
            cpu=_line(members, "cpu"),
            toolchain=_line(members, "toolchain"),
            description=_line(members, "description"),
            signatures=_signatures(members),
            private=_boolean(members, "private"),
            url=_url(members, "url"),
            packages=_count(members, "packages", limits.INTEGER_MAX),
            timestamp=_count(members, "timestamp", limits.TIME_MAX),
            keys=tuple(map(TargetKey.from_json, _array(members, "keys", limits.KEYS_PER_TARGET))),
        )


def targets_to_json(targets: Iterable[Target]) -> dict[str, object]:
    """The document of `GET /v1/targets`."""
    return {"targets": [target.to_json() for target in targets]}


def targets_from_json(document: object) -> tuple[Target, ...]:
    """The targets in the document of `GET /v1/targets`. Raises `InvalidTarget`."""
    found = _array(_object("targets", document), "targets", limits.TARGETS)
    targets = tuple(map(Target.from_json, found))
    if len({target.name for target in targets}) != len(targets):
        _refuse("name", "two targets of one name")
    return targets


def is_target_name(text: str) -> bool:
    """Whether `text` may name a target: it is a part of a URL's path and of file names."""
    return len(text) <= limits.TARGET_NAME_LENGTH and bool(_NAME.fullmatch(text)) and text not in _NO_NAMES


def is_chost(text: str) -> bool:
    """Whether `text` looks like a CHOST (`x86_64-pc-linux-gnu`)."""
    return len(text) <= limits.TARGET_LINE_LENGTH and _CHOST.fullmatch(text) is not None


def is_profile(text: str) -> bool:
    """Whether `text` is a path below a repository's `profiles/`."""
    return len(text) <= limits.TARGET_LINE_LENGTH and _PROFILE.fullmatch(text) is not None


def is_flags(text: str) -> bool:
    """Whether `text` holds compiler flags and nothing that a shell or make could take for a command."""
    return len(text) <= limits.TARGET_FLAGS_LENGTH and _FLAGS.fullmatch(text) is not None


def is_fingerprint(text: str) -> bool:
    """Whether `text` is the fingerprint of an OpenPGP key, in capitals and without blanks."""
    return _FINGERPRINT.fullmatch(text) is not None


def _refuse(field: str, reason: str) -> NoReturn:
    raise InvalidTarget(field, reason)


def _object(field: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        _refuse(field, "not an object")
    return value


def _member(members: Mapping[str, object], field: str) -> object:
    if field not in members:
        _refuse(field, "missing")
    return members[field]


def _array(members: Mapping[str, object], field: str, most: int) -> list[object]:
    value = _member(members, field)
    if not isinstance(value, list) or len(value) > most:
        _refuse(field, f"not an array of at most {most}")
    return value


def _text(members: Mapping[str, object], field: str, length: int) -> str:
    value = _member(members, field)
    if not isinstance(value, str) or len(value) > length:
        _refuse(field, f"not a string of at most {length} characters")
    return value


def _line(members: Mapping[str, object], field: str) -> str:
    value = _text(members, field, limits.TARGET_LINE_LENGTH)
    if not value.isprintable():
        _refuse(field, "not one printable line")
    return value


def _matching(members: Mapping[str, object], field: str, is_valid: Callable[[str], bool]) -> str:
    value = _text(members, field, limits.TARGET_FLAGS_LENGTH)
    if not is_valid(value):
        _refuse(field, "not what its name says")
    return value


def _url(members: Mapping[str, object], field: str) -> str:
    value = _text(members, field, limits.URL_LENGTH)
    if not _URL.fullmatch(value):
        _refuse(field, "not a plain http or https URL with a path and without trailing slash")
    return value


def _signatures(members: Mapping[str, object]) -> str:
    value = _text(members, "signatures", limits.TARGET_LINE_LENGTH)
    if value not in SIGNATURES:
        _refuse("signatures", f"not one of {', '.join(SIGNATURES)}")
    return value


def _boolean(members: Mapping[str, object], field: str) -> bool:
    value = _member(members, field)
    if not isinstance(value, bool):
        _refuse(field, "neither true nor false")
    return value


def _count(members: Mapping[str, object], field: str, most: int) -> int:
    value = _member(members, field)
    if type(value) is not int or not 0 <= value <= most:
        _refuse(field, f"not an integer from 0 to {most}")
    return value


def _time_or_none(members: Mapping[str, object], field: str) -> int | None:
    if _member(members, field) is None:
        return None
    try:
        return parse_time(_text(members, field, limits.TARGET_LINE_LENGTH))
    except InvalidTime as error:
        _refuse(field, error.detail)
