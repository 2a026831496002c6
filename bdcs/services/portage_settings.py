# SPDX-License-Identifier: GPL-2.0-or-later
"""What Portage of this host would build with: asked for once, when a target is made after its example.

Portage is called as a command (`portageq envvar`), never imported.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bdcs.domain.targets import HEADER_KEYS, VALUES_PREFIX
from bdcs.errors import PortageFailed
from bdcs.services import programs
from bdcs.services.native_flags import explicit_flags

PORTAGE_BIN: Final = Path("/usr/bin")

_FURTHER_KEYS: Final = ("USE_EXPAND_UNPREFIXED",)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortageSettings:
    """The parameters of this host that make a target."""

    chost: str
    profile: str | None
    """Below `profiles/`; None where make.profile is a directory of its own."""
    cflags: str
    """With what `native` stands for here."""
    header: Mapping[str, str]


def portage_settings(portage_bin: Path = PORTAGE_BIN) -> PortageSettings:
    """Ask `portageq` in `portage_bin`. Raises `PortageFailed`."""
    keys = (*HEADER_KEYS, *_FURTHER_KEYS)
    found = _variables(portage_bin, ("CHOST", "CFLAGS", "PORTAGE_CONFIGROOT", *keys))
    implicit = [name for name in found.get("USE_EXPAND_IMPLICIT", "").split() if _VARIABLE.fullmatch(name)]
    further = [*implicit, *(f"{VALUES_PREFIX}{name}" for name in implicit)]
    values = _variables(portage_bin, further) if further else {}
    header = {key: found.get(key, "") for key in keys} | values
    return PortageSettings(
        chost=found.get("CHOST", ""),
        profile=_profile(Path(found.get("PORTAGE_CONFIGROOT") or "/") / "etc/portage/make.profile"),
        cflags=explicit_flags(found.get("CHOST", ""), found.get("CFLAGS", "")),
        header={key: value for key, value in header.items() if value},
    )


def _variables(portage_bin: Path, names: Sequence[str]) -> dict[str, str]:
    command = [str(portage_bin / "portageq"), "envvar", "-v", *names]
    try:
        done = programs.ask(command)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PortageFailed(f"{command[0]}: {getattr(error, 'strerror', None) or error}") from error
    # It exits with 1 where a variable is not set, and says nothing then; an error it explains.
    if done.returncode not in (0, 1) or (done.returncode and done.stderr.strip()):
        raise PortageFailed(f"{shlex.join(command)} exited with {done.returncode}: {done.stderr.strip()}")
    try:
        words = shlex.split(done.stdout)
    except ValueError as error:
        raise PortageFailed(f"{shlex.join(command)} printed what cannot be read: {error}") from error
    pairs = (word.partition("=") for word in words)
    return {name: " ".join(value.split()) for name, _, value in pairs}


def _profile(link: Path) -> str | None:
    """Return the profile that `link` leads to, below the last `profiles` of its path."""
    if not link.is_symlink():
        return None
    _, separator, profile = os.path.realpath(link).rpartition("/profiles/")
    return profile if separator else None
