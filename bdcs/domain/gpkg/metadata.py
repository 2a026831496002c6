# SPDX-License-Identifier: GPL-2.0-or-later
"""The metadata of a package: one small file for each value, in a tar of their own.

Values of the kind that an index or a page shows are kept, folded as Portage folds them when it reads them
(every run of white space is one blank), and checked: what Portage's clients would stumble over is refused.
One entry with a bad CPV ends the whole emerge of every client with a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bdcs.domain.gpkg import tar
from bdcs.domain.gpkg.limits import Limits
from bdcs.errors import InvalidPackage
from gentwoo_client.wire import cpv as names
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import InvalidCPV
from gentwoo_client.wire.limits import DEPENDENCY_DEPTH

ROOT: Final = "metadata"
DEPENDENCIES: Final = ("BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND")

# Names of files in the metadata; and of those that are kept: no environment, no ebuild, no NEEDED.ELF.2.
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_KEPT: Final = re.compile(r"(?!NEEDED$)[A-Z][A-Z0-9_]*|repository")

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SLOT_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"
_FLAG: Final = r"[A-Za-z0-9][A-Za-z0-9+_@.-]*"  # PMS §3.1.4, and the dots that old EAPIs of others had


def _words(word: str) -> re.Pattern[str]:
    """Words with blanks between them."""
    return re.compile(f"(?:{word})(?: (?:{word}))*")


_VALUES: Final = {
    "BUILD_ID": re.compile(r"[1-9][0-9]{0,8}"),
    "BUILD_TIME": re.compile(r"[0-9]{1,10}"),
    "CHOST": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"),
    "DEFINED_PHASES": _words("[a-z_]+|-"),
    "EAPI": re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"),  # PMS §3.1.6
    "IUSE": _words(f"[+-]?{_FLAG}"),
    "KEYWORDS": _words(r"[~-]?[A-Za-z0-9_][A-Za-z0-9_-]*|-\*|~\*|\*\*|\*"),  # PMS §3.1.7
    "SIZE": re.compile(r"[0-9]{1,15}"),
    "SLOT": re.compile(f"{_SLOT_NAME}(?:/{_SLOT_NAME})?"),  # PMS §3.1.3
    "USE": _words(_FLAG),
}
"""What values must look like, where they are there."""
_NESTED: Final = (*DEPENDENCIES, "LICENSE", "PROPERTIES", "RESTRICT")
"""Values in which parentheses mean something."""
_REQUIRED: Final = ("CATEGORY", "PF", "SLOT")

Values = Mapping[str, str]


class MetadataReader:
    """Collects the values of a metadata archive as its members come; a `tar.Visitor`."""

    def __init__(self, archive: str, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits
        self._names: set[str] = set()
        self._values: dict[str, bytearray] = {}

    def visit(self, entry: tar.Entry) -> tar.Sink | None:
        """Take one member. Raises `InvalidPackage`."""
        name = file_name(self._archive, entry)
        if name in self._names:
            raise InvalidPackage(f"{self._archive} has {entry.name!r} twice")
        self._names.add(name)
        if len(self._names) > self._limits.metadata_members:
            raise InvalidPackage(f"{self._archive} has more than {self._limits.metadata_members} members")
        if not _KEPT.fullmatch(name):
            return None
        if entry.size > self._limits.value_size:
            raise InvalidPackage(f"{name} in the metadata is larger than {self._limits.value_size} bytes")
        self._values[name] = bytearray()
        return _Value(self._values[name])

    def values(self) -> dict[str, str]:
        """All values that are kept, folded. Raises `InvalidPackage`."""
        return fold(self._values)


class _Value:
    """The data of one value."""

    def __init__(self, value: bytearray) -> None:
        self._value = value

    def feed(self, data: memoryview) -> None:
        self._value += data

    def close(self) -> None:
        """Nothing to do."""


def file_name(archive: str, entry: tar.Entry) -> str:
    """The name of a value, where `entry` is one in the archive of that name. Raises `InvalidPackage`."""
    directory, _, name = entry.name.partition("/")
    if entry.kind != tar.FILE or directory != ROOT or not _FILE.fullmatch(name):
        raise InvalidPackage(f"{archive} has a member that is no value: {entry.name!r:.200}")
    return name


def fold(raw: Mapping[str, bytes | bytearray]) -> dict[str, str]:
    """Values as Portage reads them: text, with every run of white space made one blank; empty ones left out.

    Raises `InvalidPackage` for what is no UTF-8 and for control characters.
    """
    values = {}
    for name, value in raw.items():
        try:
            text = " ".join(value.decode().split())
        except UnicodeDecodeError:
            raise InvalidPackage(f"{name} in the metadata is no UTF-8") from None
        if _CONTROL.search(text):
            raise InvalidPackage(f"{name} in the metadata has control characters")
        if text:
            values[name] = text
    return values


def is_kept(name: str) -> bool:
    """Whether the value of this name is of the kind that is kept."""
    return _KEPT.fullmatch(name) is not None


def check(values: Values) -> tuple[CPV, int | None]:
    """The CPV and the BUILD_ID that folded `values` give; raises `InvalidPackage` where any is not sane."""
    for name in _REQUIRED:
        if name not in values:
            raise InvalidPackage(f"{name} is missing in the metadata")
    cpv = _cpv(f"{values['CATEGORY']}/{values['PF']}")
    for name, pattern in _VALUES.items():
        if name in values and not pattern.fullmatch(values[name]):
            raise InvalidPackage(f"{name} in the metadata is {values[name]!r:.200}, which it cannot be")
    if "repository" in values and not names.is_repository(values["repository"]):
        raise InvalidPackage(
            f"repository in the metadata is {values['repository']!r:.200}, no repository's name"
        )
    for name in _NESTED:
        if name in values:
            _check_nesting(name, values[name])
    return cpv, int(values["BUILD_ID"]) if "BUILD_ID" in values else None


def _cpv(text: str) -> CPV:
    try:
        cpv = CPV.parse(text)
    except InvalidCPV as error:
        raise InvalidPackage(f"CATEGORY and PF in the metadata: {error}") from None
    if "." in cpv.version.partition("-r")[2]:  # an inter-revision: Portage knows none any more
        raise InvalidPackage(f"CATEGORY and PF in the metadata: {text!r} is not CATEGORY/NAME-VERSION")
    return cpv


def _check_nesting(name: str, value: str) -> None:
    """Parentheses are balanced: Portage drops a package where they are not; and not too many are open."""
    depth = 0
    for word in value.split(" "):
        depth += (word == "(") - (word == ")")
        if depth < 0:
            break
        if depth > DEPENDENCY_DEPTH:
            raise InvalidPackage(
                f"{name} in the metadata has more than {DEPENDENCY_DEPTH} groups within each other"
            )
    if depth:
        raise InvalidPackage(f"{name} in the metadata has parentheses that do not match")
