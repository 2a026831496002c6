# SPDX-License-Identifier: GPL-2.0-or-later
"""What our services tell systemd, or an OpenRC that listens: that they are ready, alive, about to stop.

The messages are those of sd_notify(3), as the client sends them; where nobody listens nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from gentwoo_client import notify
from gentwoo_client.notify import watchdog_interval as watchdog_interval


def ready() -> None:
    """Tell that work begins."""
    notify.notify(notify.READY)


def alive() -> None:
    """Tell that the work goes on; at least once in `watchdog_interval` seconds."""
    notify.notify(notify.ALIVE)


def stopping() -> None:
    """Tell that we are about to end."""
    notify.notify(notify.STOPPING)


@contextlib.contextmanager
def reloading() -> Iterator[None]:
    """Tell that the configuration is read again, and at the end of the block that this is done."""
    notify.notify(notify.reloading())
    try:
        yield
    finally:
        ready()


async def keep_alive() -> None:
    """Tell for ever that this event loop goes round, as often as the watchdog wants it; without one, end."""
    interval = watchdog_interval()
    while interval is not None:
        alive()
        await asyncio.sleep(interval)
