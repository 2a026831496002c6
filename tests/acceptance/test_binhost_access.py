# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to a binhost: redirects, passwords, TLS; and what becomes of `emerge` when there is no way.

Cases 7 and 15 to 17 of reference/binhost.md §9.
"""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.binhost import UP_TO_DATE, Binhost, Taker, running_binhost
from tests.front import Exchange, Front
from tests.processes import free_port

pytestmark = [pytest.mark.timeout(240)]

CPV = "app-misc/reached-1.0"
INDEX, FILE = "Packages.gz", "reached-1.0-1.gpkg.tar"


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost")) as binhost:
        yield binhost


@pytest.fixture(scope="module")
def taker(binhost: Binhost, tmp_path_factory: pytest.TempPathFactory) -> Taker:
    taker = Taker.create(tmp_path_factory.mktemp("machine") / "world", binhost.verify_home)
    taker.world.ebuild(CPV)
    return taker


@pytest.fixture(scope="module")
def package(taker: Taker) -> Path:
    """A package that emerge built."""
    (package,) = taker.build(CPV)
    return package


@pytest.fixture(scope="module")
def target(binhost: Binhost, package: Path) -> str:
    binhost.add_target("amd64")
    binhost.publish("amd64", package)
    return "amd64"


@pytest.fixture
def machine(taker: Taker) -> Taker:
    """As a machine that has nothing."""
    taker.forget()
    return taker


@pytest.fixture
def front(binhost: Binhost) -> Iterator[Front]:
    with Front(binhost.collector.url) as front:
        yield front


def answers(exchanges: list[Exchange]) -> list[tuple[str, int]]:
    """What was asked for, and how it was answered."""
    return [(exchange.file, exchange.status) for exchange in exchanges]


# Elsewhere.


def test_the_header_may_send_clients_elsewhere_for_packages(
    binhost: Binhost, machine: Taker, front: Front, package: Path
) -> None:
    """Case 7: URI in the header, as for a CDN."""
    binhost.add_target("moved", f"--header=URI={front.url}/binhost/moved")
    binhost.publish("moved", package)
    machine.use(binhost.url("moved"))
    machine.emerge("--getbinpkgonly", "app-misc/reached")
    assert machine.world.is_installed(CPV)
    assert answers(front.taken()) == [(FILE, 200)]


def test_redirects_are_followed(binhost: Binhost, machine: Taker, front: Front, target: str) -> None:
    """Case 7: of the index and of packages; the copy is named by the address that was configured."""
    front.redirects = {"/old/": f"{binhost.url(target)}/"}
    url = f"{front.url}/old"
    machine.use(url)
    machine.emerge("--getbinpkgonly", "app-misc/reached")
    assert machine.world.is_installed(CPV)
    assert answers(front.taken()) == [(INDEX, 302), (FILE, 302)]
    assert machine.cached_index(url).exists()
    assert UP_TO_DATE in machine.pretend("--getbinpkgonly", "app-misc/reached")


# Passwords.


@pytest.fixture(scope="module")
def token(binhost: Binhost, package: Path) -> str:
    """What opens the target `private` for alice."""
    binhost.add_target("private", "--private")
    token = binhost.collector.bdcs("admin", "tokens", "create", "alice", "--target", "private").stdout.strip()
    assert re.fullmatch(r"[A-Za-z0-9._~-]{16,}", token)
    binhost.publish("private", package)
    return token


@pytest.mark.parametrize("way", ["PORTAGE_BINHOST", "binrepos.conf"])
def test_who_has_a_token_gets_index_and_packages(machine: Taker, front: Front, token: str, way: str) -> None:
    """Case 15: emerge and wget send it when they are asked to, each time."""
    url = f"{front.url.replace('//', f'//alice:{token}@')}/binhost/private"
    if way == "PORTAGE_BINHOST":
        machine.use(url)
    else:
        machine.use_repository("gentwoo", url)
    machine.emerge("--getbinpkgonly", "app-misc/reached")
    assert machine.world.is_installed(CPV)
    exchanges = front.taken()
    assert answers(exchanges) == [(INDEX, 401), (INDEX, 200), (FILE, 401), (FILE, 200)]
    assert ["authorization" in exchange.headers for exchange in exchanges] == [False, True, False, True]


def test_who_has_none_or_a_wrong_one_gets_nothing(
    binhost: Binhost, machine: Taker, front: Front, token: str
) -> None:
    """Case 15."""
    for name, expected in (("", 1), ("alice:wrong@", 2), (f"bob:{token}@", 2)):
        machine.use(f"{front.url.replace('//', f'//{name}')}/binhost/private")
        done = machine.emerge("--getbinpkgonly", "app-misc/reached", check=False)
        assert done.returncode == 1
        assert answers(front.taken()) == [(INDEX, 401)] * expected
        assert not machine.world.is_installed(CPV)
    challenge = binhost.get("private/Packages.gz")
    assert challenge.status == 401
    assert challenge.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert binhost.get(f"private/app-misc/reached/{FILE}").status == 401


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(
    package: Path, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Binhost]:
    """A collector that serves https itself."""
    directory = tmp_path_factory.mktemp("certificate")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = directory / "chain.pem", directory / "key.pem"
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(chain), append=True)
    settings = {"tls_certificate": str(chain), "tls_key": str(key)}
    with running_binhost(tmp_path_factory.mktemp("secure"), **settings) as secure:
        secure.add_target("amd64")
        secure.publish("amd64", package)
        yield secure


def test_a_trusted_certificate_is_enough(
    secure: Binhost, machine: Taker, authority: trustme.CA, tmp_path: Path
) -> None:
    """Case 16: emerge goes by SSL_CERT_FILE; wget has a store of its own, so it is told."""
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    fetch = f"wget -q -t 1 -T 5 --ca-certificate={trusted} -O ${{DISTDIR}}/${{FILE}} ${{URI}}"
    trust = {"SSL_CERT_FILE": str(trusted), "FETCHCOMMAND": fetch}
    assert secure.url("amd64").startswith("https://127.0.0.1:")
    machine.use(secure.url("amd64"), BINPKG_GPG_VERIFY_GPG_HOME=str(secure.verify_home), **trust)
    machine.emerge("--getbinpkgonly", "app-misc/reached")
    assert machine.world.is_installed(CPV)
    assert UP_TO_DATE in machine.pretend("--getbinpkgonly", "app-misc/reached")


def test_a_certificate_that_nobody_vouches_for_is_not(secure: Binhost, machine: Taker) -> None:
    """Case 16."""
    machine.use(secure.url("amd64"))
    done = machine.emerge("--getbinpkgonly", "app-misc/reached", check=False)
    assert done.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.output
    assert not machine.world.is_installed(CPV)


# Outage.


@pytest.mark.parametrize("outage", ["500", "503", "refused"])
def test_an_outage_is_survived(
    binhost: Binhost, machine: Taker, front: Front, target: str, outage: str
) -> None:
    """Case 17: -p goes by the copy, -g builds from source, -G gives up in good order."""
    url = f"{front.url}/binhost/{target}"
    machine.use(url)
    plan = "[binary  N g   ] app-misc/reached-1.0-1::gentoo"
    assert plan in machine.pretend("--getbinpkg", "app-misc/reached")
    if outage == "refused":
        machine.use(f"http://127.0.0.1:{free_port()}/binhost/{target}")
    else:
        front.status = int(outage)
    assert plan in machine.pretend("--getbinpkg", "app-misc/reached")
    done = machine.emerge("--getbinpkgonly", "app-misc/reached", check=False)
    assert done.returncode == 1
    assert "there are no binary packages to satisfy" in done.output
    if outage == "503":
        machine.emerge("--getbinpkg", "app-misc/reached")
        assert machine.world.is_installed(CPV)
        assert machine.taken() == {}
    front.status = None
    machine.use(url)
    assert UP_TO_DATE in machine.pretend("--getbinpkg", "app-misc/reached")


def test_a_server_that_says_nothing_costs_ten_seconds(binhost: Binhost, machine: Taker, target: str) -> None:
    """Case 17: Portage's patience; the copy is used then."""
    machine.use(binhost.url(target))
    machine.pretend("--getbinpkgonly", "app-misc/reached")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        machine.use(f"http://127.0.0.1:{silent.getsockname()[1]}/binhost/{target}")
        output = machine.pretend("--getbinpkgonly", "app-misc/reached")
    assert "timed out" in output
    assert "app-misc/reached-1.0-1::gentoo" in output
