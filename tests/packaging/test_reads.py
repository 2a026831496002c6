# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon reads: every file that strace saw it open is one that it may read (docs/privacy.md).

Traced is the whole of it, the child that signs and sends included, while a merge is recorded and sent.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import COLLECTOR, copied
from tests.packaging.container import Container
from tests.waiting import until

pytestmark = [pytest.mark.timeout(600)]

OPENED = re.compile(r'(?:open|openat|openat2)\((?:AT_FDCWD|\d+[^,]*), "([^"]*)", ([^)]*)\) = \d')
OURS = (
    r"/etc/gentwoo/gentwoo\.toml",
    r"/var/lib/gentwoo(/.*)?",
    r"/var/log/?",
    r"/var/log/emerge\.log[^/]*",
    r"/var/db/pkg/[^/]+/[^/]+/repository",
    r"/var/db/pkg(/[^/]+)?/?",
    r"/var/db/repos/[^/]+/profiles/repo_name",
    r"/var/db/repos/gentwoo/ebuild/profiles/repo_name",
    r"/etc/portage/repos\.conf(/[^/]*)?",
    r"/usr/share/portage/config/repos\.conf",
)
RUNTIME = (
    r"/usr/(?!share/portage|src|local/portage).*",
    r"/(lib|lib64|bin|sbin)/.*",
    r"/etc/(ld\.so\.cache|localtime|hosts|host\.conf|resolv\.conf|nsswitch\.conf|gai\.conf|passwd|group|services)",
    r"/etc/(ssl|python3[^/]*|ca-certificates[^/]*)(/.*)?",
    r"/dev/(null|urandom|random)",
    r"/proc/(self|\d+)/.*",
    r"/proc/(stat|cpuinfo|meminfo|sys/.*|filesystems)",
    r"/sys/(devices/system/cpu|fs/cgroup)(/.*)?",
    r"/tmp(/.*)?",
    r"/",
)


@pytest.fixture(scope="module")
def container(installed: Path, work: Path) -> Iterator[Container]:
    with Container(copied(installed, work / "reads")) as container:
        container.shell("runuser -u bdcs -- bdcs serve > /var/log/bdcs.log 2>&1 &")
        log = container.path("/var/log/bdcs.log")
        until(lambda: "listening on" in log.read_text(), 60, what="the collector")
        container.run("gentwoo", "register", "--non-interactive", "--collector", COLLECTOR)
        yield container


def test_the_daemon_opens_nothing_else(container: Container) -> None:
    strace = "strace -f -qq -s 4096 -e trace=open,openat,openat2 -o /tmp/trace"
    container.shell(f"runuser -u gentwoo -- {strace} gentwoo daemon > /var/log/daemon.log 2>&1 &")

    def sent() -> int:
        return len(container.run("runuser", "-u", "bdcs", "--", "bdcs", "export").output.splitlines())

    before = until(sent, 120, what="the past at the collector")
    container.run("emerge", "--oneshot", "acct-group/portage")
    until(lambda: sent() > before, 120, what="the merge at the collector")
    container.run("pkill", "-TERM", "-f", "^/usr/bin/python3.* /usr/bin/gentwoo daemon")
    until(lambda: container.run("pgrep", "strace", check=False).code == 1, 60, what="its end")
    trace = container.path("/tmp/trace")

    opened = {path for path, _ in OPENED.findall(trace.read_text())}
    opened = {path for path in opened if path.startswith("/")}
    allowed = re.compile("|".join((*OURS, *RUNTIME)))
    assert "/var/log/emerge.log" in opened
    assert sorted(path for path in opened if not allowed.fullmatch(path)) == []
