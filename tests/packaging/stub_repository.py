# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for Gentoo's repository, as far as our overlay refers to it: pkgcheck and emerge want a master.

A pass with it proves our phases, paths, modes, names of dependencies, Manifests and metadata. It does not
prove that the real eclasses behave like these, or that real versions and USE dependencies fit.
"""

import shutil
from pathlib import Path

from dev.places import ROOT

ECLASSES = (
    "acct-group",
    "acct-user",
    "distutils-r1",
    "git-r3",
    "pypi",
    "shell-completion",
    "systemd",
    "tmpfiles",
)
PACKAGES = (
    "acct-group/portage",
    "app-crypt/gnupg",
    "dev-python/aiohttp",
    "dev-python/aiosqlite",
    "dev-python/alembic",
    "dev-python/backports-zstd",
    "dev-python/boto3",
    "dev-python/cryptography",
    "dev-python/jinja2",
    "dev-python/prometheus-client",
    "dev-python/psycopg",
    "dev-python/pydantic",
    "dev-python/pyjwt",
    "dev-python/python-daemon",
    "dev-python/sqlalchemy",
    "dev-python/uvloop",
    "dev-python/yarl",
    "net-misc/rabbitmq-server",
    "sys-apps/bubblewrap",
    "sys-apps/portage",
    "virtual/tmpfiles",
)
TARGETS = ("python3_12", "python3_13", "python3_14", "python3_15")
FILES = {
    "metadata/layout.conf": "masters =\nthin-manifests = true\nsign-manifests = false\n",
    "profiles/repo_name": "gentoo\n",
    "profiles/eapi": "8\n",
    "profiles/arch.list": "amd64\narm64\n",
    "profiles/profiles.desc": "amd64 default stable\narm64 arm64 stable\n",
    "profiles/use.desc": "postgres - Support for PostgreSQL\n",
    "profiles/desc/python_targets.desc": "".join(f"{name} - Build with {name}\n" for name in TARGETS),
    "profiles/default/eapi": "8\n",
    "profiles/arm64/eapi": "8\n",
    "profiles/license_groups": "",
}
DEFAULTS = """\
ARCH="{arch}"
ACCEPT_KEYWORDS="{arch}"
ACCEPT_LICENSE="*"
CHOST="{chost}"
ELIBC="glibc"
KERNEL="linux"
USE_EXPAND="PYTHON_TARGETS"
PYTHON_TARGETS="python3_13"
"""
LICENSES = ("Apache-2.0", "BSD", "GPL-2+", "MIT")
EBUILD = """\
EAPI=8

DESCRIPTION="{name}, as far as dependencies go"
HOMEPAGE="https://www.gentoo.org/"
S="${{WORKDIR}}"

LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64 arm64"
IUSE="{iuse}"
"""


def make(directory: Path) -> Path:
    """Write the repository into `directory`, and return it."""
    for name, text in FILES.items():
        put(directory / name, text)
    for arch, profile, chost in (
        ("amd64", "default", "x86_64-pc-linux-gnu"),
        ("arm64", "arm64", "aarch64-unknown-linux-gnu"),
    ):
        put(directory / "profiles" / profile / "make.defaults", DEFAULTS.format(arch=arch, chost=chost))
    for name in LICENSES:
        put(directory / "licenses" / name, f"{name}\n")
    categories = {package.partition("/")[0] for package in PACKAGES} | {"app-portage"}
    categories |= {"acct-user", "dev-python"}
    put(directory / "profiles/categories", "".join(f"{name}\n" for name in sorted(categories)))
    iuse = " ".join(f"python_targets_{name}" for name in TARGETS)
    for package in PACKAGES:
        category, name = package.split("/")
        flags = iuse if category == "dev-python" else ""
        put(directory / package / f"{name}-1.ebuild", EBUILD.format(name=name, iuse=flags))
    for name in ECLASSES:
        put(directory / "eclass" / f"{name}.eclass", (ROOT / f"tests/eclass/{name}.eclass").read_text())
    return directory


def overlay(directory: Path) -> Path:
    """Copy our overlay into `directory`, and return it."""
    shutil.copytree(ROOT / "ebuild", directory, dirs_exist_ok=True)
    return directory


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
