# SPDX-License-Identifier: GPL-2.0-or-later
"""The blobs that the settings name."""

from __future__ import annotations

from bdcs.blobs.blobs import Blobs
from bdcs.blobs.directory import Directory
from bdcs.errors import LibraryMissing
from bdcs.settings import FILES, Settings


def blobs_of(settings: Settings) -> Blobs:
    """Return them; nothing is asked of them yet. Raises `LibraryMissing`."""
    if settings.blobs == FILES:
        return Directory(settings.data)
    try:
        from bdcs.blobs.s3 import S3
    except ImportError as error:
        raise LibraryMissing("blobs", settings.blobs, "boto3", "s3") from error
    return S3.of(settings)
