# SPDX-License-Identifier: GPL-2.0-or-later
"""What other programs say of our manuals, completions, scripts, units and metadata. The root has them all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.container import Container
from tests.packaging.layers import Layers

pytestmark = [pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def container(installed: Layers, work: Path) -> Iterator[Container]:
    """A root with our packages merged, and their source below /srv/gentwoo.git."""
    with Container(installed.above(work / "lint")) as container:
        yield container


@pytest.mark.parametrize(
    "command",
    [
        "mandoc -Tlint -Wstyle man/*",
        "for page in man/*; do groff -man -Tutf8 -ww -z $page; done 2>&1",
        "for file in completions/_*; do zsh -n $file; done",
        "for file in completions/*.fish; do fish --no-execute $file; done",
        "for file in completions/*.bash; do bash -n $file; done",
        "shellcheck -s sh -e SC2034,SC2154 openrc/*.initd",
        "for file in openrc/*.confd; do sh -n $file; done",
        "for file in $(find ebuild -name '*.ebuild'); do bash -n $file; done",
        "xmllint --noout --nonet $(find ebuild -name metadata.xml)",
        "systemd-analyze verify --man=no /usr/lib/systemd/system/gentwoo*.service",
        "systemd-analyze verify --man=no /usr/lib/systemd/system/bdcs*.service",
        "systemd-analyze verify --man=no /usr/lib/systemd/system/gentwoo-push.timer",
        "systemd-analyze calendar --iterations=1 hourly > /dev/null",
        "systemd-tmpfiles --create --dry-run $PWD/systemd/*.tmpfiles 2>&1 | sed /^Would/d",
        "systemd-sysusers --dry-run $PWD/systemd/*.sysusers 2>&1 | sed /^Would/d",
    ],
)
def test_nothing_to_say(container: Container, command: str) -> None:
    assert container.shell(f"cd /srv/gentwoo.git\n{command}").output == ""


@pytest.mark.parametrize(
    ("service", "most"),
    [("gentwoo", 15), ("gentwoo-push", 15), ("bdcs", 20), ("bdcs-signer", 20), ("bdcs-builder", 60)],
)
def test_exposure(container: Container, service: str, most: int) -> None:
    """In tenths. The builder is root and makes mounts and namespaces; its unit says why."""
    unit = f"/usr/lib/systemd/system/{service}.service"
    container.run("systemd-analyze", "security", "--offline=true", f"--threshold={most}", unit)
