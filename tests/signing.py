# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys, signers and verifying homes for tests: real gpg, real `bdcs signer`, real Portage.

    with short_directory() as directory, running_signer(directory) as signer:
        fingerprint = signer.create_key()
        signer.client.sign(unsigned.fileno(), signed.fileno())
        home = verify_home(directory / "verify", [signer.public_key(fingerprint)])
        world.emerge("-K", "app-misc/alpha", env=portage_verifies(home))

Paths are short, since gpg's agent and Unix sockets take some hundred bytes; every agent is ended.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bdcs.domain.signing_keys import SigningKey
from bdcs.openpgp.armour import armour
from bdcs.services.signing import SignerClient
from tests.processes import BDCS, Process, run

NEVER = "0"  # as gpg names a period without end
LONG_AGO = "20200101T000000"
"""A time, as --faked-system-time takes it, at which a key can be made that has expired by now."""


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory with a short path that every user may enter; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="gtw-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        while directory.exists():  # an agent of gpg that ends removes its sockets meanwhile
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory)


@dataclass(frozen=True, slots=True)
class GpgHome:
    """Somebody's GnuPG home, with gpg as a person would use it; its agent ends with the `with` block."""

    path: Path

    def __enter__(self) -> Self:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_agents(self.path)

    def gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        """Run gpg; return what it printed. Raises `AssertionError` where it fails."""
        general = ["gpg", "--homedir", str(self.path), "--batch", "--yes", "--no-tty", "--quiet"]
        unlocked = ["--pinentry-mode", "loopback", "--passphrase", ""]
        done = subprocess.run([*general, *unlocked, *arguments], input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def make_key(
        self,
        name: str = "Somebody",
        *,
        algorithm: str = "ed25519",
        expires: str = NEVER,
        at: str | None = None,
        passphrase: str = "",
    ) -> str:
        """Make a signing key (with `at`, at that time); return its fingerprint."""
        before = set(self.fingerprints())
        clock = () if at is None else ("--faked-system-time", at)
        self.gpg(*clock, "--passphrase", passphrase, "--quick-gen-key", name, algorithm, "sign", expires)
        (made,) = set(self.fingerprints()) - before
        return made

    def fingerprints(self) -> list[str]:
        """Those of all primary keys."""
        lines = [line.split(":") for line in self.gpg("--with-colons", "--list-keys").decode().splitlines()]
        return [following[9] for line, following in itertools.pairwise(lines) if line[0] == "pub"]

    def public_key(self, fingerprint: str) -> bytes:
        """The public key, binary."""
        return self.gpg("--export", fingerprint)

    def secret_key(self, fingerprint: str, passphrase: str = "") -> bytes:
        """The secret key, armoured."""
        return self.gpg("--passphrase", passphrase, "--armor", "--export-secret-keys", fingerprint)

    def revoke(self, fingerprint: str) -> None:
        """Revoke the key by the certificate that gpg made with it."""
        certificate = (self.path / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.gpg("--import", data=certificate.replace(":-----BEGIN", "-----BEGIN").encode())


@dataclass
class Signer:
    """A `bdcs signer` with its home and socket; may be stopped, killed and started again."""

    home: Path
    socket: Path
    log: Path
    options: Sequence[str | Path] = ()
    process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.is_running():
            self.process.kill()
        end_agents(self.home)

    @property
    def client(self) -> SignerClient:
        return SignerClient(self.socket)

    def start(self) -> None:
        """Start it and wait until it listens."""
        argv = [*BDCS, "signer", "--home", self.home, "--socket", self.socket, *self.options]
        self.process = Process(argv, log=self.log)
        self.process.until_printed("listening on ")

    def stop(self) -> int:
        """Ask it to end; return the exit code."""
        assert self.process is not None
        return self.process.stop()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def keys(self, action: str, *arguments: str | Path) -> list[dict[str, Any]]:
        """Run `bdcs admin keys ACTION`; return what it says of keys."""
        done = run([*BDCS, "admin", "keys", action, "--json", "--home", self.home, *arguments], check=True)
        keys: list[dict[str, Any]] = json.loads(done.stdout)["keys"]
        return keys

    def create_key(self, *arguments: str) -> str:
        """Make a key; return its fingerprint."""
        fingerprint: str = self.keys("create", *arguments)[0]["fingerprint"]
        return fingerprint

    def public_key(self, fingerprint: str) -> bytes:
        """The public key, binary."""
        keys = {key.fingerprint: key.public_key for key in self.told()}
        return keys[fingerprint]

    def told(self) -> list[SigningKey]:
        """What the signer says of its keys."""
        return self.client.keys()


@contextlib.contextmanager
def running_signer(directory: Path, *options: str | Path) -> Iterator[Signer]:
    """A signer without keys, in `directory`, whose path is short."""
    signer = Signer(directory / "signer", directory / "signer.sock", directory / "signer.log", options)
    with signer:
        yield signer


def verify_home(path: Path, public_keys: Sequence[bytes]) -> Path:
    """Make a home as clients have it (BINPKG_GPG_VERIFY_GPG_HOME): these keys, trusted ultimately.

    Portage drops root's privileges before it runs gpg there, so others must be able to read it.
    """
    with GpgHome(path) as home:
        for key in public_keys:
            home.gpg("--import", data=armour(key).encode())
        trust = "".join(f"{fingerprint}:6:\n" for fingerprint in home.fingerprints())
        home.gpg("--import-ownertrust", data=trust.encode())
        home.gpg("--check-trustdb")
    path.chmod(0o755)
    for name in ("pubring.kbx", "trustdb.gpg"):
        if (path / name).exists():
            (path / name).chmod(0o644)
    return path


def portage_verifies(home: Path) -> dict[str, str]:
    """Environment in which Portage takes signed packages only, and only those of the keys in `home`."""
    return {"FEATURES": "binpkg-request-signature", "BINPKG_GPG_VERIFY_GPG_HOME": str(home)}


def portage_signs(home: Path, fingerprint: str, verify: Path) -> dict[str, str]:
    """Environment in which Portage signs packages with that key (`gpkg-sign`, FEATURES=binpkg-signing)."""
    return {
        "FEATURES": "binpkg-signing",
        "BINPKG_GPG_SIGNING_BASE_COMMAND": "/usr/bin/gpg --sign --armor [PORTAGE_CONFIG]",
        "BINPKG_GPG_SIGNING_DIGEST": "SHA512",
        "BINPKG_GPG_SIGNING_GPG_HOME": str(home),
        "BINPKG_GPG_SIGNING_KEY": f"0x{fingerprint}",
        "BINPKG_GPG_VERIFY_GPG_HOME": str(verify),
    }


def end_agents(home: Path) -> None:
    """End what gpg started for this home."""
    if home.is_dir():
        argv = ["gpgconf", "--homedir", str(home), "--kill", "all"]
        subprocess.run(argv, env=os.environ, capture_output=True, check=False)
