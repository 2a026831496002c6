# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes Portage build exactly what is wished, from typed values only.

USE, keywords, licences and masks go into files of `etc/portage`, one line for each package, with every flag
of its IUSE, so that no default of profile or builder matters; what is the target's goes into the environment,
where no character has a meaning. No text of a wish is pasted: each value has passed `wire.builds` and
`wire.parameters`, here once more, whatever the collector did. Pure, but for `write`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bdcs.errors import BuildRefused
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import InvalidParameter, InvalidSpecification
from gentwoo_client.wire.parameters import check_flags, check_use

NAME: Final = "zz-gentwoo"
"""Files of one directory are read in the order of their names."""

FEATURES: Final = (
    # The sandbox around all of it takes the place of these, which need further namespaces, users or programs.
    "-sandbox -usersandbox -userpriv -userfetch -usersync "
    "-network-sandbox -ipc-sandbox -pid-sandbox -mount-sandbox "
    # The tree is thrown away: nothing has to be safe on disk, be told to anybody, or be backed up.
    "-merge-sync -merge-wait -news -unmerge-backup -downgrade-backup -preserve-libs -distlocks -ccache "
    "-distcc -binpkg-signing -buildpkg-live -parallel-fetch -fixlafiles -fail-clean binpkg-multi-instance"
)
VERIFYING: Final = "binpkg-request-signature"
IGNORING: Final = "binpkg-ignore-signature"
SEARCH_PATH: Final = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be built, checked."""

    specification: BuildSpecification
    cflags: str

    @classmethod
    def of(cls, document: object, *, cflags: str) -> Self:
        """Return the wish that this JSON document and a target's CFLAGS are. Raises `BuildRefused`."""
        try:
            wished = BuildSpecification.from_json(document)
            check_use(wished.iuse)
            return cls(specification=wished, cflags=check_flags("cflags", cflags))
        except (InvalidSpecification, InvalidParameter) as error:
            raise BuildRefused(f"this builder does not build that: {error.detail}") from None

    @property
    def atom(self) -> str:
        """What emerge is asked for: exactly this version, from exactly this repository."""
        return f"={self.specification.cpv}::{self.specification.repository}"

    @property
    def has_dependencies(self) -> bool:
        """Whether it needs anything, at any time."""
        wished = self.specification
        return any((wished.depend, wished.bdepend, wished.rdepend, wished.pdepend, wished.idepend))


def files(wish: Wish) -> dict[str, str]:
    """Return the files below `etc/portage` by their names, each a kind of its own, and their text."""
    wished = wish.specification
    package = f"={wished.cpv}"
    use = [flag if flag in wished.use else f"-{flag}" for flag in wished.iuse]
    return {
        "package.use": " ".join((package, *use)) + "\n",
        "package.accept_keywords": f"{package} **\n",
        "package.license": f"{package} *\n",
        "package.unmask": f"{package}\n",
    }


def write(configuration: Path, texts: Mapping[str, str]) -> None:
    """Put the files into `configuration`, `etc/portage` of a throw-away tree, beside what is there.

    Other binhosts than the target's are taken out.
    """
    for name, text in texts.items():
        place = configuration / name
        if place.is_file():
            with place.open("a") as file:
                file.write(f"\n{text}")
        else:
            place.mkdir(exist_ok=True)
            (place / NAME).write_text(text)
    repositories = configuration / "binrepos.conf"
    if repositories.is_dir() and not repositories.is_symlink():
        shutil.rmtree(repositories)
    else:
        repositories.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Directories as Portage sees them."""

    eprefix: str
    """Empty for a whole system."""

    @property
    def packages(self) -> str:
        return f"{self.eprefix}/var/cache/binpkgs"

    @property
    def distfiles(self) -> str:
        return f"{self.eprefix}/var/cache/distfiles"

    @property
    def temporary(self) -> str:
        return f"{self.eprefix}/var/tmp"

    @property
    def keys(self) -> str:
        """The GnuPG home with the keys that dependencies have to be signed with."""
        return f"{self.eprefix}/var/cache/gentwoo-keys"


def environment(
    places: Places, *, cflags: str, make_jobs: int, user: tuple[str, str] | None
) -> dict[str, str]:
    """Return everything that Portage finds in its environment.

    `user`: name and group of the ordinary user that builds; None for root.
    """
    prefix = [f"{places.eprefix}/{name}" for name in SEARCH_PATH] if places.eprefix else []
    values = {
        "PATH": ":".join([*prefix, *(f"/{name}" for name in SEARCH_PATH)]),
        "HOME": "/tmp",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "NOCOLOR": "true",
        "FEATURES": FEATURES,
        "ACCEPT_PROPERTIES": "* -interactive",
        "BINPKG_FORMAT": "gpkg",
        "CLEAN_DELAY": "0",
        "EMERGE_DEFAULT_OPTS": "",
        "MAKEOPTS": f"-j{make_jobs}",
        "DISTDIR": places.distfiles,
        "PKGDIR": places.packages,
        "PORTAGE_TMPDIR": places.temporary,
        "PORTAGE_TRUST_HELPER": "true",
    }
    if cflags:
        values |= dict.fromkeys(("CFLAGS", "CXXFLAGS", "FCFLAGS", "FFLAGS"), cflags)
    if places.eprefix:
        values["PORTAGE_OVERRIDE_EPREFIX"] = places.eprefix
    if user is not None:
        values["PORTAGE_USERNAME"], values["PORTAGE_GRPNAME"] = user
    return values


def fetching_from(url: str, *, signed: bool) -> dict[str, str]:
    """Return what the environment has besides while packages are taken from the target's index at `url`.

    `signed`: nothing is taken but what is signed.
    """
    demand = {"FEATURES": f"{FEATURES} {VERIFYING}"} if signed else {}
    return {"PORTAGE_BINHOST": url, **demand}


def verifying_with(places: Places, *, has_keys: bool) -> dict[str, str]:
    """Return what the environment has besides where packages may be signed, taken now or before.

    `has_keys`: the keys are in `places.keys`; else no signature is looked at.
    """
    if not has_keys:
        return {"FEATURES": f"{FEATURES} {IGNORING}"}
    # gpg need not be `nobody` inside of the sandbox, where that user may not be able to enter the Prefix.
    drop = {"GPG_VERIFY_USER_DROP": "", "GPG_VERIFY_GROUP_DROP": ""}
    return {"BINPKG_GPG_VERIFY_GPG_HOME": places.keys, **drop}
