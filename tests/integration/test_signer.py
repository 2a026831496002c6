# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs signer` as a real process: who may ask, what it refuses, and what it survives."""

import json
import os
import pwd
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bdcs.domain.gpkg.reading import Package, read_package
from bdcs.domain.signing_keys import KeyState
from bdcs.errors import (
    CollectorError,
    GpgFailed,
    InvalidPackage,
    NoUsableKey,
    SignerRefused,
    SignerUnavailable,
    UntrustedSignature,
)
from bdcs.services import targets
from bdcs.services.signatures import verify
from bdcs.services.signing import SignerClient, differ, known_keys, remember_keys
from bdcs.services.trusted_keys import accepted_keys
from bdcs.signer import protocol
from bdcs.signer import server as signer_server
from bdcs.signer.keyring import Keyring
from bdcs.store import schema
from bdcs.store.engine import create_writer
from bdcs.store.store import transaction
from dev.places import ROOT, USER_PYTHON, user_venv
from tests.packages import make_gpkg
from tests.processes import BDCS, Process, environment, run
from tests.signing import LONG_AGO, GpgHome, Signer, running_signer, short_directory
from tests.waiting import until

LARGE = 96 * 1024 * 1024  # bytes; signing it takes long enough to do something meanwhile

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@pytest.fixture
def signer(directory: Path) -> Iterator[Signer]:
    with running_signer(directory) as signer:
        yield signer


@pytest.fixture
def key(signer: Signer) -> str:
    return signer.create_key()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_gpkg(tmp_path / "unsigned.gpkg.tar")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.gpkg.tar"
    return make_gpkg(path, image={"usr/share/large": os.urandom(LARGE)})


def sign(signer: Signer, package: Path, name: str = "signed.gpkg.tar") -> tuple[str, Path]:
    target = signer.home.parent / name
    with package.open("rb") as source, target.open("w+b") as output:
        return signer.client.sign(source.fileno(), output.fileno()), target


def signers(signer: Signer, path: Path) -> str:
    """Whoever signed `path`, among all keys of `signer`."""
    return verify(path, read_package(path), [key.public_key for key in signer.told()])


def test_it_signs_what_passes(signer: Signer, key: str, package: Path) -> None:
    fingerprint, signed = sign(signer, package)
    assert fingerprint == key == signers(signer, signed)
    before, after = read_package(package), read_package(signed)
    assert after.signed
    assert (after.cpv, after.build_id, after.prefix, after.metadata, after.image) == (
        before.cpv,
        before.build_id,
        before.prefix,
        before.metadata,
        before.image,
    )


def test_a_signed_package_is_signed_anew(signer: Signer, key: str, package: Path) -> None:
    _, first = sign(signer, package)
    second_key = signer.create_key()
    fingerprint, second = sign(signer, first, "again.gpkg.tar")
    assert fingerprint == second_key == signers(signer, second)


def test_it_refuses_what_does_not_pass(signer: Signer, key: str, tmp_path: Path) -> None:
    bad = make_gpkg(tmp_path / "bad.gpkg.tar", image={"../etc/passwd": b"root::0:0::/:/bin/sh\n"})
    with pytest.raises(InvalidPackage) as ours:
        read_package(bad)
    with pytest.raises(InvalidPackage) as refused:
        sign(signer, bad)
    assert refused.value.reason == ours.value.reason
    assert (signer.home.parent / "signed.gpkg.tar").read_bytes() == b""
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(InvalidPackage):
        sign(signer, empty)


def test_without_a_key(signer: Signer, package: Path) -> None:
    assert signer.told() == []
    with pytest.raises(NoUsableKey, match="no key") as refused:
        sign(signer, package)
    assert "bdcs admin keys create" in refused.value.advice


# What may be asked, and how.


def ask(signer: Signer, data: bytes, *files: int) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(signer.socket))
        if files:
            socket.send_fds(connection, [data], list(files))
        else:
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return protocol.receive(connection, size=protocol.ANSWER_SIZE, seconds=30)


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"do": "dance"}',
        b'{"do": "sign"}',
        b'{"do": "keys", "more": 1}',
        b"x" * 5000,
    ],
)
def test_senseless_requests(signer: Signer, key: str, request_: bytes) -> None:
    assert ask(signer, request_)["error"] == "refused"
    assert [known.fingerprint for known in signer.told()] == [key]


