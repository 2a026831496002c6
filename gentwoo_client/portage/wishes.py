# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine wishes: each package of emerge's plan as the specification of a build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gentwoo_client.portage.asking import Described, ask
from gentwoo_client.portage.emerge_plan import Planned, make_plan
from gentwoo_client.settings import Settings
from gentwoo_client.wire.builds import BuildSpecification


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One package that would be merged here, as it would be built here."""

    specification: BuildSpecification
    letters: str
    """What emerge says of it, see `Planned`."""
    patched: bool
    """The machine's owner adds patches to it, so nobody else can build it."""


def wishes(settings: Settings, target: str, atoms: Sequence[str], *options: str) -> tuple[Wish, ...]:
    """Everything that `emerge OPTIONS ATOMS` would merge, in its order, as builds for `target`.

    Raises `EmergeRefused`, `NotConfigured`, `GentwooError`, and `InvalidSpecification` for an ebuild that
    no build can be described of.
    """
    plan = make_plan(settings, atoms, *options)
    if not plan:
        return ()
    answer = ask(settings, packages=[(str(planned.cpv), planned.repository) for planned in plan])
    return tuple(
        _wish(target, planned, described) for planned, described in zip(plan, answer.packages, strict=True)
    )


def _wish(target: str, planned: Planned, described: Described) -> Wish:
    return Wish(
        specification=specification(target, described),
        letters=planned.letters,
        patched=described.patched,
    )


def specification(target: str, described: Described) -> BuildSpecification:
    """The build of a package as this machine would have it. Raises `InvalidSpecification`."""
    return BuildSpecification.from_wish(
        target, described.cpv, described.metadata, use=described.use, bound=described.bound
    )
