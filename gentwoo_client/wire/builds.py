# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build is: everything about one package that Portage's choice of a binary depends on, and its digest.

A machine states its wish so (`from_wish`, from what its own Portage says), and the collector reads the same
from the metadata of a package that was built (`from_metadata`). Equal digests mean: that machine's Portage
takes that package. CFLAGS, profile and toolchain are the target's; they are in its name.

* Dependencies are reduced by USE and compared as Portage's --binpkg-changed-deps does: without what `:=` was
  bound to and without the libc, which Portage writes into RDEPEND of its own accord.
* What `:=` was bound to is in `built_against`. Portage binds what is installed when the package is built; a
  dependency that was not (the other branch of `|| ( )`) is recorded bare and is in nobody's `built_against`.
  Of an any-of group the first alternative that is bound counts, since a machine may have others for other
  reasons. BDEPEND is left out: no machine that takes the package installs it.
* KEYWORDS are those for the target's ARCH: when a version becomes stable, stable machines need a new package,
  but what happens on other architectures changes nothing. Defaults in IUSE are in USE already.

Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, NoReturn, Self

from gentwoo_client.wire import json_text, limits
from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.cpv import CPV, is_repository
from gentwoo_client.wire.dependencies import (
    ANY_OF,
    UNSATISFIABLE,
    Group,
    Nodes,
    parse,
    reduce,
    to_text,
    with_words,
    words,
)
from gentwoo_client.wire.errors import InvalidAtom, InvalidCPV, InvalidDependency, InvalidSpecification
from gentwoo_client.wire.targets import is_target_name

DEPENDENCIES: Final = ("depend", "bdepend", "rdepend", "pdepend", "idepend")
BINDING: Final = ("depend", "idepend", "pdepend", "rdepend")
"""Those whose bound `:=` count; the last of them overrules, where a cross-compiler had two."""
NEEDED: Final = ("depend", "bdepend", "rdepend", "idepend")
"""All but PDEPEND, which may come later."""
OTHERS: Final = ("license", "properties", "restrict")
LIBC: Final = frozenset({"sys-libs/glibc", "sys-libs/musl"})

SHORT: Final = 200
"""Characters of atoms that are remembered: the packages of one repository need the same again and again."""
REMEMBERED: Final = 32_768

