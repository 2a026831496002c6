# SPDX-License-Identifier: GPL-2.0-or-later
"""Which new versions are built without anybody asking: those that machines are likely to want.

Once for each target and variant in use: a variant is a package in one slot with one choice of USE. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.version import Version

Key = tuple[str, str, str, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version that came into a repository."""

    cpv: CPV
    repository: str
    slot: str
    """Without sub-slot."""
    keywords: tuple[str, ...]
    is_live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A build that was made, and whether machines use such."""

    specification: BuildSpecification
    used_at: int | None
    """When a machine last asked for it, Unix seconds; None: none ever did."""
    is_popular: bool
    """Whether so many machines have the package installed that the number is public."""

    @property
    def key(self) -> Key:
        """What all builds of the same variant have in common."""
        one = self.specification
        return (one.target, one.repository, one.cpv.cp, one.slot.partition("/")[0], one.use)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A new version that is to be built as `model` was."""

    version: NewVersion
    model: BuildSpecification


def choose(new: Iterable[NewVersion], variants: Iterable[Variant], *, used_since: int) -> list[Choice]:
    """Return what is to be built: of each variant in use the newest version that its machines would take.

    In use is what a machine asked for at `used_since` (Unix seconds) or later, and every variant of a popular
    package. Live versions are nobody's newest.
    """
    newest: dict[Key, BuildSpecification] = {}
    in_use: set[Key] = set()
    for variant in variants:
        known = newest.get(variant.key)
        if known is None or _version(known) < _version(variant.specification):
            newest[variant.key] = variant.specification
        if variant.is_popular or (variant.used_at is not None and variant.used_at >= used_since):
            in_use.add(variant.key)
    candidates = [version for version in new if not version.is_live]
    choices = []
    for key in sorted(in_use):
        fitting = [version for version in candidates if _takes(newest[key], version)]
        if fitting:
            best = max(fitting, key=lambda version: Version.parse(version.cpv.version))
            choices.append(Choice(version=best, model=newest[key]))
    return choices


def _takes(model: BuildSpecification, version: NewVersion) -> bool:
    """Whether machines that took `model` would take `version` in its place."""
    return (
        version.cpv.cp == model.cpv.cp
        and version.repository == model.repository
        and version.slot == model.slot.partition("/")[0]
        and Version.parse(version.cpv.version) > _version(model)
        and is_keyworded(model.keywords, version.keywords)
    )


def is_keyworded(model: Iterable[str], new: Iterable[str]) -> bool:
    """Whether `new` is at least as stable on an architecture as `model` is: machines accept that much."""
    offered = set(new)
    for keyword in model:
        if keyword.startswith("-"):
            continue
        arch = keyword.lstrip("~")
        if arch in offered or (keyword.startswith("~") and f"~{arch}" in offered):
            return True
    return False


def _version(specification: BuildSpecification) -> Version:
    return Version.parse(specification.cpv.version)
