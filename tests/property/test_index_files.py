# SPDX-License-Identifier: GPL-2.0-or-later
"""Index files follow from the rows alone: however they came there, and whoever looks whenever.

What is right is worked out here from the rows, in the plainest way, and shares no code with what is tested.
"""

import gzip
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdcs.blobs.index_files import LAYOUT, PACKED, PLAIN
from bdcs.domain import packages_index
from bdcs.store import tables
from bdcs.store.store import transaction
from tests.index_rows import IndexRows, made

NAMES = [f"{category}/p{number}-{version}" for category in "ab" for number in range(12) for version in (1, 2)]


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    """Three CPVs a chunk, so that a few packages make many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packages_index, "CHUNK_ENTRIES", 3)
        yield


def expected(rows: IndexRows) -> tuple[bytes, bytes]:
    """Both files, as they must be."""
    builds, target = tables.builds, rows.target
    with transaction(rows.engine) as connection:
        stored = connection.execute(builds.select().where(builds.c.visible)).all()
    stored = sorted(stored, key=lambda row: (row.cpv, row.id))
    head = (
        f"CHOST: {target.chost}\nPACKAGES: {len(stored)}\nPROFILE: {target.profile}\n"
        f"TIMESTAMP: {target.timestamp}\nVERSION: 0\n\n"
    ).encode()
    chunks: list[bytes] = []
    for cpv, same in groupby(stored, key=lambda row: row.cpv):
        text = "".join(f"{row.entry}\n\n" for row in same).encode()
        if not chunks or packages_index.starts_chunk(cpv):
            chunks.append(b"")
        chunks[-1] += text
    members = [gzip.compress(head, 9, mtime=target.timestamp)]
    members += (gzip.compress(chunk, 9, mtime=0) for chunk in chunks)
    return b"".join([head, *chunks]), b"".join(members)


def check(rows: IndexRows) -> None:
    plain, packed = (rows.files.path(name) for name in (PLAIN, PACKED))
    assert (plain.read_bytes(), packed.read_bytes()) == expected(rows)
    with gzip.open(packed) as file:
        assert file.read() == plain.read_bytes()
    assert {plain.stat().st_mtime_ns, packed.stat().st_mtime_ns} == {rows.target.timestamp * 10**9}
    assert rows.agrees()


Step = tuple[list[str], list[int], bool, bool]
# A step: what comes (CPVs, several builds of one allowed), what goes (positions in what is there), and
# whether the publisher says what changed.
STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(NAMES), max_size=6),
        st.lists(st.integers(0, 200), max_size=4),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> IndexRows:
    """What each example begins with a copy of; to make a store takes longer than all the rest."""
    rows = IndexRows.create(tmp_path_factory.mktemp("empty"))
    rows.engine.dispose()
    return rows


@settings(max_examples=60)
@given(steps=STEPS)
def test_what_changes_bit_by_bit_is_what_is_written_at_once(empty: IndexRows, steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        rows = empty.copied_to(Path(directory) / "data")
        there: dict[int, str] = {}
        now, number = 1_700_000_000, 0
        for come, go, tells, is_written in steps:
            leaving = {sorted(there)[place % len(there)] for place in go} if there else set()
            builds = []
            for cpv in come:
                number += 1
                builds.append(made(cpv, number))
            came = rows.publish(builds, leaving, now=now)
            changed = {*come, *(there.pop(build) for build in leaving)}
            there.update(zip(came, come, strict=True))
            now += 100
            if is_written:
                assert rows.write(changed if tells else None, now=now)
                check(rows)
        rows.write(now=now)
        check(rows)
        rows.engine.dispose()


def test_a_whole_index_is_the_same_again_without_its_layout(tmp_path: Path) -> None:
    rows = IndexRows.create(tmp_path)
    rows.publish([made(cpv) for cpv in NAMES])
    assert rows.write()
    before = [rows.files.path(name).read_bytes() for name in (PLAIN, PACKED, LAYOUT)]
    shutil.rmtree(rows.files.directory)
    assert rows.write()
    assert [rows.files.path(name).read_bytes() for name in (PLAIN, PACKED, LAYOUT)] == before


@pytest.mark.parametrize("call", ["copy_file_range", "posix_fallocate"])
def test_a_file_system_without_a_call_gets_the_same_files(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, call, refuse)
    rows = IndexRows.create(tmp_path)
    rows.publish([made(cpv) for cpv in NAMES])
    assert rows.write()
    rows.publish([made("a/p3-1.5")], now=1_700_000_100)
    assert rows.write({"a/p3-1.5"}, now=1_700_000_100)
    check(rows)


def test_whoever_opens_a_file_sees_one_generation_whole(tmp_path: Path) -> None:
    rows = IndexRows.create(tmp_path)
    ids = rows.publish([made(cpv) for cpv in NAMES])
    rows.write()
    legal, seen, over = set(), set(), threading.Event()

    def read(name: str) -> None:
        while not over.is_set():
            content = rows.files.path(name).read_bytes()
            plain = gzip.decompress(content) if name == PACKED else content
            seen.add(hashlib.sha256(plain).digest())

    readers = [threading.Thread(target=read, args=(name,)) for name in (PLAIN, PACKED)]
    legal.add(hashlib.sha256(rows.files.path(PLAIN).read_bytes()).digest())
    for reader in readers:
        reader.start()
    try:
        for step in range(40):
            now = 1_700_000_100 + 100 * step
            rows.publish([made(f"a/new-{step}")], [ids.pop()], now=now)
            assert rows.write(now=now)
            legal.add(hashlib.sha256(rows.files.path(PLAIN).read_bytes()).digest())
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert seen <= legal
