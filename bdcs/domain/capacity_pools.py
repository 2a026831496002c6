# SPDX-License-Identifier: GPL-2.0-or-later
"""Pools: builders that one engine starts and stops, for the same targets. One word of the setting `capacity`.

    amd64=asg:gentwoo-amd64?region=eu-central-1&max=20
    amd64+amd64-llvm=kubernetes:builds/builder?max=8&idle=600&startup=90
    arm64=marathon:http://marathon.mesos:8080/gentwoo/arm64

Before `=` stand the targets; behind it which engine, which of its groups, then what belongs to the engine and
the limits, as in the query of a URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl

from bdcs.domain import targets
from bdcs.errors import ConfigurationError, TargetRefused

AND: Final = "+"
"""Between the targets of one pool."""
SECONDS_IDLE: Final = 300
SECONDS_STARTING: Final = 60
BUILDERS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many builders a pool may have, and how they behave."""

    least: int = 0
    most: int = BUILDERS
    idle: int = SECONDS_IDLE
    """Seconds without work before one may be let go."""
    startup: int = SECONDS_STARTING
    """Seconds from asking for one until it takes work."""
    slots: int = 1
    """Packages that each builds at once: its `--jobs`."""

    def within(self, least: int, most: int) -> Limits:
        """Return these, no wider than what the engine's own group allows."""
        upper = max(0, min(self.most, most))
        return replace(self, least=min(max(self.least, least), upper), most=upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Builders that one engine starts and stops."""

    targets: tuple[str, ...]
    engine: str
    place: str
    """Which group of the engine's, in its own words."""
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the engine has to know besides."""
    limits: Limits = Limits()

    @property
    def name(self) -> str:
        """What it is called."""
        return AND.join(self.targets)


_LIMITS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {
        "min": ("least", 0),
        "max": ("most", 0),
        "idle": ("idle", 0),
        "startup": ("startup", 0),
        "jobs": ("slots", 1),
    }
)
"""Words of the query, what they set, and the least value."""
ENGINES: Final[Mapping[str, tuple[bool, frozenset[str]]]] = MappingProxyType(
    {
        "local": (False, frozenset()),
        "asg": (True, frozenset({"region", "endpoint"})),
        "kubernetes": (True, frozenset({"server", "token", "ca"})),
        "marathon": (True, frozenset({"authorization"})),
        "command": (True, frozenset({"timeout"})),
    }
)
"""Engines: whether they need a place, and what else they may be told."""


def pools(words: Iterable[str]) -> tuple[Pool, ...]:
    """Return the pools that the words describe, none of which has a target of another.

    Raises `ConfigurationError`.
    """
    found = tuple(map(pool, words))
    taken: set[str] = set()
    for each in found:
        if twice := taken.intersection(each.targets):
            raise ConfigurationError(f"capacity: target {min(twice)} is in two pools")
        taken.update(each.targets)
    return found


def pool(word: str) -> Pool:
    """Return the pool that the word describes. Raises `ConfigurationError`."""
    names, separator, url = word.partition("=")
    engine, colon, rest = url.partition(":")
    if not (separator and colon) or engine not in ENGINES:
        raise ConfigurationError(
            f"capacity: {word!r} is not TARGET=ENGINE:… with one of {', '.join(ENGINES)}"
        )
    place, _, query = rest.partition("?")
    needs_place, allowed = ENGINES[engine]
    if bool(place) != needs_place:
        wanted = "needs to be told where" if needs_place else "is here, and nowhere else"
        raise ConfigurationError(f"capacity: {engine}: {wanted}: {word!r}")
    options = _options(word, query)
    if unknown := options.keys() - allowed - _LIMITS.keys():
        known = ", ".join(sorted({*allowed, *_LIMITS}))
        raise ConfigurationError(f"capacity: {engine}: knows no {min(unknown)}: {word!r}; it knows {known}")
    return Pool(
        targets=_targets(word, names),
        engine=engine,
        place=place,
        options={name: value for name, value in options.items() if name in allowed},
        limits=_limits(word, options),
    )


def _targets(word: str, names: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(names.split(AND)))
    try:
        for name in found:
            targets.check("name", name)
    except TargetRefused as error:
        raise ConfigurationError(f"capacity: {word!r}: {error}") from error
    return found


def _options(word: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ConfigurationError(
            f"capacity: {word!r}: behind `?` stands name=value, with & between"
        ) from None
    return dict(pairs)


def _limits(word: str, options: Mapping[str, str]) -> Limits:
    values = {}
    for name, (setting, least) in _LIMITS.items():
        text = options.get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise ConfigurationError(f"capacity: {word!r}: {name} is no whole number from {least}")
        values[setting] = int(text)
    limits = Limits(**values)
    if limits.least > limits.most:
        raise ConfigurationError(f"capacity: {word!r}: min is more than max, which is {limits.most}")
    return limits
