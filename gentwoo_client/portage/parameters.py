# SPDX-License-Identifier: GPL-2.0-or-later
"""What packages are built with on this machine, as `gentwoo parameters` shows it and a collector is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gentwoo_client.binhost.machine_facts import explicit_flags
from gentwoo_client.binhost.portage_facts import profile_name
from gentwoo_client.errors import GentwooError
from gentwoo_client.portage.asking import Described, ask
from gentwoo_client.settings import Settings
from gentwoo_client.wire.errors import InvalidParameter
from gentwoo_client.wire.parameters import FLAGS, problems

_VARIABLES: Final = (
    *(name.upper() for name in FLAGS),
    "ACCEPT_KEYWORDS",
    "ACCEPT_LICENSE",
    "ARCH",
    "CHOST",
    "PORTAGE_CONFIGROOT",
    "USE",
)
_OF_COMPILERS = ("cflags", "cxxflags", "fflags", "fcflags")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineParameters:
    """The parameters of one machine, also such as no collector takes, and what is known of one package."""

    document: Mapping[str, object]
    """As `wire.parameters.Parameters.from_json` reads it; `profile` may be None."""
    problems: tuple[InvalidParameter, ...]
    """What a collector would not take of it."""
    package: Described | None
    """The package that was asked for."""

    @property
    def use(self) -> tuple[str, ...]:
        """Effective flags of the package, the disabled ones with `-`, in the order of their names."""
        if self.package is None:
            return ()
        enabled = frozenset(self.package.use)
        iuse = {flag.lstrip("+-") for flag in self.package.metadata["IUSE"].split()}
        return tuple(flag if flag in enabled else f"-{flag}" for flag in sorted(iuse))

    def to_json(self) -> dict[str, object]:
        """What `gentwoo parameters --json` prints."""
        package = self.package
        return {
            **self.document,
            "problems": [{"parameter": problem.field, "reason": problem.reason} for problem in self.problems],
            "package": package
            and {
                "cpv": package.cpv,
                "repository": package.repository,
                "use": list(self.use),
                "keywords": package.metadata["KEYWORDS"].split(),
                "patched": package.patched,
            },
        }


def read_parameters(settings: Settings, atom: str | None = None) -> MachineParameters:
    """Ask Portage what packages are built with here, and what of it counts for the best package of `atom`.

    `native` in flags is resolved to what it means on this CPU. Raises `NotConfigured`, and `GentwooError`
    where there is no such package.
    """
    answer = ask(settings, variables=_VARIABLES, atoms=() if atom is None else (atom,))
    document = _document(settings, answer.variables)
    return MachineParameters(
        document=document,
        problems=tuple(problems(document)),
        package=None if atom is None else _described(settings, atom, answer.atoms[atom]),
    )


def _document(settings: Settings, variables: Mapping[str, str]) -> dict[str, object]:
    chost = variables["CHOST"]
    flags = {name: variables[name.upper()] for name in FLAGS}
    for name in _OF_COMPILERS:
        flags[name] = explicit_flags(chost, flags[name], settings.eprefix)
    configuration = Path(variables["PORTAGE_CONFIGROOT"] or f"{settings.eprefix}/") / "etc/portage"
    return {
        "chost": chost,
        "arch": variables["ARCH"],
        "profile": profile_name(configuration / "make.profile"),
        **flags,
        "keywords": sorted(set(variables["ACCEPT_KEYWORDS"].split())),
        "licenses": variables["ACCEPT_LICENSE"].split(),
        "use": sorted(set(variables["USE"].split())),
    }


def _described(settings: Settings, atom: str, found: tuple[str, str] | None) -> Described:
    if found is None:
        raise GentwooError(
            f"no package here fits {atom}, or all that do are masked",
            advice=f"see what `emerge --pretend {atom}` says",
        )
    return ask(settings, packages=[found]).packages[0]
