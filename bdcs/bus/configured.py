# SPDX-License-Identifier: GPL-2.0-or-later
"""The bus that the settings name."""

from __future__ import annotations

import re
from typing import Final

from bdcs.bus.memory import Bus
from bdcs.errors import ConfigurationError, LibraryMissing
from bdcs.settings import MEMORY, NOTIFY, Settings

_STORE: Final = re.compile(r"postgres(?:ql)?://")
_SECRETS: Final = re.compile(r"(?<=//)([^/@:?]*:)[^/?]*(?=@)|(?<=[?&])(\w*password=)[^&]*")


def bus_of(settings: Settings) -> Bus:
    """Return it, connected to nothing yet. Raises `LibraryMissing`, `ConfigurationError`."""
    if settings.bus == MEMORY:
        return Bus()
    if settings.bus == NOTIFY:
        return _by_notifications(settings.store)
    place = without_password(settings.bus)
    try:
        from bdcs.bus.amqp import AMQP
    except ImportError as error:
        raise LibraryMissing("bus", place, "aio-pika", "amqp") from error
    try:
        return AMQP(settings.bus, place)
    except ValueError as error:
        raise ConfigurationError(f"bus: {place} is no URL: {error}") from error


def without_password(url: str) -> str:
    """Return a URL as it may stand in a log."""
    return _SECRETS.sub(r"\1\2***", url)


def _by_notifications(store: str) -> Bus:
    if not _STORE.match(store):
        raise ConfigurationError(f"bus: {NOTIFY} goes by the database of the store, which is no PostgreSQL")
    try:
        from bdcs.bus.postgresql import PostgreSQLBus
    except ImportError as error:
        raise LibraryMissing("bus", NOTIFY, "psycopg", "postgresql") from error
    return PostgreSQLBus(store, without_password(store))
