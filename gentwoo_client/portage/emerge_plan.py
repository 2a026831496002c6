# SPDX-License-Identifier: GPL-2.0-or-later
"""What `emerge` would merge for some atoms, and in which order: its own words, read by us."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gentwoo_client.errors import GentwooError, NotConfigured, printable
from gentwoo_client.portage.asking import environment
from gentwoo_client.settings import Settings
from gentwoo_client.wire.cpv import CPV, REPOSITORY, split_cpv

FROM_SOURCE: Final = ("--usepkg=n", "--getbinpkg=n")
"""Options with which all is compiled, whatever EMERGE_DEFAULT_OPTS and FEATURES say. `--usepkgonly=n` is none
of them: Portage 3.0.83 takes it for `--usepkgonly`."""

_PLAIN = ("--pretend", "--verbose=y", "--quiet=n", "--ask=n", "--color=n", "--nospinner")
_TIMEOUT = 600  # seconds; the resolver may search for long
_TOLD = 40  # lines of what emerge says when it refuses

_LINE = re.compile(
    rf"\[(?P<kind>ebuild|binary|installed) (?P<letters>[^]]*)\]\s+"
    rf"(?P<package>\S+?)(?:::(?P<repository>{REPOSITORY}))?(?:\s+(?P<rest>.*))?"
)
_SLOT = re.compile(r":[A-Za-z0-9_][A-Za-z0-9+_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9+_.-]*)?")
_ELSEWHERE = re.compile(r"(?:^|\s)to /")
_REVERSED = "in reverse order"  # --tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One package that would be merged."""

    cpv: CPV
    repository: str
    letters: str
    """What emerge says of it: `N` new, `S` new slot, `U` up, `D` down, `R` again, `r` for a sub-slot, …"""


class EmergeRefused(GentwooError):
    """emerge has no plan for this; `output` is what it said."""

    def __init__(self, message: str, *, output: str) -> None:
        super().__init__(message, advice=output or None)
        self.output = output


def make_plan(settings: Settings, atoms: Sequence[str], *options: str) -> tuple[Planned, ...]:
    """What `emerge OPTIONS ATOMS` would compile and merge here, in its order, had it no binary packages.

    Options of EMERGE_DEFAULT_OPTS count, as they will when it is done. Raises `EmergeRefused`, and
    `NotConfigured` where there is no emerge.
    """
    for atom in atoms:
        if atom.startswith("-"):  # emerge heeds options behind `--` too
            raise EmergeRefused(f"{printable(atom)} is an option, not a package", output="")
    words = [*_PLAIN, *FROM_SOURCE, *options, *atoms]
    output = _emerge(settings, words)
    plan = read_plan(output)
    if plan is None:  # a display that cannot be switched off, as --tree and --columns
        plan = read_plan(_emerge(settings, ["--ignore-default-opts", *words]))
    if plan is None:
        raise EmergeRefused("what emerge says is not understood", output=_last_lines(output))
    return plan


def read_plan(output: str) -> tuple[Planned, ...] | None:
    """The packages in what `emerge --pretend --verbose` prints; None where it shows them in another manner.

    What would go to another ROOT is left out: targets are for machines, which have ROOT=/.
    """
    if _REVERSED in output:
        return None
    try:
        return tuple(_planned(output))
    except ValueError:
        return None


def _planned(output: str) -> Iterator[Planned]:
    for line in output.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match is None or _ELSEWHERE.search(match["rest"] or ""):
            continue
        parts = split_cpv(_SLOT.sub("", match["package"], count=1))
        if parts is None:
            raise ValueError(line)
        yield Planned(
            cpv=CPV(*parts), repository=match["repository"] or "", letters=match["letters"].replace(" ", "")
        )


def _emerge(settings: Settings, words: Sequence[str]) -> str:
    emerge = settings.portage_bin / "emerge"
    try:
        done = subprocess.run(
            [emerge, *words],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise NotConfigured(
            f"{emerge}: {error.strerror}; Portage is needed for this",
            advice="set `portage_bin` to the directory of Portage's commands",
        ) from None
    except subprocess.TimeoutExpired:
        raise GentwooError(f"{emerge} found no plan within {_TIMEOUT} seconds") from None
    if done.returncode:
        raise EmergeRefused(_reason(done.stdout), output=_last_lines(done.stdout))
    return done.stdout


def _reason(output: str) -> str:
    """The line that says why there is no plan, or that there is none."""
    lines = (line.strip() for line in output.splitlines())
    told = next((line for line in lines if line.startswith(("!!! ", "emerge: "))), "")
    return (
        f"emerge has no plan for this: {printable(told.lstrip('! '))}"
        if told
        else "emerge has no plan for this"
    )


def _last_lines(output: str) -> str:
    lines = [printable(line) for line in output.splitlines() if line.strip()]
    return "\n".join(lines[-_TOLD:])