def test_files_of_the_wrong_kind(signer: Signer, key: str, package: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with package.open("rb") as good, (tmp_path / "target").open("w+b") as target:
        filled = (tmp_path / "filled").open("w+b")
        filled.write(b"content")
        filled.flush()
        write_only = (tmp_path / "write-only").open("wb")
        wrong = [
            (good.fileno(),),
            (good.fileno(), good.fileno()),
            (good.fileno(), filled.fileno()),
            (good.fileno(), write_only.fileno()),
            (write_only.fileno(), target.fileno()),
            (reading, target.fileno()),
            (good.fileno(), writing),
            (good.fileno(), target.fileno(), target.fileno()),
        ]
        for files in wrong:
            assert ask(signer, b'{"do": "sign"}', *files)["error"] == "refused", files
        before = descriptors(signer)
        for files in wrong:
            ask(signer, b'{"do": "sign"}', *files)
        until(lambda: descriptors(signer) <= before, what="files that were sent are closed")
        assert "fingerprint" in ask(signer, b'{"do": "sign"}', good.fileno(), target.fileno())
        filled.close()
        write_only.close()
    os.close(reading)
    os.close(writing)


def descriptors(signer: Signer) -> int:
    assert signer.process is not None
    return len(os.listdir(f"/proc/{signer.process.pid}/fd"))


def test_who_hangs_is_cut_off_and_holds_nobody_up(signer: Signer, key: str, package: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(signer.socket))
        silent.sendall(b'{"do": "sign"')
        assert sign(signer, package)[0] == key
        answer = protocol.receive(silent, size=protocol.ANSWER_SIZE, seconds=60)
    assert "10 seconds" in str(answer["reason"])


def test_too_many_connections_are_told_to_come_later(signer: Signer, key: str) -> None:
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(64)]
    try:
        for connection in silent:
            connection.connect(str(signer.socket))
        with pytest.raises(SignerUnavailable, match="too many"):
            signer.told()
    finally:
        for connection in silent:
            connection.close()
    until(lambda: can(signer.told), what="the signer answers again")


def can(do: Callable[[], object]) -> bool:
    try:
        do()
    except CollectorError:
        return False
    return True


def test_many_at_once(signer: Signer, key: str, tmp_path: Path) -> None:
    packages = [
        make_gpkg(tmp_path / f"{number}.gpkg.tar", cpv=f"app-misc/alpha-{number}") for number in range(12)
    ]
    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(lambda path: sign(signer, path, path.name), packages))
    assert [signers(signer, path) for _, path in done] == [key] * 12
    assert len({read_package(path).cpv for _, path in done}) == 12


# Other users.

ASK_FOR_KEYS = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
try:
    connection.sendall(b'{"do": "keys"}')
    connection.shutdown(socket.SHUT_WR)
except BrokenPipeError:
    pass
print(connection.recv(65536).decode())
"""


def as_nobody(signer: Signer) -> str:
    argv = ["runuser", "-u", "nobody", "--", str(USER_PYTHON), "-c", ASK_FOR_KEYS, str(signer.socket)]
    return run(argv, check=True).stdout


@only_root
def test_strangers_are_refused(signer: Signer, key: str) -> None:
    answer = as_nobody(signer)
    assert f"user {pwd.getpwnam('nobody').pw_uid} may not ask" in answer
    assert key not in answer


@only_root
@pytest.mark.parametrize("user", ["nobody", str(pwd.getpwnam("nobody").pw_uid)])
def test_who_is_allowed_may_ask(directory: Path, user: str) -> None:
    with running_signer(directory, "--allow", "bin", "--allow", user) as signer:
        fingerprint = signer.create_key()
        assert fingerprint in as_nobody(signer)


def test_an_unknown_user_cannot_be_allowed(directory: Path) -> None:
    done = run(
        [*BDCS, "signer", "--home", directory / "home", "--socket", directory / "s", "--allow", "no-such"]
    )
    assert done.returncode == 78
    assert "no-such" in done.stderr


@only_root
def test_root_takes_the_place_of_the_owner_of_the_home(directory: Path, package: Path) -> None:
    """Started by root, as an init script does: the key and the process are the other user's."""
    nobody = pwd.getpwnam("nobody")
    home, path = directory / "home", directory / "run" / "socket"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    bdcs = (str(user_venv() / "bin/python"), "-m", "bdcs")
    run([*bdcs, "admin", "keys", "create", "--home", home], check=True)
    assert {file.stat().st_uid for file in home.rglob("*")} == {nobody.pw_uid}
    argv = [*bdcs, "signer", "--home", str(home), "--socket", str(path)]
    with Process(argv, log=directory / "log") as process:
        process.until_printed("listening on")
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t{nobody.pw_uid}" in status
        signer = Signer(home, path, directory / "log", process=process)
        fingerprint, signed = sign(signer, package)
        assert signers(signer, signed) == fingerprint
        assert process.stop() == 0
    assert not path.exists()


