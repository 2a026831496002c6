# SPDX-License-Identifier: GPL-2.0-or-later
"""Single things that happen to logs; tests/property/test_tail.py has them in every order."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gentwoo_client.log import tail as tail_module
from gentwoo_client.log.position import Position
from gentwoo_client.log.tail import LogTail
from tests.waiting import until

ONE, TWO, THREE = (b"%d:  *** terminating.\n" % stamp for stamp in (1795000001, 1795000002, 1795000003))


def everything(tail: LogTail) -> bytes:
    """What is there to read now, without waiting for the grace time of a log that was moved away."""
    read = b""
    while block := tail.read():
        read += block.lines
    return read


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "emerge.log"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "GRACE", 0.0)


def append(log: Path, lines: bytes) -> None:
    with log.open("ab") as file:
        file.write(lines)


def test_an_unterminated_line_waits_for_its_end(log: Path) -> None:
    tail = LogTail(log)
    append(log, ONE + TWO[:10])
    assert everything(tail) == ONE
    append(log, TWO[10:])
    assert everything(tail) == TWO


def test_a_log_that_does_not_exist_yet_is_empty(log: Path) -> None:
    tail = LogTail(log)
    assert everything(tail) == b""
    assert tail.at_end
    append(log, ONE)
    assert everything(tail) == ONE


def test_dev_null_is_an_empty_log(log: Path) -> None:
    log.symlink_to("/dev/null")
    tail = LogTail(log)
    assert everything(tail) == b""
    assert tail.at_end


def test_a_fifo_does_not_block(log: Path) -> None:
    os.mkfifo(log)
    assert everything(LogTail(log)) == b""


def test_an_unreadable_log_is_said_once_and_is_not_its_end(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append(log, ONE)
    tail = LogTail(log)
    with as_ordinary_user(log.parent):
        log.chmod(0o000)
        assert everything(tail) == everything(tail) == b""
        assert tail.is_denied
        assert not tail.at_end
        assert caplog.text.count("Permission denied") == 1
        log.chmod(0o600)
        assert everything(tail) == ONE
        assert not tail.is_denied


@contextmanager
def as_ordinary_user(directory: Path) -> Iterator[None]:
    """Let the file system see an ordinary user, who owns `directory`; root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    nobody = pwd.getpwnam("nobody")
    libc = ctypes.CDLL(None)
    for path in (directory, *directory.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for parent in directory.parents:
        if parent.stat().st_mode & 0o011 != 0o011:
            parent.chmod(parent.stat().st_mode | 0o011)
    libc.setfsuid(nobody.pw_uid)  # of this thread; the kernel drops what lets root read everything
    try:
        yield
    finally:
        libc.setfsuid(0)


def test_the_old_file_is_read_once_more_after_it_was_renamed(log: Path, tmp_path: Path) -> None:
    tail = LogTail(log)
    append(log, ONE)
    assert everything(tail) == ONE
    log.rename(tmp_path / "emerge.log.1")
    append(log, THREE)
    assert everything(tail) == b""
    assert tail.retry_in is not None
    assert not tail.at_end
    append(tmp_path / "emerge.log.1", TWO)
    read = until(lambda: everything(tail))
    assert (read + everything(tail) if read != TWO + THREE else read) in (TWO, TWO + THREE)
    until(lambda: everything(tail) or tail.at_end)
    assert tail.position
    assert tail.position.stamp == 1795000003


@pytest.mark.usefixtures("impatient")
def test_copytruncate_that_grew_past_the_place_is_noticed(log: Path, tmp_path: Path) -> None:
    tail = LogTail(log)
    append(log, ONE)
    assert everything(tail) == ONE
    append(log, TWO)
    shutil.copyfile(log, tmp_path / "emerge.log.1")
    os.truncate(log, 0)
    append(log, THREE * 10)
    assert everything(tail) == TWO + THREE * 10


@pytest.mark.usefixtures("impatient")
def test_a_truncated_log_begins_anew(log: Path) -> None:
    tail = LogTail(log)
    append(log, ONE + TWO)
    assert everything(tail) == ONE + TWO
    os.truncate(log, 0)
    append(log, THREE)
    assert everything(tail) == THREE
    assert tail.has_gap


def test_a_line_of_over_a_mebibyte_is_skipped_in_little_memory(log: Path) -> None:
    append(log, ONE + b"1795000001: " + b"x" * (20 * 1024 * 1024) + b"\n" + TWO)
    tail = LogTail(log)
    tracemalloc.start()
    try:
        assert everything(tail) == ONE + TWO
        assert tracemalloc.get_traced_memory()[1] < 6 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_long_line_within_the_limit_is_delivered(log: Path) -> None:
    long = b"1795000001:  *** emerge " + b"x" * 500_000 + b"\n"
    append(log, long + TWO)
    assert everything(LogTail(log)) == long + TWO


def test_damage_is_left_to_the_parser(log: Path) -> None:
    damaged = b"\0" * 4096 + ONE + b"\xff\xfe\x85\n" + "1795000001: \u2028x\n".encode() + TWO
    append(log, damaged)
    assert everything(LogTail(log)) == damaged


def test_other_files_beside_the_log_are_not_parts_of_it(log: Path, tmp_path: Path) -> None:
    for name in ("emerge-fetch.log", "emerge.log~", "emerge.log.bak", "emerge.log.1.tmp", "emerge.log.d"):
        (tmp_path / name).write_bytes(ONE)
    append(log, TWO)
    assert everything(LogTail(log)) == TWO


@pytest.mark.usefixtures("impatient")
def test_parts_are_read_in_the_order_they_were_written(log: Path, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        (tmp_path / f"emerge.log.{number}").write_bytes(b"%d: part\n" % (1795000000 - number))
    append(log, ONE)
    assert everything(LogTail(log)) == b"1794999990: part\n1794999998: part\n1794999999: part\n" + ONE


@pytest.mark.usefixtures("impatient")
def test_the_copy_of_a_log_not_yet_truncated_is_not_read(log: Path, tmp_path: Path) -> None:
    append(log, ONE + TWO)
    shutil.copyfile(log, tmp_path / "emerge.log.1")
    append(log, THREE)
    assert everything(LogTail(log)) == ONE + TWO + THREE


@pytest.mark.usefixtures("impatient")
def test_a_damaged_compressed_part_costs_only_its_rest(
    log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import gzip

    packed = gzip.compress(ONE + os.urandom(100_000).hex().encode() + b"\n")
    (tmp_path / "emerge.log.1.gz").write_bytes(packed[:-20_000])
    append(log, TWO)
    read = everything(LogTail(log))
    assert read.endswith(TWO)
    assert "damaged" in caplog.text


@pytest.mark.usefixtures("impatient")
def test_zstd_is_read(log: Path, tmp_path: Path) -> None:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    path = tmp_path / "emerge.log.1.zst"
    path.write_bytes(zstd.compress(ONE))
    append(log, TWO)
    assert everything(LogTail(log)) == ONE + TWO


def test_a_restored_copy_of_the_log_goes_on_where_it_was(log: Path, tmp_path: Path) -> None:
    tail = LogTail(log)
    append(log, ONE)
    everything(tail)
    assert tail.position
    shutil.copyfile(log, tmp_path / "restored")
    (tmp_path / "restored").replace(log)
    append(log, TWO)
    assert everything(LogTail(log, Position.load(tail.position.dump()))) == TWO


def test_text_that_is_no_position_is_refused() -> None:
    for text in ("{}", "[]", "null", '{"device":1}'):
        with pytest.raises(ValueError, match="not a position"):
            Position.load(text)
