# SPDX-License-Identifier: GPL-2.0-or-later
"""Our scripts under real OpenRC: the quickstart's last two commands, and what goes wrong afterwards."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.conftest import COLLECTOR, quickstart
from tests.packaging.container import Container
from tests.packaging.layers import Layers
from tests.waiting import until

pytestmark = [pytest.mark.timeout(1500)]

STOPPED = 3


@pytest.fixture(scope="module")
def container(installed: Layers, work: Path) -> Iterator[Container]:
    """The machine of the quickstart, and a collector that is a service of the same machine."""
    with Container(installed.above(work / "openrc")) as container:
        container.begin_openrc()
        container.run("rc-service", "bdcs", "start")
        until(lambda: "listening on" in messages(container), what="the collector in syslog")
        container.shell(quickstart(4), typed=f"{COLLECTOR}\nall\n")
        container.shell(quickstart(5))
        yield container


def messages(container: Container) -> str:
    return container.path("/var/log/messages").read_text(errors="replace")


def status(container: Container, service: str) -> int:
    return container.run("rc-service", service, "status", check=False).code


def pids(container: Container, pattern: str) -> list[int]:
    """Processes whose command line fits, without those that supervise."""
    return [int(pid) for pid in container.run("pgrep", "-f", pattern, check=False).output.split()]


def daemon(container: Container) -> int:
    """The client's daemon, as soon as there is one that a signal would not end before it can handle it."""
    return until(lambda: _daemon(container), what="a daemon that takes signals")


def _daemon(container: Container) -> int:
    # What it has just forked looks like itself until it has become `gentwoo push`.
    found = sorted(pids(container, "^/usr/bin/python3.* /usr/bin/gentwoo daemon"))
    if not found:
        return 0
    try:
        lines = container.path(f"/proc/{found[0]}/status").read_text()
    except OSError:
        return 0
    (caught,) = re.findall(r"^SigCgt:\s+(\w+)", lines, re.MULTILINE)
    return found[0] if int(caught, 16) & 1 << signal.SIGHUP - 1 else 0


def records(container: Container) -> list[dict[str, Any]]:
    output = container.run("runuser", "-u", "bdcs", "--", "bdcs", "export").output
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def edit(container: Container, name: str, text: str) -> None:
    container.path(name).write_text(text)


def test_registered_by_typing_and_running(container: Container) -> None:
    assert status(container, "gentwoo") == 0
    pid = daemon(container)
    lines = container.path(f"/proc/{pid}/status").read_text()
    (uid,) = re.findall(r"^Uid:\s+(\d+)", lines, re.MULTILINE)
    assert container.run("id", "-u", "gentwoo").output.strip() == uid
    (groups,) = re.findall(r"^Groups:\s+(.*)$", lines, re.MULTILINE)
    assert "250" in groups.split()
    assert "NoNewPrivs:\t1" in lines
    assert "CapEff:\t0000000000000000" in lines
    assert "gentwoo" in container.run("rc-update", "show", "default").output


def test_a_merge_arrives_as_a_record(container: Container) -> None:
    """What came from our overlay stays here: by default only Gentoo's own repositories are reported."""
    until(lambda: records(container), what="the past")
    container.run("emerge", "--oneshot", "acct-group/portage")
    live = until(
        lambda: [record for record in records(container) if record["observed"] == "live"],
        what="the merge at the collector",
    )
    assert {(record["category"], record["name"], record["event"]) for record in live} <= {
        ("acct-group", "portage", "install"),
        ("acct-group", "portage", "uninstall"),
    }
    assert {record["repository"] for record in records(container)} == {"gentoo"}


def test_a_killed_daemon_is_started_again(container: Container) -> None:
    before = daemon(container)
    container.signal(before, signal.SIGKILL)
    until(lambda: daemon(container) != before, what="another daemon")
    assert status(container, "gentwoo") == 0


def test_reload_reads_the_configuration_again(container: Container) -> None:
    before = daemon(container)
    edit(container, "/etc/gentwoo/gentwoo.toml", 'log_level = "debug"\n')
    container.run("rc-service", "gentwoo", "reload")
    until(lambda: "the configuration was read again" in messages(container), what="the reload in syslog")
    assert daemon(container) == before


def test_a_bad_configuration_is_refused_and_the_daemon_goes_on(container: Container) -> None:
    before = daemon(container)
    edit(container, "/etc/gentwoo/gentwoo.toml", 'colector = "http://127.0.0.1:8642"\n')
    for action in ("checkconfig", "reload", "restart"):
        refused = container.run("rc-service", "gentwoo", action, check=False)
        assert refused.code != 0, action
        assert "did you mean collector?" in refused.output
    assert daemon(container) == before
    edit(container, "/etc/gentwoo/gentwoo.toml", "")
    container.run("rc-service", "gentwoo", "checkconfig")


def test_another_collector_than_the_registered_one_is_refused(container: Container) -> None:
    """It would end with 78 at once."""
    edit(container, "/etc/gentwoo/gentwoo.toml", 'collector = "https://elsewhere.example.org"\n')
    refused = container.run("rc-service", "gentwoo", "checkconfig", check=False)
    assert refused.code != 0
    assert "gentwoo register --renew" in refused.output
    edit(container, "/etc/gentwoo/gentwoo.toml", "")


def test_stop_and_start(container: Container) -> None:
    container.run("rc-service", "gentwoo", "stop")
    assert status(container, "gentwoo") == STOPPED
    assert pids(container, "/usr/bin/gentwoo daemon") == []
    container.run("rc-service", "gentwoo", "start")
    daemon(container)


def test_a_deaf_daemon_is_stopped_all_the_same(container: Container) -> None:
    edit(container, "/etc/conf.d/gentwoo", 'GENTWOO_RETRY="TERM/1/KILL/20"\n')
    container.run("rc-service", "gentwoo", "restart")
    container.signal(daemon(container), signal.SIGSTOP)
    container.run("rc-service", "gentwoo", "stop")
    assert pids(container, "/usr/bin/gentwoo daemon") == []
    container.run("rc-service", "gentwoo", "start")


def test_collector_signer_and_builder(container: Container) -> None:
    for action in ("checkconfig", "status", "restart"):
        container.run("rc-service", "bdcs", action)
    container.run("bdcs", "admin", "keys", "create", "--name", "Test key", "--email", "test@example.org")
    container.run("rc-service", "bdcs-signer", "start")
    socket = container.path("/run/bdcs-signer/socket")
    until(socket.exists, what="the signer's socket")
    assert status(container, "bdcs-signer") == 0
    container.run("rc-service", "bdcs-signer", "stop")
    assert status(container, "bdcs-signer") == STOPPED

    refused = container.run("rc-service", "bdcs-builder", "start", check=False)
    assert refused.code != 0, "it knows no collector"
    edit(container, "/etc/bdcs/bdcs.toml", "listen = 3\n")
    refused = container.run("rc-service", "bdcs", "restart", check=False)
    assert refused.code != 0
    assert status(container, "bdcs") == 0, "what cannot start again is not stopped"
    edit(container, "/etc/bdcs/bdcs.toml", "")
    container.run("rc-service", "bdcs", "stop")
    assert status(container, "bdcs") == STOPPED
