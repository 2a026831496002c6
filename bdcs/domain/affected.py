# SPDX-License-Identifier: GPL-2.0-or-later
"""Which versions somebody asks about: atoms, or what a security advisory (GLSA) says is affected.

A GLSA is taken as it is pasted: its XML (`<package>` with `<vulnerable>` and `<unaffected>`; the ranges are
those of glsa.dtd: `lt le eq ge gt`, and `rlt rle rge rgt`, which hold among revisions of one version only),
the table of the mail (`dev-libs/openssl  < 3.0.10  >= 3.0.10`, where `*>=` stands for `rge`), or the words of
its page. Any of that may be mixed with atoms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.cpv import CPV, is_category, is_name, is_version
from gentwoo_client.wire.errors import InvalidAtom, Malformed
from gentwoo_client.wire.version import Version

TEXT_LENGTH: Final = 6000
"""Characters of a question."""
MOST_PACKAGES: Final = 50
MOST_TAGS: Final = 400
"""Of a document: twice what an advisory of that length has. More take long, where nothing ends them."""

_XML_RANGES: Final = {"lt": "<", "le": "<=", "eq": "=", "ge": ">=", "gt": ">"}
_ANY: Final = "*"  # of a slot
_RANGE: Final = re.compile(r"(?P<revisions>\*?)(?P<operator><=|>=|[<>=])(?P<version>\S*)")
_RULE: Final = re.compile(r"[-/|+_]+|={2,}")
_NUMBER: Final = re.compile(r"\d{1,3}\.?")
_LOWER: Final = ("<", "<=")
_VULNERABLE: Final = {"vulnerable", "affected"}
_UNAFFECTED: Final = {"unaffected"}
_OTHER_WORDS: Final = {
    "package",
    "packages",
    "version",
    "versions",
    "on",
    "all",
    "supported",
    "architectures",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Some versions of a package."""

    operator: str
    """Of an atom (`=*` and `~` too); empty: every version."""
    version: str
    slot: str | None = None
    """None: in any slot."""
    revisions: bool = False
    """Whether only revisions of that very version are meant."""

    def holds(self, version: str, slot: str | None, *, unknown: bool) -> bool:
        """Whether it has `version` of `slot`; where a slot matters that is not known, `unknown`."""
        if not self._has(version):
            return False
        if self.slot is None:
            return True
        return unknown if slot is None else slot.partition("/")[0] == self.slot

    def _has(self, version: str) -> bool:
        if not self.operator:
            return True
        if self.revisions and _without_revision(version) != _without_revision(self.version):
            return False
        atom = Atom(operator=self.operator, category="any", name="any", version=self.version)
        return atom.matches(CPV(category="any", name="any", version=version))

    def __str__(self) -> str:
        slot = "" if self.slot is None else f" in slot {self.slot}"
        if not self.operator:
            return f"any version{slot}"
        star = "*" if self.operator == "=*" else ""
        words = f" (revisions of {_without_revision(self.version)})" if self.revisions else ""
        return f"{self.operator[:1] if star else self.operator} {self.version}{star}{words}{slot}"


@dataclass(slots=True, kw_only=True)
class Affected:
    """Versions of one package: the vulnerable ones that are not among the unaffected ones."""

    category: str
    name: str
    vulnerable: list[Range] = field(default_factory=list)
    unaffected: list[Range] = field(default_factory=list)

    def has(self, version: str, slot: str | None = None) -> bool:
        """Whether `version` is meant. A version whose slot is not known counts as vulnerable."""
        return any(each.holds(version, slot, unknown=True) for each in self.vulnerable) and not any(
            each.holds(version, slot, unknown=False) for each in self.unaffected
        )

    @property
    def is_all(self) -> bool:
        """Whether every version is meant."""
        return not self.unaffected and any(
            not each.operator and each.slot is None for each in self.vulnerable
        )

    def __str__(self) -> str:
        text = " or ".join(map(str, self.vulnerable))
        if self.unaffected:
            text += f", but not {' or '.join(map(str, self.unaffected))}"
        return text


def parse_affected(text: str) -> tuple[Affected, ...]:
    """Return what `text` asks about, one entry for a package, in order.

    Raises `Malformed`, which names the first word that cannot be understood.
    """
    if len(text) > TEXT_LENGTH:
        raise Malformed(f"more than {TEXT_LENGTH} characters: paste only the affected packages")
    found = _Found()
    if "<package" in text or "<affected" in text:
        _Document(found).take(text)
    else:
        _Words(found).take(text)
    if not found.packages:
        raise Malformed("no package is named; write atoms such as <dev-libs/openssl-3.0.10")
    if len(found.packages) > MOST_PACKAGES:
        raise Malformed(f"more than {MOST_PACKAGES} packages")
    for each in found.packages.values():
        if not each.vulnerable:
            each.vulnerable.append(Range(operator="", version=""))
    return tuple(found.packages.values())


