# SPDX-License-Identifier: GPL-2.0-or-later
"""What `emerge --pretend` prints, in every manner of display, as the list of what would be merged.

    [ebuild     U  ] dev-libs/openssl-3.3.2:0/3::gentoo [3.3.1:0/3::gentoo] USE="asm -test" 17,752 KiB
    [binary  N     ] app-misc/hello-2.12-1 to /mnt/target/          2.12, build number 1
    [ebuild  N     ] app-misc/hello            [2.12] to /          --columns
     N     app-misc/hello 2.12                                      --columns --quiet
    [nomerge       ] app-misc/kept-1                                --tree: only drawn
    [blocks B      ] <app-misc/old-2 ("<app-misc/old-2" is soft blocking app-misc/new-1)
    [uninstall     ] app-misc/old-1

With `--tree` the list is shown from its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from gentwoo_client.prediction.merges import BINARY, SOURCE
from gentwoo_client.wire.cpv import CPV, NAME, VERSION, split_cpv

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_BRACKETED = re.compile(
    r"\[(?P<kind>ebuild|binary|nomerge|uninstall|blocks)\b(?P<letters>[^]]*)\](?P<indent>\s*)(?P<package>\S+)(?P<rest>.*)"
)
_QUIET_COLUMNS = re.compile(
    rf"(?P<letters>[ INrRSfFgUD~#*]{{6,9}}) +(?P<package>[A-Za-z0-9_][A-Za-z0-9+_.-]*/{NAME}) "
    rf"+(?P<version>{VERSION}(?:-[0-9]+)?)(?::\S*)?(?P<rest>(?: .*)?)"
)
_IN_COLUMN = re.compile(r"\s*\[(?P<version>[^]\s,]+)\](?P<rest>.*)")
_OLD = re.compile(r"\s*\[(?P<versions>[^]]+)\]")
_TO = re.compile(r"(?:^|\s)to (?P<root>/\S*)")
_QUALIFIED = re.compile(r":[A-Za-z0-9_].*|::.*")
_BUILD_ID = re.compile(r"-[0-9]+")
_REVERSED: Final = "in reverse order:"


class PretendedMerge(NamedTuple):
    """One package that would be merged."""

    cpv: CPV
    kind: str
    """`source` or `binary`; with `--quiet --columns`, which does not tell, `source`."""
    root: str
    replaces: str | None
    """The version that it takes the place of; None where it takes none's, or the display does not tell."""


def pretended_merges(output: str) -> tuple[PretendedMerge, ...]:
    """Return what would be merged, in its order. Lines that say anything else are passed over."""
    lines = _COLOUR.sub("", output).splitlines()
    merges = tuple(_merges(lines))
    return merges[::-1] if _is_reversed(lines) else merges


def _is_reversed(lines: list[str]) -> bool:
    """Whether it is a tree. With `--quiet` only what is indented tells."""
    return any(
        line.rstrip().endswith(_REVERSED) or ((match := _BRACKETED.match(line)) and len(match["indent"]) > 1)
        for line in lines
    )


def _merges(lines: list[str]) -> Iterator[PretendedMerge]:
    for line in lines:
        merge = _bracketed(line.strip()) or _in_quiet_columns(line.rstrip())
        if merge is not None:
            yield merge


def _bracketed(line: str) -> PretendedMerge | None:
    match = _BRACKETED.match(line)
    if match is None or match["kind"] not in ("ebuild", "binary"):
        return None
    package, rest = match["package"], match["rest"]
    is_binary = match["kind"] == "binary"
    cpv = _cpv(_QUALIFIED.sub("", package, count=1), is_binary=is_binary)
    if cpv is None:
        column = _IN_COLUMN.match(rest)
        if column is None:
            return None
        version = _QUALIFIED.sub("", column["version"], count=1)
        cpv, rest = _cpv(f"{package}-{version}", is_binary=is_binary), column["rest"]
        if cpv is None:
            return None
    kind = BINARY if is_binary else SOURCE
    return PretendedMerge(cpv=cpv, kind=kind, root=_root(rest), replaces=_replaced(match["letters"], rest))


def _in_quiet_columns(line: str) -> PretendedMerge | None:
    match = _QUIET_COLUMNS.fullmatch(line)
    if match is None:
        return None
    cpv = _cpv(f"{match['package']}-{match['version']}", is_binary=True)
    if cpv is None:
        return None
    return PretendedMerge(
        cpv=cpv, kind=SOURCE, root=_root(match["rest"]), replaces=_replaced(match["letters"], match["rest"])
    )


def _cpv(text: str, *, is_binary: bool) -> CPV | None:
    """Return the package; of a binary one the number of its build may follow."""
    parts = split_cpv(text)
    if parts is None and is_binary:
        build = text.rpartition("-")
        if _BUILD_ID.fullmatch(f"-{build[2]}"):
            parts = split_cpv(build[0])
    return None if parts is None else CPV(*parts)


def _root(rest: str) -> str:
    match = _TO.search(rest)
    return match["root"] if match else "/"


def _replaced(letters: str, rest: str) -> str | None:
    """Return the version in brackets; where a new slot comes, those are of other slots."""
    match = _OLD.match(rest)
    if match is None or "S" in letters:
        return None
    versions = [_QUALIFIED.sub("", version.strip(), count=1) for version in match["versions"].split(",")]
    return versions[0] if len(versions) == 1 else None