@only_root
def test_a_stranger_may_not_touch_the_home(directory: Path) -> None:
    home = directory / "home"
    home.mkdir(mode=0o700)
    argv = [str(user_venv() / "bin/python"), "-m", "bdcs", "admin", "keys", "list", "--home", str(home)]
    done = run(["runuser", "-u", "nobody", "--", *argv], cwd=ROOT)
    assert done.returncode == 77
    assert "sudo bdcs" in done.stderr


def test_a_home_that_others_may_enter_is_refused(directory: Path) -> None:
    home = directory / "home"
    home.mkdir()
    home.chmod(0o750)
    done = run([*BDCS, "admin", "keys", "create", "--home", home])
    assert done.returncode == 78
    assert "chmod 700" in done.stderr


# Stops, kills and restarts.


def test_a_killed_signer_can_be_started_again(signer: Signer, key: str, package: Path) -> None:
    signer.kill()
    assert signer.socket.exists()
    with pytest.raises(SignerUnavailable):
        signer.told()
    signer.start()
    assert sign(signer, package)[0] == key


def test_it_is_alone_at_its_socket(signer: Signer, key: str) -> None:
    done = run([*BDCS, "signer", "--home", signer.home, "--socket", signer.socket])
    assert done.returncode == 1
    assert "another signer listens" in done.stderr
    assert [known.fingerprint for known in signer.told()] == [key]


def test_a_file_in_the_place_of_the_socket_stays(directory: Path) -> None:
    place = directory / "socket"
    place.write_text("mine")
    done = run([*BDCS, "signer", "--home", directory / "home", "--socket", place])
    assert done.returncode == 1
    assert place.read_text() == "mine"


def test_it_goes_on_where_a_thread_cannot_be_started(directory: Path) -> None:
    """Memory may be short for a moment: one request is refused, the next is served."""
    home, path = directory / "home", directory / "socket"
    home.mkdir(mode=0o700)
    server = signer_server._Server(Keyring(home=home), {os.geteuid()})
    client = SignerClient(path)
    stop, stopping = socket.socketpair()
    listener = signer_server.bind(path, os.geteuid())
    taking = threading.Thread(target=server.take, args=(listener, stopping))
    with listener, stop, stopping:
        taking.start()
        try:
            threading.stack_size(1 << 62)  # more than there is: no further thread can be started
            try:
                with pytest.raises(SignerUnavailable, match="cannot serve more"):
                    client.keys()
            finally:
                threading.stack_size(0)
            with pytest.raises(SignerRefused, match="knows no such request"):
                client._ask({"do": "wonders"})
        finally:
            stop.send(b"x")
            taking.join()
            server.finish()


def in_background(signer: Signer, package: Path) -> tuple[threading.Thread, list[object]]:
    """Sign in a thread; what comes of it, result or error, is appended to the list."""
    results: list[object] = []

    def do() -> None:
        try:
            results.append(sign(signer, package, "background.gpkg.tar"))
        except CollectorError as error:
            results.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    return thread, results


def running_gpg(signer: Signer) -> int | None:
    """The gpg that signs just now: it reads a package, so it is there for a while."""
    assert signer.process is not None
    tasks = Path(f"/proc/{signer.process.pid}/task").glob("*/children")
    for pid in [int(word) for task in tasks for word in task.read_text().split()]:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--detach-sign" in words:
            return pid
    return None


