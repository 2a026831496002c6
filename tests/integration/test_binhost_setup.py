# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo binhost`: a real collector's targets, real Portage's configuration, real gpg.

Everything of Portage's is below a world's own EPREFIX, and what is not told to change does not: `snapshot`.
"""

import contextlib
import grp
import json
import os
import pty
import re
import select
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread
from typing import Any, ClassVar

import pytest

from bdcs.domain.signing_keys import KeyState, SigningKey
from bdcs.services import signing
from bdcs.store.store import transaction
from gentwoo_client.binhost.choosing import collector_of
from gentwoo_client.binhost.keyring import Keyring
from gentwoo_client.journal import Journal
from gentwoo_client.settings import Settings
from gentwoo_client.wire.targets import Target, TargetKey, targets_to_json
from tests.processes import GENTWOO, Collector, Machine, environment, run
from tests.shelf import Shelf
from tests.signing import LONG_AGO, GpgHome, short_directory
from tests.world import World

PROFILE = "default"
CFLAGS = "-O2 -pipe"
TOKEN = ("machine-7", "s3cret_~.token")


@dataclass
class Bench:
    """A collector with keys and targets, and its operator's GnuPG home."""

    collector: Collector
    shelf: Shelf
    gpg: GpgHome
    directory: Path

    @property
    def url(self) -> str:
        return self.collector.url

    def sign_with(self, fingerprint: str, *, retired: Sequence[str] = ()) -> None:
        """Let the collector know that it signs with this key now, and with those no more."""
        keyring = Keyring.of(self.gpg.path)
        keys = [
            SigningKey(
                fingerprint=key,
                public_key=self.gpg.public_key(key),
                user_id="Packages",
                created_at=int(time.time()),
                expires_at=keyring.inspect(self.gpg.public_key(key)).expires_at,
                state=KeyState.RETIRED if key in retired else KeyState.ACTIVE,
            )
            for key in (fingerprint, *retired)
        ]
        with transaction(self.shelf.engine) as connection:
            signing.remember_keys(connection, keys, time.time())


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with (
        short_directory() as directory,
        GpgHome(directory / "g") as gpg,
        Collector(directory / "c") as collector,
    ):
        shelf = Shelf(collector.data)
        shelf.add_target("exact", cflags=CFLAGS, profile=PROFILE, description="the same")
        shelf.add_target("v1", cflags="-O3 -march=x86-64", profile=PROFILE)
        shelf.add_target("future", cflags="-O2 -march=x86-64-v9", profile=PROFILE)
        shelf.add_target("arm", chost="aarch64-unknown-linux-gnu", cflags=CFLAGS, profile=PROFILE)
        shelf.add_target("musl", cflags=CFLAGS, profile="default/musl")
        shelf.add_target("private", cflags="-O2 -mtune=znver4", profile=PROFILE, private=True)
        shelf.add_token("private", *TOKEN)
        yield Bench(collector, shelf, gpg, directory)


@pytest.fixture
def key(bench: Bench) -> str:
    """A new key, which the collector signs with from now on."""
    known = bench.gpg.fingerprints()
    fingerprint = bench.gpg.make_key(f"Packages {len(known)}")
    bench.sign_with(fingerprint, retired=known)
    return fingerprint


