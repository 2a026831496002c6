# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs serve` as a process of its own: its answers, its manners, and the commands beside it."""

import concurrent.futures
import json
import os
import resource
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from bdcs.errors import EXIT_CONFIGURATION
from bdcs.store.schema import HEAD
from tests.peer import Peer, problem_of, request
from tests.processes import BDCS, Collector, Process, environment, run
from tests.signing import short_directory
from tests.store_access import store_of
from tests.waiting import until


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path) as started:
        yield started


def raw(url: str, data: bytes, *, ends: bool = False) -> bytes:
    """Send `data` as it is, and perhaps no more; return all that is answered until the other side closes."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_it_is_watched(collector: Collector) -> None:
    peer = Peer(collector.url)
    peer.register()
    peer.push(3)
    assert request(collector.url, "GET", "/livez").body == b"ok\n"
    assert request(collector.url, "GET", "/readyz").status == 200
    metrics = request(collector.url, "GET", "/metrics").body.decode()
    assert "bdcs_records_total 3.0" in metrics
    assert 'bdcs_machines{state="approved"} 1.0' in metrics
    assert 'bdcs_segments_total{outcome="accepted"} 1.0' in metrics


def test_exact_counts_are_for_those_who_may_read_them(tmp_path: Path) -> None:
    config = tmp_path / "bdcs.toml"
    config.write_text('trusted_proxies = ["127.0.0.1/32"]\nmetrics_readers = ["10.0.0.0/8"]\n')
    with Collector(tmp_path, options=["--config", str(config)]) as collector:

        def read(forwarded: str) -> int:
            headers = {"X-Forwarded-For": forwarded}
            return request(collector.url, "GET", "/metrics", headers=headers).status

        assert request(collector.url, "GET", "/metrics").slug == "forbidden"
        assert (read("10.1.2.3"), read("192.0.2.1"), read("10.1.2.3, 192.0.2.1")) == (200, 403, 403)


def test_what_an_unknown_proxy_asks_for_may_be_anybodys(collector: Collector) -> None:
    answer = request(collector.url, "GET", "/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
    assert answer.slug == "forbidden"


def test_it_describes_its_api(collector: Collector) -> None:
    described = request(collector.url, "GET", "/openapi.json").document
    assert described["openapi"] == "3.1.0"
    assert described["servers"] == [{"url": collector.url}]


@pytest.mark.parametrize(
    ("method", "path", "slug"),
    [
        ("GET", "/v1/nothing", "not-found"),
        ("GET", "/v1", "not-found"),
        ("PUT", "/v1/machines", "method-not-allowed"),
        ("GET", "/v1/machines/nobody", "unregistered"),
        ("GET", "/v1/packages/dev-libs/%20", "not-found"),
        ("POST", "/v1/machines", "unsupported-media"),
        ("POST", "/v1/machines/x/segments", "unregistered"),
    ],
)
def test_every_refusal_is_a_problem_document(collector: Collector, method: str, path: str, slug: str) -> None:
    answer = request(collector.url, method, path)
    assert answer.slug == slug
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "bdcs"
    if slug == "method-not-allowed":
        assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["tls", "version", "header", "line"],
)
def test_what_is_no_http_is_a_problem_too(collector: Collector, data: bytes) -> None:
    head, _, body = raw(collector.url, data).partition(b"\r\n\r\n")
    status = int(head.split()[1])
    media = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-type:"))
    assert problem_of(status, media.partition(b":")[2].strip().decode(), body)
    assert b"\r\nserver: bdcs\r\n" in head.lower() + b"\r\n"


def test_a_body_that_breaks_off_leaves_nothing(collector: Collector) -> None:
    peer = Peer(collector.url)
    peer.register()
    head = f"POST {peer.path}/segments HTTP/1.1\r\nHost: a\r\nContent-Type: application/jose\r\n"
    raw(collector.url, head.encode() + b"Content-Length: 1000\r\n\r\neyJ", ends=True)
    assert request(collector.url, "GET", "/livez").status == 200
    assert collector.export() == []


def test_logs_hold_no_address(collector: Collector) -> None:
    peer = Peer(collector.url)
    peer.register()
    peer.push()
    raw(collector.url, b"nonsense\r\n\r\n")
    request(collector.url, "GET", "/v1/nothing")
    assert collector.stop() == 0
    assert collector.process is not None
    assert "127.0.0.1" not in collector.process.output.replace(collector.url, "")


def test_commands_work_beside_it(collector: Collector) -> None:
    peers = [Peer(collector.url) for _ in range(2)]
    for peer in peers:
        peer.register()
        peer.push(2)
    one = str(peers[0].machine)
    assert one in collector.bdcs("admin", "machines", "list").stdout
    assert "records     2" in collector.bdcs("admin", "machines", "show", one).stdout
    collector.bdcs("admin", "machines", "quarantine", one)
    assert peers[0].send(peers[0].signed(peers[0].payload())).slug == "quarantined"
    collector.bdcs("admin", "machines", "release", one)
    peers[0].push()
    since = collector.bdcs("export", "--since", "3").stdout.splitlines()
    assert [json.loads(line)["id"] for line in since] == [4, 5]
    collector.bdcs("admin", "machines", "forget", one)
    assert peers[0].send(peers[0].signed(peers[0].payload())).slug == "forgotten"
    assert {line["machine"] for line in collector.export()} == {str(peers[1].machine)}
    assert "no differences" in collector.bdcs("check").stdout
    refused = collector.bdcs("admin", "machines", "show", one, check=False)
    assert (refused.returncode, "registered here" in refused.stderr) == (1, True)


@pytest.mark.sqlite
def test_commands_without_a_store_say_so(tmp_path: Path) -> None:
    for command in ("export", "check"):
        done = run([*BDCS, command, "--data", tmp_path / "absent"], check=False)
        assert done.returncode == 78
        assert "no store" in done.stderr


@pytest.mark.sqlite
@pytest.mark.parametrize("command", [["export"], ["check"], ["admin", "machines", "list"], ["serve"]])
def test_a_damaged_store_is_told(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "bdcs.sqlite").write_bytes(b"no database" * 1000)
    done = run([*BDCS, *command, "--data", tmp_path], check=False)
    assert done.returncode == 1
    assert "not a database" in done.stderr
    assert "backup" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.sqlite
def test_a_directory_in_place_of_the_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "bdcs.sqlite").mkdir()
    done = run([*BDCS, "serve", "--listen", "127.0.0.1:0", "--data", tmp_path], check=False)
    assert (done.returncode, "is a directory" in done.stderr) == (78, True)


def test_an_export_of_impossible_values_says_so(collector: Collector) -> None:
    peer = Peer(collector.url)
    peer.register()
    peer.push(2)
    with store_of(collector.data) as store:
        store.exec_driver_sql("UPDATE package_state_changes SET recorded_at = 1000000000000000 WHERE id = 2")
    done = collector.bdcs("export", check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert "change 2 in the table is no record" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_check_reads_what_it_need_not_rebuild(collector: Collector) -> None:
    """A payload with blanks is kept whole, so that nothing in it follows from the row."""
    peer = Peer(collector.url)
    peer.register()
    peer.push()
    peer.push()
    with store_of(collector.data) as store:
        store.exec_driver_sql("UPDATE audiences SET url = 'https://elsewhere.example'")
        store.exec_driver_sql("DELETE FROM segments WHERE first_seq = 1")
    done = collector.bdcs("check", check=False)
    assert done.returncode == 1
    assert "names another collector" in done.stdout
    assert "does not continue the one before" in done.stdout


@pytest.mark.parametrize("since", ["x", "-5", "1e3", "99999999999999999999"])
def test_an_export_begins_after_a_number(tmp_path: Path, since: str) -> None:
    done = run([*BDCS, "export", f"--since={since}", "--data", tmp_path], check=False)
    assert (done.returncode, "no `id` of a record" in done.stderr) == (2, True)


def test_a_reader_that_has_gone_is_no_error(collector: Collector) -> None:
    peer = Peer(collector.url)
    peer.register()
    for _ in range(3):
        peer.push(1000)
    command = shlex.join([*map(str, BDCS), "export", "--data", str(collector.data)])
    done = run(["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"], check=False)
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (141, 1, "")


def test_a_client_that_goes_away_is_no_error_of_ours(collector: Collector) -> None:
    peer = Peer(collector.url)
    peer.register()
    host, _, port = collector.url.removeprefix("http://").partition(":")
    for ending in (b"abc", b""):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                f"POST {peer.path}/segments HTTP/1.1\r\nHost: x\r\nContent-Type: application/jose\r\n"
                "Content-Length: 10\r\n\r\n".encode()
                + ending
            )
    until(lambda: 'status="400"' in request(collector.url, "GET", "/metrics").body.decode())
    assert collector.process is not None
    assert "internal error" not in collector.process.output


def test_an_encrypted_key_is_not_asked_for(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "key.pem").write_bytes(key)
    trustme.CA().issue_cert("collector.example").cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    config = tmp_path / "bdcs.toml"
    config.write_text(f'tls_certificate = "{tmp_path / "chain.pem"}"\ntls_key = "{tmp_path / "key.pem"}"\n')
    done = run([*BDCS, "serve", "--config", config, "--data", tmp_path / "data"], check=False)
    assert (done.returncode, "is encrypted" in done.stderr) == (78, True)


def test_it_can_be_upgraded_before_it_serves(tmp_path: Path) -> None:
    done = run([*BDCS, "schema", "upgrade", "--data", tmp_path / "data"])
    assert f"→ {HEAD}" in done.stdout
    assert "nothing to do" in run([*BDCS, "schema", "upgrade", "--data", tmp_path / "data"]).stdout


def test_it_takes_as_many_files_as_it_may_and_says_where_these_are_few(tmp_path: Path) -> None:
    limited = ("prlimit", "--nofile=300:700", *BDCS)
    with Collector(tmp_path, command=limited) as collector:
        assert collector.process is not None
        assert resource.prlimit(collector.process.pid, resource.RLIMIT_NOFILE) == (700, 700)
        assert "at most 700 files may be open" in collector.process.output


def test_an_address_that_is_taken_is_told(collector: Collector, tmp_path: Path) -> None:
    listen = collector.url.removeprefix("http://")
    done = run([*BDCS, "serve", "--listen", listen, "--data", tmp_path / "other"], check=False)
    assert done.returncode == 1
    assert "in use" in done.stderr


def test_approval_can_be_required(tmp_path: Path) -> None:
    config = tmp_path / "bdcs.toml"
    config.write_text('approval = "required"\n')
    with Collector(tmp_path, options=["--config", str(config)]) as collector:
        peer = Peer(collector.url)
        answer = peer.authorized("POST", "/v1/machines", peer.registration())
        assert (answer.status, answer.document["state"]) == (202, "awaiting-approval")
        assert peer.send(peer.signed(peer.payload())).slug == "awaiting-approval"
        collector.bdcs("admin", "machines", "approve", str(peer.machine))
        peer.push()


def test_a_network_may_register_only_so_many(tmp_path: Path) -> None:
    config = tmp_path / "bdcs.toml"
    config.write_text("registrations_per_network = 2\n")
    with Collector(tmp_path, options=["--config", str(config)]) as collector:
        known = [Peer(collector.url) for _ in range(2)]
        for peer in known:
            peer.register()
        late = Peer(collector.url)
        answer = late.authorized("POST", "/v1/machines", late.registration())
        assert answer.slug == "too-many-requests"
        assert int(answer.headers["Retry-After"]) > 0
        # Who is known is not counted.
        assert known[0].authorized("POST", "/v1/machines", known[0].registration()).status == 200


def test_it_serves_https(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(certificate, append=True)
    config = tmp_path / "bdcs.toml"
    config.write_text(f'tls_certificate = "{certificate}"\ntls_key = "{key}"\n')
    context = ssl.create_default_context()
    authority.configure_trust(context)
    command: list[str | Path] = [
        *BDCS,
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        tmp_path / "data",
        "--config",
        config,
    ]
    with Process(command, log=tmp_path / "log") as process:
        url = process.until_printed(r"listening on (https://\S+)")[1]
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        with opener.open(f"{url}/livez", timeout=30) as answer:
            assert answer.read() == b"ok\n"
        assert process.stop() == 0


def test_what_is_under_way_is_finished_before_it_stops(collector: Collector) -> None:
    peers = [Peer(collector.url) for _ in range(4)]
    for peer in peers:
        peer.register()
    answered: list[int] = []
    stopping = threading.Event()

    def push_on(peer: Peer) -> None:
        while not stopping.is_set():
            try:
                answer = peer.send(peer.signed(peer.payload()))
            except (OSError, urllib.error.URLError):  # it listens no more
                return
            if answer.status != 200:
                return
            peer.seq, peer.prev = answer.document["head"]["seq"], answer.document["head"]["segment"]
            answered.append(1)

    with concurrent.futures.ThreadPoolExecutor(len(peers)) as pool:
        pushing = [pool.submit(push_on, peer) for peer in peers]
        until(lambda: len(answered) > 20)
        assert collector.stop() == 0
        stopping.set()
        for future in pushing:
            future.result(timeout=30)
    assert len(collector.export()) == len(answered)
    assert "no differences" in collector.bdcs("check").stdout


@pytest.mark.parametrize("number", range(5))
def test_what_was_answered_survives_a_kill(collector: Collector, number: int) -> None:
    peers = [Peer(collector.url) for _ in range(6)]
    for peer in peers:
        peer.register()
    answered = {str(peer.machine): 0 for peer in peers}

    def push_on(peer: Peer) -> None:
        while True:
            try:
                answer = peer.send(peer.signed(peer.payload(2)))
            except OSError:
                return
            assert answer.status == 200, answer
            head = answer.document["head"]
            peer.seq, peer.prev = head["seq"], head["segment"]
            answered[str(peer.machine)] = peer.seq

    with concurrent.futures.ThreadPoolExecutor(len(peers)) as pool:
        pushing = [pool.submit(push_on, peer) for peer in peers]
        until(lambda: sum(answered.values()) > 40 + 10 * number)
        collector.kill()
        for future in pushing:
            future.exception(timeout=30)
    collector.start()
    stored = collector.export()
    for machine, seq in answered.items():
        seqs = [record["seq"] for record in stored if record["machine"] == machine]
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) >= seq
    assert "no differences" in collector.bdcs("check").stdout


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A tmpfs of its own is filled up while records come; the test needs root, to mount it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=True)
    try:
        with Collector(disk) as collector:
            peer = Peer(collector.url)
            peer.register()
            peer.push(10)
            filler = disk / "filler"
            fill(filler)
            refused = until(lambda: refusal(peer))
            assert refused == 503
            assert len(collector.export()) == peer.seq
            filler.unlink()
            peer.push(10)
            assert len(collector.export()) == peer.seq
            assert "no differences" in collector.bdcs("check").stdout
            assert collector.stop() == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as opened:
        for size in (65536, 4096, 1):
            try:
                while opened.write(b"\0" * size):
                    pass
            except OSError:
                continue


def refusal(peer: Peer) -> int | None:
    """Push once more; return the status if it was refused, after seeing that it says when to come back."""
    answer = peer.send(peer.signed(peer.payload(200)))
    if answer.status == 200:
        head = answer.document["head"]
        peer.seq, peer.prev = head["seq"], head["segment"]
        return None
    assert answer.document["type"] == "urn:gentwoo:problem:unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    return answer.status


def test_what_nobody_waits_for_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    """Such as statistics of millions of records; here a signer that takes the question, and is silent."""
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as signer:
        signer.bind(str(directory / "signer"))
        signer.listen()
        signer.settimeout(60)
        settings = tmp_path / "bdcs.toml"
        settings.write_text(f'signer = "{directory / "signer"}"\n')
        with Collector(tmp_path, command=(*BDCS, "--config", settings)) as collector:
            asked, _ = signer.accept()
            with asked:
                Peer(collector.url).register()
                assert collector.stop() == 0
            assert collector.process is not None
            assert "in the middle of work" in collector.process.output
        with collector:
            assert collector.bdcs("admin", "machines", "list").stdout.strip()


def test_an_error_is_told_even_if_a_thread_does_not_end() -> None:
    script = (
        "import asyncio, time\n"
        "from bdcs.errors import ConfigurationError\n"
        "from bdcs.server import running\n"
        "async def work():\n"
        "    raise ConfigurationError('somebody is in the way')\n"
        "async def serve():\n"
        "    working = asyncio.create_task(work())\n"
        "    await asyncio.wait({working})\n"
        "    running._end_within(0, working)\n"
        "    time.sleep(600)\n"
        "asyncio.run(serve())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_CONFIGURATION
    assert "somebody is in the way" in done.stderr


def test_an_interrupt_stops_it_as_well(collector: Collector) -> None:
    assert collector.process is not None
    os.kill(collector.process.pid, signal.SIGINT)
    assert collector.process.wait() == 0
