# SPDX-License-Identifier: GPL-2.0-or-later
"""Real emerge, OpenRC and systemd: `make test-packaging` says first what of it this machine can do.

It hands the abilities over in GENTWOO_PACKAGING. Tests that need another one are not collected, and in
`make test` none is.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.dist import build_tree, manifest_line
from dev.gentoo_root import base_root
from dev.places import PACKAGING, ROOT
from tests.house.sources import committed
from tests.packaging import stub_repository
from tests.packaging.container import Container

NEEDS = {
    "test_overlay.py": "pkgcheck",
    "test_lint.py": "root",
    "test_emerge.py": "root",
    "test_openrc.py": "root",
    "test_reads.py": "root",
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


def copied(source: Path, target: Path) -> Path:
    """A copy of a whole root; where the file system can, without copying what is in the files."""
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
    return target


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A directory on the disk that the roots are on; it is removed at the end."""
    directory = PACKAGING / f"work-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def tree(work: Path) -> Path:
    """What is committed, or would be: the source of everything that is merged."""
    directory = work / "tree"
    for path in committed():
        target = directory / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return directory


@pytest.fixture(scope="session")
def gentoo(work: Path, tree: Path) -> Path:
    """A root with Portage, the stand-in for Gentoo's repository, and what mirrors and our site have."""
    root = copied(base_root(), work / "gentoo")
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
    _publish(tree, manifest_line(source), root)
    return root


def _publish(tree: Path, manifest: str, root: Path) -> None:
    """Put the repository where `git clone https://example.org/gentwoo.git` finds it."""
    site = root / "srv/gentwoo.git"
    shutil.copytree(tree, site)
    for package in ("bdcs", "gentwoo"):
        (site / "ebuild/app-portage" / package / "Manifest").write_text(manifest)
    git = ["git", "-C", str(site), "-c", "user.name=gentwoo", "-c", "user.email=gentwoo@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it is"]):
        subprocess.run([*git, *words], check=True)
    (root / "root/.gitconfig").write_text(
        '[url "/srv/gentwoo.git"]\n\tinsteadOf = https://example.org/gentwoo.git\n[safe]\n\tdirectory = *\n'
    )


def quickstart(number: int) -> str:
    """The command of docs/quickstart.md that has this number there."""
    text = (ROOT / "docs/quickstart.md").read_text()
    block = text.partition("<!-- five commands -->")[2].partition("```\n")[2].partition("```")[0]
    commands = block.strip().splitlines()
    assert len(commands) == 5, commands
    return commands[number - 1]


@pytest.fixture(scope="session")
def installed(gentoo: Path) -> Path:
    """A root into which the first three commands of the quickstart, and the collector, were merged."""
    with Container(gentoo) as container:
        for number in (1, 2, 3):
            container.shell(quickstart(number))
        container.run("emerge", "--autounmask", "--autounmask-continue", "app-portage/bdcs")
    return gentoo
