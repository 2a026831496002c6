# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of keys: gpg's listings, armour, foreign keys, and which key signs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies

from bdcs.domain.signing_keys import EXPIRY_WARNING, KeyState, SigningKey, choose, expiry_warning, fingerprint
from bdcs.errors import GpgFailed, UnusableKey
from bdcs.openpgp import command
from bdcs.openpgp.armour import armour
from bdcs.openpgp.foreign import read_public_keys
from bdcs.openpgp.listing import parse_keys
from tests.signing import GpgHome, short_directory

A, B, C = ("A" * 40, "B" * 40, "C" * 40)


@pytest.fixture(scope="module")
def home() -> Iterator[GpgHome]:
    with short_directory() as directory, GpgHome(directory / "gpg") as home:
        yield home


@pytest.fixture(scope="module")
def key(home: GpgHome) -> str:
    return home.make_key("Jörg: a \\name <joerg@example.org>", expires="2030-01-31")


# Listings.

SECRET = f"""\
sec:u:255:22:AAAAAAAAAAAAAAAA:1700000000:1800000000::u:::cESC:::#::ed25519:::0:
fpr:::::::::{A}:
grp:::::::::1111111111111111111111111111111111111111:
uid:u::::1700000000::6666::Nobody\\x3a <n@example.org>::::::::::0:
uid:u::::1700000000::7777::Another::::::::::0:
ssb:u:255:18:BBBBBBBBBBBBBBBB:1700000000:1750000000:::::e:::+::cv25519::
fpr:::::::::{B}:
ssb:u:255:22:CCCCCCCCCCCCCCCC:1700000000:1900000000:::::s:::+::ed25519::
fpr:::::::::{C}:
"""


def test_a_secret_key_whose_primary_secret_is_elsewhere() -> None:
    (key,) = parse_keys(SECRET)
    assert (key.fingerprint, key.user_id, key.created_at) == (A, "Nobody: <n@example.org>", 1_700_000_000)
    assert [part.fingerprint for part in key.signing_parts] == [C]
    assert key.expires_at == 1_800_000_000  # with its primary key, since that is the earlier one


def test_a_key_ends_with_the_last_part_that_signs() -> None:
    (key,) = parse_keys(SECRET.replace("1800000000", "").replace("1900000000", "1790000000"))
    assert key.expires_at == 1_790_000_000
    (key,) = parse_keys(SECRET.replace("1800000000", "").replace("1900000000", ""))
    assert key.expires_at is None


def test_a_revoked_subkey_signs_nothing() -> None:
    (key,) = parse_keys(SECRET.replace("ssb:u:255:22", "ssb:r:255:22"))
    assert key.signing_parts == ()


def test_what_gpg_lists_itself(home: GpgHome, key: str) -> None:
    (found,) = parse_keys(home.gpg("--with-colons", "--list-keys", key).decode())
    assert found.fingerprint == key
    assert found.user_id == "Jörg: a \\name <joerg@example.org>"
    assert found.primary.can_sign
    assert found.expires_at is not None
    assert abs(found.expires_at - 1_896_091_200) <= 86_400  # gpg takes noon of some time zone


def test_nothing_listed() -> None:
    assert parse_keys("") == []
    assert parse_keys("tru:t:1:1700000000:0:3:1:5\n") == []


# Armour and foreign keys.


def test_gpg_imports_our_armour(home: GpgHome, key: str, tmp_path: Path) -> None:
    text = armour(home.public_key(key))
    assert max(map(len, text.splitlines())) <= 64
    assert fingerprints(text.encode()) == [key]


def test_armour_has_the_checksum_that_gpg_writes(home: GpgHome, key: str) -> None:
    theirs = home.gpg("--armor", "--export", key).decode().splitlines()
    ours = armour(home.public_key(key)).splitlines()
    assert ours[0] == theirs[0]
    assert ours[-2:] == theirs[-2:]


