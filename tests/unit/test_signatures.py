# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose signatures count, and which do not: packages made to order, signed by real gpg, verified by gpgv."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bdcs.domain.gpkg.container import Role
from bdcs.domain.gpkg.reading import read_package
from bdcs.errors import GpgFailed, InvalidPackage, UntrustedSignature
from bdcs.services.signatures import verify
from tests.packages import Members, gpkg
from tests.signing import LONG_AGO, GpgHome, short_directory

Sign = Callable[[bytes], bytes]
LATER = "20200105T000000"
"""Four days after `LONG_AGO`."""


@pytest.fixture(scope="module")
def home() -> Iterator[GpgHome]:
    with short_directory() as directory, GpgHome(directory / "gpg") as home:
        yield home


@pytest.fixture(scope="module")
def key(home: GpgHome) -> str:
    return home.make_key("Builder")


@pytest.fixture(scope="module")
def other(home: GpgHome) -> str:
    return home.make_key("Somebody else")


def detach(home: GpgHome, *keys: str, options: tuple[str, ...] = ()) -> Sign:
    users = [word for key in keys for word in ("--local-user", key)]
    return lambda data: home.gpg(*options, *users, "--armor", "--detach-sign", data=data)


def clearsign(home: GpgHome, *keys: str, options: tuple[str, ...] = ()) -> Sign:
    users = [word for key in keys for word in ("--local-user", key)]
    return lambda data: home.gpg(*options, *users, "--clearsign", data=data)


def signed(home: GpgHome, key: str, *options: str) -> bytes:
    return gpkg(detach=detach(home, key, options=options), clearsign=clearsign(home, key, options=options))


def verified(path: Path, data: bytes, *keys: bytes) -> str:
    path.write_bytes(data)
    return verify(path, read_package(path), keys)


def refusal(path: Path, data: bytes, *keys: bytes) -> str:
    with pytest.raises(UntrustedSignature) as error:
        verified(path, data, *keys)
    return error.value.reason


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alpha-1.0-1.gpkg.tar"


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa2048", "nistp256"])
def test_a_key_that_is_accepted(home: GpgHome, other: str, path: Path, algorithm: str) -> None:
    key = home.make_key(f"Builder with {algorithm}", algorithm=algorithm)
    accepted = [home.public_key(other), home.public_key(key)]
    assert verified(path, signed(home, key), *accepted) == key


def test_an_open_file_is_verified_too(home: GpgHome, key: str, path: Path) -> None:
    path.write_bytes(signed(home, key))
    with path.open("rb") as file:
        assert verify(file, read_package(file), [home.public_key(key)]) == key


def test_a_signing_subkey_counts_as_its_primary_key(home: GpgHome, path: Path) -> None:
    key = home.make_key("Builder with a subkey")
    home.gpg("--quick-add-key", key, "ed25519", "sign", "1y")
    data = signed(home, key)
    assert verified(path, data, home.public_key(key)) == key


def test_unsigned(home: GpgHome, key: str, path: Path) -> None:
    assert refusal(path, gpkg(), home.public_key(key)) == "the package is not signed"


def test_another_key(home: GpgHome, key: str, other: str, path: Path) -> None:
    data = signed(home, other)
    assert "not accepted here" in refusal(path, data, home.public_key(key))
    assert "not accepted here" in refusal(path, data)


def test_an_expired_key(home: GpgHome, path: Path) -> None:
    key = home.make_key("Expired", expires="2d", at=LONG_AGO)
    data = signed(home, key, "--faked-system-time", LONG_AGO)
    assert "signed by a key that is expired" in refusal(path, data, home.public_key(key))


def test_a_key_that_is_extended_counts_again(home: GpgHome, path: Path) -> None:
    key = home.make_key("Extended", expires="2d", at=LONG_AGO)
    data = signed(home, key, "--faked-system-time", LONG_AGO)
    home.gpg("--quick-set-expire", key, "2y")
    assert verified(path, data, home.public_key(key)) == key


def test_a_revoked_key(home: GpgHome, path: Path) -> None:
    key = home.make_key("Revoked")
    data = signed(home, key)
    assert verified(path, data, home.public_key(key)) == key
    home.revoke(key)
    assert "revoked" in refusal(path, data, home.public_key(key))


def test_an_expired_signature(home: GpgHome, path: Path) -> None:
    key = home.make_key("Short-lived signatures", at=LONG_AGO)
    data = signed(home, key, "--faked-system-time", LATER, "--default-sig-expire", "1d")
    assert "expired" in refusal(path, data, home.public_key(key))


