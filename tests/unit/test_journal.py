# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal keeps records, place and open merges together, and says clearly what is wrong with its file."""

from __future__ import annotations

import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from gentwoo_client.errors import JournalError, NotRegistered
from gentwoo_client.journal import JOURNAL_NAME, MIGRATIONS, Journal, JournalRecord
from gentwoo_client.wire.records import PackageStateChange

CHANGE = PackageStateChange(
    seq=0,
    event="install",
    category="app-misc",
    name="alpha",
    version="1.0",
    repository="gentoo",
    install_type="source",
    cause=None,
    replaces=None,
    recorded_at=1795000000,
    time_delta=3,
    concurrency=1.0,
    observed="live",
    clock="unknown",
)


def record(version: str = "1.0", *, withheld: str | None = None) -> JournalRecord:
    return JournalRecord(change=replace(CHANGE, version=version), root="/", withheld=withheld)


def test_records_get_numbers_without_gaps_where_they_may_be_sent(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, create=True)
    assert (
        journal.commit([record("1"), record("2", withheld="root")], position="p", tracker="t", state={}) == 1
    )
    assert journal.commit([record("3")], position="q", tracker="u", state={"x": "1"}) == 1
    kept = list(journal.iter_records())
    assert [(r.change.version, r.change.seq, r.withheld) for r in kept] == [
        ("1", 1, None),
        ("2", 0, "root"),
        ("3", 2, None),
    ]
    assert (journal.get("position"), journal.get("tracker"), journal.get("x")) == ("q", "u", "1")
    assert journal.unsent_count() == 2
    journal.close()


def test_a_commit_that_fails_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, create=True)
    journal.commit([], position="p", tracker="t", state={})
    bad = JournalRecord(change=replace(CHANGE, recorded_at=None), root=None, withheld="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        journal.commit([record(), bad], position="q", tracker="u", state={})
    assert list(journal.iter_records()) == []
    assert journal.get("position") == "p"
    journal.close()


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, create=True)
    journal.put(x="1")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    journal.close()


def test_a_missing_journal_means_not_registered(tmp_path: Path) -> None:
    with pytest.raises(NotRegistered):
        Journal.open(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_journal_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(JournalError, match="damaged") as caught:
        Journal.open(tmp_path)
    assert caught.value.advice


def test_a_newer_journal_is_not_touched(tmp_path: Path) -> None:
    Journal.open(tmp_path, create=True).close()
    with sqlite3.connect(tmp_path / JOURNAL_NAME) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(JournalError, match="newer version"):
        Journal.open(tmp_path)


def test_the_repository_of_the_last_install_is_known(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, create=True)
    guru = JournalRecord(change=replace(CHANGE, repository="guru"), root="/", withheld=None)
    elsewhere = JournalRecord(change=replace(CHANGE, repository="x"), root="/mnt/", withheld="root")
    journal.commit([record(), guru, elsewhere], position=None, tracker="", state={})
    assert journal.repository_of_last_install("app-misc/alpha-1.0") == "guru"
    assert journal.repository_of_last_install("app-misc/alpha-2.0") is None
    journal.close()