@dataclass
class Client:
    """A world, and `gentwoo binhost` for it."""

    world: World
    machine: Machine

    @property
    def configuration(self) -> Path:
        return self.world.root / "etc/portage"

    @property
    def home(self) -> Path:
        return self.configuration / "gnupg"

    @property
    def file(self) -> Path:
        return self.configuration / "binrepos.conf/gentwoo.conf"

    def binhost(self, *arguments: str, code: int = 0) -> CompletedProcess[str]:
        """Run `gentwoo binhost`; it must end with `code`."""
        done = self.machine.gentwoo("binhost", *arguments, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def status(self, code: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.binhost("status", "--json", code=code).stdout)
        return document

    def trusted(self) -> set[str]:
        """The keys that whoever can read the home finds trusted."""
        keys = Keyring.of(self.home).keys().values()
        return {key.fingerprint for key in keys if key.is_trusted}


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    with short_directory() as directory:
        yield new_client(directory, bench.url)


def new_client(directory: Path, collector: str, **variables: str) -> Client:
    """A machine whose state and Portage are in `directory`; `variables` are for its make.conf."""
    world = World.create(directory / "w")
    values = {
        "BINPKG_GPG_VERIFY_GPG_HOME": str(world.root / "etc/portage/gnupg"),
        "CFLAGS": CFLAGS,
        "PORTAGE_TRUST_HELPER": "",
        **variables,
    }
    with (world.root / "etc/portage/make.conf").open("a") as file:
        file.writelines(f'{name}="{value}"\n' for name, value in values.items())
    toml = world.settings_toml(collector=collector, state_dir=directory / "s")
    env = {"PORTAGE_OVERRIDE_EPREFIX": str(world.root)}
    return Client(world, Machine(directory / "m", toml, env=env))


def snapshot(directory: Path) -> dict[str, tuple[object, ...]]:
    """Everything below `directory`: kind and mode, owner, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        link = os.readlink(path) if path.is_symlink() else None
        found[str(path.relative_to(directory))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            content,
            link,
        )
    return found


# Setting up


def test_portage_takes_the_binhost_and_trusts_the_key(client: Client, key: str) -> None:
    before = snapshot(client.world.root / "etc")
    done = client.binhost("setup", "--fingerprint", key)
    after = snapshot(client.world.root / "etc")
    assert "exact (exact)" in done.stdout
    assert "emerge --getbinpkg" in done.stdout
    assert client.trusted() == {key}
    assert {name: after[name] for name in before} == before
    added = {name for name in after if name not in before and not name.startswith("portage/gnupg/")}
    assert added == {"portage/gnupg", "portage/binrepos.conf", "portage/binrepos.conf/gentwoo.conf"}
    info = client.world.emerge("--info").output
    assert f"sync-uri: {client.status()['url']}" in info
    assert "verify-signature: True" in info
    # The index comes from there; in -p mode that is all that is fetched.
    client.world.emerge("--pretend", "--getbinpkgonly", "app-misc/none", check=False)
    assert (client.world.root / "var/cache/edb/binhost/127.0.0.1/binhost/exact/Packages").exists()


def test_every_other_target_is_told_why_not(client: Client, key: str) -> None:
    output = client.binhost("setup", "--fingerprint", key).stdout
    assert "arm (unfit): CHOST differs: aarch64-unknown-linux-gnu" in output
    assert "musl (unfit): profile differs: default/musl" in output
    assert "future (unfit): it is not known which CPUs run -march=x86-64-v9" in output
    assert "v1 (compatible): " in output
    assert "private" not in output


def test_json_tells_the_same(client: Client, key: str) -> None:
    done = client.binhost("setup", "--json", "--yes", "--target", "v1")
    document = json.loads(done.stdout)
    assert (document["target"], document["fits"], document["keys"]) == ("v1", "compatible", [key])
    assert document["file"] == str(client.file)
    assert {target["name"]: target["fits"] for target in document["targets"]}["musl"] == "unfit"
    assert "because of --yes" in done.stderr


def test_without_anybody_to_confirm_the_line_to_use_is_said(client: Client, key: str) -> None:
    before = snapshot(client.world.root / "etc")
    done = client.binhost("setup", code=2)
    assert f"gentwoo binhost setup --target exact --fingerprint {key}" in done.stderr
    config = re.search(r" --config ([^\s`]+)", done.stderr)
    assert config is not None, done.stderr
    assert Path(config[1]).exists()
    assert snapshot(client.world.root / "etc") == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--fingerprint", "0" * 40], 1, "is not the one you named"),
        (["--fingerprint", "0123ABCD"], 2, "40 hexadecimal digits"),
        (["--target", "musl", "--yes"], 1, "does not fit this machine: profile differs"),
        (["--target", "none", "--yes"], 1, "no target none"),
        (["--collector", "http://192.0.2.1", "--yes"], 78, "--insecure"),
        (["--collector", "http://127.0.0.1:1", "--yes"], 75, "cannot be reached"),
    ],
)
def test_what_is_refused_changes_nothing(
    client: Client, key: str, arguments: list[str], code: int, said: str
) -> None:
    before = snapshot(client.world.root / "etc")
    assert said in client.binhost("setup", *arguments, code=code).stderr
    assert snapshot(client.world.root / "etc") == before


def test_a_fingerprint_may_be_written_as_people_do(client: Client, key: str) -> None:
    spaced = " ".join(key[place : place + 4] for place in range(0, 40, 4)).lower()
    client.binhost("setup", "--fingerprint", f"0x{spaced}")
    assert client.trusted() == {key}


def test_a_single_file_keeps_everything_else(client: Client, key: str) -> None:
    binrepos = client.configuration / "binrepos.conf"
    content = b"[theirs]\nsync-uri = https://example.org/50%%\npriority = 1"
    binrepos.write_bytes(content)
    binrepos.chmod(0o664)
    client.binhost("setup", "--fingerprint", key)
    assert binrepos.read_bytes().startswith(content)
    assert stat.S_IMODE(binrepos.stat().st_mode) == 0o664
    info = client.world.emerge("--info").output
    assert "https://example.org/50%" in info
    assert "/binhost/exact" in info
    client.binhost("setup", "--fingerprint", key, "--target", "v1")
    assert binrepos.read_bytes().count(b"[gentwoo]") == 1
    client.binhost("remove")
    assert binrepos.read_bytes() == content
    assert stat.S_IMODE(binrepos.stat().st_mode) == 0o664


def test_a_section_of_that_name_stops_it(client: Client, key: str) -> None:
    directory = client.configuration / "binrepos.conf"
    directory.mkdir()
    (directory / "mine.conf").write_text("[gentwoo]\nsync-uri = https://example.org\n")
    before = snapshot(client.world.root / "etc")
    assert "mine.conf has a section" in client.binhost("setup", "--fingerprint", key, code=1).stderr
    assert snapshot(client.world.root / "etc") == before


def test_the_same_again_changes_nothing(client: Client, key: str) -> None:
    client.binhost("setup", "--fingerprint", key)
    before = snapshot(client.configuration / "binrepos.conf")
    client.binhost("setup", "--fingerprint", key)
    assert snapshot(client.configuration / "binrepos.conf") == before
    assert client.trusted() == {key}


def test_another_target_takes_the_place(client: Client, key: str) -> None:
    client.binhost("setup", "--fingerprint", key)
    client.binhost("setup", "--fingerprint", key, "--target", "v1")
    assert client.status()["target"] == "v1"
    assert client.file.read_text().count("sync-uri") == 1


def test_a_home_that_its_user_cannot_read_is_refused_and_left(client: Client, key: str) -> None:
    """Portage verifies as nobody: were the home out of reach, it would refuse every package."""
    before = snapshot(client.world.root / "etc")
    client.configuration.chmod(0o700)
    try:
        done = client.binhost("setup", "--fingerprint", key, code=1)
        assert "directories above" in done.stderr
    finally:
        client.configuration.chmod(0o755)
    assert snapshot(client.world.root / "etc") == before


# The helper that makes Portage's home


def helper(directory: Path, script: str) -> Path:
    path = directory / "helper"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_portages_helper_makes_the_home_first(bench: Bench, key: str) -> None:
    """getuto trusts Gentoo's keys only in a home that it makes itself."""
    with short_directory() as directory:
        home = directory / "w/etc/portage/gnupg"
        made = helper(directory, f"mkdir -m 755 {home} && echo no-greeting > {home}/gpg.conf")
        client = new_client(directory, bench.url, PORTAGE_TRUST_HELPER=str(made))
        client.binhost("setup", "--fingerprint", key)
        assert (home / "gpg.conf").exists()
        assert client.trusted() == {key}
        client.binhost("remove")
        assert (home / "gpg.conf").exists()
        assert client.trusted() == set()


def test_a_home_whose_path_is_longer_than_a_sockets_may_be(bench: Bench, key: str) -> None:
    with short_directory() as directory:
        home = directory / ("long" * 40) / "gnupg"
        home.parent.mkdir()
        client = new_client(directory, bench.url, BINPKG_GPG_VERIFY_GPG_HOME=str(home))
        client.binhost("setup", "--fingerprint", key)
        assert {name for name, known in Keyring.of(home).keys().items() if known.is_trusted} == {key}
        client.binhost("remove")
        assert not home.exists()


def test_a_helper_that_fails_would_end_emerge_too(bench: Bench, key: str) -> None:
    with short_directory() as directory:
        missing = new_client(directory / "a", bench.url, PORTAGE_TRUST_HELPER=f"{directory}/getuto")
        assert "app-portage/getuto" in missing.binhost("setup", "--fingerprint", key).stdout
        failing = helper(directory, "echo no network; exit 3")
        client = new_client(directory, bench.url, PORTAGE_TRUST_HELPER=str(failing))
        done = client.binhost("setup", "--fingerprint", key, code=1)
        assert "ended with 3: no network" in done.stderr
        assert not client.file.exists()


# Private targets


def token_file(client: Client, text: str = ":".join(TOKEN)) -> str:
    path = client.machine.home / "token"
    path.write_text(f"{text}\n")
    return str(path)


def test_a_token_opens_a_private_target_and_stays_hidden(client: Client, key: str) -> None:
    client.binhost("setup", "--target", "private", "--fingerprint", key, "--token-file", token_file(client))
    assert stat.S_IMODE(client.file.stat().st_mode) == 0o640
    assert TOKEN[1] in client.file.read_text()
    document = client.status()
    assert TOKEN[1] not in json.dumps(document)
    client.world.emerge("--pretend", "--getbinpkgonly", "app-misc/none", check=False)
    assert (client.world.root / "var/cache/edb/binhost/127.0.0.1/binhost/private/Packages").exists()
    # A public one again: nothing secret is left, and everybody may read the file.
    client.binhost("setup", "--target", "exact", "--fingerprint", key)
    assert TOKEN[1] not in client.file.read_text()
    assert stat.S_IMODE(client.file.stat().st_mode) == 0o644


def test_a_file_that_came_to_hold_a_token_gets_its_mode_back(bench: Bench, key: str) -> None:
    with short_directory() as directory:
        client = new_client(directory, bench.url, PORTAGE_GRPNAME="nogroup")
        binrepos = client.configuration / "binrepos.conf"
        binrepos.write_text("[theirs]\nsync-uri = https://example.org\n")
        before = snapshot(client.world.root / "etc")
        client.binhost(
            "setup", "--target", "private", "--fingerprint", key, "--token-file", token_file(client)
        )
        found = binrepos.stat()
        assert stat.S_IMODE(found.st_mode) == 0o640
        assert found.st_gid == grp.getgrnam("nogroup").gr_gid
        client.binhost("remove")
        assert snapshot(client.world.root / "etc") == before


@pytest.mark.parametrize("text", ["machine-7:wrong", "machine-7", ":".join(TOKEN) + "%"])
def test_a_wrong_token_opens_nothing(client: Client, key: str, text: str) -> None:
    done = client.machine.gentwoo(
        "binhost",
        "setup",
        "--target",
        "private",
        "--yes",
        "--token-file",
        token_file(client, text),
        check=False,
    )
    assert done.returncode in (1, 2)
    assert not client.file.exists()


def test_a_token_that_was_taken_back_is_noticed(bench: Bench, client: Client, key: str) -> None:
    bench.shelf.add_token("private", "short-lived", "token")
    file = token_file(client, "short-lived:token")
    client.binhost("setup", "--target", "private", "--fingerprint", key, "--token-file", file)
    bench.shelf.revoke("private", "short-lived")
    (problem,) = client.status(code=1)["problems"]
    assert "does not accept the token" in problem["message"]


# Keys that change


def test_a_new_key_is_noticed_shown_and_taken(bench: Bench, client: Client, key: str) -> None:
    client.binhost("setup", "--fingerprint", key)
    new = bench.gpg.make_key("Successor")
    bench.sign_with(new, retired=[key])
    (problem,) = client.status(code=1)["problems"]
    assert f"signs with another key now, {new}" in problem["message"]
    assert new in client.binhost("setup", code=2).stderr
    client.binhost("setup", "--fingerprint", new)
    assert client.trusted() == {new}, "what no published package is signed with is no longer trusted"
    assert client.status()["keys"][0]["state"] == "trusted"


def test_an_old_key_stays_while_packages_have_it(bench: Bench, client: Client, key: str) -> None:
    path = bench.shelf.put("exact", "app-misc/old-1", b"old", signed_by=key)
    client.binhost("setup", "--fingerprint", key)
    new = bench.gpg.make_key("Second")
    bench.sign_with(new, retired=[key])
    client.binhost("setup", "--yes")
    assert client.trusted() == {key, new}
    client.binhost("remove")
    assert client.trusted() == set()
    bench.shelf.withdraw("exact", path)


@pytest.mark.parametrize(("expires", "state"), [("1y", "trusted"), ("3d", "expiring")])
def test_a_key_that_expires_soon_is_a_problem(bench: Bench, client: Client, expires: str, state: str) -> None:
    soon = bench.gpg.make_key("Soon", expires=expires)
    bench.sign_with(soon, retired=[other for other in bench.gpg.fingerprints() if other != soon])
    client.binhost("setup", "--fingerprint", soon)
    document = client.status(code=0 if state == "trusted" else 1)
    assert document["keys"][0]["state"] == state
    assert document["keys"][0]["expires_at"]


def test_an_expired_key_is_not_taken(bench: Bench, client: Client, key: str) -> None:
    """It is listed because packages have it; where it is the only one, none could be installed."""
    old = bench.gpg.make_key("Old", expires="1d", at=LONG_AGO)
    path = bench.shelf.put("exact", "app-misc/old-2", b"old", signed_by=old)
    bench.sign_with(old, retired=[other for other in bench.gpg.fingerprints() if other != old])
    done = client.binhost("setup", "--yes", code=1)
    assert f"{old} is expired" in done.stderr
    assert not client.home.exists()
    bench.sign_with(key, retired=[other for other in bench.gpg.fingerprints() if other != key])
    client.binhost("setup", "--yes")
    assert client.trusted() == {key}
    bench.shelf.withdraw("exact", path)


# Status


def test_nothing_is_set_up(client: Client) -> None:
    document = client.status(code=78)
    assert document["configured"] is False
    assert "gentwoo binhost setup" in document["problems"][0]["advice"]


def test_all_is_well(client: Client, key: str) -> None:
    client.binhost("setup", "--fingerprint", key)
    document = client.status()
    assert document["problems"] == []
    assert (document["fits"], document["answers"], document["signatures"]) == ("exact", True, True)
    assert document["index_at"]
    text = client.binhost("status").stdout
    assert "required" in text
    assert key[:4] in text


def test_a_collector_that_is_away_is_no_fault_of_ours(bench: Bench, client: Client, key: str) -> None:
    client.binhost("setup", "--fingerprint", key)
    bench.collector.stop()
    try:
        document = client.status(code=75)
    finally:
        bench.collector.start()
    assert document["answers"] is False
    assert document["target"] == "exact"


def test_what_went_wrong_since_is_named(client: Client, key: str) -> None:
    client.binhost("setup", "--fingerprint", key)
    with (client.configuration / "make.conf").open("a") as file:
        file.write('CHOST="i686-pc-linux-gnu"\nFEATURES="${FEATURES} binpkg-ignore-signature"\n')
    (client.configuration / "binrepos.conf/broken.conf").write_text("nonsense\n")
    Keyring.of(client.home).forget([key])
    messages = " / ".join(problem["message"] for problem in client.status(code=1)["problems"])
    for word in ("CHOST differs", "binpkg-ignore-signature", "no section headers", f"{key} is missing"):
        assert word in messages


# Removing


def test_removal_leaves_things_as_they_were(client: Client, key: str) -> None:
    before = snapshot(client.world.root / "etc")
    client.binhost("setup", "--fingerprint", key)
    client.binhost("setup", "--fingerprint", key, "--target", "v1")
    document = json.loads(client.binhost("remove", "--json").stdout)
    assert document["keys"] == [key]
    assert snapshot(client.world.root / "etc") == before
    assert "nothing was changed" in client.binhost("remove").stdout


def test_what_was_there_before_stays(bench: Bench, client: Client, key: str) -> None:
    """A closed home with a key of somebody's own, and one that is ours but was there already."""
    other = bench.gpg.make_key("Somebody's own")
    with GpgHome(client.home) as home:
        for fingerprint in (other, key):
            home.gpg("--import", data=bench.gpg.public_key(fingerprint))
        home.gpg("--import-ownertrust", data=f"{other}:6:\n{key}:4:\n".encode())
        home.gpg("--check-trustdb")
    (client.configuration / "binrepos.conf").mkdir()
    mine = client.configuration / "binrepos.conf/mine.conf"
    mine.write_text("[mine]\nsync-uri = https://example.org\n")
    assert client.trusted() == {other}
    client.binhost("setup", "--fingerprint", key)
    assert client.trusted() == {other, key}
    client.binhost("remove")
    keys = Keyring.of(client.home).keys()
    assert {fingerprint: known.ownertrust for fingerprint, known in keys.items()} == {other: 6, key: 4}
    assert stat.S_IMODE(client.home.stat().st_mode) == 0o700
    assert os.listdir(client.configuration / "binrepos.conf") == ["mine.conf"]


def test_keys_may_stay(client: Client, key: str) -> None:
    client.binhost("setup", "--fingerprint", key)
    client.binhost("remove", "--keep-keys")
    assert not client.file.exists()
    assert client.trusted() == {key}


def test_what_somebody_changed_is_left_to_them(client: Client, key: str) -> None:
    client.binhost("setup", "--fingerprint", key)
    client.file.write_text(client.file.read_text().replace("# gentwoo binhost: end", ""))
    assert "by hand" in client.binhost("remove", code=1).stderr
    assert client.trusted() == {key}


# On a terminal


def converse(client: Client, *arguments: str, talk: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """Run `gentwoo binhost` on a terminal and type each answer once its question is seen."""
    argv = [str(word) for word in client.machine.argv("binhost", *arguments)]
    variables = environment(**client.machine.env)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, variables)
    output, seen, waiting = "", 0, list(talk)
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1.0)[0]:
                try:
                    output += os.read(terminal, 4096).decode()
                except OSError:  # its other end is closed
                    break
            if waiting and (place := output.find(waiting[0][0], seen)) >= 0:
                seen = place + 1
                os.write(terminal, waiting.pop(0)[1].encode())
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def test_on_a_terminal_it_asks(client: Client, key: str) -> None:
    code, output = converse(client, "setup", talk=[("[y/N]", "\n")])
    assert code == 1
    assert " ".join(key[place : place + 4] for place in range(0, 40, 4)) in output
    assert "nothing was changed" in output
    assert not client.file.exists()
    code, output = converse(client, "setup", talk=[("[y/N]", "y\n")])
    assert code == 0, output
    assert client.trusted() == {key}


