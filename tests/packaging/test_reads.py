# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon reads as OpenRC's service: strace sees each file that it, or its child, opens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import COLLECTOR
from tests.packaging.container import Container
from tests.packaging.layers import Layers
from tests.packaging.traces import STRACE, Traces
from tests.waiting import until

pytestmark = [pytest.mark.timeout(1500)]

WRAPPER = f"""\
#!/bin/sh
[ "$*" = daemon ] || exec /usr/bin/gentwoo-itself "$@"
exec {STRACE} /tmp/traces/gentwoo /usr/bin/gentwoo-itself "$@"
"""


@pytest.fixture(scope="module")
def container(installed: Layers, work: Path) -> Iterator[Container]:
    """A machine whose service is started by its script, but with strace."""
    with Container(installed.above(work / "reads")) as container:
        container.begin_openrc()
        container.run("rc-service", "bdcs", "start")
        log = container.path("/var/log/messages")
        until(lambda: "listening on" in log.read_text(errors="replace"), what="the collector")
        container.run("gentwoo", "register", "--non-interactive", "--collector", COLLECTOR)
        container.run("mv", "/usr/bin/gentwoo", "/usr/bin/gentwoo-itself")
        wrapper = container.path("/usr/bin/gentwoo")
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)
        container.run("install", "-d", "-o", "gentwoo", "-m", "700", "/tmp/traces")
        yield container


@pytest.fixture(scope="module")
def traces(container: Container) -> Traces:
    """From its start to its end; in between a merge was recorded and sent."""

    def sent() -> int:
        return len(container.run("runuser", "-u", "bdcs", "--", "bdcs", "export").output.splitlines())

    container.run("rc-service", "gentwoo", "start")
    before = until(sent, what="the past at the collector")
    container.run("emerge", "--oneshot", "acct-group/portage")
    until(lambda: sent() > before, what="the merge at the collector")
    container.run("rc-service", "gentwoo", "stop")
    until(lambda: container.run("pgrep", "strace", check=False).code == 1, what="the end of all processes")
    return Traces.read(container.path("/tmp/traces"))


def test_it_was_seen_reading_the_log_and_the_package_database(traces: Traces) -> None:
    assert {
        "/var/log/emerge.log",
        "/etc/gentwoo/gentwoo.toml",
        "/var/lib/gentwoo/machine.key",
    } <= traces.opened


def test_the_daemon_opens_nothing_else(traces: Traces) -> None:
    assert traces.unexpected() == []
    assert traces.denied == ()


def test_it_runs_nothing_but_itself(traces: Traces) -> None:
    """And `ldconfig -p`, by which Python's ctypes finds the C library for pyinotify."""
    assert {Path(program).name for program in traces.executed} <= {"gentwoo-itself", "python3", "ldconfig"}
