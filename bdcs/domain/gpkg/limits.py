# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of a package is looked at, and what it may be: every maximum of the container stands here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a package may not exceed. Sizes are bytes; everything in ::gentoo stays well below."""

    package_size: int = 16 << 30
    """The whole file."""
    padding: int = 64 << 10
    """Zeros after the end of an archive: tar writers fill up a record, of 10 KiB usually."""
    manifest_size: int = 64 << 10
    signature_size: int = 64 << 10
    """One detached signature."""
    metadata_size: int = 16 << 20
    """The metadata archive, both as it is and unpacked: 1 GiB of zeros is 32 kB in zstd."""
    metadata_members: int = 1000
    value_size: int = 256 << 10
    """One value that an index or a page may show."""
    image_size: int = 64 << 30
    """The image archive, unpacked."""
    image_members: int = 500_000
    image_names: int = 64 << 20
    """All names in the image together; they are held in memory while it is read."""
    ratio: int = 200
    """How often its own size an archive may unpack to, beyond `ratio_free`."""
    ratio_free: int = 64 << 20
    window: int = 128 << 20
    """What a decompressor may keep of what it wrote: zstd without --long, xz -9."""


DEFAULT = Limits()
