# SPDX-License-Identifier: GPL-2.0-or-later
"""`make prefix`: a small Gentoo Prefix in `.run/prefix`, for trying the binhost where no Gentoo is.

Real Portage, an ebuild repository with two packages, and commands in `.run/prefix/usr/bin` that work on it.
"""

import os
import shlex
import sys
import textwrap
from pathlib import Path

from dev.places import PORTAGE, ROOT
from tests.ebuild_repositories import make_cache
from tests.world import World

PREFIX = ROOT / ".run" / "prefix"
# As in Gentoo's base profile: ARCH, ELIBC and KERNEL are among the flags that a package is built with.
IMPLICIT_FLAGS = """\
USE_EXPAND="ARCH ELIBC KERNEL"
USE_EXPAND_IMPLICIT="ARCH ELIBC KERNEL"
USE_EXPAND_UNPREFIXED="ARCH"
USE_EXPAND_VALUES_ARCH="amd64"
USE_EXPAND_VALUES_ELIBC="glibc"
USE_EXPAND_VALUES_KERNEL="linux"
"""
COMMANDS = ("ebuild", "emaint", "emerge", "portageq", "python3")


def make(directory: Path) -> World:
    """Make the Prefix. Packages are built for any x86-64 CPU, and verified by whoever runs emerge.

    Its repository has the metadata cache that a catalogue reads.
    """
    world = World.create(directory)
    world.ebuild("app-misc/alpha-1.0")
    world.ebuild("app-misc/beta-2.1", rdepend="app-misc/alpha")
    with (world.repository / "profiles/default/make.defaults").open("a") as file:
        file.write(IMPLICIT_FLAGS)
    with (directory / "etc/portage/make.conf").open("a") as file:
        file.write(
            textwrap.dedent(
                f"""\
                CFLAGS="-O2 -march=x86-64"
                BINPKG_GPG_VERIFY_GPG_HOME="{directory}/etc/portage/gnupg"
                PORTAGE_TRUST_HELPER="/bin/true"
                GPG_VERIFY_USER_DROP=""
                GPG_VERIFY_GROUP_DROP=""
                """
            )
        )
    for name in COMMANDS:
        write_command(world, name)
    make_cache(world)
    return world


def write_command(world: World, name: str) -> None:
    """Write a command that is Portage's own, at work on the Prefix."""
    command = world.root / "usr/bin" / name
    command.write_text(
        "#!/bin/sh\n"
        f"export PORTAGE_OVERRIDE_EPREFIX={shlex.quote(str(world.root))}\n"
        f'exec {shlex.quote(str(PORTAGE / "bin" / name))} "$@"\n'
    )
    command.chmod(0o755)


def main() -> int:
    if PREFIX.exists():
        print(f"{PREFIX.relative_to(ROOT)} is there already; remove it for a new one", file=sys.stderr)
        return 1
    os.umask(0o022)
    make(PREFIX)
    here = PREFIX.relative_to(ROOT)
    print(
        f"A Gentoo Prefix is in {here}/, with app-misc/alpha and app-misc/beta in its repository.\n"
        f"  {here}/usr/bin/emerge app-misc/alpha   installs into it\n"
        f"  RUN_EPREFIX={here} make run            follows its emerge.log, and builds as it would"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
