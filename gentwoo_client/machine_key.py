# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's key: an Ed25519 key in a file that its owner alone can read.

`machine.key` in the state directory, unless systemd hands one over in `$CREDENTIALS_DIRECTORY/machine.key`.
It is PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes it, or the raw 32 bytes. Beside it may be
`machine.key.new`, which a renewal is about to put in place (see `gentwoo_client.registration`), and
`machine-UUID.key`, the keys of identities that were given up and may still be erased at the collector.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from gentwoo_client.errors import KeyUnusable, NoPermission, NotRegistered

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_NAME = "machine.key"
NEW_KEY_NAME = "machine.key.new"

_RAW_SIZE = 32
_LARGEST_FILE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineKey:
    """A private key, and the machine that it makes."""

    private: Ed25519PrivateKey = field(repr=False)
    public: bytes
    """The raw public key, 32 bytes."""
    machine: UUID
    """Derived from the public key (`gentwoo_client.wire.identity`)."""
    path: Path
    is_credential: bool = False
    """Handed over by systemd: it cannot be replaced or removed here."""


def credential_path(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where systemd put the key, or None where it did not (systemd.exec(5), LoadCredential=)."""
    directory = (os.environ if environment is None else environment).get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / KEY_NAME if directory else None
    return path if path is not None and path.exists() else None


def load_machine_key(state_dir: Path) -> MachineKey:
    """Return the key in use.

    Raises `NotRegistered` where there is none, `KeyUnusable` where it is damaged or others could read it, and
    `NoPermission` where we cannot.
    """
    credential = credential_path()
    if credential is not None:
        return load_key(credential, is_credential=True)
    return load_key(state_dir / KEY_NAME)


def load_key(path: Path, *, is_credential: bool = False) -> MachineKey:
    """Return the key in the file `path`. Raises as `load_machine_key` does.

    The mode of a credential is not looked at: systemd grants access by an ACL, which shows as a group's bit.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LARGEST_FILE)
    except FileNotFoundError:
        raise NotRegistered(
            f"this machine is not registered: there is no {path}", advice="run `gentwoo register`"
        ) from None
    except PermissionError as error:
        raise NoPermission(
            f"{path}: may not be read by this user", advice="run the command as root"
        ) from error
    if mode & 0o077 and not is_credential:
        raise KeyUnusable(
            f"{path}: others may read the machine's key (mode {mode & 0o777:04o})",
            advice=f"run `chmod 600 {path}`; if somebody may have read it, also `gentwoo register --renew`",
        )
    return _machine_key(_parse(content, path), path, is_credential=is_credential)


def create_key(path: Path) -> MachineKey:
    """Make a key and store it durably at `path` (mode 0600); the file appears whole or not at all."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    content = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return _machine_key(private, path)


def sync_directory(directory: Path) -> None:
    """Make renames within `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def kept_key_path(state_dir: Path, machine: UUID | str) -> Path:
    """Where the key of an identity that was given up is kept."""
    return state_dir / f"machine-{machine}.key"


def _parse(content: bytes, path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if len(content) == _RAW_SIZE:
        return Ed25519PrivateKey.from_private_bytes(content)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{path}: is not a key: {error}", advice=_REPAIR) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path}: is not an Ed25519 key", advice=_REPAIR)
    return key


_REPAIR = "put the right file back from a backup, or give up this identity: `gentwoo register --renew`"


def _machine_key(private: Ed25519PrivateKey, path: Path, *, is_credential: bool = False) -> MachineKey:
    from gentwoo_client.wire.identity import machine_uuid

    public = private.public_key().public_bytes_raw()
    return MachineKey(
        private=private, public=public, machine=machine_uuid(public), path=path, is_credential=is_credential
    )
