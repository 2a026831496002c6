# SPDX-License-Identifier: GPL-2.0-or-later
"""Every source file says under which licence it stands, and none gives anything away."""

import re

from dev.places import CLIENT_LOCK, LOCK, ROOT
from tests.house.sources import committed

SPDX = "SPDX-License-Identifier: GPL-2.0-or-later"
SOURCE_SUFFIXES = {".css", ".ebuild", ".js", ".mako", ".py", ".sh"}
DATA = (ROOT / "tests/data", ROOT / "tests/vectors")

# What no file here may hold. Written so that this file does not hold it either.
GIVEN_AWAY = {
    "a password in a URL": re.compile(r"https?://[^/\s:@'\"<>{}\[\]()]+:[^/\s:@'\"<>{}\[\]()]+@"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE" + r" KEY-----\s+[A-Za-z0-9+/=]{40}"),
    "a package index": re.compile(r"(?:index-url|trusted-host)\s*[=:]\s*\S"),
    "an AWS key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a path of one machine": re.compile(r"/opt/" + r"(?:pypi|wheels)"),
}


def test_every_source_file_names_its_licence() -> None:
    without = [
        str(path.relative_to(ROOT))
        for path in committed()
        if is_source(path.suffix, path.read_bytes()[:2]) and SPDX not in "".join(first_lines(path))
    ]
    assert not without


def is_source(suffix: str, start: bytes) -> bool:
    return suffix in SOURCE_SUFFIXES or start == b"#!"


def first_lines(path: object) -> list[str]:
    with open(str(path), encoding="utf-8", errors="replace") as file:
        return [next(file, "") for _ in range(3)]


def test_no_file_gives_anything_away() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {what}"
        for path in committed()
        if not path.is_relative_to(DATA[0])
        for what, pattern in GIVEN_AWAY.items()
        if pattern.search(path.read_text(errors="replace"))
    ]
    assert not found


def test_locks_name_no_host() -> None:
    for lock in (LOCK, CLIENT_LOCK, ROOT / "dev/node/package-lock.json"):
        assert "://" not in lock.read_text(), lock


def test_every_locked_package_has_a_hash() -> None:
    for lock in (LOCK, CLIENT_LOCK):
        entries = re.findall(r"^\S+==.*?(?=^\S|\Z)", lock.read_text(), re.MULTILINE | re.DOTALL)
        assert entries
        assert all("--hash=sha256:" in entry for entry in entries), lock
