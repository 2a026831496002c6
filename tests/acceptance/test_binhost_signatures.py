# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures, as real `emerge` checks them: ours are accepted, anything else is not.

Cases 29 and 30 of reference/binhost.md §9, by PORTAGE_BINHOST with FEATURES=binpkg-request-signature as well
as by binrepos.conf with verify-signature. What the collector itself refuses to publish is here too: that a
client sees such packages takes somebody on the way, or on the host, who changes index and file alike.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.binhost import Binhost, Taker, entries, running_binhost
from tests.front import Front
from tests.packages import Members, compress, image_tar, manifest_of
from tests.processes import environment, run
from tests.signing import LONG_AGO, GpgHome, portage_signs, short_directory, verify_home

pytestmark = [pytest.mark.timeout(240)]

WAYS = ("PORTAGE_BINHOST", "binrepos.conf")
CPV = "app-misc/signed-1.0"
FILE = "signed-1.0-1.gpkg.tar"


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost")) as binhost:
        yield binhost
        assert binhost.collector.bdcs("check").returncode == 0


@pytest.fixture(scope="module")
def taker(binhost: Binhost, tmp_path_factory: pytest.TempPathFactory) -> Taker:
    taker = Taker.create(tmp_path_factory.mktemp("machine") / "world", binhost.verify_home)
    taker.world.ebuild(CPV)
    return taker


@pytest.fixture(scope="module")
def built(taker: Taker) -> Path:
    """A package that emerge built, not signed."""
    (built,) = taker.build(CPV)
    return built


@pytest.fixture(scope="module")
def target(binhost: Binhost, built: Path) -> str:
    """A target with that package, signed by the signer."""
    binhost.add_target("amd64")
    (published,) = binhost.publish("amd64", built)
    assert published["signed_by"] == binhost.fingerprint
    return "amd64"


