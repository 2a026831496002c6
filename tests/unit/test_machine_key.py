# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's key: made durably, read only where nobody else can."""

import subprocess
from pathlib import Path

import pytest

from gentwoo_client.errors import KeyUnusable, NotRegistered
from gentwoo_client.machine_key import KEY_NAME, create_key, load_key, load_machine_key


def test_a_key_comes_back_as_it_was_made(tmp_path: Path) -> None:
    created = create_key(tmp_path / KEY_NAME)
    loaded = load_machine_key(tmp_path)
    assert (loaded.public, loaded.machine) == (created.public, created.machine)
    assert created.machine.version == 8
    assert (tmp_path / KEY_NAME).stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [KEY_NAME]


def test_the_private_key_is_in_no_repr(tmp_path: Path) -> None:
    key = create_key(tmp_path / KEY_NAME)
    assert "private=" not in repr(key)


def test_raw_seed_and_openssl_are_accepted(tmp_path: Path) -> None:
    raw, pem = tmp_path / "raw", tmp_path / "pem"
    raw.write_bytes(bytes(range(32)))
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", pem], check=True)
    for path in (raw, pem):
        path.chmod(0o600)
        assert len(load_key(path).public) == 32


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused_with_the_repair(tmp_path: Path, mode: int) -> None:
    path = create_key(tmp_path / KEY_NAME).path
    path.chmod(mode)
    with pytest.raises(KeyUnusable) as caught:
        load_machine_key(tmp_path)
    assert f"chmod 600 {path}" in str(caught.value.advice)


def test_a_missing_key_says_how_to_register(tmp_path: Path) -> None:
    with pytest.raises(NotRegistered) as caught:
        load_machine_key(tmp_path)
    assert "gentwoo register" in str(caught.value.advice)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_NAME
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="is not a key"):
        load_machine_key(tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / KEY_NAME
    subprocess.run(["openssl", "genpkey", "-algorithm", "x25519", "-out", path], check=True)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="not an Ed25519 key"):
        load_machine_key(tmp_path)


def test_a_credential_of_systemd_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    create_key(state / KEY_NAME)
    theirs = create_key(credentials / KEY_NAME)
    theirs.path.chmod(0o440)  # systemd grants access by an ACL, whose mask shows as the group's bits
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    loaded = load_machine_key(state)
    assert loaded.machine == theirs.machine
    assert loaded.is_credential
