# SPDX-License-Identifier: GPL-2.0-or-later
"""What a search in a collector's catalogue finds: the document of `GET /v1/search`.

    {"packages": [{"category": "app-editors", "name": "vim", …}], "after": "50", "nearest": []}

Members that this version does not know are passed over. Descriptions come from ebuild repositories: what
could command a terminal is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, Self

from gentwoo_client.wire import limits
from gentwoo_client.wire.cpv import is_category, is_name, is_repository, is_version
from gentwoo_client.wire.errors import Malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPackage:
    """A package of the catalogue."""

    category: str
    name: str
    description: str
    newest: str
    """The newest version that is not live; a live one where there is no other."""
    repositories: tuple[str, ...]
    """Ebuild repositories that have it."""

    def to_json(self) -> dict[str, object]:
        """The mapping that `from_json` reads."""
        return {
            "category": self.category,
            "name": self.name,
            "description": self.description,
            "newest": self.newest,
            "repositories": list(self.repositories),
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The package that a decoded JSON object describes. Raises `Malformed`."""
        members = _object(document)
        package = cls(
            category=_line(members, "category"),
            name=_line(members, "name"),
            description=_line(members, "description"),
            newest=_line(members, "newest"),
            repositories=_lines(members, "repositories"),
        )
        if not (is_category(package.category) and is_name(package.name) and is_version(package.newest)):
            _refuse("not a package")
        if not all(map(is_repository, package.repositories)):
            _refuse("not the names of repositories")
        return package


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswer:
    """One page of what was found, the likeliest first."""

    packages: tuple[FoundPackage, ...]
    after: str | None
    """What to ask for the next page with; None on the last."""
    nearest: tuple[str, ...]
    """Full names that are written alike, where nothing was found."""

    def to_json(self) -> dict[str, object]:
        """The mapping that `from_json` reads."""
        return {
            "packages": [package.to_json() for package in self.packages],
            "after": self.after,
            "nearest": list(self.nearest),
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The answer that a decoded JSON object describes. Raises `Malformed`."""
        members = _object(document)
        packages = members.get("packages")
        if not isinstance(packages, list) or len(packages) > limits.SEARCH_PAGE:
            _refuse(f"not an array of at most {limits.SEARCH_PAGE} packages")
        return cls(
            packages=tuple(map(FoundPackage.from_json, packages)),
            after=None if members.get("after") is None else _line(members, "after"),
            nearest=_lines(members, "nearest"),
        )


def _refuse(reason: str) -> NoReturn:
    raise Malformed(f"what a search found: {reason}")


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        _refuse("not an object")
    return value


def _line(members: Mapping[str, object], field: str) -> str:
    return _as_line(field, members.get(field))


def _lines(members: Mapping[str, object], field: str) -> tuple[str, ...]:
    value = members.get(field)
    if not isinstance(value, list) or len(value) > limits.SEARCH_PAGE:
        _refuse(f"{field} is not an array of at most {limits.SEARCH_PAGE}")
    return tuple(_as_line(field, each) for each in value)


def _as_line(field: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > limits.LINE_LENGTH or not value.isprintable():
        _refuse(f"{field} is not a line of at most {limits.LINE_LENGTH} characters")
    return value