def test_on_a_terminal_a_private_target_asks_for_its_token(client: Client, key: str) -> None:
    talk = [("NAME:TOKEN", ":".join(TOKEN) + "\n"), ("[y/N]", "yes\n")]
    code, output = converse(client, "setup", "--target", "private", talk=talk)
    assert code == 0, output
    assert TOKEN[1] not in output
    assert TOKEN[1] in client.file.read_text()


# Collectors that cannot be trusted


class Impostor(BaseHTTPRequestHandler):
    """Answers what it is told to."""

    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}

    def do_GET(self) -> None:
        """Answer."""
        status, body = self.answers.get(self.path, (404, b""))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "https://elsewhere.example.org/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""


@contextlib.contextmanager
def impostor(answers: Mapping[str, tuple[int, bytes]]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Told", (Impostor,), {"answers": answers})) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def offered(collector: str, fingerprint: str, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": "exact",
        "chost": "x86_64-pc-linux-gnu",
        "profile": PROFILE,
        "cflags": CFLAGS,
        "cpu": "",
        "toolchain": "",
        "description": "",
        "signatures": "required",
        "private": False,
        "url": f"{collector}/binhost/exact",
        "packages": 0,
        "timestamp": 0,
        "keys": (TargetKey(fingerprint=fingerprint, expires_at=None, url=f"{collector}/binhost/keys/k.asc"),),
        **changes,
    }
    return Target(**values)