class _Found:
    """Packages by name."""

    def __init__(self) -> None:
        self.packages: dict[tuple[str, str], Affected] = {}

    def package(self, category: str, name: str) -> Affected:
        key = category, name
        return self.packages.setdefault(key, Affected(category=category, name=name))


def _named(text: str) -> tuple[str, str] | None:
    category, slash, name = text.partition("/")
    return (category, name) if slash and is_category(category) and is_name(name) else None


class _Document(HTMLParser):
    """Reads the XML of a GLSA, whole or a part; it has no entities of its own, and none are followed."""

    def __init__(self, found: _Found) -> None:
        super().__init__(convert_charrefs=True)
        self._found = found
        self._package: Affected | None = None
        self._range: tuple[str, dict[str, str | None]] | None = None

    def take(self, text: str) -> None:
        if text.count("<") > MOST_TAGS:
            raise Malformed(f"more than {MOST_TAGS} tags: paste only the affected packages")
        try:
            self.feed(text)
            self.close()
        except AssertionError as error:  # how the parser of the standard library refuses `<![nonsense`
            raise Malformed(f"this is no XML of a GLSA: {str(error)[:100]}") from None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "package":
            named = _named(attributes.get("name") or "")
            if named is None:
                raise Malformed(f"{str(attributes.get('name'))[:100]!r} is no package")
            self._package = self._found.package(*named)
        elif tag in ("vulnerable", "unaffected") and self._package is not None:
            self._range = tag, attributes

    def handle_data(self, data: str) -> None:
        if self._range is None or self._package is None or not data.strip():
            return
        (tag, attributes), self._range = self._range, None
        kind, version = attributes.get("range") or "", data.strip()
        operator = _XML_RANGES.get(kind.removeprefix("r"))
        if operator is None:
            raise Malformed(f"{kind[:20]!r} is no range of a GLSA")
        slot = attributes.get("slot") or _ANY
        made = _range(operator, version, revisions=kind.startswith("r"), slot=None if slot == _ANY else slot)
        (self._package.vulnerable if tag == "vulnerable" else self._package.unaffected).append(made)

    def handle_endtag(self, tag: str) -> None:
        if tag == "package":
            self._package = None
        self._range = None


class _Words:
    """Reads atoms, and the table and the page of a GLSA, word by word."""

    def __init__(self, found: _Found) -> None:
        self._found = found
        self._package: Affected | None = None
        self._label: str | None = None  # what a word before said of the ranges that follow

    def take(self, text: str) -> None:
        words = iter(re.split(r"[\s,;]+", text.strip()))
        for word in words:
            self._take(word, words)

    def _take(self, word: str, rest: Iterator[str]) -> None:
        lower = word.lower().strip(":!")
        if not word or _RULE.fullmatch(word) or _NUMBER.fullmatch(word) or lower in _OTHER_WORDS:
            return
        if lower in _VULNERABLE | _UNAFFECTED:
            # The head of a table has both words before any package; there the order of the ranges tells.
            self._label = lower if self._package is not None else None
            return
        named = _named(word)
        if named is not None:
            self._package, self._label = self._found.package(*named), None
            return
        match = _RANGE.fullmatch(word)
        if match is not None and (not match["version"] or is_version(match["version"])):
            self._take_range(match, rest)
        else:
            self._take_atom(word)

    def _take_range(self, match: re.Match[str], rest: Iterator[str]) -> None:
        if self._package is None:
            raise Malformed(f"{match[0][:50]!r} stands before any package")
        made = _range(
            match["operator"], match["version"] or next(rest, ""), revisions=bool(match["revisions"])
        )
        is_vulnerable = made.operator in _LOWER or not self._package.vulnerable
        if self._label is not None:
            is_vulnerable = self._label in _VULNERABLE
        (self._package.vulnerable if is_vulnerable else self._package.unaffected).append(made)

    def _take_atom(self, word: str) -> None:
        try:
            atom = Atom.parse(word)
        except InvalidAtom as error:
            raise Malformed(str(error)) from None
        if atom.blocker or atom.use or atom.repository or atom.subslot or atom.slot_operator:
            raise Malformed(f"{word[:100]!r}: only a version and a slot can be asked for")
        assert atom.category is not None
        package = self._found.package(atom.category, atom.name)
        package.vulnerable.append(Range(operator=atom.operator, version=atom.version or "", slot=atom.slot))
        self._package, self._label = None, None


def _range(operator: str, version: str, *, revisions: bool, slot: str | None = None) -> Range:
    if operator == "=" and version.endswith("*"):
        operator, version = "=*", version.removesuffix("*")
    if not is_version(version):
        raise Malformed(f"{version[:50]!r} is no version")
    return Range(operator=operator, version=version, revisions=revisions, slot=slot)


def _without_revision(version: str) -> str:
    return Version.parse(version).without_revision
