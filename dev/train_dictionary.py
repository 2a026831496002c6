# SPDX-License-Identifier: GPL-2.0-or-later
"""Train the zstd dictionary for evidence: `python -m dev.train_dictionary`.

Its content is the fixed text of records and the names of packages that many machines have; its statistics
come from invented segments. Each store keeps the dictionary beside what was compressed with it, so a new one
harms nothing.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path

from backports import zstd

TARGET = Path(__file__).parent.parent / "bdcs" / "store" / "dictionaries" / "segments.zdict"
HEADER_SIZE = 8 * 1024  # bytes left for the statistics
LEVEL = 9
PACKAGES = Path(__file__).with_name("packages.txt")


def main() -> None:
    """Write the dictionary, and say what it does for invented segments that it has not seen."""
    source = random.Random(20261122)
    packages = read_packages(PACKAGES)
    samples = [segment(source, packages) for _ in range(6000)]
    text = content(packages)
    size = len(text) + HEADER_SIZE
    dictionary = zstd.finalize_dict(zstd.ZstdDict(text, is_raw=True), samples, size, LEVEL)
    TARGET.write_bytes(dictionary.dict_content)
    fresh = [segment(source, packages) for _ in range(1000)]
    compressor = zstd.ZstdCompressor(LEVEL, zstd_dict=dictionary.as_digested_dict)
    records = sum(text.count(b'"seq"') for text in fresh)
    size = sum(len(compressor.compress(text, mode=compressor.FLUSH_FRAME)) for text in fresh)
    print(f"{TARGET.name}: {len(dictionary.dict_content)} bytes; {size / records:.1f} bytes a record")


def read_packages(path: Path) -> list[tuple[str, str]]:
    """Return (category, name) of the lists in `path`, whose first line is a comment."""
    found, category = [], ""
    for word in path.read_text().partition("\n")[2].split():
        if word.endswith(":"):
            category = word[:-1]
        else:
            found.append((category, word))
    return sorted(set(found))


def content(packages: list[tuple[str, str]]) -> bytes:
    """Return what is referred back to; what is used most stands last, where references are shortest."""
    names = "".join(f'"category":"{category}","name":"{name}","version":"' for category, name in packages)
    return names.encode() + "".join(frequent(seq) for seq in range(1, 4)).encode()


def frequent(seq: int) -> str:
    """Return the records that are seen most: an upgrade live and in backfill, a build of an older log."""
    text = ""
    for clock, observed in (("unknown", "backfill"), ("unsynchronized", "live"), ("synchronized", "live")):
        for repository in ("null", '"guru"', '"gentoo"'):
            text += (
                f'"repository":{repository},"install_type":null,"cause":"manual","replaces":null,"recorded_at":"2026-'
                f'","time_delta":1,"concurrency":null,"observed":"{observed}","clock":"{clock}"}},{{"seq":{seq},'
                f'"event":"failure","category":"dev-libs","repository":{repository},"install_type":"binary",'
                f'"cause":"build","replaces":null,"recorded_at":"2025-","time_delta":null,"concurrency":null,'
                f'"observed":"{observed}","clock":"{clock}"}},{{"seq":{seq},"event":"install","category":"sys-",'
                f'"repository":{repository},"install_type":"source","cause":null,"replaces":null,"recorded_at":"2026-'
                f'","time_delta":60,"concurrency":1.0,"observed":"{observed}","clock":"{clock}"}},{{"seq":{seq},'
                f'"event":"uninstall","category":"dev-","repository":{repository},"install_type":null,'
                f'"cause":"replaced","replaces":null,"recorded_at":"2026-","time_delta":2,"concurrency":1.0,'
                f'"observed":"{observed}","clock":"{clock}"}},{{"seq":{seq},"event":"install","category":"app-",'
                f'"repository":{repository},"install_type":"source","cause":null,"replaces":"1.'
                f'","recorded_at":"2026-","time_delta":33,"concurrency":1.0,"observed":"{observed}",'
                f'"clock":"{clock}"}}]}}'
            )
    return text


def segment(source: random.Random, packages: list[tuple[str, str]]) -> bytes:
    """Return the records of one invented segment, as they stand in its payload."""
    observed = source.choice(("live", "live", "backfill"))
    clock = (
        "unknown" if observed == "backfill" else source.choice(("synchronized",) * 9 + ("unsynchronized",))
    )
    seq, at = source.randrange(1, 20000), source.randrange(1500000000, 1850000000)
    records: list[dict[str, object]] = []
    for _ in range(source.choice((1, 1, 1, 2, 2, 3, 4, 8))):
        at += source.randrange(1, 3000)
        for record in merge(source, packages, at):
            records.append({"seq": seq + len(records), **record, "observed": observed, "clock": clock})
    return (json.dumps(records, separators=(",", ":"))[1:] + "}").encode()


def merge(source: random.Random, packages: list[tuple[str, str]], at: int) -> list[dict[str, object]]:
    """Return the one or two records of a merge."""
    category, name = source.choice(packages)
    new, old = version(source), version(source)
    repository = source.choice(("gentoo",) * 8 + ("guru", None))
    concurrency = source.choice((1.0, 1.0, 1.0, 2.0, round(source.uniform(1, 4), 2)))
    both = {"category": category, "name": name}
    kind = source.choice(("new", "upgrade", "upgrade", "upgrade", "rebuild", "remove", "failure"))
    gone: dict[str, object] = {
        "event": "uninstall",
        **both,
        "version": new if kind in ("rebuild", "remove") else old,
        "repository": repository,
        "install_type": None,
        "cause": "manual" if kind == "remove" else "replaced",
        "replaces": None,
        "recorded_at": moment(at),
        "time_delta": source.choice((1, 1, 2, 3, 4)),
        "concurrency": concurrency,
    }
    if kind == "remove":
        return [gone]
    came: dict[str, object] = {
        "event": "failure" if kind == "failure" else "install",
        **both,
        "version": new,
        "repository": repository,
        "install_type": source.choice(("source",) * 5 + ("binary",)),
        "cause": source.choice(("build", "build", "fetch", "interrupted", None))
        if kind == "failure"
        else None,
        "replaces": {"upgrade": old, "rebuild": new}.get(kind),
        "recorded_at": moment(at + 4),
        "time_delta": int(source.lognormvariate(4, 1.5)),
        "concurrency": concurrency,
    }
    return [gone, came] if kind in ("upgrade", "rebuild") else [came]


def moment(seconds: int) -> str:
    """Return the time as records write it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def version(source: random.Random) -> str:
    """Return a version such as packages have."""
    parts = [str(min(int(source.expovariate(0.15)), 130)) for _ in range(source.choice((2, 3, 3, 3, 4)))]
    return ".".join(parts) + source.choice(("", "", "", "-r1", "-r2", "_p20250101", "_rc1"))


if __name__ == "__main__":
    main()
