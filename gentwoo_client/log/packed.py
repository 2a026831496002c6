# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening compressed logs."""

from __future__ import annotations

import os
from typing import IO, cast

PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zst")
"""Endings of compressed files that can be read."""


def is_packed(path: str) -> bool:
    """Whether `path` names a compressed file, by its ending."""
    return path.endswith(PACKED)


def open_packed(path: str) -> IO[bytes]:
    """Open a compressed file, by its ending, for reading what is inside.

    Raises OSError. What a damaged one raises while it is read differs from library to library.
    """
    ending = os.path.splitext(path)[1]
    if ending == ".gz":
        import gzip

        return cast("IO[bytes]", gzip.open(path))
    if ending == ".bz2":
        import bz2

        return cast("IO[bytes]", bz2.open(path))
    if ending == ".zst":
        return _open_zstd(path)
    import lzma

    return cast("IO[bytes]", lzma.open(path))


def _open_zstd(path: str) -> IO[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        from backports import zstd
    return cast("IO[bytes]", zstd.open(path))
