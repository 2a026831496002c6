# SPDX-License-Identifier: GPL-2.0-or-later
"""Binary packages made to order: good ones, and ones that break any single rule.

    make_gpkg(tmp_path / "alpha-1.0-1.gpkg.tar")                    # app-misc/alpha-1.0, BUILD_ID 1
    make_gpkg(path, cpv="dev-libs/b-2-r1", build_id=7, metadata={"USE": "ssl"}, image={"usr/bin/b": b"x"})
    make_gpkg(path, image={"bin/su": Special(mode=0o4755), "bin/x": Special(kind=SYMTYPE, link="su")})
    make_gpkg(path, members=lambda members: [*members, ("alpha-1.0-1/extra", b"")])  # after the Manifest
    make_gpkg(path, before_manifest=lambda members: members[:-1])   # … or before it, so that hashes fit

Everything is made with Python's own tarfile and hashlib, in the form in which Portage writes it, and shares
no code with what it tests. Good packages install with real emerge.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tarfile import DIRTYPE, LNKTYPE, REGTYPE, SYMTYPE
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

__all__ = [
    "DIRTYPE",
    "LNKTYPE",
    "REGTYPE",
    "SYMTYPE",
    "Members",
    "Special",
    "compress",
    "gpkg",
    "image_members",
    "image_tar",
    "info",
    "make_gpkg",
    "manifest_of",
    "metadata_tar",
    "tar",
    "zstd",
]

TIME = 1_700_000_000
Members = list[tuple[str, bytes]]
"""Members of the container: name with directory, and data."""
Signer = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Special:
    """A member of the image that is no plain file of mode 0644. `link` is written as it is."""

    kind: bytes = REGTYPE
    data: bytes = b""
    mode: int = 0o755
    link: str = ""


def default_metadata(cpv: str, build_id: int | None) -> dict[str, str | bytes]:
    """What Portage writes for a small package of EAPI 8, without what is made up from the rest."""
    category, pf = cpv.split("/")
    values: dict[str, str | bytes] = {
        "BUILD_TIME": str(TIME),
        "CATEGORY": category,
        "CFLAGS": "-O2 -pipe",
        "CHOST": "x86_64-pc-linux-gnu",
        "DEFINED_PHASES": "install",
        "DESCRIPTION": f"{pf}, made for tests",
        "EAPI": "8",
        "FEATURES": "binpkg-multi-instance",
        "HOMEPAGE": "https://example.org/",
        "IUSE": "",
        "KEYWORDS": "amd64",
        "LICENSE": "public-domain",
        "PF": pf,
        "SIZE": "12",
        "SLOT": "0",
        "USE": "amd64 elibc_glibc kernel_linux",
        "environment.bz2": bz2.compress(b"declare -x PF=" + pf.encode() + b"\n"),
        "repository": "gentoo",
        f"{pf}.ebuild": "EAPI=8\nSLOT=0\n",
    }
    if build_id is not None:
        values["BUILD_ID"] = str(build_id)
    return values


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of these members, padded to a record as tar pads."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def info(name: str, kind: bytes = REGTYPE, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    """The header of one member."""
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.linkname, header.mtime = kind, mode, link, TIME
    return header


def compress(data: bytes, suffix: str) -> bytes:
    """`data` compressed as `suffix` says; as it is where that is none that Python knows."""
    compressors: dict[str, Callable[[bytes], bytes]] = {
        ".bz2": bz2.compress,
        ".gz": lambda plain: gzip.compress(plain, mtime=0),
        ".xz": lambda plain: lzma.compress(plain, preset=0),
        ".zst": zstd.compress,
    }
    return compressors[suffix](data) if suffix in compressors else data


def metadata_tar(values: Mapping[str, str | bytes]) -> bytes:
    """The metadata archive, not compressed; texts end in a line end, as Portage writes them."""
    raw = {
        name: value if isinstance(value, bytes) else f"{value}\n".encode() for name, value in values.items()
    }
    return tar((info(f"metadata/{name}"), data) for name, data in raw.items())


def image_members(image: Mapping[str, bytes | Special]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Headers and data for files below `image/`, with all directories above them."""
    done: dict[str, tuple[tarfile.TarInfo, bytes]] = {"image": (info("image", DIRTYPE, 0o755), b"")}
    for name, content in image.items():
        special = content if isinstance(content, Special) else Special(data=content, mode=0o644)
        parts = f"image/{name}".split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            done.setdefault(above, (info(above, DIRTYPE, 0o755), b""))
        whole = "/".join(parts)
        done[whole] = (info(whole, special.kind, special.mode, special.link), special.data)
    return list(done.values())