@pytest.fixture
def machine(taker: Taker) -> Taker:
    """As a machine that has nothing."""
    taker.forget()
    return taker


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of others, and how to sign with them as Portage does."""

    home: GpgHome
    foreign: str
    expired: str

    def signing(self, fingerprint: str, *, at: str | None = None) -> dict[str, Callable[[bytes], bytes]]:
        """Arguments of `tests.packages.gpkg` that sign; with `at`, at that time."""
        clock = () if at is None else ("--faked-system-time", at)
        how = (*clock, "--digest-algo", "SHA512", "--armor", "--local-user", fingerprint)
        return {
            "detach": lambda data: self.home.gpg(*how, "--detach-sign", data=data),
            "clearsign": lambda data: self.home.gpg(*how, "--clear-sign", data=data),
        }


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    with short_directory() as directory, GpgHome(directory / "gpg") as home:
        yield Keys(home, home.make_key("Foreign"), home.make_key("Expired", expires="30d", at=LONG_AGO))


def take_from(machine: Taker, way: str, url: str) -> None:
    """Demand signatures of what comes from there."""
    if way == "PORTAGE_BINHOST":
        machine.use(url, FEATURES="binpkg-request-signature")
    else:
        machine.use_repository("gentwoo", url, verify_signature="true")


@pytest.mark.parametrize("way", WAYS)
def test_what_we_signed_is_installed(binhost: Binhost, machine: Taker, target: str, way: str) -> None:
    """Case 29; Portage made the package, and its own verification takes what the signer made of it."""
    take_from(machine, way, binhost.url(target))
    machine.emerge("--getbinpkgonly", "app-misc/signed")
    assert machine.world.is_installed(CPV)


@pytest.mark.parametrize("way", WAYS)
def test_who_does_not_trust_the_key_gets_nothing(
    binhost: Binhost, machine: Taker, target: str, keys: Keys, tmp_path: Path, way: str
) -> None:
    """Case 29: another key is trusted there, ours is not."""
    take_from(machine, way, binhost.url(target))
    with short_directory() as directory:
        other = verify_home(directory / "verify", [keys.home.public_key(keys.foreign)])
        done = machine.emerge("-G", "app-misc/signed", check=False, BINPKG_GPG_VERIFY_GPG_HOME=str(other))
    assert done.returncode == 1
    assert "GnuPG verification failed" in done.output
    assert not machine.world.is_installed(CPV)


def unsigned(machine: Taker, keys: Keys, path: Path) -> Path:
    return machine.package(path, CPV)


def foreign(machine: Taker, keys: Keys, path: Path) -> Path:
    return machine.package(path, CPV, **keys.signing(keys.foreign))


def expired(machine: Taker, keys: Keys, path: Path) -> Path:
    return machine.package(path, CPV, **keys.signing(keys.expired, at="20200110T000000"))


def stripped(machine: Taker, keys: Keys, path: Path) -> Path:
    """Without one of its signatures, and not mentioned in a Manifest that is signed."""

    def strip(members: Members) -> Members:
        return [member for member in members if not member[0].endswith("image.tar.zst.sig")]

    return machine.package(path, CPV, **keys.signing(keys.foreign), before_manifest=strip)


def altered(machine: Taker, keys: Keys, path: Path) -> Path:
    """With another image, and a Manifest made anew by who has no key."""
    other = compress(image_tar({machine.place(CPV): b"altered\n"}), ".zst")

    def alter(members: Members) -> Members:
        changed = [(name, other if name.endswith("image.tar.zst") else data) for name, data in members[:-1]]
        return [*changed, (members[-1][0], manifest_of(changed))]

    return machine.package(path, CPV, **keys.signing(keys.foreign), members=alter)


HOSTILE = (unsigned, foreign, expired, stripped, altered)
TRUSTED_BY_THE_CLIENT = (expired, stripped, altered)
"""What is wrong with these is not the key, so the client trusts it."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_what_a_liar_on_the_way_serves_is_refused(
    binhost: Binhost, machine: Taker, target: str, keys: Keys, tmp_path: Path, make: Any, way: str
) -> None:
    """Case 29: the index is no help, since it fits the package; only signatures are."""
    content: bytes = make(machine, keys, tmp_path / FILE).read_bytes()
    known = [binhost.signer.public_key(binhost.fingerprint)]
    if make in TRUSTED_BY_THE_CLIENT:
        known += [keys.home.public_key(key) for key in (keys.foreign, keys.expired)]
    with short_directory() as directory, Front(binhost.collector.url) as front:
        home = verify_home(directory / "verify", known)
        front.missing = frozenset({"Packages.gz"})
        front.replaced = {FILE: content, "Packages": lying(binhost.index(target), content)}
        take_from(machine, way, f"{front.url}/binhost/{target}")
        done = machine.emerge("-G", "app-misc/signed", check=False, BINPKG_GPG_VERIFY_GPG_HOME=str(home))
        assert FILE in [exchange.file for exchange in front.taken()]
    assert f"{FILE} MD5 SHA1 size ;-)" in done.output
    assert done.returncode == 1, done.output
    assert not machine.world.is_installed(CPV)
    assert not Path(f"/{machine.place(CPV)}").exists()


