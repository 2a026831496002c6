# SPDX-License-Identifier: GPL-2.0-or-later
"""What Portage's configuration says, asked of `portageq`: Portage itself is never imported."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gentwoo_client.errors import GentwooError, NotConfigured, printable
from gentwoo_client.settings import Settings

_VARIABLES = (
    "CHOST",
    "CFLAGS",
    "EPREFIX",
    "FEATURES",
    "PORTAGE_CONFIGROOT",
    "PORTAGE_GRPNAME",
    "PORTAGE_TRUST_HELPER",
    "BINPKG_GPG_VERIFY_GPG_HOME",
    "GPG_VERIFY_USER_DROP",
    "GPG_VERIFY_GROUP_DROP",
)
_TIMEOUT = 120  # seconds; the first call after a sync may have much to read
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
_PROFILES = "/profiles/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortageFacts:
    """What of Portage's configuration matters to a binhost."""

    chost: str
    cflags: str
    profile: str | None
    """Relative to `profiles/` of its repository; None where it is one of the machine's own making."""
    configuration: Path
    """`/etc/portage`, wherever that is."""
    verify_home: Path
    """The GnuPG home that packages are verified with. Portage does not put EPREFIX before its default."""
    verify_user: str
    """Whom root becomes to verify; empty for nobody else."""
    verify_group: str
    group: str
    """The group that may read what Portage reads, `portage`."""
    features: frozenset[str]
    trust_helper: str
    """The program that Portage has prepare `verify_home` before it fetches packages; empty for none."""


def read_portage(settings: Settings) -> PortageFacts:
    """Ask Portage. Raises `NotConfigured` if it is not what the settings say, `GentwooError` if it fails."""
    values = _ask(settings)
    if values.get("EPREFIX", "") != settings.eprefix:
        eprefix = values.get("EPREFIX", "")
        raise NotConfigured(
            f"{settings.portage_bin}/portageq is Portage of EPREFIX {eprefix!r}, but the setting eprefix is"
            f" {settings.eprefix!r}",
            advice=f'write `eprefix = "{eprefix}"` into the configuration, or name another portage_bin',
        )
    configuration = Path(values.get("PORTAGE_CONFIGROOT") or f"{settings.eprefix}/") / "etc/portage"
    return PortageFacts(
        chost=values["CHOST"],
        cflags=" ".join(values.get("CFLAGS", "").split()),
        profile=profile_name(configuration / "make.profile"),
        configuration=configuration,
        verify_home=Path(values.get("BINPKG_GPG_VERIFY_GPG_HOME") or "/etc/portage/gnupg"),
        verify_user=values.get("GPG_VERIFY_USER_DROP", ""),
        verify_group=values.get("GPG_VERIFY_GROUP_DROP", ""),
        group=values.get("PORTAGE_GRPNAME") or "portage",
        features=frozenset(values.get("FEATURES", "").split()),
        trust_helper=values.get("PORTAGE_TRUST_HELPER", ""),
    )


def profile_name(make_profile: Path) -> str | None:
    """The profile that `make.profile` leads to: a symbolic link, or a directory with one parent (PMS §5.2.1).

    None where it is neither, or not below `profiles/` of a repository.
    """
    real = os.path.realpath(make_profile)
    if _PROFILES in real:
        return real.rpartition(_PROFILES)[2]
    try:
        lines = (make_profile / "parent").read_text(errors="replace").splitlines()
    except OSError:
        return None
    parents = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if len(parents) != 1:
        return None
    parent = parents[0]
    if ":" in parent:
        return parent.partition(":")[2] or None
    above = os.path.realpath(make_profile / parent)
    return above.rpartition(_PROFILES)[2] or None if _PROFILES in above else None


def _ask(settings: Settings) -> dict[str, str]:
    portageq = settings.portage_bin / "portageq"
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    try:
        done = subprocess.run(
            [portageq, "envvar", "-v", *_VARIABLES],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise NotConfigured(
            f"{portageq}: {error.strerror}; Portage is needed for this",
            advice="set `portage_bin` to the directory of Portage's commands",
        ) from None
    except subprocess.TimeoutExpired:
        raise GentwooError(f"{portageq} gave no answer within {_TIMEOUT} seconds") from None
    # It ends with 1 where a variable is not set, and still prints the others.
    values = _values(done.stdout)
    if not values.get("CHOST"):
        last = printable((done.stderr.strip().splitlines() or ["it says no CHOST"])[-1])
        raise GentwooError(
            f"{portageq} cannot say what this machine is: {last}",
            advice=f"see that `{portageq} envvar CHOST` prints it; a profile must be selected",
        )
    return values


def _values(output: str) -> dict[str, str]:
    """The variables that `portageq envvar -v` prints, quoted as a shell would read them."""
    try:
        words = shlex.split(output)
    except ValueError:
        return {}
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
