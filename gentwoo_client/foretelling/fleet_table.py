# SPDX-License-Identifier: GPL-2.0-or-later
"""The fleet's table of predictions: fetched whole, kept, and asked again now and then whether it is still so.

Nobody learns what this machine is about to build, since it asks for all of it. The copy is the user's own
(`$XDG_CACHE_HOME/gentwoo`), because a person who runs `gentwoo predict` may not write the state directory.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import Final

from gentwoo_client.errors import GentwooError
from gentwoo_client.prediction.fleet import FleetTable, InvalidTable
from gentwoo_client.settings import DEFAULT, Settings

log = logging.getLogger(__name__)

FRESH: Final = 6 * 3600
"""Seconds after which the collector is asked again."""
LARGEST: Final = 64 << 20
"""Bytes of a table, at most."""
_PATIENCE: Final = 5.0  # seconds: a forecast must not wait for a collector that is away


def fleet_table(settings: Settings, *, offline: bool) -> FleetTable | None:
    """Return what the fleet knows; None where no collector is known, or none was ever reached."""
    collector = _collector(settings)
    if collector is None:
        return None
    path = _place(collector)
    kept = _read(path)
    if not offline and not _is_fresh(path):
        fetched = _fetch(collector, kept[0] if kept else None)
        if fetched is not None and _keep(path, fetched, kept):
            kept = _read(path) or kept
        if fetched is not None and fetched[1] is not None:
            return _parse(fetched[1])
    return _parse(kept[1]) if kept else None


def _collector(settings: Settings) -> str | None:
    if settings.source("collector") != DEFAULT:
        return settings.collector
    if not _is_there(settings):
        return None
    from gentwoo_client.binhost.choosing import collector_of

    try:
        return collector_of(settings)
    except (GentwooError, OSError) as error:
        log.debug("no collector: %s", error)
        return None


def _is_there(settings: Settings) -> bool:
    """Whether there is a journal that this user may see: else nobody registered, as far as can be told."""
    try:
        return (settings.state_dir / "journal.sqlite").exists()
    except OSError:
        return False


def _place(collector: str) -> str:
    import hashlib

    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(collector.encode()).hexdigest()[:16]
    return f"{base}/gentwoo/predictions-{name}.json"


def _is_fresh(path: str) -> bool:
    try:
        return 0 <= time.time() - os.stat(path).st_mtime < FRESH
    except OSError:
        return False


def _read(path: str) -> tuple[str, bytes] | None:
    """Return ETag and document as kept: the first line, and the rest."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError:
        return None
    etag, separator, document = content.partition(b"\n")
    return (etag.decode("ascii", "replace"), document) if separator else None


def _keep(path: str, fetched: tuple[str, bytes | None], kept: tuple[str, bytes] | None) -> bool:
    """Keep what was fetched; where nothing changed, note when that was. False where it cannot be kept."""
    try:
        if fetched[1] is None:
            os.utime(path)
            return True
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        try:
            with open(temporary, "wb") as file:
                file.write(fetched[0].encode("ascii", "replace") + b"\n" + fetched[1])
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        log.debug("the table of predictions is not kept: %s", error)
        return False
    return True


def _fetch(collector: str, etag: str | None) -> tuple[str, bytes | None] | None:
    """Return ETag and document, None for the latter where it is what we have; None where it cannot be had."""
    import asyncio

    from gentwoo_client.collector_api import Patience, PublicAPI

    async def ask() -> tuple[str, bytes | None]:
        patience = Patience(connect=_PATIENCE, read=_PATIENCE, total=4 * _PATIENCE)
        async with PublicAPI(collector, patience=patience) as api:
            return await api.predictions(etag, limit=LARGEST)

    try:
        return asyncio.run(ask())
    except GentwooError as error:
        log.debug("no new table of predictions: %s", error)
        return None


def _parse(document: bytes) -> FleetTable | None:
    import json

    try:
        return FleetTable.from_json(json.loads(document))
    except (InvalidTable, ValueError, RecursionError) as error:
        log.warning("the table of predictions is unusable: %s", error)
        return None
