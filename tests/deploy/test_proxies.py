# SPDX-License-Identifier: GPL-2.0-or-later
"""The HAProxy and nginx configurations of deploy/, in front of real collectors, with real traffic."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gentwoo_client.wire import limits, segments
from tests.builds import HandBuilder, Wisher, specification
from tests.deploy.proxied import ADDRESS, NGINX, Caller, Certificate, Nginx, Proxy, edit, running
from tests.haproxy import CONFIGURATION, PROGRAM, HAProxy, reserved
from tests.integration.test_upload import address, send
from tests.nginx import PROGRAM as NGINX_PROGRAM
from tests.packages import gpkg
from tests.peer import JOSE, Answer, Peer, request
from tests.postgresql import Server, running_postgresql
from tests.processes import Collector, free_port, run
from tests.shelf import Shelf
from tests.waiting import until

pytestmark = pytest.mark.engines

KINDS = ("haproxy", "nginx")
TARGET = "amd64"
REGISTRATIONS = 20
"""How many machines a network may register: to see whom collectors take clients for."""


@dataclass(frozen=True, slots=True)
class Site:
    """A collector behind a proxy, which takes it for two."""

    kind: str
    collector: Collector
    proxy: Proxy
    shelf: Shelf
    certificate: Certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.create(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site")
    settings = {
        "registrations_per_network": REGISTRATIONS,
        "accel_redirect": "/internal/" if request.param == "nginx" else "",
    }
    with reserved() as port, collecting(home / "c", settings, port) as collector:
        shelf = Shelf(collector.data)
        shelf.add_target(TARGET, signatures="optional")
        (home / "c/data/packages").mkdir(exist_ok=True)
        both = {"c1": collector.url, "c2": collector.url}
        packages = home / "c/data/packages"
        with running(request.param, home / "p", both, certificate, port=port, packages=packages) as proxy:
            yield Site(request.param, collector, proxy, shelf, certificate)
            assert ADDRESS not in proxy.output
            assert collector.process is not None
            assert ADDRESS not in collector.process.output
            if isinstance(proxy, Nginx):
                assert ADDRESS not in proxy.access.read_text()


def collecting(home: Path, settings: Mapping[str, object], port: int) -> Collector:
    """A collector, not started yet, whose machines know it by that port of a proxy."""
    home.mkdir(parents=True)
    settings = {"public_url": f"http://127.0.0.1:{port}", "trusted_proxies": ["127.0.0.1/32"], **settings}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    (home / "bdcs.toml").write_text("".join(lines))
    return Collector(home, options=("--config", str(home / "bdcs.toml")))


def approved(site: Site) -> HandBuilder:
    """A builder that speaks through the proxy."""
    builder = HandBuilder(site.proxy.url)
    assert builder.register().status in (200, 201)
    site.collector.bdcs("admin", "builders", "approve", str(builder.machine), "--target", TARGET)
    return builder


# What stands in the files.


@pytest.mark.parametrize("tls", [True, False])
def test_haproxy_accepts_its_file(tls: bool, certificate: Certificate) -> None:
    assert PROGRAM is not None
    env = {"GENTWOO_CERTIFICATE": str(certificate.file)} if tls else {"GENTWOO_PLAIN": "127.0.0.1:8642"}
    run([PROGRAM, "-c", "-f", CONFIGURATION], env={**os.environ, **env}, check=True)


def test_nginx_accepts_its_files_as_they_are(tmp_path: Path, certificate: Certificate) -> None:
    assert NGINX_PROGRAM is not None
    home = tmp_path / "nginx"
    shutil.copytree(NGINX, home)
    changes = {"/etc/ssl/bdcs.pem": str(certificate.file), "/etc/ssl/bdcs.key": str(certificate.file)}
    ports = {"443": str(free_port()), "80;": f"{free_port()};"}
    edit(
        home / "gentwoo/site.conf", {**changes, **ports, "/var/log/nginx": str(home), "# include": "include"}
    )
    edit(home / "nginx.conf", {"/run/nginx.pid": str(home / "pid")})
    run([NGINX_PROGRAM, "-t", "-e", "stderr", "-c", home / "nginx.conf"], check=True)
    edit(home / "gentwoo/routes", {"proxy_next_upstream_tries": "proxy_next_upstream_trys"})
    assert run([NGINX_PROGRAM, "-t", "-e", "stderr", "-c", home / "nginx.conf"]).returncode != 0


# Traffic.


def test_pages_and_a_client_that_pushes(site: Site) -> None:
    with Caller(site.proxy.url) as caller:
        page = caller.ask("GET", "/", Accept="text/html")
        assert page.status == 200
        assert b"</html>" in page.body
        assert caller.ask("GET", "/readyz").body == b"ok\n"
        assert caller.ask("GET", "/metrics").status == 404, "is nobody's business out there"
    peer = Peer(site.proxy.url)
    assert peer.register().status == 201
    assert peer.push(3).document["head"]["seq"] == 3
    assert peer.push(limits.RECORDS_PER_SEGMENT).status == 200


def test_https_and_http_2(site: Site) -> None:
    with Caller(site.proxy.tls, context=site.certificate.context) as caller:
        assert caller.ask("GET", "/readyz").status == 200
    port = urlsplit(site.proxy.tls).port
    context = site.certificate.context
    context.set_alpn_protocols(["h2", "http/1.1"])
    source = (ADDRESS, 0)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60, source_address=source) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"
        assert _status_over_http_2(connection, "/readyz") == 200
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60, source_address=source) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(plain)


def _status_over_http_2(connection: ssl.SSLSocket, path: str) -> int:
    """One request by hand (RFC 9113, RFC 7541): `:status 200` is entry 8 of the static table."""
    block = b"\x82\x87" + _literal(4, path) + _literal(1, "localhost")
    headers = struct.pack(">I", len(block))[1:] + b"\x01\x05" + struct.pack(">I", 1) + block
    settings = bytes(3) + b"\x04\x00" + bytes(4)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers)
    with connection.makefile("rb") as stream:
        while True:
            head = stream.read(9)
            assert len(head) == 9, "the connection ended"
            payload = stream.read(int.from_bytes(head[:3], "big"))
            if head[3] == 1:  # HEADERS
                index = next(
                    byte for byte in payload if byte & 0xE0 != 0x20
                )  # behind changes of the table's size
                return {0x88: 200, 0x8D: 404}.get(index, -1)


def _literal(name: int, value: str) -> bytes:
    """A header whose name is an entry of the static table."""
    return bytes([0x40 | name, len(value)]) + value.encode()


def test_collectors_know_clients_by_their_network(site: Site) -> None:
    """And believe nobody but the proxy: what a client writes about itself changes nothing."""

    def register(address: str, **headers: str) -> int:
        peer = Peer(site.proxy.url)
        body = peer.registration()
        headers["Authorization"] = f"Bearer {peer.token('POST', '/v1/machines', body)}"
        headers["Content_Type"] = "application/json"
        with Caller(site.proxy.url, address) as caller:
            return caller.ask("POST", "/v1/machines", body, **headers).status

    assert [register(ADDRESS, X_Forwarded_For=f"10.0.{number}.1") for number in range(REGISTRATIONS)] == (
        [201] * REGISTRATIONS
    )
    assert register(ADDRESS, X_Forwarded_For="10.1.1.1") == 429
    assert register(ADDRESS) == 429
    assert register(ADDRESS.replace("127.97.86", "127.97.85")) == 201, "another network"


def test_packages_whole_and_in_part(site: Site) -> None:
    content = os.urandom(9_000_001)
    path = f"/binhost/{TARGET}/" + site.shelf.put(TARGET, "dev-libs/large-1.0", content)
    with Caller(site.proxy.url) as caller:
        answer = caller.ask("GET", path)
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        part = caller.ask("GET", path, Range="bytes=9000000-")
        assert (part.status, part.body) == (206, content[-1:])
        assert caller.ask("GET", path, If_None_Match=answer.headers["Etag"]).status == 304
        index = caller.ask("GET", f"/binhost/{TARGET}/Packages.gz", Accept_Encoding="gzip")
        assert index.status == 200
        assert "Content-Encoding" not in index.headers
        assert caller.ask("GET", f"/internal/{path.removeprefix('/binhost/')}").status == 404
    assert not site.proxy.log.parent.joinpath("proxy").exists() or not any(
        file.is_file() for file in site.proxy.log.parent.joinpath("proxy").rglob("*")
    ), "nothing was put down on the way"


def test_logs_come_line_by_line(site: Site) -> None:
    """What was sent is read before the next is sent: who kept it back would wait for ever."""
    builder, machine = approved(site), Wisher(site.proxy.url)
    assert machine.register().status == 201
    wish = specification("app-misc/streamed-1.0")
    builder.claim()
    build = machine.ask(wish)
    lease = builder.claim()
    assert lease is not None
    path = f"/v1/builds/{build['id']}/events"
    with Caller(site.proxy.url) as caller:
        caller.connection.request(
            "GET", path, headers={"Authorization": f"Bearer {machine.token('GET', path)}"}
        )
        with caller.connection.getresponse() as stream:
            assert stream.status == 200
            size = 0
            for number in range(5):
                text = f"line {number}\n"
                assert builder.act(lease, "log", offset=size, text=text).status == 200
                size += len(text)
                _read_until(stream, f"line {number}")
            assert builder.build(lease).status == 200
            _read_until(stream, '"state": "published"')
            assert not stream.read().strip(b"\n"), "it ends"


def _read_until(stream: http.client.HTTPResponse, text: str) -> None:
    while text not in (line := stream.readline().decode()):
        assert line, f"the stream ended before {text!r}"


def test_long_polls_wait(site: Site) -> None:
    """A builder that waits for work gets it as soon as there is some."""
    builder, machine = approved(site), Wisher(site.proxy.url)
    assert machine.register().status == 201
    leases: list[dict[str, object] | None] = []
    waiting = threading.Thread(target=lambda: leases.append(builder.claim(wait=60)))
    waiting.start()
    machine.ask(specification("app-misc/polled-1.0"))
    waiting.join(60)
    assert leases
    assert leases[0] is not None
    builder.act(leases[0], "fail", kind="build", text="it is enough")


def test_uploads_pass_through_and_are_refused_at_the_first_bad_byte(site: Site) -> None:
    builder = approved(site)
    content = gpkg(cpv="app-misc/sent-1.0", image={"usr/share/x": os.urandom(5_000_000)})
    assert send(builder, content, address(content, "app-misc/sent-1.0")).status == 201
    size = 3_000_000_000
    path = f"/v1/targets/{TARGET}/packages/app-misc/bad-1.0.gpkg.tar?size={size}&sha512={'0' * 128}"
    bearer = f"Bearer {builder.token('PUT', path, body=None)}"
    with Caller(site.proxy.url) as caller:
        answer = caller.announce("PUT", path, size, bytes(2 << 20), Authorization=bearer)
    assert (answer.status, answer.slug) == (422, "refused-package")
    left = [file for file in site.proxy.log.parent.joinpath("client_body").rglob("*") if file.is_file()]
    assert not left, "nothing was put down on the way"


@pytest.mark.parametrize(
    ("method", "path", "length"),
    [
        ("POST", "/v1/builds", (32 << 20) + 1),
        ("POST", "/v1/machines", 5 << 32),
        ("PUT", "/v1/targets/amd64/packages/app-misc/a-1.gpkg.tar?size=5000000000", 5_000_000_000),
        ("PUT", "/v1/targets/amd64", 100 << 20),
    ],
)
def test_bodies_that_nothing_takes_are_refused_before_they_come(
    site: Site, method: str, path: str, length: int
) -> None:
    with Caller(site.proxy.url) as caller:
        answer = caller.announce(method, path, length)
    assert (answer.status, answer.slug) == (413, "too-large")
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_largest_request_for_builds_may_pass(site: Site) -> None:
    """It is the collector that reads it, and says what is wrong with it."""
    machine = Wisher(site.proxy.url)
    assert machine.register().status == 201
    body = b" " * limits.BUILD_REQUEST_SIZE
    answer = machine.authorized("POST", "/v1/builds", body)
    assert answer.status == 400, answer
    assert answer.document["type"] == "urn:gentwoo:problem:malformed"


@pytest.mark.parametrize("kind", KINDS)
def test_who_asks_too_much_is_told_when_to_come_back(
    kind: str, certificate: Certificate, tmp_path: Path
) -> None:
    """With limits that are lower here: the real ones nobody reaches by what machines do."""
    nobody = {"c1": "http://127.0.0.1:1", "c2": "http://127.0.0.1:1"}
    with reserved() as port:
        proxy: Proxy
        if kind == "haproxy":
            file = tmp_path / "haproxy.cfg"
            shutil.copy(CONFIGURATION, file)
            edit(file, {"sc0_http_req_rate gt 5000": "sc0_http_req_rate gt 5"})
            proxy = HAProxy(tmp_path / "p", nobody, port=port, configuration=file)
        else:
            lower = {"rate=500r/s": "rate=1r/m"}
            proxy = Nginx(tmp_path / "p", nobody, certificate=certificate.file, port=port, changes=lower)
        with proxy, Caller(proxy.url) as caller:
            if isinstance(proxy, Nginx):
                edit(proxy.home / "gentwoo/routes", {"burst=2000": "burst=5"})
                proxy.reload()
            answers = [caller.ask("GET", "/") for _ in range(20)]
            assert ADDRESS not in proxy.output
    refusal = answers[-1]
    assert (refusal.status, refusal.slug, refusal.headers["Retry-After"]) == (429, "too-many-requests", "10")
    assert answers[0].status in (502, 503), "there is nobody behind it"


# Collectors that fail.


class Broken:
    """Says that it is ready; to anything else it gives no answer, or 503, by turns."""

    def __init__(self) -> None:
        self.asked = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Broken":
        self.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with closing(connection), connection.makefile("rb") as stream:
                connection.settimeout(60)
                self._answer(connection, stream)

    def _answer(self, connection: socket.socket, stream: object) -> None:
        line, length = stream.readline(), 0  # type: ignore[attr-defined]
        while header := stream.readline().strip():  # type: ignore[attr-defined]
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        if b" /readyz " in line:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
        elif line:
            stream.read(length)  # type: ignore[attr-defined]
            self.asked += 1
            if self.asked % 2:
                connection.sendall(UNAVAILABLE)


UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 9\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Halved:
    """A site whose other collector is broken."""

    broken: Broken
    proxy: Proxy
    collector: Collector


@pytest.fixture(scope="module", params=KINDS)
def halved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Halved]:
    kind, home = request.param, tmp_path_factory.mktemp("halved")
    with reserved() as port, collecting(home / "c", {}, port) as collector, Broken() as broken:
        Shelf(collector.data).add_target(TARGET, signatures="optional")
        both = {"c1": broken.url, "c2": collector.url}
        with running(kind, home / "p", both, certificate, port=port, asks_always=True) as proxy:
            if isinstance(proxy, HAProxy):
                until(lambda: set(proxy.states().values()) == {"UP"}, what="both taken for healthy")
            yield Halved(broken, proxy, collector)


def test_no_request_fails_that_may_be_sent_again(halved: Halved) -> None:
    peer = Wisher(halved.proxy.url)
    assert peer.register().status == 201
    for method in ("GET", "POST segment", "POST token", "DELETE", "POST large"):
        before = halved.broken.asked
        for number in range(20):
            assert _one(peer, method, number) in (200, 201, 204), method
            if halved.broken.asked > before + 1:
                break
        assert halved.broken.asked > before + 1, f"{method}: the broken one was not asked twice"


def _one(peer: Wisher, method: str, number: int) -> int:
    if method == "GET":
        return request(peer.collector, "GET", f"/v1/search?q=x{number}").status
    if method == "POST segment":
        return peer.push().status
    if method == "POST large":
        return peer.push(limits.RECORDS_PER_SEGMENT // 5).status
    if method == "POST token":
        return peer.send_json("POST", f"{peer.path}/report-links").status
    watch = peer.send_json("POST", f"{peer.path}/watches", {"package": "app-misc/x", "topics": ["failures"]})
    assert watch.status == 201, watch
    return peer.send_json("DELETE", f"{peer.path}/watches/{watch.document['id']}").status


# Two collectors on one database.


@dataclass(slots=True)
class Pair:
    """Any request may come to any of them."""

    kind: str
    proxy: Proxy
    collectors: dict[str, Collector]


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificate: Certificate,
    postgresql: Server,
) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("pair")
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # else credentials are looked for out there
        port = stack.enter_context(reserved())
        settings = {
            "store": postgresql.new_database(),
            "bus": "postgresql:",
            "blobs": "s3://nowhere/some",  # nothing is published, so nothing is asked for there
            "s3_endpoint": "http://127.0.0.1:1",
            "s3_region": "eu-central-1",
        }
        both = {name: collecting(home / name, settings, port) for name in ("c1", "c2")}
        urls = {name: stack.enter_context(collector).url for name, collector in both.items()}
        yield Pair(
            request.param,
            stack.enter_context(running(request.param, home / "p", urls, certificate, port=port)),
            both,
        )


def test_kill_9_of_a_collector_fails_no_request(pair: Pair) -> None:
    """Those that change nothing, pushes, and requests with a token; over connections that are kept."""
    stop, failed, done = threading.Event(), list[object](), Counter[int]()

    def work(number: int) -> None:
        peer = Wisher(pair.proxy.url)
        with Caller(pair.proxy.url, ADDRESS.replace("75", f"1{number:02}")) as caller:
            try:
                assert peer.register().status in (200, 201)
                while not stop.is_set():
                    for answer in _work(peer, caller):
                        assert answer.status in (200, 201), answer
                    done[number] += 1
            except Exception as error:  # it is told where the test is
                failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        _advance(done, failed, 3)
        pair.collectors["c1"].kill()
        _advance(done, failed, 6)
        pair.collectors["c1"].start()
        until(lambda: failed or _is_taken(pair), what="both take requests again")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    one = pair.collectors["c2"]
    exported = one.bdcs("export", *one.options).stdout.splitlines()
    assert len(exported) == sum(done.values()), "each is there once"


def _work(peer: Wisher, caller: Caller) -> Iterator[Answer]:
    compact = peer.signed(peer.payload())
    yield caller.ask("POST", f"{peer.path}/segments", compact, Content_Type=JOSE["Content-Type"])
    peer.seq, peer.prev = peer.seq + 1, segments.digest(compact)
    yield caller.ask("GET", "/v1/targets")
    yield caller.ask("GET", "/about/methods", Accept="text/html")
    path = f"{peer.path}/report-links"
    yield caller.ask("POST", path, Authorization=f"Bearer {peer.token('POST', path)}")


def _advance(done: Counter[int], failed: list[object], rounds: int) -> None:
    """Wait until each thread has done so much more."""
    goals = {number: done[number] + rounds for number in range(4)}
    until(lambda: failed or all(done[number] >= goal for number, goal in goals.items()))


def _is_taken(pair: Pair) -> bool:
    """Whether a request comes to the one that was away, as to the other."""
    if isinstance(pair.proxy, HAProxy):
        return set(pair.proxy.states().values()) == {"UP"}
    before = {name: _not_found(collector) for name, collector in pair.collectors.items()}
    request(pair.proxy.url, "GET", "/nothing-here")
    request(pair.proxy.url, "GET", "/nothing-here")
    return all(_not_found(collector) > before[name] for name, collector in pair.collectors.items())


def _not_found(collector: Collector) -> int:
    """How many requests a collector answered 404."""
    text = request(collector.url, "GET", "/metrics").body.decode()
    lines = re.findall(r'^bdcs_requests_total\{[^}]*status="404"[^}]*\} ([0-9.e+]+)$', text, re.MULTILINE)
    return int(sum(map(float, lines)))


def test_a_collector_that_is_drained_gets_no_more_requests(pair: Pair) -> None:
    until(lambda: _is_taken(pair), what="both take requests")
    if isinstance(pair.proxy, HAProxy):
        pair.proxy.command("set server collectors/c1 state drain")
        assert pair.proxy.states() == {"c1": "DRAIN", "c2": "UP"}
    else:
        address = pair.collectors["c1"].url.removeprefix("http://")
        edit(pair.proxy.home / "gentwoo/collectors.conf", {f"server  {address}": f"server  {address} down"})
        pair.proxy.reload()
    before = {name: _not_found(collector) for name, collector in pair.collectors.items()}
    for _ in range(10):
        assert request(pair.proxy.url, "GET", "/nothing-here").status == 404
    assert _not_found(pair.collectors["c1"]) == before["c1"]
    assert _not_found(pair.collectors["c2"]) == before["c2"] + 10
    if isinstance(pair.proxy, HAProxy):
        pair.proxy.command("set server collectors/c1 state ready")
        until(lambda: _is_taken(pair), what="both take requests again")


def test_both_gone_is_said_and_nothing_is_lost(pair: Pair) -> None:
    """The client tries again later: 502 and 503 are no refusal."""
    for collector in pair.collectors.values():
        collector.kill()
    assert request(pair.proxy.url, "GET", "/v1/targets").status in (502, 503)
    pair.collectors["c2"].start()
    until(lambda: request(pair.proxy.url, "GET", "/v1/targets").status == 200, what="it is served again")
