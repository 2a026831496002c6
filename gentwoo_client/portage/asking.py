# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking Portage through `inside_portage`, which its own interpreter runs: ours may know no `portage`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gentwoo_client.errors import GentwooError, NotConfigured, printable
from gentwoo_client.settings import Settings
from gentwoo_client.wire import json_text
from gentwoo_client.wire.errors import InvalidJSON

PROGRAM: Final = Path(__file__).with_name("inside_portage.py")

_TIMEOUT = 300  # seconds; a repository without md5-cache has its ebuilds sourced
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
_LAUNCHERS = ("sh", "bash", "dash")  # a first line that is too long for the kernel names one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One package as Portage sees it."""

    cpv: str
    repository: str
    metadata: Mapping[str, str]
    """What the ebuild says, not reduced."""
    use: tuple[str, ...]
    """All flags that are enabled for it, ARCH among them."""
    bound: Mapping[str, str]
    """SLOT/SUBSLOT that each atom with `:=` finds."""
    patched: bool
    """Whether the machine's owner adds patches to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Portage said."""

    variables: Mapping[str, str]
    atoms: Mapping[str, tuple[str, str] | None]
    """The best visible package for each atom, with its repository."""
    packages: tuple[Described, ...]


def ask(
    settings: Settings,
    *,
    variables: Collection[str] = (),
    atoms: Collection[str] = (),
    packages: Sequence[tuple[str, str]] = (),
) -> Answer:
    """Ask for variables, for the best packages of atoms, and for what is known of `packages`.

    These are CPVs with repositories, in the order in which they are to be merged: what a `:=` finds is told
    as if they were. Raises `NotConfigured` where there is no Portage or another one than the settings say,
    `GentwooError` where it fails.
    """
    request = {
        "variables": list(variables),
        "atoms": list(atoms),
        "packages": [list(package) for package in packages],
    }
    document = _run(interpreter(settings.portage_bin, settings.eprefix), json_text.dump(request))
    try:
        _check_eprefix(settings, document["eprefix"])
        return Answer(
            variables=document["variables"],
            atoms={atom: _found(atom, found) for atom, found in document["atoms"].items()},
            packages=tuple(map(_described, document["packages"])),
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise GentwooError("Portage's interpreter gave an answer that is not understood") from None


def _check_eprefix(settings: Settings, eprefix: str) -> None:
    if eprefix != settings.eprefix:
        raise NotConfigured(
            f"{settings.portage_bin}/emerge is Portage of EPREFIX {eprefix!r}, but the setting eprefix is"
            f" {settings.eprefix!r}",
            advice=f'write `eprefix = "{eprefix}"` into the configuration, or name another portage_bin',
        )


def environment() -> dict[str, str]:
    """What Portage's commands are started with: ours, without what would lead its Python to our modules."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    return {**kept, "NOCOLOR": "true", "LC_MESSAGES": "C.UTF-8"}


def interpreter(portage_bin: Path, eprefix: str) -> Path:
    """The Python that runs Portage: the one that its commands begin with. Raises `NotConfigured`."""
    for candidate in _interpreters(portage_bin, eprefix):
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return candidate
    raise NotConfigured(
        f"{portage_bin}/emerge does not say which Python runs it; Portage is needed for this",
        advice="set `portage_bin` to the directory of Portage's commands",
    )


def _interpreters(portage_bin: Path, eprefix: str) -> Iterator[Path]:
    scripts = [portage_bin / "emerge", portage_bin / "portageq"]
    # On Gentoo the commands lead to python-exec, which starts the one of these that it is configured for.
    scripts += sorted(
        Path(f"{eprefix}/usr/lib/python-exec").glob("python3*/emerge"), key=_newest, reverse=True
    )
    for script in scripts:
        yield from _named_by(script)
    if scripts[0].exists():
        yield portage_bin / "python3"


def _newest(script: Path) -> tuple[int, ...]:
    return tuple(
        int(part) for part in script.parent.name.removeprefix("python").split(".") if part.isdecimal()
    )


def _named_by(script: Path) -> Iterator[Path]:
    """The interpreter in the first line of a script."""
    try:
        with script.open("rb") as file:
            line = file.readline(4096)
    except OSError:
        return
    words = line[2:].decode(errors="replace").split() if line.startswith(b"#!") else []
    if not words or Path(words[0]).name in _LAUNCHERS:
        return
    if Path(words[0]).name == "env":
        found = next((shutil.which(word) for word in words[1:] if not word.startswith("-")), None)
        if found:
            yield Path(found)
        return
    yield Path(words[0])


def _run(python: Path, request: bytes) -> Mapping[str, Any]:
    try:
        done = subprocess.run(
            [python, PROGRAM],
            input=request,
            env=environment(),
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise NotConfigured(
            f"{python}: {error.strerror}; Portage is needed for this",
            advice="set `portage_bin` to the directory of Portage's commands",
        ) from None
    except subprocess.TimeoutExpired:
        raise GentwooError(f"Portage gave no answer within {_TIMEOUT} seconds") from None
    try:
        return json_text.load_object(done.stdout)
    except InvalidJSON:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise GentwooError(
            f"Portage cannot be asked: {printable(said[-1])}",
            advice=f"see that `{python} -c 'import portage; print(portage.VERSION)'` works",
        ) from None


def _found(atom: str, found: object) -> tuple[str, str] | None:
    if isinstance(found, dict):
        raise GentwooError(f"{atom} is no package: {printable(str(found['error']))}")
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != 2:
        raise TypeError(found)
    return str(found[0]), str(found[1])


def _described(document: Mapping[str, Any]) -> Described:
    return Described(
        cpv=document["cpv"],
        repository=document["repository"],
        metadata=document["metadata"],
        use=tuple(document["use"]),
        bound=document["bound"],
        patched=document["patched"],
    )