@pytest.mark.parametrize("content", ["another", "two", "secret", "nonsense", "nothing", "huge"])
def test_a_key_file_holds_the_key_that_was_named(
    bench: Bench, client: Client, key: str, content: str
) -> None:
    other = bench.gpg.make_key(f"Other {content}")
    contents = {
        "another": bench.gpg.public_key(other),
        "two": bench.gpg.public_key(key) + bench.gpg.public_key(other),
        "secret": bench.gpg.secret_key(key),
        "nonsense": b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n",
        "nothing": b"",
        "huge": b"x" * (1 << 20),
    }
    answers: dict[str, tuple[int, bytes]] = {"/binhost/keys/k.asc": (200, contents[content])}
    with impostor(answers) as url:
        answers["/v1/targets"] = (200, json.dumps(targets_to_json([offered(url, key)])).encode())
        done = client.machine.gentwoo("binhost", "setup", "--yes", "--collector", url, check=False)
    assert done.returncode == (75 if content == "huge" else 1), done.stderr
    assert "unexpected" not in done.stderr
    assert not client.file.exists()
    assert not client.home.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keys": ()}, "it has no key yet"),
        ({"url": "http://192.0.2.1/binhost/exact"}, "is not encrypted"),
        (
            {"keys": (TargetKey(fingerprint="A" * 40, expires_at=None, url="https://192.0.2.1/k.asc"),)},
            "names a key elsewhere",
        ),
    ],
)
def test_a_target_that_leads_astray_is_refused(
    client: Client, key: str, changes: dict[str, Any], said: str
) -> None:
    answers: dict[str, tuple[int, bytes]] = {}
    with impostor(answers) as url:
        document = targets_to_json([offered(url, key, **changes)])
        answers["/v1/targets"] = (200, json.dumps(document).encode())
        done = client.machine.gentwoo("binhost", "setup", "--yes", "--collector", url, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert not client.file.exists()


@pytest.mark.parametrize(
    "answer",
    [(200, b"{"), (200, b"[]"), (200, b'{"targets": [{}]}'), (500, b""), (302, b""), (200, b" " * (5 << 20))],
    ids=["cut", "array", "empty", "broken", "moved", "endless"],
)
def test_an_answer_that_is_none_of_the_protocol(client: Client, answer: tuple[int, bytes]) -> None:
    with impostor({"/v1/targets": answer}) as url:
        done = client.machine.gentwoo("binhost", "setup", "--yes", "--collector", url, check=False)
    assert done.returncode in (75, 78)
    assert "unexpected" not in done.stderr
    assert not client.file.exists()


def test_packages_that_nobody_signs_are_taken_only_with_a_word(client: Client, key: str) -> None:
    answers: dict[str, tuple[int, bytes]] = {}
    with impostor(answers) as url:
        document = targets_to_json([offered(url, key, keys=(), signatures="optional")])
        answers["/v1/targets"] = (200, json.dumps(document).encode())
        done = client.binhost("setup", "--collector", url, code=2)
        assert "--yes" in done.stderr
        done = client.binhost("setup", "--collector", url, "--yes")
    assert "Portage will check none" in done.stdout
    assert "verify-signature = false" in client.file.read_text()
    assert not client.home.exists()


# Who may, and where


def test_only_root_may(tmp_path: Path, bench: Bench) -> None:
    """A stranger is told so at once. `portageq` is a stand-in: ours lies where strangers may not look."""
    with short_directory() as directory:
        configuration = directory / "etc/portage"
        configuration.mkdir(parents=True)
        portageq = directory / "portageq"
        values = f"CHOST=x86_64-pc-linux-gnu\\nEPREFIX=\\nPORTAGE_CONFIGROOT={directory}\\n"
        portageq.write_text(f"#!/bin/sh\nprintf '{values}'\n")
        portageq.chmod(0o755)
        argv: list[str | Path] = ["runuser", "-u", "nobody", "--", "/usr/bin/python3", *GENTWOO[1:]]
        settings = environment(GENTWOO_PORTAGE_BIN=str(directory), GENTWOO_COLLECTOR=bench.url)
        done = run([*argv, "binhost", "setup", "--yes"], env=settings, cwd=Path("/"))
        assert done.returncode == 77, done.stderr
        assert "sudo -u root gentwoo binhost setup --yes" in done.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [("portage_bin", "Portage is needed"), ("eprefix", "the setting eprefix is")],
)
def test_portage_must_be_where_the_settings_say(client: Client, setting: str, said: str) -> None:
    variable = {f"GENTWOO_{setting.upper()}": str(client.machine.home)}
    done = run(client.machine.argv("binhost", "status"), env=environment(**client.machine.env, **variable))
    assert done.returncode == 78
    assert said in done.stderr


def test_the_collector_may_be_that_of_the_registration(tmp_path: Path) -> None:
    """Read as the state's owner, while this process stays root."""
    state = tmp_path / "state"
    state.mkdir()
    with contextlib.closing(Journal.open(state, create=True)) as journal:
        journal.put(collector="https://bdcs.example.org")
    assert collector_of(Settings(state_dir=state)) == "https://bdcs.example.org"
    given = Settings(state_dir=state, collector="https://other", sources={"collector": "command line"})
    assert collector_of(given) == "https://other"


def test_global_options_may_stand_behind_an_action(client: Client) -> None:
    options: list[str | Path] = ["--config", client.machine.config, "--log-level=debug"]
    done = run([*GENTWOO, "binhost", "status", *options], env=environment(**client.machine.env))
    assert done.returncode == 78
    assert "To repair" in done.stdout
