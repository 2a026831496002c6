# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known about this machine's clock: whether something keeps it right, and when the machine booted."""

from __future__ import annotations

import ctypes
import time

from gentwoo_client.wire.records import SYNCHRONIZED, UNKNOWN, UNSYNCHRONIZED

_STA_UNSYNC = 0x40
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2) up to what is asked for, with room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    )


def clock_state() -> str:
    """Return `synchronized`, `unsynchronized`, or `unknown` where the kernel may not be asked.

    A sandbox with systemd's `ProtectClock=` forbids the system call. Asking changes nothing (modes 0).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    timex = _Timex()
    state = libc.adjtimex(ctypes.byref(timex))
    if state < 0:
        return UNKNOWN
    return UNSYNCHRONIZED if state == _TIME_ERROR or timex.status & _STA_UNSYNC else SYNCHRONIZED


def boot_time() -> int:
    """Return when the machine booted, Unix seconds by today's clock."""
    return int(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