def lying(index: str, content: bytes) -> bytes:
    """An index whose only entry describes that content."""
    for key, value in {
        "SIZE": str(len(content)),
        "MD5": hashlib.md5(content).hexdigest(),
        "SHA1": hashlib.sha1(content).hexdigest(),
    }.items():
        index, count = re.subn(rf"^{key}: .*$", f"{key}: {value}", index, flags=re.MULTILINE)
        assert count == 1
    return index.encode()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (foreign, "which is not accepted here"),
        (expired, "expired"),
        (stripped, "is signed, but its image is not"),
        (altered, "is signed, but its Manifest is not"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_collector_publishes_no_such_package(
    binhost: Binhost, machine: Taker, keys: Keys, tmp_path: Path, make: Any, reason: str
) -> None:
    """Also where the target trusts the key, but for one that nobody trusts."""
    name = f"strict-{make.__name__}"
    binhost.add_target(name)
    if make is not foreign:
        key = tmp_path / "key.asc"
        key.write_bytes(b"".join(keys.home.public_key(key) for key in (keys.foreign, keys.expired)))
        binhost.collector.bdcs("admin", "keys", "trust", str(key), "--target", name)
    package = make(machine, keys, tmp_path / FILE)
    refused = binhost.collector.bdcs("publish", str(package), "--target", name, check=False)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert reason in refused.stderr
    assert list((binhost.data / "packages").glob(f"{name}/**/*.tar")) == []
    assert list((binhost.data / "quarantine").rglob("*.tar")) == []


@pytest.mark.parametrize("way", WAYS)
def test_what_was_signed_anew_is_fetched_again(
    binhost: Binhost, machine: Taker, target: str, keys: Keys, tmp_path: Path, way: str
) -> None:
    """Case 30: by Portage's own gpkg-sign, with the key of somebody whom a target trusts."""
    take_from(machine, way, binhost.url(target))
    machine.emerge("--getbinpkgonly", "--fetchonly", "app-misc/signed")
    before = machine.taken()[FILE].read_bytes()

    again = tmp_path / FILE
    again.write_bytes(before)
    known = [binhost.signer.public_key(binhost.fingerprint), keys.home.public_key(keys.foreign)]
    with short_directory() as directory:
        home = verify_home(directory / "verify", known)
        signs = portage_signs(keys.home.path, keys.foreign, home)
        gpkg_sign = machine.world.portage_bin / "gpkg-sign"
        run([gpkg_sign, again], env={**environment(), **machine.world.environment(), **signs}, check=True)
        other = f"again-{way[:4].lower()}"
        key = tmp_path / "key.asc"
        key.write_bytes(keys.home.public_key(keys.foreign))
        binhost.add_target(other)
        binhost.collector.bdcs("admin", "keys", "trust", str(key), "--target", other)
        (published,) = binhost.publish(other, again)
        assert published["signed_by"] == keys.foreign
        take_from(machine, way, binhost.url(other))
        machine.emerge("--getbinpkgonly", "app-misc/signed", BINPKG_GPG_VERIFY_GPG_HOME=str(home))
    assert machine.world.is_installed(CPV)
    assert again.read_bytes() != before
    assert again.read_bytes() in [file.read_bytes() for file in machine.taken().values()]


def test_a_new_key_signs_what_comes(binhost: Binhost, machine: Taker, tmp_path: Path) -> None:
    """Rotation: what the old key signed stays valid, and who has the new one as well takes everything."""
    binhost.add_target("rotated")
    one, two = (machine.package(tmp_path / f"{n}.gpkg.tar", f"app-misc/rotated-{n}") for n in (1, 2))
    binhost.publish("rotated", one)
    new = binhost.signer.create_key("--name", "The next one")
    binhost.signer.keys("retire", binhost.fingerprint)
    (published,) = binhost.publish("rotated", two)
    assert published["signed_by"] == new
    take_from(machine, "binrepos.conf", binhost.url("rotated"))
    assert machine.emerge("-G", "=app-misc/rotated-2", check=False).returncode == 1
    machine.emerge("-G", "=app-misc/rotated-1")
    served = [binhost.get(f"keys/{key}.asc").body for key in (binhost.fingerprint, new)]
    with short_directory() as directory, GpgHome(directory / "gpg") as gpg:
        gpg.gpg("--import", data=b"".join(served))
        assert sorted(gpg.fingerprints()) == sorted([binhost.fingerprint, new])
        home = verify_home(directory / "verify", [gpg.public_key(key) for key in gpg.fingerprints()])
        for number in (1, 2):
            machine.forget()
            machine.emerge("-G", f"=app-misc/rotated-{number}", BINPKG_GPG_VERIFY_GPG_HOME=str(home))
    assert {entry["CPV"] for entry in entries(binhost.index("rotated"))} == {
        "app-misc/rotated-1",
        "app-misc/rotated-2",
    }
