# SPDX-License-Identifier: GPL-2.0-or-later
"""Verifying a package's signatures with gpgv against exactly the keys that are accepted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from bdcs.domain.gpkg.reading import Package


def verify(file: Path | BinaryIO, package: Package, keys: Iterable[bytes]) -> str:
    """Return the fingerprint of the one key, among the public `keys`, that signed all of `package`.

    `file` is what `package` was read from, `keys` are binary OpenPGP. Metadata, image and Manifest must each
    carry one valid signature of the same primary key, which is neither expired nor revoked, over SHA-256 or
    better. Raises `UntrustedSignature` with the reason, `GpgFailed`, `OSError`.
    """
    raise NotImplementedError
