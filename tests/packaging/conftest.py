# SPDX-License-Identifier: GPL-2.0-or-later
"""Real emerge, OpenRC and systemd: `make test-packaging` says first what of it this machine can do.

It hands the abilities over in GENTWOO_PACKAGING. Tests that need another one are not collected, and in
`make test` none is.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.dist import build_tree, manifest_line
from dev.gentoo_root import base_root, remove
from dev.places import PACKAGING, ROOT
from tests.house.sources import committed
from tests.packaging import stub_repository
from tests.packaging.container import Container
from tests.packaging.layers import Layers

NEEDS = {
    "test_manifests.py": "history",
    "test_overlay.py": "pkgcheck",
    "test_lint.py": "root",
    "test_emerge.py": "root",
    "test_openrc.py": "root",
    "test_reads.py": "traces",
    "test_systemd.py": "nspawn",
}
ABILITIES = os.environ.get("GENTWOO_PACKAGING", "").split()
collect_ignore = [name for name, ability in NEEDS.items() if ability not in ABILITIES]

EPOCH = 1_700_000_000
FEATURES = (
    "-sandbox -usersandbox -userpriv -userfetch -usersync -network-sandbox -ipc-sandbox -pid-sandbox"
    " -mount-sandbox -news -merge-wait -merge-sync -preserve-libs -protect-owned -xattr nostrip"
)
COLLECTOR = "http://127.0.0.1:8642"


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A directory on the disk that the roots are on; it is removed at the end."""
    directory = PACKAGING / f"work-{os.getpid()}"
    directory.mkdir()
    yield directory
    remove(directory)


@pytest.fixture(scope="session")
def tree(work: Path) -> Path:
    """What is committed, or would be: the source of everything that is merged."""
    directory = work / "tree"
    for path in committed():
        target = directory / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return directory


def _furnish(container: Container, tree: Path) -> None:
    """Give a root the stand-in for Gentoo's repository, and what mirrors and our site have."""
    root = container.path("/")
    stub_repository.make(root / "var/db/repos/gentoo")
    portage = root / "etc/portage"
    stub_repository.put(
        portage / "repos.conf/gentoo-main.conf",
        "[DEFAULT]\nmain-repo = gentoo\n\n[gentoo]\nlocation = /var/db/repos/gentoo\nauto-sync = no\n",
    )
    stub_repository.put(
        portage / "make.conf",
        f'FEATURES="{FEATURES}"\nCLEAN_DELAY=0\nGENTOO_MIRRORS=""\nFETCHCOMMAND="false"\n',
    )
    provided = [name for name in stub_repository.PACKAGES if not name.startswith("acct-")]
    stub_repository.put(portage / "profile/package.provided", "".join(f"{name}-1\n" for name in provided))
    (portage / "make.profile").symlink_to("/var/db/repos/gentoo/profiles/default")
    source, _ = build_tree(tree, EPOCH, root / "var/cache/distfiles")
    _publish(container, tree, manifest_line(source))


def _publish(container: Container, tree: Path, manifest: str) -> None:
    """Put the repository where `git clone https://example.org/gentwoo.git` finds it."""
    site = container.path("/srv/gentwoo.git")
    shutil.copytree(tree, site)
    for package in ("bdcs", "gentwoo"):
        (site / "ebuild/app-portage" / package / "Manifest").write_text(manifest)
    container.path("/root/.gitconfig").write_text(
        '[url "/srv/gentwoo.git"]\n\tinsteadOf = https://example.org/gentwoo.git\n[safe]\n\tdirectory = *\n'
        "[user]\n\tname = gentwoo\n\temail = gentwoo@example.org\n"
    )
    # Inside: seen from outside, git would follow the container's root to our own.
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it is"]):
        container.run("git", "-C", "/srv/gentwoo.git", *words)


def quickstart(number: int) -> str:
    """The command of docs/quickstart.md that has this number there."""
    text = (ROOT / "docs/quickstart.md").read_text()
    block = text.partition("<!-- five commands -->")[2].partition("```\n")[2].partition("```")[0]
    commands = block.strip().splitlines()
    assert len(commands) == 5, commands
    return commands[number - 1]


@pytest.fixture(scope="session")
def installed(work: Path, tree: Path) -> Layers:
    """A root into which the first three commands of the quickstart, and the collector, were merged."""
    layers = Layers.over((base_root(),), work / "installed")
    with Container(layers) as container:
        _furnish(container, tree)
        for number in (1, 2, 3):
            container.shell(quickstart(number))
        container.run("emerge", "--autounmask", "--autounmask-continue", "app-portage/bdcs")
        # Which the real distutils-r1 does.
        container.run("python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages")
    return layers
