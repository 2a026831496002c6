# SPDX-License-Identifier: GPL-2.0-or-later
"""What would be merged here, and what of it a collector is asked for: found out before anybody is asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gentwoo_client.binhost import binrepos
from gentwoo_client.binhost.binrepos import Entry, Place
from gentwoo_client.building.plan_text import Kept
from gentwoo_client.errors import NotConfigured, NotRegistered
from gentwoo_client.portage.wishes import Wish, wishes
from gentwoo_client.registration import REGISTER
from gentwoo_client.settings import Settings
from gentwoo_client.wire.builds import BuildSpecification


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What emerge would merge."""

    target: str
    entry: Entry | None
    """The binhost that Portage takes packages from; None where no collector's is set up."""
    atoms: tuple[str, ...]
    specifications: tuple[BuildSpecification, ...]
    """What may be asked for, in emerge's order."""
    kept: tuple[Kept, ...]
    """What stays between this machine and itself, and why."""

    @property
    def is_nothing(self) -> bool:
        """Whether emerge has nothing to do."""
        return not self.specifications and not self.kept


def find_wanted(
    settings: Settings, atoms: Sequence[str], *options: str, target: str | None = None, setup: bool = False
) -> Wanted:
    """Return what `emerge OPTIONS ATOMS` would merge, as builds for `target` (else the one that is set up).

    `setup`: the binhost must be set up, since packages are to be installed from it. Raises `NotConfigured`,
    `NotRegistered`, and what `portage.wishes.wishes` raises.
    """
    if not settings.state_dir.exists():
        raise NotRegistered("this machine is not registered with a collector", advice=REGISTER)
    entry = binhost_here(settings)
    if target is None or setup:
        if entry is None:
            raise NotConfigured(
                "Portage takes no packages from a collector yet",
                advice="run `gentwoo binhost setup`" + ("" if setup else ", or name a --target"),
            )
        if target not in (None, entry.target):
            raise NotConfigured(
                f"Portage takes packages of {entry.target}, not of {target}",
                advice=f"run `gentwoo binhost setup --target {target}`",
            )
        target = entry.target
    found = wishes(settings, target, atoms, *options)
    kept = [(wish, reason) for wish in found if (reason := _why_kept(wish, settings)) is not None]
    kept_wishes = [wish for wish, _ in kept]
    return Wanted(
        target=target,
        entry=entry,
        atoms=tuple(atoms),
        specifications=tuple(wish.specification for wish in found if wish not in kept_wishes),
        kept=tuple(Kept(cpv=str(wish.specification.cpv), reason=reason) for wish, reason in kept),
    )


def binhost_here(settings: Settings) -> Entry | None:
    """The binhost that Portage takes packages from. Raises `NoPermission`, `BinhostRefused`."""
    return binrepos.read(Place.find(configuration(settings)))[1]


def configuration(settings: Settings) -> Path:
    """Where Portage's configuration is. Nothing but the environment may move it, so Portage is not asked."""
    return Path(os.environ.get("PORTAGE_CONFIGROOT") or f"{settings.eprefix}/") / "etc/portage"


def _why_kept(wish: Wish, settings: Settings) -> str | None:
    """Why nobody is asked for it; None where nothing speaks against that."""
    if wish.patched:
        return "there are patches for it here (/etc/portage/patches), so emerge takes no binary of it"
    repository = wish.specification.repository
    if settings.repositories != ("*",) and repository not in settings.repositories:
        return f"nothing is told about packages of the repository {repository} (setting `repositories`)"
    return None
