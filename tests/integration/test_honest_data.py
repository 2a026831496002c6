# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may take part, and how much one network may send, at a real collector; and a daemon that waits."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.faults import Site
from tests.integration.test_daemon import merge
from tests.peer import Peer
from tests.processes import Collector
from tests.waiting import until


def collector(home: Path, *settings: str) -> Collector:
    """A collector with these lines in its configuration."""
    home.mkdir(parents=True, exist_ok=True)
    config = home / "bdcs.toml"
    config.write_text("".join(f"{line}\n" for line in settings))
    return Collector(home, options=("--config", str(config)))


def test_a_closed_collector_takes_no_new_machine_and_keeps_the_old(tmp_path: Path) -> None:
    with collector(tmp_path) as site:
        known = Peer(site.url)
        assert known.register().status == 201
        site.stop()
        (tmp_path / "bdcs.toml").write_text('approval = "closed"\n')
        site.start()
        assert known.register().status == 200
        known.push()
        late = Peer(site.url)
        answer = late.register()
        assert (answer.status, answer.slug) == (403, "registration-closed")
        assert late.send(late.signed(late.payload())).slug == "unregistered"


def test_a_refused_machine_is_told_so(tmp_path: Path) -> None:
    with collector(tmp_path, 'approval = "required"') as site:
        peers = [Peer(site.url) for _ in range(2)]
        for peer in peers:
            assert peer.register().status == 202
        refused, waiting = peers
        site.bdcs("admin", "machines", "refuse", str(refused.machine))
        listed = site.bdcs("admin", "machines", "list", "--state", "awaiting-approval").stdout
        assert str(waiting.machine) in listed
        assert str(refused.machine) not in listed
        assert refused.send(refused.signed(refused.payload())).slug == "refused"
        assert refused.register().document["state"] == "refused"
        site.bdcs("admin", "machines", "approve", str(refused.machine))
        refused.push()


def test_records_of_a_network_are_limited_and_nothing_is_lost(tmp_path: Path) -> None:
    """Behind a proxy; another network, and this host itself, go on."""
    with collector(tmp_path, "records_per_network = 3", 'trusted_proxies = ["127.0.0.1/32"]') as site:
        peers = [Peer(site.url) for _ in range(3)]
        for peer in peers:
            peer.register()
        one, neighbour, other = peers
        here, near, far = "203.0.113.5", "203.0.113.250", "198.51.100.1"
        compact = one.signed(one.payload(3))
        assert one.send(compact, X_Forwarded_For=here).status == 200
        answer = neighbour.send(neighbour.signed(neighbour.payload()), X_Forwarded_For=near)
        assert (answer.status, answer.slug) == (429, "too-many-requests")
        assert answer.document["limit"] == "records_per_network"
        assert 0 < int(answer.headers["Retry-After"]) <= 86_401
        assert other.send(other.signed(other.payload()), X_Forwarded_For=far).status == 200
        neighbour.push()
        assert "203.0.113" not in "".join(map(str, site.export()))


def test_a_daemon_waits_for_approval_and_sends_then(tmp_path: Path) -> None:
    with Site.create(tmp_path) as site:
        config = tmp_path / "bdcs.toml"
        config.write_text(config.read_text() + 'approval = "required"\n')
        site.start_collector()
        registered = site.machine.gentwoo("register", "--non-interactive").stdout
        assert "waits for approval" in registered
        site.start_daemon()
        assert site.daemon
        daemon = site.daemon
        site.log.append(merge(1))
        until(lambda: "waiting for approval" in daemon.output)
        assert daemon.is_running()
        done = site.machine.gentwoo("status", check=False)
        assert "awaiting-approval" in done.stdout
        (machine,) = [
            line.split()[0] for line in site.collector.bdcs("admin", "machines", "list").stdout.splitlines()
        ]
        site.collector.bdcs("admin", "machines", "approve", machine)
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: [record["version"] for record in site.collector.export()] == ["1"])
        assert daemon.is_running()