@given(strategies.binary(min_size=1, max_size=500))
def test_armour_keeps_every_byte(data: bytes) -> None:
    import base64

    lines = armour(data).splitlines()
    assert base64.b64decode("".join(lines[2:-2])) == data


def fingerprints(data: bytes) -> list[str]:
    return [key.key.fingerprint for key in read_public_keys(data)]


def test_foreign_keys_are_read_armoured_and_binary(home: GpgHome, key: str) -> None:
    other = home.make_key("Another")
    both = home.gpg("--armor", "--export", key, other)
    assert set(fingerprints(both)) == {key, other}
    (binary,) = read_public_keys(home.public_key(other))
    assert fingerprints(binary.data) == [other]


def test_what_is_no_foreign_key(home: GpgHome) -> None:
    key = home.make_key("To be revoked")
    with pytest.raises(UnusableKey, match="secret"):
        read_public_keys(home.secret_key(key))
    home.revoke(key)
    for data in (home.public_key(key), b"", b"nothing of the kind"):
        with pytest.raises(UnusableKey):
            read_public_keys(data)


# The command.


def test_a_command_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpgFailed, match="gpg is not installed") as error:
        command.run("gpg", "--version", home=tmp_path)
    assert "app-crypt/gnupg" in error.value.advice


def test_a_command_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gpg"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(command, "LIMIT", 0.1)
    with pytest.raises(GpgFailed, match="SIGKILL"):
        command.run("gpg", home=tmp_path, data=iter(lambda: b"x" * 65536, b""))


def test_a_command_that_ends_before_it_read_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "gpg"
    program.write_text("#!/bin/sh\necho enough >&2\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    done = command.run("gpg", home=tmp_path, data=iter(lambda: b"x" * 65536, b""))
    assert (done.returncode, done.complaint) == (2, "enough")


def test_a_path_that_is_too_long_for_the_agent(tmp_path: Path) -> None:
    done = command.Finished(returncode=2, output=b"", messages="gpg: can't connect to the agent\n")
    assert "shorter path" in command.failed("it", done, tmp_path / ("x" * 100)).advice
    assert command.failed("it", done, Path("/var/lib/bdcs-signer")).advice == ""


# Which key signs.


def signing_key(
    name: str, *, created: int = 0, expires: int | None = None, active: bool = True
) -> SigningKey:
    return SigningKey(
        fingerprint=name,
        public_key=b"",
        user_id="",
        created_at=created,
        expires_at=expires,
        state=KeyState.ACTIVE if active else KeyState.RETIRED,
    )


def test_the_newest_usable_key_signs() -> None:
    old, new = signing_key("old", created=1), signing_key("new", created=2)
    retired = signing_key("retired", created=3, active=False)
    expired = signing_key("expired", created=4, expires=100)
    assert choose([], 100) is None
    assert choose([retired, expired], 100) is None
    assert choose([old, new, retired, expired], 100) == new
    assert choose([new, old], 100) == new
    assert choose([old, new, retired, expired], 99) == expired


def test_of_two_keys_of_one_second_the_later_signs() -> None:
    first, second = signing_key("first", created=5), signing_key("second", created=5)
    assert choose([first, second], 10) == second


def test_a_warning_begins_in_time() -> None:
    key = signing_key(A, expires=10 * EXPIRY_WARNING)
    assert expiry_warning(key, 9 * EXPIRY_WARNING - 1) is None
    warning = expiry_warning(key, 9 * EXPIRY_WARNING)
    assert warning is not None
    assert "in 30 days" in warning
    assert f"bdcs admin keys extend {A} 2y" in warning
    assert expiry_warning(signing_key(A), 10**12) is None


@pytest.mark.parametrize("text", [A.lower(), f"0x{A}", " ".join(A[i : i + 4] for i in range(0, 40, 4))])
def test_fingerprints_are_written_in_one_way(text: str) -> None:
    assert fingerprint(text) == A


@pytest.mark.parametrize("text", ["", "A" * 39, "A" * 41, "G" * 40, "A" * 16, "--help"])
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        fingerprint(text)
