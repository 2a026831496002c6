# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds as the rules about them see them, and how two sets of builds differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass

from gentwoo_client.wire.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One published file of a package, as far as it is compared with others."""

    id: int
    category: str
    name: str
    version: str
    build_id: int | None
    slot: str
    """Without sub-slot."""
    use: frozenset[str]
    """Enabled flags of its IUSE: what Portage compares, and what tells builds of one version apart."""
    repository: str
    size: int
    """Bytes."""
    build_time: int
    published_at: int

    @property
    def cpv(self) -> str:
        """CATEGORY/NAME-VERSION."""
        return f"{self.category}/{self.name}-{self.version}"

    def __str__(self) -> str:
        return self.cpv if self.build_id is None else f"{self.cpv}-{self.build_id}"


def effective_use(use: str, iuse: str) -> frozenset[str]:
    """Return the flags of `use` that `iuse` has: Portage writes others into USE too (`amd64 elibc_glibc`)."""
    return frozenset(use.split()) & {flag.lstrip("+-") for flag in iuse.split()}


def main_slot(slot: str) -> str:
    """Return the slot without its sub-slot; an index leaves out a slot of 0."""
    return slot.partition("/")[0] or "0"


def age_key(build: Build) -> tuple[int, int, int]:
    """Sort key: what was built earlier comes first. Portage takes the newest BUILD_TIME of a version."""
    return build.build_time, build.build_id or 0, build.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A build that took another's place: another version, choice of USE, or just built again."""

    before: Build
    after: Build

    @property
    def is_other_version(self) -> bool:
        """Whether it is an upgrade or downgrade."""
        return self.before.version != self.after.version

    @property
    def use_gained(self) -> frozenset[str]:
        """Flags that only the new build has enabled."""
        return self.after.use - self.before.use

    @property
    def use_lost(self) -> frozenset[str]:
        """Flags that only the old build had enabled."""
        return self.before.use - self.after.use


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What one set of builds has over another, each part in order of package and version."""

    came: tuple[Build, ...]
    went: tuple[Build, ...]
    changed: tuple[Change, ...]


def compare(before: Collection[Build], after: Collection[Build]) -> Difference:
    """Return how `after` differs from `before`; builds that are in both do not matter.

    Of a package, slot and repository, something that went and something that came are one change: first those
    of equal version and USE (built again), then of equal version, then of equal USE, then the others.
    """
    ids_before, ids_after = {build.id for build in before}, {build.id for build in after}
    went = {build.id: build for build in before if build.id not in ids_after}
    came = {build.id: build for build in after if build.id not in ids_before}
    changed: list[Change] = []
    for alike in _LIKENESS:
        arrivals = _grouped(came.values(), alike)
        for key, leaving in _grouped(went.values(), alike).items():
            for old, new in zip(leaving, arrivals.get(key, ()), strict=False):
                changed.append(Change(before=old, after=new))
                del went[old.id], came[new.id]
    return Difference(
        came=tuple(sorted(came.values(), key=order_key)),
        went=tuple(sorted(went.values(), key=order_key)),
        changed=tuple(sorted(changed, key=lambda change: order_key(change.after))),
    )


def _place(build: Build) -> Hashable:
    return build.category, build.name, build.slot, build.repository


_LIKENESS: tuple[Callable[[Build], Hashable], ...] = (
    lambda build: (_place(build), build.version, build.use),
    lambda build: (_place(build), build.version),
    lambda build: (_place(build), build.use),
    _place,
)


def _grouped(builds: Iterable[Build], key: Callable[[Build], Hashable]) -> dict[Hashable, list[Build]]:
    """Builds by `key`, the newest first: of two that could have taken a place, it is the newer."""
    groups = defaultdict(list)
    for build in builds:
        groups[key(build)].append(build)
    for group in groups.values():
        group.sort(key=_newest_last, reverse=True)
    return groups


def _newest_last(build: Build) -> tuple[Version, tuple[int, int, int]]:
    return Version.parse(build.version), age_key(build)


def order_key(build: Build) -> tuple[str, str, Version, tuple[int, int, int]]:
    """Sort key: by package, then by version, then by age."""
    return build.category, build.name, *_newest_last(build)