@pytest.mark.parametrize("digest", ["MD5", "SHA1", "RIPEMD160", "SHA224"])
def test_a_weak_digest(home: GpgHome, path: Path, digest: str) -> None:
    key = home.make_key(f"Fond of {digest}", algorithm="rsa2048")
    weak = ("--allow-weak-digest-algos", "--digest-algo", digest)
    data = gpkg(detach=detach(home, key, options=weak), clearsign=clearsign(home, key))
    assert "metadata.tar.zst is signed over a digest that is too weak" in refusal(
        path, data, home.public_key(key)
    )
    data = gpkg(detach=detach(home, key), clearsign=clearsign(home, key, options=weak))
    assert "Manifest is signed over a digest that is too weak" in refusal(path, data, home.public_key(key))


@pytest.mark.parametrize("member", ["metadata.tar.zst", "image.tar.zst"])
def test_content_that_was_altered_under_a_manifest_that_fits(
    home: GpgHome, key: str, path: Path, member: str
) -> None:
    """Whoever holds no key can at most re-make the hashes; and here even has somebody sign the Manifest."""
    other = gpkg(image={"usr/bin/evil": b"#!/bin/sh\n"}, metadata={"DESCRIPTION": "evil"})
    path.write_bytes(other)
    role = Role.METADATA if member.startswith("metadata") else Role.IMAGE
    place = read_package(path).member(role)
    replaced = other[place.offset : place.offset + place.size]

    def replace(members: Members) -> Members:
        return [(name, replaced if name.endswith(f"/{member}") else data) for name, data in members]

    data = gpkg(detach=detach(home, key), clearsign=clearsign(home, key), before_manifest=replace)
    assert f"{member} has a signature that is not of this content" in refusal(
        path, data, home.public_key(key)
    )


def test_a_manifest_that_was_altered(home: GpgHome, key: str, path: Path) -> None:
    def sign_another(text: bytes) -> bytes:
        return home.gpg(
            "--local-user", key, "--clearsign", data=text.replace(b"DATA gpkg-1 0", b"DATA gpkg-1 1")
        ).replace(b"DATA gpkg-1 1", b"DATA gpkg-1 0")

    data = gpkg(detach=detach(home, key), clearsign=sign_another)
    assert "Manifest has a signature that is not of this content" in refusal(path, data, home.public_key(key))


@pytest.mark.parametrize("stripped", ["metadata.tar.zst.sig", "image.tar.zst.sig"])
def test_a_signature_that_was_stripped(home: GpgHome, key: str, path: Path, stripped: str) -> None:
    def strip(members: Members) -> Members:
        return [(name, data) for name, data in members if not name.endswith(f"/{stripped}")]

    for data in (
        gpkg(detach=detach(home, key), clearsign=clearsign(home, key), before_manifest=strip),
        gpkg(detach=detach(home, key), clearsign=clearsign(home, key), members=strip),
        gpkg(detach=detach(home, key)),
        gpkg(clearsign=clearsign(home, key)),
    ):
        with pytest.raises((InvalidPackage, UntrustedSignature)):
            verified(path, data, home.public_key(key))


def test_two_signers(home: GpgHome, key: str, other: str, path: Path) -> None:
    both = (home.public_key(key), home.public_key(other))
    data = gpkg(detach=detach(home, key), clearsign=clearsign(home, other))
    assert "several keys" in refusal(path, data, *both)
    data = gpkg(detach=detach(home, key, other), clearsign=clearsign(home, key))
    assert "several signatures" in refusal(path, data, *both)


def test_text_signatures_are_no_signatures_of_a_package(home: GpgHome, key: str, path: Path) -> None:
    data = gpkg(detach=detach(home, key, options=("--textmode",)), clearsign=clearsign(home, key))
    assert "another kind" in refusal(path, data, home.public_key(key))


def test_a_signature_of_garbage(home: GpgHome, key: str, path: Path) -> None:
    data = gpkg(detach=lambda _data: b"nothing", clearsign=clearsign(home, key))
    assert "no valid signature" in refusal(path, data, home.public_key(key))


def test_a_file_that_shrinks_meanwhile(home: GpgHome, key: str, path: Path) -> None:
    path.write_bytes(signed(home, key))
    package = read_package(path)
    os.truncate(path, package.member(Role.IMAGE).offset)
    with pytest.raises(UntrustedSignature, match="shorter"):
        verify(path, package, [home.public_key(key)])


def test_without_gpgv(home: GpgHome, key: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(signed(home, key))
    public = home.public_key(key)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(GpgFailed, match="gpgv is not installed"):
        verify(path, read_package(path), [public])
