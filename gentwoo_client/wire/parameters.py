# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters that a machine may have packages built with; refused is all that could run a program.

Portage reads make.conf and its neighbours itself, `source` and `${…}` included, and compilers, make and
ebuilds do more with what they are given. So nothing is ever pasted: each value has a type, and what it may be
is listed. Whoever takes one from outside, the collector and once more the builder, has it pass here. What is
not here at all is not a parameter: FEATURES, MAKEOPTS, EMERGE_DEFAULT_OPTS, environment, hooks, patches.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, Self

from gentwoo_client.wire import limits
from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.cpv import CPV, is_repository
from gentwoo_client.wire.errors import InvalidAtom, InvalidCPV, InvalidParameter
from gentwoo_client.wire.flags import refused_by_compiler, refused_by_rust
from gentwoo_client.wire.targets import is_chost, is_profile

FLAGS: Final = ("cflags", "cxxflags", "fflags", "fcflags", "ldflags", "rustflags")
"""The parameters that are flags; GCC's but for the last."""

_CHARACTERS = re.compile(r"[A-Za-z0-9+=_.,:/@% -]*")
_NATIVE = re.compile(r"=native\b")
_USE_FLAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_@-]*")  # PMS §3.1.4
_LICENCE = re.compile(r"-?(?:@?[A-Za-z0-9_][A-Za-z0-9+_.-]*|\*)")  # PMS §3.1.8, groups, `*` and `-*`
_ARCH = re.compile(r"[a-z0-9_][a-z0-9_-]*")  # PMS §3.1.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What all packages of one machine are built with. From outside they enter by `from_json`."""

    chost: str
    arch: str
    profile: str
    """Relative to `profiles/` of its repository."""
    cflags: str
    cxxflags: str
    fflags: str
    fcflags: str
    ldflags: str
    rustflags: str
    keywords: tuple[str, ...]
    """ACCEPT_KEYWORDS: ARCH, `~ARCH` or both."""
    licenses: tuple[str, ...]
    """ACCEPT_LICENSE, in the order in which it is read."""
    use: tuple[str, ...]
    """Flags that are enabled for all packages, sorted."""

    def to_json(self) -> dict[str, object]:
        """The mapping that `from_json` reads."""
        return {
            "chost": self.chost,
            "arch": self.arch,
            "profile": self.profile,
            **{name: getattr(self, name) for name in FLAGS},
            "keywords": list(self.keywords),
            "licenses": list(self.licenses),
            "use": list(self.use),
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The parameters that a decoded JSON object holds. Raises `InvalidParameter`, which names one."""
        if not isinstance(document, dict):
            _refuse("parameters", "not an object")
        unknown = document.keys() - set(cls.__dataclass_fields__)
        if unknown:
            _refuse(str(min(unknown))[:100], "not a parameter")
        arch = check_arch(_text(document, "arch"))
        return cls(
            chost=check_chost(_text(document, "chost")),
            arch=arch,
            profile=check_profile(_text(document, "profile")),
            **{name: _flags(document, name) for name in FLAGS},
            keywords=check_keywords(_words(document, "keywords"), arch),
            licenses=check_licenses(_words(document, "licenses")),
            use=tuple(sorted(set(check_use(_words(document, "use"))))),
        )


def problems(document: Mapping[str, object]) -> Iterator[InvalidParameter]:
    """Everything for which `Parameters.from_json` would refuse a document that it can read otherwise."""
    checks: dict[str, Callable[[], object]] = {
        "arch": lambda: check_arch(_text(document, "arch")),
        "chost": lambda: check_chost(_text(document, "chost")),
        "profile": lambda: check_profile(_text(document, "profile")),
        **{name: partial(_flags, document, name) for name in FLAGS},
        "keywords": lambda: check_keywords(_words(document, "keywords"), _text(document, "arch")),
        "licenses": lambda: check_licenses(_words(document, "licenses")),
        "use": lambda: check_use(_words(document, "use")),
    }
    for check in checks.values():
        try:
            check()
        except InvalidParameter as problem:
            yield problem


def check_chost(text: str, known: Collection[str] | None = None) -> str:
    """Return `text`, a CHOST and one of `known` where that is given. Raises `InvalidParameter`."""
    if not is_chost(text):
        _refuse("chost", f"{text[:100]!r} is no CHOST")
    return _one_of("chost", text, known)


def check_arch(text: str) -> str:
    """Return `text`, the name of an architecture. Raises `InvalidParameter`."""
    if len(text) > limits.FLAG_LENGTH or not _ARCH.fullmatch(text):
        _refuse("arch", f"{text[:100]!r} is no architecture")
    return text


def check_profile(text: str, known: Collection[str] | None = None) -> str:
    """Return `text`, a profile's path below `profiles/`, and one of `known` where that is given.

    Raises `InvalidParameter`.
    """
    if not is_profile(text):
        _refuse("profile", f"{text[:100]!r} is no profile below profiles/")
    return _one_of("profile", text, known)


def check_flags(name: str, text: str) -> str:
    """Return `text`, the value of one of `FLAGS`, with single blanks. Raises `InvalidParameter`."""
    if len(text) > limits.TARGET_FLAGS_LENGTH:
        _refuse(name, f"longer than {limits.TARGET_FLAGS_LENGTH} characters")
    if not _CHARACTERS.fullmatch(text):
        odd = next(character for character in text if not _CHARACTERS.fullmatch(character))
        _refuse(name, f"the character {odd!r}, which no flag needs")
    words = text.split()
    for word in refused_by_rust(words) if name == "rustflags" else refused_by_compiler(words):
        _refuse(name, f"{word[:100]} is none of the flags that are allowed")
    return " ".join(words)


def check_keywords(words: Sequence[str], arch: str) -> tuple[str, ...]:
    """Return `words`, sorted; they are `arch` and `~arch`. Raises `InvalidParameter`."""
    for word in words:
        if word not in (arch, f"~{arch}"):
            _refuse("keywords", f"{word[:100]!r} is neither {arch} nor ~{arch}")
    return tuple(sorted(set(words)))


def check_licenses(words: Sequence[str]) -> tuple[str, ...]:
    """Return `words`, which are licences, groups (`@FREE`), `*`, each perhaps with `-`.

    Their order stays, since later ones overrule earlier ones. Raises `InvalidParameter`.
    """
    for word in words:
        if len(word) > limits.FLAG_LENGTH or not _LICENCE.fullmatch(word):
            _refuse("licenses", f"{word[:100]!r} is no licence")
    return tuple(words)


def check_use(words: Iterable[str], iuse: Collection[str] | None = None) -> tuple[str, ...]:
    """Return `words`, names of USE flags without sign, and in `iuse` where that is given.

    Raises `InvalidParameter`.
    """
    flags = tuple(words)
    for flag in flags:
        if len(flag) > limits.FLAG_LENGTH or not _USE_FLAG.fullmatch(flag):
            _refuse("use", f"{flag[:100]!r} is no USE flag")
        if iuse is not None and flag not in iuse:
            _refuse("use", f"{flag} is not in IUSE")
    return flags


def check_build_atom(text: str) -> tuple[CPV, str | None]:
    """Return package and repository of `=CATEGORY/NAME-VERSION[::REPOSITORY]`: what emerge may be given.

    It would also take paths of ebuilds and packages, sets, bare names and options. Raises `InvalidParameter`.
    """
    name, colons, repository = text[1:].partition("::")
    try:
        if not text.startswith("="):
            _refuse("atom", f"{text[:100]!r} does not begin with =")
        cpv = CPV.parse(name)
    except InvalidCPV as error:
        _refuse("atom", error.detail)
    if colons and not is_repository(repository):
        _refuse("atom", f"{repository[:100]!r} is no repository's name")
    return cpv, repository or None


def check_wanted_atom(text: str) -> Atom:
    """Return the atom that somebody asks for: no blocker, nothing about USE, which is stated elsewhere.

    Raises `InvalidParameter`.
    """
    try:
        atom = Atom.parse(text)
    except InvalidAtom as error:
        _refuse("atom", error.detail)
    if atom.blocker or atom.use or atom.slot_operator:
        _refuse("atom", f"{text[:100]!r} is not simply a package")
    return atom


def _refuse(field: str, reason: str) -> NoReturn:
    raise InvalidParameter(field, reason)


def _one_of(field: str, text: str, known: Collection[str] | None) -> str:
    if known is not None and text not in known:
        _refuse(field, f"{text} is none of {', '.join(sorted(known)) or 'those that are known: none is'}")
    return text


def _flags(document: Mapping[str, object], name: str) -> str:
    flags = check_flags(name, _text(document, name))
    if _NATIVE.search(flags):
        _refuse(name, "native stands for the CPU of whoever compiles")
    return flags


def _text(document: Mapping[str, object], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str):
        _refuse(field, "not a string")
    return value


def _words(document: Mapping[str, object], field: str) -> tuple[str, ...]:
    value = document.get(field)
    if not isinstance(value, list) or len(value) > limits.FLAGS_PER_PACKAGE:
        _refuse(field, f"not an array of at most {limits.FLAGS_PER_PACKAGE}")
    for word in value:
        if not isinstance(word, str):
            _refuse(field, "not an array of strings")
    return tuple(value)