def image_tar(image: Mapping[str, bytes | Special]) -> bytes:
    """The image archive, not compressed."""
    members = image_members(image)
    longest = max(len(name) for header, _ in members for name in (header.name, header.linkname))
    return tar(members, tarfile.USTAR_FORMAT if longest < 100 else tarfile.GNU_FORMAT)


def manifest_of(members: Sequence[tuple[str, bytes]]) -> bytes:
    """The Manifest of members, unsigned."""
    lines = (
        f"DATA {name.rpartition('/')[2]} {len(data)} BLAKE2B {hashlib.blake2b(data).hexdigest()}"
        f" SHA512 {hashlib.sha512(data).hexdigest()}\n"
        for name, data in members
    )
    return "".join(lines).encode()


def unchanged(members: Members) -> Members:
    return members


def gpkg(
    *,
    cpv: str = "app-misc/alpha-1.0",
    build_id: int | None = 1,
    metadata: Mapping[str, str | bytes | None] | None = None,
    image: Mapping[str, bytes | Special] | None = None,
    compression: str = ".zst",
    prefix: str | None = None,
    raw_metadata: bytes | None = None,
    raw_image: bytes | None = None,
    detach: Signer | None = None,
    clearsign: Signer | None = None,
    before_manifest: Callable[[Members], Members] = unchanged,
    manifest: Callable[[bytes], bytes] = bytes,
    members: Callable[[Members], Members] = unchanged,
    format: int = tarfile.USTAR_FORMAT,
) -> bytes:
    """The bytes of a package.

    `metadata` replaces single values, None removes one. `raw_metadata` and `raw_image` are whole archives,
    not compressed, in place of those made of the rest. `detach` and `clearsign` make signatures.
    `before_manifest` changes the members before they are hashed, `manifest` the Manifest's text before it is
    signed, `members` everything at the end, Manifest included.
    """
    pf = cpv.split("/")[1]
    directory = prefix if prefix is not None else pf if build_id is None else f"{pf}-{build_id}"
    values = {**default_metadata(cpv, build_id), **(metadata or {})}
    kept = {name: value for name, value in values.items() if value is not None}
    if image is None:
        image = {f"usr/share/{pf}/hello": b"hello world\n"}
    plain = {
        "metadata": metadata_tar(kept) if raw_metadata is None else raw_metadata,
        "image": image_tar(image) if raw_image is None else raw_image,
    }
    content: Members = [(f"{directory}/gpkg-1", b"")]
    for name, data in plain.items():
        packed = compress(data, compression)
        content.append((f"{directory}/{name}.tar{compression}", packed))
        if detach is not None:
            content.append((f"{directory}/{name}.tar{compression}.sig", detach(packed)))
    content = before_manifest(content)
    text = manifest(manifest_of(content))
    content.append((f"{directory}/Manifest", text if clearsign is None else clearsign(text)))
    return tar(((info(name), data) for name, data in members(content)), format)


def make_gpkg(
    path: Path,
    *,
    cpv: str = "app-misc/alpha-1.0",
    build_id: int | None = 1,
    metadata: Mapping[str, str | bytes | None] | None = None,
    image: Mapping[str, bytes | Special] | None = None,
    compression: str = ".zst",
    **more: object,
) -> Path:
    """Write a package to `path`, making directories above it; see `gpkg` for what else can be said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"cpv": cpv, "build_id": build_id, "metadata": metadata, "image": image, **more}
    path.write_bytes(gpkg(compression=compression, **arguments))  # type: ignore[arg-type]  # checked by gpkg
    return path