def test_what_is_under_way_is_finished_before_it_ends(signer: Signer, key: str, large: Path) -> None:
    thread, results = in_background(signer, large)
    until(lambda: running_gpg(signer), what="gpg signs")
    assert signer.stop() == 0
    thread.join()
    (result,) = results
    assert isinstance(result, tuple), result
    assert result[0] == key
    with GpgHome(signer.home) as home:
        public = home.public_key(key)
    assert verify(result[1], read_package(result[1]), [public]) == key
    assert not signer.socket.exists()
    assert agents(signer.home) == []


def agents(home: Path) -> list[str]:
    """Command lines of the processes that gpg left running for `home`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "gpg-agent" in line and str(home) in line:
            found.append(line)
    return found


def test_a_killed_gpg_is_told_and_nothing_is_signed(
    signer: Signer, key: str, large: Path, package: Path
) -> None:
    thread, results = in_background(signer, large)
    pid = until(lambda: running_gpg(signer), what="gpg signs")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    thread.join()
    (error,) = results
    assert isinstance(error, GpgFailed)
    assert "SIGKILL" in str(error)
    assert (signer.home.parent / "background.gpkg.tar").stat().st_size == 0
    assert sign(signer, package)[0] == key


def test_who_waits_for_a_killed_signer_is_told(signer: Signer, key: str, large: Path, package: Path) -> None:
    thread, results = in_background(signer, large)
    until(lambda: running_gpg(signer), what="gpg signs")
    signer.kill()
    thread.join()
    (error,) = results
    assert isinstance(error, SignerUnavailable)
    assert error.exit_code == 75
    signer.start()
    assert sign(signer, package)[0] == key


def test_a_killed_agent_is_replaced(signer: Signer, key: str, package: Path) -> None:
    sign(signer, package)
    subprocess.run(["gpgconf", "--homedir", signer.home, "--kill", "gpg-agent"], check=True)
    assert sign(signer, package)[0] == key


def test_memory_does_not_grow_with_the_package(signer: Signer, key: str, large: Path) -> None:
    _, signed = sign(signer, large)
    assert signed.stat().st_size > LARGE
    assert signer.process is not None
    status = Path(f"/proc/{signer.process.pid}/status").read_text()
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak * 1024 < LARGE


def test_a_package_that_changes_while_it_is_signed(
    signer: Signer, key: str, large: Path, tmp_path: Path
) -> None:
    """Whatever is written into the file meanwhile: what comes back is not validly signed, or as inspected."""
    package = tmp_path / "changing.gpkg.tar"
    package.write_bytes(large.read_bytes())
    inspected = read_package(package)
    thread, results = in_background(signer, package)
    until(lambda: running_gpg(signer), what="gpg signs")
    with package.open("r+b") as file:
        for offset in range(1024 * 1024, LARGE, 1024 * 1024):
            file.seek(offset)
            file.write(b"changed")
    thread.join()
    (result,) = results
    if isinstance(result, InvalidPackage):
        return
    assert isinstance(result, tuple)
    signed = read_package(result[1])
    assert archives(signed) == archives(inspected)


def archives(package: Package) -> dict[str, object]:
    return {member.name: member.record for member in package.members if member.name.endswith(".zst")}


# Keys: expiry, rotation, passphrases, import.


def test_an_expired_key_signs_nothing_until_it_is_extended(
    signer: Signer, package: Path, tmp_path: Path
) -> None:
    with short_directory() as place, GpgHome(place / "elsewhere") as elsewhere:
        fingerprint = elsewhere.make_key("Old", expires="2d", at=LONG_AGO)
        exported = tmp_path / "secret.asc"
        exported.write_bytes(elsewhere.secret_key(fingerprint))
    (imported,) = signer.keys("import", exported)
    assert imported["fingerprint"] == fingerprint
    assert imported["expired"]
    with pytest.raises(NoUsableKey, match=f"{fingerprint} expired at 2020-01-03") as refused:
        sign(signer, package)
    assert f"bdcs admin keys extend {fingerprint} 2y" in refused.value.advice
    (extended,) = signer.keys("extend", fingerprint, "2y")
    assert extended["signs"]
    _, signed = sign(signer, package)
    assert signers(signer, signed) == fingerprint
    assert signer.process is not None
    assert "WARNING" in signer.process.output  # of the refusal


def test_who_signs_with_an_expiring_key_is_warned(
    signer: Signer, package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = signer.create_key("--expires", "20d")
    assert sign(signer, package)[0] == fingerprint
    warning = f"the signing key {fingerprint} expires in "
    assert signer.process is not None
    assert warning in signer.process.output
    assert warning in caplog.text
    caplog.clear()
    client = signer.client
    for count in range(3):  # and not with each of many packages
        with package.open("rb") as source, (signer.home.parent / f"{count}").open("w+b") as output:
            client.sign(source.fileno(), output.fileno())
    assert caplog.text.count(warning) == 1
    caplog.clear()
    signer.keys("extend", fingerprint, "60d")
    sign(signer, package)
    assert not caplog.text


def test_rotation_keeps_both_public_keys(signer: Signer, package: Path, tmp_path: Path) -> None:
    old = signer.create_key("--name", "Old key")
    _, by_old = sign(signer, package, "old.gpkg.tar")
    new = signer.create_key("--name", "New key", "--email", "packages@example.org")
    signer.keys("retire", old)
    _, by_new = sign(signer, package, "new.gpkg.tar")
    assert signers(signer, by_old) == old
    assert signers(signer, by_new) == new
    told = {key.fingerprint: key for key in signer.told()}
    assert (told[old].state, told[new].state) == (KeyState.RETIRED, KeyState.ACTIVE)
    assert told[new].user_id == "New key <packages@example.org>"
    signer.keys("retire", new)
    with pytest.raises(NoUsableKey, match="not retired"):
        sign(signer, package)


def test_the_collector_remembers_keys_while_the_signer_is_down(signer: Signer, tmp_path: Path) -> None:
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
    first, second = signer.create_key("--name", "First"), signer.create_key("--name", "Second")
    with transaction(engine) as connection:
        remember_keys(connection, signer.told(), 1000)
        assert known_keys(connection) == signer.told()
        assert not differ(signer.told(), known_keys(connection))
    with GpgHome(signer.home) as home:
        home.gpg("--delete-secret-and-public-key", first)
    signer.keys("extend", second, "5y")
    told = signer.told()
    signer.stop()
    with transaction(engine) as connection:
        remember_keys(connection, told, 2000)
        known = {key.fingerprint: key for key in known_keys(connection)}
    engine.dispose()
    assert known[first].state == KeyState.RETIRED
    assert known[second] == told[0]
    assert not differ(told, known.values())
    assert differ([], known.values())


def test_a_key_with_a_passphrase(directory: Path, package: Path) -> None:
    passphrase = directory / "passphrase"
    passphrase.write_text("correct horse\n")
    exported = directory / "secret.asc"
    with GpgHome(directory / "elsewhere") as elsewhere:
        fingerprint = elsewhere.make_key("Locked", passphrase="correct horse")
        exported.write_bytes(elsewhere.secret_key(fingerprint, "correct horse"))
    with running_signer(directory) as signer:
        signer.keys("import", exported, "--passphrase-file", passphrase)
        signer.stop()  # and with it the agent, which remembers passphrases
        signer.start()
        with pytest.raises(GpgFailed, match="assphrase"):
            sign(signer, package)
        signer.stop()
        signer.options = ("--passphrase-file", passphrase)
        signer.start()
        assert sign(signer, package)[0] == fingerprint
        signer.keys("extend", fingerprint, "1y", "--passphrase-file", passphrase)


def test_a_key_that_signs_with_a_subkey(signer: Signer, package: Path, tmp_path: Path) -> None:
    exported = tmp_path / "secret.asc"
    with short_directory() as place, GpgHome(place / "elsewhere") as elsewhere:
        fingerprint = elsewhere.make_key("With a subkey")
        elsewhere.gpg("--quick-add-key", fingerprint, "rsa2048", "sign", "20d")
        exported.write_bytes(elsewhere.secret_key(fingerprint))
    signer.keys("import", exported)
    _, signed = sign(signer, package)
    assert signers(signer, signed) == fingerprint


def test_what_cannot_be_imported(signer: Signer, tmp_path: Path) -> None:
    with short_directory() as place, GpgHome(place / "elsewhere") as elsewhere:
        first, second = elsewhere.make_key("First"), elsewhere.make_key("Second")
        files = {
            "no secret key": elsewhere.public_key(first),
            "2 keys": elsewhere.gpg("--armor", "--export-secret-keys", first, second),
            "secret key": b"nothing of the kind",
        }
    for reason, data in files.items():
        file = tmp_path / "file"
        file.write_bytes(data)
        done = run([*BDCS, "admin", "keys", "import", file, "--home", signer.home])
        assert done.returncode == 1
        assert reason in done.stderr
    assert signer.told() == []


def test_a_foreign_signature_is_none_of_ours(signer: Signer, key: str, tmp_path: Path) -> None:
    with short_directory() as place, GpgHome(place / "elsewhere") as elsewhere:
        other = elsewhere.make_key("Other")
        foreign = make_gpkg(
            tmp_path / "foreign.gpkg.tar",
            detach=lambda data: elsewhere.gpg("--local-user", other, "--armor", "--detach-sign", data=data),
            clearsign=lambda data: elsewhere.gpg("--local-user", other, "--clearsign", data=data),
        )
    with pytest.raises(UntrustedSignature):
        signers(signer, foreign)


def test_public_keys_are_exported_as_text(signer: Signer, key: str, tmp_path: Path) -> None:
    other = signer.create_key()
    done = run([*BDCS, "admin", "keys", "export", key.lower(), "--home", signer.home], check=True)
    with short_directory() as place, GpgHome(place / "client") as client:
        client.gpg("--import", data=done.stdout.encode())
        assert client.fingerprints() == [key]
        every = run([*BDCS, "admin", "keys", "export", "--home", signer.home], check=True)
        client.gpg("--import", data=every.stdout.encode())
        assert set(client.fingerprints()) == {key, other}
    missing = run([*BDCS, "admin", "keys", "export", "0" * 40, "--home", signer.home])
    assert (missing.returncode, missing.stdout) == (1, "")


def test_settings_name_the_socket(directory: Path) -> None:
    argv = [*BDCS, "signer", "--home", str(directory / "home")]
    env = environment(BDCS_SIGNER=str(directory / "named"))
    with Process(argv, log=directory / "log", env=env) as process:
        process.until_printed(f"listening on {directory}/named")
        assert process.stop(signal.SIGINT) == 0


# Keys that a target trusts.


def test_a_target_trusts_foreign_keys(directory: Path, tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "public.asc"
    engine = create_writer(data / "bdcs.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
        targets.add(connection, "x86-64", now=0, chost="x86_64-pc-linux-gnu", profile="default")
        targets.add(connection, "other", now=0, chost="x86_64-pc-linux-gnu", profile="default")

    def keys(*arguments: str | Path) -> list[str]:
        done = run([*BDCS, "admin", "keys", *arguments, "--json", "--data", data], check=True)
        return [key["fingerprint"] for key in json.loads(done.stdout)["trusted"]]

    def accepted(target: str) -> list[bytes]:
        with transaction(engine) as connection:
            return accepted_keys(connection, targets.require(connection, target))

    with GpgHome(directory / "elsewhere") as elsewhere:
        first, second = elsewhere.make_key("First"), elsewhere.make_key("Second")
        file.write_bytes(elsewhere.gpg("--armor", "--export", first, second))
        assert set(keys("trust", file, "--target", "x86-64")) == {first, second}
        assert len(accepted("x86-64")) == 2
        assert accepted("other") == []
        elsewhere.gpg("--quick-set-expire", first, "2y")
        file.write_bytes(elsewhere.gpg("--armor", "--export", first))
        assert keys("trust", file, "--target", "x86-64") == [first]
        assert len(accepted("x86-64")) == 2
    assert keys("untrust", second, "--target", "x86-64") == [first]
    assert keys("list", "--target", "x86-64") == [first]
    assert keys("list", "--target", "other") == []
    for words in (["untrust", second, "--target", "x86-64"], ["trust", str(file), "--target", "none"]):
        assert run([*BDCS, "admin", "keys", *words, "--data", data]).returncode == 1
    engine.dispose()