_CONTEXT = b"gentwoo-build-v1\0"
_SLOT_NAME = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"  # PMS §3.1.3
_SLOT = re.compile(f"{_SLOT_NAME}/{_SLOT_NAME}")
_EAPI = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]*")  # PMS §3.1.6
_DIGEST = re.compile(r"[0-9a-f]*")
_FLAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_@.-]*")  # PMS §3.1.4, and the dots that some have
_NAME = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"  # PMS §3.1.8, and no more for PROPERTIES and RESTRICT
_PLAIN_NAMES = re.compile(rf"(?:{_NAME}(?: {_NAME})*)?")
_KEYWORD = re.compile(r"[~-]?(?:[A-Za-z0-9_][A-Za-z0-9_-]*|\*)")  # PMS §3.1.7


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpecification:
    """One build of one package. Built directly it is not checked; what comes from outside enters below."""

    target: str
    """The target's name."""
    cpv: CPV
    repository: str
    eapi: str
    slot: str
    """Always SLOT/SUBSLOT."""
    keywords: tuple[str, ...]
    """Those for the target's ARCH, and those for all, sorted."""
    iuse: tuple[str, ...]
    """Without `+` and `-`, sorted."""
    use: tuple[str, ...]
    """What of `iuse` is enabled, sorted."""
    depend: str
    bdepend: str
    rdepend: str
    pdepend: str
    idepend: str
    license: str
    properties: str
    restrict: str
    user_patches: str
    """Portage's digest of the patches that a machine's owner added; a wish has none."""
    built_against: Mapping[str, str] = field(hash=False)
    """What `:=` is bound to: `{"dev-libs/x:0": "0/1"}`, by CATEGORY/NAME:SLOT."""

    @classmethod
    def from_metadata(cls, target: str, metadata: Mapping[str, str]) -> Self:
        """What the package with `metadata` is; names are those of a package, or of an index (CPV, REPO).

        Raises `InvalidSpecification`, which names the value that is wrong.
        """
        cpv = metadata.get("CPV") or f"{metadata.get('CATEGORY', '')}/{metadata.get('PF', '')}"
        return cls._of(target, cpv, metadata, use=metadata.get("USE", "").split(), bound={})

    @classmethod
    def from_wish(
        cls,
        target: str,
        cpv: str,
        metadata: Mapping[str, str],
        *,
        use: Collection[str],
        bound: Mapping[str, str],
    ) -> Self:
        """What an ebuild with `metadata` gives.

        `use` are all enabled flags, also those outside IUSE (ARCH among them), after masks and forces.
        `bound` says which SLOT/SUBSLOT an atom with `:=` finds, by the atom as it is after reduction.
        Raises `InvalidSpecification`.
        """
        return cls._of(target, cpv, metadata, use=use, bound=bound)

    @classmethod
    def _of(
        cls,
        target: str,
        cpv: str,
        metadata: Mapping[str, str],
        *,
        use: Collection[str],
        bound: Mapping[str, str],
    ) -> Self:
        enabled = frozenset(use)
        eapi = metadata.get("EAPI") or "0"
        reduced = {name: _reduced(name, metadata, enabled, eapi) for name in (*DEPENDENCIES, *OTHERS)}
        bindings: dict[str, str] = {}
        for name in BINDING:
            bindings.update(_bindings(name, _with_bound(name, reduced[name], bound)))
        iuse = {flag.lstrip("+-") for flag in metadata.get("IUSE", "").split()}
        main_slot, _, sub_slot = (metadata.get("SLOT") or "0").partition("/")
        return cls.from_json(
            {
                "target": target,
                "cpv": cpv,
                "repository": metadata.get("repository") or metadata.get("REPO", ""),
                "eapi": eapi,
                "slot": f"{main_slot}/{sub_slot or main_slot}",
                "keywords": sorted(_own_keywords(metadata.get("KEYWORDS", ""), enabled)),
                "iuse": sorted(iuse),
                "use": sorted(iuse & enabled),
                **{name: to_text(_compared(name, reduced[name])) for name in DEPENDENCIES},
                **{name: to_text(reduced[name]) for name in OTHERS},
                "user_patches": metadata.get("USER_PATCHES", ""),
                "built_against": dict(sorted(bindings.items())),
            }
        )

    def to_json(self) -> dict[str, object]:
        """The mapping that `from_json` reads."""
        return {
            "target": self.target,
            "cpv": str(self.cpv),
            "repository": self.repository,
            "eapi": self.eapi,
            "slot": self.slot,
            "keywords": list(self.keywords),
            "iuse": list(self.iuse),
            "use": list(self.use),
            **{name: getattr(self, name) for name in (*DEPENDENCIES, *OTHERS)},
            "user_patches": self.user_patches,
            "built_against": dict(sorted(self.built_against.items())),
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The specification that a decoded JSON object describes. Raises `InvalidSpecification`.

        There is one way to write each: members that are not known, that are missing, not sorted or not
        reduced are refused, so that the digest follows from the document.
        """
        if not isinstance(document, dict):
            _refuse("specification", "not an object")
        unknown = document.keys() - set(cls.__dataclass_fields__)
        if unknown:
            _refuse(sorted(map(str, unknown))[0][:100], "not known")
        iuse = _sorted(document, "iuse", _FLAG)
        use = _sorted(document, "use", _FLAG)
        if not set(use) <= set(iuse):
            _refuse("use", f"{sorted(set(use) - set(iuse))[0]} is not in iuse")
        eapi = _matching(document, "eapi", _EAPI)
        return cls(
            target=_target(document),
            cpv=_cpv(document),
            repository=_repository(document),
            eapi=eapi,
            slot=_matching(document, "slot", _SLOT),
            keywords=_sorted(document, "keywords", _KEYWORD),
            iuse=iuse,
            use=use,
            **{name: _dependency(document, name, eapi) for name in DEPENDENCIES},
            **{name: _names(document, name, eapi) for name in OTHERS},
            user_patches=_matching(document, "user_patches", _DIGEST),
            built_against=_built_against(document),
        )

    def digest(self) -> str:
        """SHA-256 of the specification, in hexadecimal digits: equal exactly for equal specifications."""
        return digest_of(self.to_json())


def digest_of(document: object) -> str:
    """The digest of the specification that `document` is; where it is none, one that no specification has.

    Raises `InvalidJSON` where JSON has no form for it.
    """
    return hashlib.sha256(_CONTEXT + json_text.dump(document)).hexdigest()


def needed_by(specification: BuildSpecification) -> frozenset[str]:
    """CATEGORY/NAME of all that must be there before it is built, or used by another that is built."""
    needed = set()
    for name in NEEDED:
        for word in getattr(specification, name).split():
            if word[0] not in "!(|)":  # neither a blocker nor what makes groups of atoms
                needed.add((len(word) <= SHORT and _plain_package(word)) or _package(name, word))
    return frozenset(needed)


def difference(built: BuildSpecification, wished: BuildSpecification) -> tuple[str, ...]:
    """How a build differs from what is wished, in words: `built with USE=-gtk; yours has gtk`."""
    return tuple(_differences(built, wished))


# What a value becomes


def _reduced(name: str, metadata: Mapping[str, str], use: Collection[str], eapi: str) -> Nodes:
    try:
        return reduce(parse(metadata.get(name.upper(), "")), use, eapi=eapi)
    except InvalidDependency as error:
        _refuse(name, error.detail)


def _compared(name: str, nodes: Nodes) -> Nodes:
    """Dependencies as Portage compares them: `:=` bare, and without the libc outside of groups."""
    bare = with_words(nodes, lambda word: _unbound(name, word))
    return tuple(node for node in bare if not (isinstance(node, str) and _package(name, node) in LIBC))


def _package(name: str, word: str) -> str:
    atom = _atom(name, word)
    return f"{atom.category}/{atom.name}"


def _unbound(name: str, word: str) -> str:
    atom = _atom(name, word)
    return word if atom.slot_operator != "=" else str(replace(atom, slot=None, subslot=None))


def _with_bound(name: str, nodes: Nodes, bound: Mapping[str, str]) -> Nodes:
    return with_words(nodes, lambda word: _bind(name, word, bound)) if bound else nodes


def _bind(name: str, word: str, bound: Mapping[str, str]) -> str:
    atom = _atom(name, word)
    if atom.slot_operator != "=" or word not in bound:
        return word
    slot, _, subslot = bound[word].partition("/")
    return str(replace(atom, slot=slot, subslot=subslot or slot))


def _bindings(name: str, nodes: Nodes) -> Iterator[tuple[str, str]]:
    """CATEGORY/NAME:SLOT and SLOT/SUBSLOT of what is bound."""
    for node in nodes:
        if isinstance(node, Group):
            yield from (
                _first_bound(name, node.members) if node.kind == ANY_OF else _bindings(name, node.members)
            )
            continue
        atom = _atom(name, node)
        if atom.slot_operator == "=" and atom.subslot is not None and not atom.blocker:
            yield f"{atom.category}/{atom.name}:{atom.slot}", f"{atom.slot}/{atom.subslot}"


def _first_bound(name: str, choices: Nodes) -> Iterator[tuple[str, str]]:
    for choice in choices:
        found = tuple(_bindings(name, (choice,)))
        if found:
            yield from found
            return


def _atom(name: str, word: str) -> Atom:
    try:
        return Atom.parse(word)
    except InvalidAtom as error:
        _refuse(name, error.detail)


@lru_cache(maxsize=REMEMBERED)
def _plain_package(word: str) -> str | None:
    """CATEGORY/NAME of an atom that stays as it is outside of groups, whatever the EAPI; None for others."""
    try:
        atom = Atom.parse(word)
    except InvalidAtom:
        return None
    is_bare = atom.slot_operator != "=" or (atom.slot is None and str(atom) == word)
    is_decided = not any(flag.endswith(("?", "=")) for flag in atom.use)
    package = f"{atom.category}/{atom.name}"
    return package if is_bare and is_decided and package not in LIBC else None


def _own_keywords(keywords: str, use: Collection[str]) -> set[str]:
    """Keywords for the ARCH, which Portage has among the enabled flags, and those for all."""
    return {word for word in keywords.split() if word.endswith("*") or word.lstrip("~-") in use}


# Reading documents


def _refuse(field: str, reason: str) -> NoReturn:
    raise InvalidSpecification(field, reason)


def _text(document: Mapping[str, object], field: str, length: int) -> str:
    value = document.get(field)
    if not isinstance(value, str) or len(value) > length:
        _refuse(field, f"not a string of at most {length} characters")
    return value


def _matching(document: Mapping[str, object], field: str, pattern: re.Pattern[str]) -> str:
    value = _text(document, field, limits.SLOT_LENGTH)
    if not pattern.fullmatch(value):
        _refuse(field, f"{value[:100]!r} is not what its name says")
    return value


def _sorted(document: Mapping[str, object], field: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    value = document.get(field)
    if not isinstance(value, list) or len(value) > limits.FLAGS_PER_PACKAGE:
        _refuse(field, f"not an array of at most {limits.FLAGS_PER_PACKAGE}")
    for word in value:
        if not isinstance(word, str) or len(word) > limits.FLAG_LENGTH or not _is_one(pattern, word):
            _refuse(field, f"{word!r:.100} is not one of it")
    if value != sorted(set(value)):
        _refuse(field, "not sorted, or something twice")
    return tuple(value)


@lru_cache(maxsize=4096)
def _is_one(pattern: re.Pattern[str], word: str) -> bool:
    return pattern.fullmatch(word) is not None


def _target(document: Mapping[str, object]) -> str:
    value = _text(document, "target", limits.TARGET_NAME_LENGTH)
    if not is_target_name(value):
        _refuse("target", "not a target's name")
    return value


def _cpv(document: Mapping[str, object]) -> CPV:
    try:
        return CPV.parse(_text(document, "cpv", limits.ATOM_LENGTH))
    except InvalidCPV as error:
        _refuse("cpv", error.detail)


def _repository(document: Mapping[str, object]) -> str:
    value = _text(document, "repository", limits.REPOSITORY_LENGTH)
    if not is_repository(value):
        _refuse("repository", f"{value!r} is no repository's name")
    return value


def _canonical(document: Mapping[str, object], field: str, eapi: str) -> str:
    value = _text(document, field, limits.DEPENDENCY_LENGTH)
    try:
        is_reduced = to_text(reduce(parse(value), (), eapi=eapi)) == value
    except InvalidDependency as error:
        _refuse(field, error.detail)
    if not is_reduced:
        _refuse(field, "not reduced, or not written as Portage does")
    return value


def _names(document: Mapping[str, object], field: str, eapi: str) -> str:
    if _PLAIN_NAMES.fullmatch(_text(document, field, limits.DEPENDENCY_LENGTH)):
        return str(document[field])  # no group in it, as in most
    value = _canonical(document, field, eapi)
    for word in words(parse(value)):
        if word != UNSATISFIABLE and not _PLAIN_NAMES.fullmatch(word):
            _refuse(field, f"{word[:100]!r} is no name")
    return value


def _dependency(document: Mapping[str, object], field: str, eapi: str) -> str:
    value = _text(document, field, limits.DEPENDENCY_LENGTH)
    if not value or all(len(word) <= SHORT and _plain_package(word) for word in value.split(" ")):
        return value  # most are so: words that are known, and no group
    value = _canonical(document, field, eapi)
    if to_text(_compared(field, parse(value))) != value:
        _refuse(field, "with the libc, or with what := is bound to")
    return value


def _built_against(document: Mapping[str, object]) -> Mapping[str, str]:
    value = document.get("built_against")
    if not isinstance(value, dict) or len(value) > limits.BINDINGS:
        _refuse("built_against", f"not an object of at most {limits.BINDINGS}")
    for package, slot in value.items():
        if not isinstance(slot, str) or len(slot) > limits.SLOT_LENGTH or not _SLOT.fullmatch(slot):
            _refuse("built_against", f"{slot!r:.100} is not SLOT/SUBSLOT")
        atom = _atom("built_against", package)
        if package != f"{atom.category}/{atom.name}:{slot.partition('/')[0]}":
            _refuse("built_against", f"{package[:100]!r} is not CATEGORY/NAME:SLOT of {slot}")
    return value


# Differences in words


def _differences(built: BuildSpecification, wished: BuildSpecification) -> Iterator[str]:
    for name, word in (
        ("target", "for"),
        ("cpv", "of"),
        ("repository", "from"),
        ("eapi", "for EAPI"),
        ("slot", "for slot"),
    ):
        one, other = getattr(built, name), getattr(wished, name)
        if one != other:
            yield f"built {word} {one}; yours is {other}"
    yield from _use_differences(built, wished)
    for name in ("keywords", *OTHERS):
        one, other = (_line(getattr(specification, name)) for specification in (built, wished))
        if one != other:
            yield f"built with {name.upper()}={_quoted(one)}; yours has {_quoted(other)}"
    for name in DEPENDENCIES:
        if getattr(built, name) != getattr(wished, name):
            yield from _dependency_differences(name, getattr(built, name), getattr(wished, name))
    if built.user_patches != wished.user_patches:
        yield "built with patches of its builder's own" if built.user_patches else "yours has patches"
    for package in sorted(built.built_against.keys() | wished.built_against.keys()):
        one, other = built.built_against.get(package), wished.built_against.get(package)
        if one != other:
            name = package.rpartition(":")[0]
            yield f"built {_against(name, one)}; yours is to be built {_against(name, other)}"


def _use_differences(built: BuildSpecification, wished: BuildSpecification) -> Iterator[str]:
    common = set(built.iuse) & set(wished.iuse)
    differing = sorted(common & (set(built.use) ^ set(wished.use)))
    if differing:
        was = " ".join(flag if flag in built.use else f"-{flag}" for flag in differing)
        is_ = " ".join(flag if flag in wished.use else f"-{flag}" for flag in differing)
        yield f"built with USE={_quoted(was)}; yours has {is_}"
    for verb, flags in (
        ("lacks", set(wished.iuse) - common),
        ("has", set(built.iuse) - common),
    ):
        if flags:
            other, them = ("has", "lacks")[verb == "has"], "it" if len(flags) == 1 else "them"
            yield f"its IUSE {verb} {' '.join(sorted(flags))}; yours {other} {them}"


def _dependency_differences(name: str, built: str, wished: str) -> Iterator[str]:
    one, other = (set(words(parse(text))) for text in (built, wished))
    gone, new = " ".join(sorted(one - other)), " ".join(sorted(other - one))
    if not gone and not new:
        yield f"{name.upper()} is in another order, or grouped otherwise"
    else:
        yield f"{name.upper()} has {gone or 'nothing'} where yours has {new or 'nothing'}"


def _line(value: str | Iterable[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _quoted(text: str) -> str:
    return text if text and " " not in text else f'"{text}"'


def _against(name: str, slot: str | None) -> str:
    return f"against no {name} in particular" if slot is None else f"against {name}:{slot}"
