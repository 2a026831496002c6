# SPDX-License-Identifier: GPL-2.0-or-later
"""What real emerge makes of our ebuilds: users, files, owners, registration, and what stays behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import COLLECTOR
from tests.packaging.container import Container
from tests.packaging.layers import Layers
from tests.waiting import until

pytestmark = [pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def container(installed: Layers, work: Path) -> Iterator[Container]:
    """A copy of the root in which packages come and go, with a collector that is no service."""
    with Container(installed.above(work / "emerge")) as container:
        container.shell("runuser -u bdcs -- bdcs serve > /var/log/bdcs.log 2>&1 &")
        log = container.path("/var/log/bdcs.log")
        until(lambda: "listening on" in log.read_text(), what="the collector")
        yield container


def facts(container: Container, path: str) -> str:
    return container.run("stat", "-c", "%U:%G %a", path).output.strip()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/lib/gentwoo", "gentwoo:gentwoo 700"),
        ("/var/lib/bdcs", "bdcs:bdcs 700"),
        ("/var/lib/bdcs-signer", "bdcs-signer:bdcs-signer 700"),
        ("/etc/gentwoo/gentwoo.toml", "root:root 644"),
        ("/etc/bdcs/bdcs.toml", "root:root 644"),
        ("/etc/init.d/gentwoo", "root:root 755"),
        ("/etc/init.d/bdcs-builder", "root:root 755"),
        ("/etc/conf.d/bdcs-signer", "root:root 644"),
        ("/usr/lib/systemd/system/gentwoo.service", "root:root 644"),
        ("/usr/lib/systemd/system/gentwoo-push.timer", "root:root 644"),
        ("/usr/lib/systemd/system/bdcs.service", "root:root 644"),
        ("/usr/lib/tmpfiles.d/gentwoo.conf", "root:root 644"),
        ("/usr/share/bash-completion/completions/gentwoo", "root:root 644"),
        ("/usr/share/zsh/site-functions/_bdcs", "root:root 644"),
        ("/usr/share/fish/vendor_completions.d/gentwoo.fish", "root:root 644"),
        ("/run/bdcs-signer", "bdcs-signer:bdcs-signer 755"),
    ],
)
def test_files_and_owners(container: Container, path: str, expected: str) -> None:
    if path.startswith("/run/"):
        container.run("systemd-tmpfiles", "--create", "bdcs.conf")  # as at boot: /run is new
    assert facts(container, path) == expected


def test_users_and_groups(container: Container) -> None:
    assert container.run("id", "-nG", "gentwoo").output.split() == ["gentwoo", "portage"]
    assert container.run("id", "-nG", "bdcs").output.split() == ["bdcs"]
    assert container.run("id", "-nG", "bdcs-builder").output.split() == ["bdcs-builder", "portage"]
    assert "/sbin/nologin" in container.run("getent", "passwd", "gentwoo").output


def test_manuals_are_found(container: Container) -> None:
    found = container.shell(
        "find /usr/share/man -name 'gentwoo*' -o -name 'bdcs*' | sed 's,.*/,,' | sort"
    ).output
    names = [name.partition(".")[0] + "." + name.split(".")[-2] for name in found.split()]
    assert sorted(names) == ["bdcs-builder.8", "bdcs.5", "bdcs.8", "gentwoo.1", "gentwoo.5"]


def test_no_file_belongs_to_both_packages(container: Container) -> None:
    contents = container.path("/var/db/pkg/app-portage").glob("*/CONTENTS")
    owned = [
        {line.split()[1] for line in path.read_text().splitlines() if line.startswith("obj ")}
        for path in contents
    ]
    assert len(owned) == 2
    assert all(len(files) > 50 for files in owned)
    assert not owned[0] & owned[1]


def test_pyinotify_of_the_overlay_works_without_asyncore(container: Container) -> None:
    script = "import sys; sys.modules['asyncore'] = None; import pyinotify; pyinotify.WatchManager()"
    container.run("python3", "-W", "ignore", "-c", script)


def test_registration_is_configured_by_portage_and_may_be_repeated(container: Container) -> None:
    refused = container.run("emerge", "--config", "app-portage/gentwoo", check=False)
    assert refused.code == 1
    assert 'collector = "https://bdcs.example.org"' in refused.output
    assert "GENTWOO_COLLECTOR=" in refused.output

    make_conf = container.path("/etc/portage/make.conf")
    make_conf.write_text(f'{make_conf.read_text()}GENTWOO_COLLECTOR="{COLLECTOR}"\n')
    first = container.run("emerge", "--config", "gentwoo")
    assert f"Registered with {COLLECTOR}" in first.output
    key = container.path("/var/lib/gentwoo/machine.key")
    assert facts(container, "/var/lib/gentwoo/machine.key") == "gentwoo:gentwoo 600"
    before = key.read_bytes()

    again = container.run("emerge", "--config", "gentwoo")
    assert "Already registered" in again.output
    assert key.read_bytes() == before
    assert container.run("gentwoo", "push").code == 0


def test_each_use_flag_needs_its_library(container: Container) -> None:
    """What would be merged; that AMQP's libraries can be merged is not tried."""
    plan = container.shell(
        'ACCEPT_KEYWORDS="~amd64" USE="amqp postgres s3" emerge --pretend app-portage/bdcs'
    ).output
    for package in ("dev-python/aio-pika", "dev-python/aiormq", "dev-python/pamqp"):
        assert f"{package}-" in plan
    assert 'USE="amqp' in plan


def test_the_live_ebuilds_replace_the_release_and_keep_what_there_is(container: Container) -> None:
    key = container.path("/var/lib/gentwoo/machine.key").read_bytes()
    make_conf = container.path("/etc/portage/make.conf")
    make_conf.write_text(f'{make_conf.read_text()}EGIT_OVERRIDE_REPO_GENTWOO="/srv/gentwoo.git"\n')
    container.shell('ACCEPT_KEYWORDS="**" emerge =app-portage/gentwoo-9999 =app-portage/bdcs-9999')
    merged = {path.name for path in container.path("/var/db/pkg/app-portage").iterdir()}
    assert merged == {"gentwoo-9999", "bdcs-9999"}
    assert container.path("/var/lib/gentwoo/machine.key").read_bytes() == key
    assert container.run("gentwoo", "push").code == 0
    assert (
        "no differences"
        in container.run("runuser", "-u", "bdcs", "--", "bdcs", "check", "--only", "records").output
    )


def test_unmerging_leaves_key_and_journal(container: Container) -> None:
    key = container.path("/var/lib/gentwoo/machine.key").read_bytes()
    container.run("emerge", "--unmerge", "app-portage/bdcs", "app-portage/gentwoo")
    assert container.run("which", "gentwoo", check=False).code == 1
    assert container.path("/var/lib/gentwoo/machine.key").read_bytes() == key
    assert facts(container, "/var/lib/gentwoo/journal.sqlite") == "gentwoo:gentwoo 600"
