# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever happens to the log, and whenever the reader is killed: each line once, in order."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gentwoo_client.log import tail as tail_module
from gentwoo_client.log.position import Position
from gentwoo_client.log.tail import LogTail

FIRST_STAMP = 1_795_000_000
DAMAGE = {
    "NULs": b"\0" * 5000 + b"\n",
    "invalid UTF-8": b"\xff\xfe garbage\n",
    "empty": b"\n",
    "no stamp": b"=== (1 of 1)\n",
}
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


class LogLife(RuleBasedStateMachine):
    """An emerge.log, its administrator, and a reader that is killed now and then.

    The reader's memory is the position of the last block it stored, as in the journal. What was logged is
    kept in `written`, whole lines only; a reader that has caught up must have read exactly that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="tail-"))
        self.log = self.directory / "emerge.log"
        self.written = b""
        self.unfinished = b""
        self.stored = b""
        self.position: str | None = None
        self.stamp = FIRST_STAMP
        self.lines = 0
        self.rotations = 0
        self.dated = False
        self.tail = LogTail(self.log)

    @initialize(dated=st.booleans())
    def choose_naming(self, dated: bool) -> None:
        self.dated = dated

    def teardown(self) -> None:
        self.tail.close()
        shutil.rmtree(self.directory)

    # What emerge does

    @rule(
        texts=st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=120),
            min_size=1,
            max_size=30,
        ),
        step=st.integers(0, 5),
    )
    def append(self, texts: list[str], step: int) -> None:
        for text in texts:
            self.stamp += step
            self.lines += 1
            self._write(b"%d:  %d %s\n" % (self.stamp, self.lines, text.encode()))

    @rule(kind=st.sampled_from(sorted(DAMAGE)))
    def append_damage(self, kind: str) -> None:
        self._write(DAMAGE[kind])

    @rule()
    def append_many(self) -> None:
        lines = [b"%d:  === filler %d %s\n" % (self.stamp + n // 5, n, b"x" * 90) for n in range(1000)]
        self.stamp += 200
        self.lines += 1
        self._write(b"".join(lines))

    @rule(text=st.binary(min_size=1, max_size=30))
    def append_unterminated(self, text: bytes) -> None:
        text = text.replace(b"\n", b" ")
        with self.log.open("ab") as log:
            log.write(text)
        self.unfinished += text

    def _write(self, lines: bytes) -> None:
        with self.log.open("ab") as log:
            log.write(lines)
        self.written += self.unfinished + lines
        self.unfinished = b""

    # What the administrator does

    @precondition(lambda self: self.log.exists() and not self.unfinished)
    @rule(create=st.booleans())
    def rotate_by_rename(self, create: bool) -> None:
        self.log.rename(self._next_name())
        self.stamp += 1
        if create:
            self.log.touch()

    @precondition(lambda self: self.log.exists() and not self.unfinished)
    @rule()
    def rotate_by_copytruncate(self) -> None:
        """Truncating loses what nobody had the time to look at, so the log is read before."""
        self.read_to_the_end()
        shutil.copyfile(self.log, self._next_name())
        os.truncate(self.log, 0)
        self.stamp += 1

    @precondition(lambda self: self._plain_parts())
    @rule(ending=st.sampled_from(sorted(COMPRESSORS)), data=st.data())
    def compress(self, ending: str, data: st.DataObject) -> None:
        part = data.draw(st.sampled_from(self._plain_parts()))
        status = part.stat()
        packed = part.with_name(part.name + ending)
        packed.write_bytes(COMPRESSORS[ending](part.read_bytes()))
        os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
        part.unlink()

    @precondition(lambda self: self.log.exists() and not self.unfinished)
    @rule(keep=st.floats(0, 1))
    def cut_head_with_editor(self, keep: float) -> None:
        """The whole log is read, then an editor writes the end of it into a new file."""
        self.read_to_the_end()
        lines = self.log.read_bytes().splitlines(keepends=True)
        edited = self.directory / "edited"
        edited.write_bytes(b"".join(lines[int(len(lines) * keep) :]))
        edited.replace(self.log)
        self.stamp += 1

    @rule()
    def delete_when_read(self) -> None:
        self.read_to_the_end()
        self.log.unlink(missing_ok=True)
        self.unfinished = b""
        self.stamp += 1

    def _next_name(self) -> Path:
        self.rotations += 1
        if self.dated:
            return self.log.with_name(f"emerge.log-{20260000 + self.rotations}")
        for number in range(self.rotations, 0, -1):
            for part in self.directory.glob(f"emerge.log.{number}*"):
                ending = part.name.removeprefix(f"emerge.log.{number}")
                if ending in ("", *COMPRESSORS):
                    part.rename(self.log.with_name(f"emerge.log.{number + 1}{ending}"))
        return self.log.with_name("emerge.log.1")

    def _plain_parts(self) -> list[Path]:
        return sorted(part for part in self.directory.glob("emerge.log?*") if part.suffix not in COMPRESSORS)

    # What the reader does

    @rule(blocks=st.integers(0, 3))
    def read_some(self, blocks: int) -> None:
        for _ in range(blocks):
            self._read()

    @rule()
    def read_to_the_end(self) -> None:
        while self._read():
            pass
        assert self.tail.at_end

    @rule()
    def kill_and_restart(self) -> None:
        self.tail.close()
        self.tail = LogTail(self.log, Position.load(self.position) if self.position else None)

    @rule()
    def read_without_storing_then_kill(self) -> None:
        self.tail.read()
        self.kill_and_restart()

    def _read(self) -> bool:
        block = self.tail.read()
        if block is None:
            return False
        assert block.lines.endswith(b"\n")
        self.stored += block.lines
        self.position = block.position.dump()
        return True

    @rule()
    def everything_is_read_in_the_end(self) -> None:
        self.read_to_the_end()
        read, written = stamped(self.stored), stamped(self.written)
        assert len(read) == len(written)
        assert read == written


def stamped(lines: bytes) -> list[bytes]:
    """Return the lines that a parser would look at. Only of those is it promised that each is read once."""
    return re.findall(rb"^\d{10}: .*$", lines, re.MULTILINE)


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes into renamed files here, so the reader need not wait for it."""
    monkeypatch.setattr(tail_module, "GRACE", 0.0)


@pytest.mark.usefixtures("_no_grace")
def test_a_log_of_damage_alone_is_not_taken_for_an_older_part_that_begins_so() -> None:
    life = LogLife()
    life.append_damage("NULs")
    life.append_many()
    life.rotate_by_rename(create=False)
    life.append_damage("NULs")
    life.delete_when_read()
    life.append_many()
    life.everything_is_read_in_the_end()
    life.teardown()


@pytest.mark.usefixtures("_no_grace")
def test_what_a_copy_repeats_is_known_by_its_last_stamped_line() -> None:
    life = LogLife()
    life.append([""], step=0)
    life.rotate_by_copytruncate()
    life.append_damage("NULs")
    life.delete_when_read()
    life.everything_is_read_in_the_end()
    life.teardown()


@pytest.mark.usefixtures("_no_grace")
def test_what_was_rotated_after_a_deletion_is_read_though_there_is_no_log() -> None:
    life = LogLife()
    life.append_many()
    life.delete_when_read()
    life.append_many()
    life.rotate_by_rename(create=False)
    life.everything_is_read_in_the_end()
    life.teardown()


LogLife.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLogLife = pytest.mark.usefixtures("_no_grace")(LogLife.TestCase)
