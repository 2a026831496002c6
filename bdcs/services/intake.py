# SPDX-License-Identifier: GPL-2.0-or-later
"""A file on its way into a target: copied, read, judged; then numbered, signed, verified.

Nothing here becomes visible, and nothing but BUILD_IDs is written to the store.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from sqlalchemy import Connection

from bdcs.blobs.blobs import RemoteFile
from bdcs.blobs.workspace import Draft, Workspace, copy_file, space_errors
from bdcs.domain import admission, packages_index
from bdcs.domain.admission import Numbering
from bdcs.domain.gpkg.limits import DEFAULT
from bdcs.domain.gpkg.reading import Package, read_package
from bdcs.domain.gpkg.writing import renumber
from bdcs.domain.signing_keys import KeyState
from bdcs.domain.targets import Signatures
from bdcs.domain.xpak import read_xpak
from bdcs.errors import InvalidPackage, PackageRefused, UntrustedSignature
from bdcs.services import build_rows, targets
from bdcs.services.build_digests import digest_of
from bdcs.services.signatures import verify
from bdcs.services.signing import known_keys
from bdcs.services.targets import Target
from bdcs.services.trusted_keys import accepted_keys

GPKG: Final = ".gpkg.tar"
XPAK: Final = ".xpak"
_END_OF_XPAK: Final = b"STOP"  # a tar ends with zeros


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a target asks of packages."""

    target: Target
    accepted: tuple[bytes, ...]
    """Public keys whose signatures count."""
    signs: bool
    """Whether what comes unsigned is signed here."""
    again: bool
    """Whether what was published before is numbered and signed anew."""

    @classmethod
    def of(cls, connection: Connection, name: str, *, signer: Path, again: bool) -> Self:
        """Read them. `signer` is its socket. Raises `NoSuchTarget`."""
        target = targets.require(connection, name)
        return cls(
            target=target,
            accepted=tuple(accepted_keys(connection, target)),
            signs=target.signatures is Signatures.REQUIRED
            or any(key.state is KeyState.ACTIVE for key in known_keys(connection))
            or signer.exists(),
            again=again,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to publish, wherever it is."""

    name: str
    """What people call it."""
    open: Callable[[], BinaryIO | RemoteFile]
    mtime: int
    builder: str | None = None
    """Who built it, where that is not who publishes it: the UUID of a machine."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """A file of this host. Raises `OSError`."""
        return cls(name=str(path), open=lambda: open_file(path), mtime=max(1, int(path.stat().st_mtime)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A file that was read, and that its target would take."""

    source: Source
    draft: Draft
    package: Package
    signed_by: str | None
    """Who signed it before it came."""

    @property
    def cpv(self) -> str:
        """Of which package and version it is."""
        return str(self.package.cpv)

    @property
    def suffix(self) -> str:
        """How its name ends: what kind of container it is."""
        return GPKG if self.package.members else XPAK


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """A file that has only to appear."""

    candidate: Candidate
    draft: Draft
    package: Package
    path: str
    build_id: int | None
    mtime: int
    entry: str
    signed_by: str | None
    digest: str
    """Of its specification."""

    @property
    def values(self) -> dict[str, Any]:
        """What its row says."""
        return build_rows.values_of(
            self.package,
            path=self.path,
            build_id=self.build_id,
            mtime=self.mtime,
            entry=self.entry,
            source=self.candidate.package.sha512,
            signed_by=self.signed_by,
            digest=self.digest,
        )


def open_file(path: Path) -> BinaryIO:
    """Open a file of this host that is to be published.

    Raises `PackageRefused` where it is a pipe, a device or a directory, or too large to be copied at all;
    `OSError`.
    """
    # Without O_NONBLOCK a FIFO would keep us waiting for who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        reason = "it is no file"
    elif status.st_size > DEFAULT.package_size:
        reason = f"it is larger than {DEFAULT.package_size} bytes"
    else:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise PackageRefused(str(path), reason)


def take(workspace: Workspace, demands: Demands, source: Source) -> Candidate:
    """Copy `source`, read it to its last byte, and judge it.

    Raises `PackageRefused`, `BlobsFull`, `OSError` where it cannot be read.
    """
    path = workspace.path()
    package, signed_by = take_to(path, demands, source)
    return Candidate(source=source, draft=Draft(path), package=package, signed_by=signed_by)


def take_to(path: Path, demands: Demands, source: Source) -> tuple[Package, str | None]:
    """Do that with a draft at `path`; return what the package is and who signed it."""
    with source.open() as original, Draft.create(path) as draft:
        with space_errors(path):
            copy_file(original, draft.file)
            draft.finish(source.mtime)
        return judge(demands, source.name, path)


def judge(demands: Demands, name: str, path: Path) -> tuple[Package, str | None]:
    """Read the file `path`, which people call `name`; return what it is and who signed it.

    Raises `PackageRefused` where the target does not take it, and `OSError`.
    """
    try:
        package = read(path)
        objection = _objection(demands, package)
        if objection:
            raise PackageRefused(name, objection)
        is_verified = package.signed and not demands.again
        signed_by = verify(path, package, demands.accepted) if is_verified else None
    except (InvalidPackage, UntrustedSignature) as error:
        raise PackageRefused(name, error.reason) from error
    return package, signed_by


def read(path: Path) -> Package:
    """Read a package of either kind, all of it. Raises `InvalidPackage`, `OSError`."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_END_OF_XPAK)))
        is_xpak = file.read() == _END_OF_XPAK
    return read_xpak(path) if is_xpak else read_package(path)


def numbering(candidate: Candidate, demands: Demands, taken: Container[str]) -> Numbering:
    """Return what becomes of its BUILD_ID, where other builds of the target have the paths `taken`."""
    build_id = candidate.package.build_id
    if demands.again:
        return Numbering.ASSIGN
    return admission.numbering(
        build_id,
        is_signed=candidate.package.signed,
        is_free=path_of(candidate, build_id) not in taken,
        will_sign=demands.signs and candidate.suffix == GPKG,
    )


def path_of(candidate: Candidate, build_id: int | None) -> str:
    """Return its path below the target, under that number; one that was signed without a number has none."""
    cpv = candidate.package.cpv
    if build_id is None:
        return f"{cpv.category}/{cpv.name}/{cpv.pf}{candidate.suffix}"
    return packages_index.path_of(cpv, build_id, candidate.suffix)


def _objection(demands: Demands, package: Package) -> str | None:
    target = demands.target
    if not package.members and target.signatures is Signatures.REQUIRED:
        return "XPAK packages cannot be signed, and all packages of this target are; make it a GPKG"
    return admission.objection(package.metadata, chost=target.chost, bindist=target.bindist)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finisher:
    """Brings candidates into the form in which they appear."""

    workspace: Workspace
    demands: Demands
    sign: Callable[[int, int], str]
    """Signs the package in one open file into another; returns the fingerprint of the key."""
    key_of: Callable[[str], bytes]
    """The public key of a fingerprint."""
    now: Callable[[], float]

    def keep(self, candidate: Candidate) -> Ready:
        """Leave it as it came. Raises `PackageRefused`."""
        return self._ready(
            candidate,
            candidate.draft,
            candidate.package,
            build_id=candidate.package.build_id,
            mtime=candidate.source.mtime,
            signed_by=candidate.signed_by,
        )

    def number(self, candidate: Candidate, build_id: int) -> Ready:
        """Give it that number, and our signature where the target has such.

        Raises `PackageRefused`, `BlobsFull` and what else the signer says.
        """
        if candidate.suffix == XPAK:
            return self._ready(
                candidate,
                candidate.draft,
                candidate.package,
                build_id=build_id,
                mtime=candidate.source.mtime,
                signed_by=None,
            )
        try:
            with self.workspace.create() as draft:
                fingerprint = self._write(candidate, build_id, draft)
                package = read(draft.path)
                self._compare(candidate, package, build_id)
                if fingerprint is not None:
                    fingerprint = verify(draft.path, package, [self.key_of(fingerprint)])
                mtime = int(self.now())
                draft.finish(mtime)
        except (InvalidPackage, UntrustedSignature) as error:
            raise PackageRefused(candidate.source.name, error.reason) from error
        return self._ready(candidate, draft, package, build_id=build_id, mtime=mtime, signed_by=fingerprint)

    def _write(self, candidate: Candidate, build_id: int, draft: Draft) -> str | None:
        """Write it under that number, and signed where the target wants it; return the key's fingerprint."""
        if not self.demands.signs:
            self._renumber(candidate, build_id, draft)
            return None
        with self.workspace.create() as unsigned:
            self._renumber(candidate, build_id, unsigned)
            with space_errors(draft.path):
                fingerprint = self.sign(unsigned.file.fileno(), draft.file.fileno())
            unsigned.remove()
        return fingerprint

    def _renumber(self, candidate: Candidate, build_id: int, draft: Draft) -> None:
        with candidate.draft.open() as source, space_errors(draft.path):
            renumber(source, draft.file, candidate.package, build_id)
            draft.file.flush()

    def _compare(self, candidate: Candidate, package: Package, build_id: int) -> None:
        """Whoever wrote it anew changed nothing else. Raises `InvalidPackage`."""
        before = (candidate.package.cpv, _without_number(candidate.package), candidate.package.image)
        after = (package.cpv, _without_number(package), package.image)
        if after != before or package.build_id != build_id or package.signed != self.demands.signs:
            raise InvalidPackage("what was made of it under its new number is not the same package")

    def _ready(
        self,
        candidate: Candidate,
        draft: Draft,
        package: Package,
        *,
        build_id: int | None,
        mtime: int,
        signed_by: str | None,
    ) -> Ready:
        path = path_of(candidate, build_id)
        try:
            entry = packages_index.entry(package, path=path, build_id=build_id, mtime=mtime)
        except InvalidPackage as error:
            raise PackageRefused(candidate.source.name, error.reason) from error
        return Ready(
            candidate=candidate,
            draft=draft,
            package=package,
            path=path,
            build_id=build_id,
            mtime=mtime,
            entry=entry,
            signed_by=signed_by,
            digest=digest_of(self.demands.target.name, package.metadata),
        )


def number_is_taken(candidate: Candidate, target: Target) -> PackageRefused:
    """Return the error for a signed package whose number another build has."""
    build_id = candidate.package.build_id
    number = (
        f"{candidate.cpv} without BUILD_ID" if build_id is None else f"BUILD_ID {build_id} of {candidate.cpv}"
    )
    return PackageRefused(
        candidate.source.name,
        f"another build has {number} at {target.name}, and what is signed cannot get another number;"
        " publish it unsigned, or have it built again",
    )


def is_not_known(candidate: Candidate, target: Target) -> PackageRefused:
    """Return the error for a package that is to be published anew, and that the target never had."""
    return PackageRefused(
        candidate.source.name,
        f"{target.name} has no such package, and only what it has is numbered and signed anew",
    )


def _without_number(package: Package) -> Mapping[str, str]:
    return {key: value for key, value in package.metadata.items() if key != "BUILD_ID"}
