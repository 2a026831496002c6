# SPDX-License-Identifier: GPL-2.0-or-later
"""Which installed packages are about to leave their repository.

The collector's list is the same for everybody and is kept in the state directory with its ETag; what is
installed is compared here. So nobody learns what this machine has.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gentwoo_client.errors import CollectorRefused, TryLater
from gentwoo_client.installed import InstalledPackages
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import Malformed
from gentwoo_client.wire.leaving import Leaving, leaving_from_json

FILE = "leaving.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingHere:
    """An installed package, and why it leaves."""

    cpv: CPV
    entry: Leaving


def leaving_here(entries: Iterable[Leaving], installed: InstalledPackages) -> Iterator[LeavingHere]:
    """Yield what of `entries` is installed, in their order."""
    for entry in entries:
        category, name = entry.atom.category, entry.atom.name
        assert category is not None  # `Atom.parse` has seen it
        for version in installed.versions(category, name):
            cpv = CPV(category=category, name=name, version=version)
            slot, repository = installed.slot(category, cpv.pf), installed.repository(category, cpv.pf)
            if entry.atom.matches(cpv, slot=slot, repository=repository):
                yield LeavingHere(cpv=cpv, entry=entry)


async def newest_list(collector: str, state_dir: Path, *, ask: bool) -> Sequence[Leaving]:
    """Return the list, from the collector where it answers, else the one that was kept.

    `ask`: whether to ask it at all. Where neither is to be had, the list is empty.
    """
    from gentwoo_client.collector_api import Patience, PublicAPI

    kept = _read(state_dir / FILE, collector)
    if ask:
        patience = Patience(connect=5, read=5, total=10)
        with contextlib.suppress(TryLater, CollectorRefused, Malformed):
            async with PublicAPI(collector, patience=patience) as api:
                etag, body = await api.leaving(kept.etag)
            if body is not None:
                kept = _Kept(etag=etag, entries=_parsed(body))
                _write(state_dir / FILE, collector, etag, body)
    return kept.entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What was fetched last."""

    etag: str | None = None
    entries: Sequence[Leaving] = ()


def _parsed(body: bytes) -> Sequence[Leaving]:
    try:
        return leaving_from_json(json.loads(body))
    except (ValueError, RecursionError):
        raise Malformed("not a list of leaving packages") from None


def _read(path: Path, collector: str) -> _Kept:
    """What is kept of that collector; nothing where it cannot be read."""
    try:
        document = json.loads(path.read_bytes())
        if document["collector"] != collector:
            return _Kept()
        return _Kept(etag=document["etag"], entries=leaving_from_json(document["list"]))
    except (OSError, ValueError, KeyError, TypeError, Malformed, RecursionError):
        return _Kept()


def _write(path: Path, collector: str, etag: str, body: bytes) -> None:
    """Keep the list; where there is no space, it is fetched again next time."""
    document = {"collector": collector, "etag": etag, "list": json.loads(body)}
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(document))
        temporary.replace(path)
