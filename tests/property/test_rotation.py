# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever happens to the files of the log, and whenever the reader is killed: every line once, in order."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentwoo_client.log import tail
from gentwoo_client.log.position import Position
from gentwoo_client.log.tail import LogTail
from tests.faults import GrowingLog

STAMP = 1795307625

HAPPENINGS = st.lists(
    st.sampled_from(
        ["write", "write", "write", "rename", "compress", "copytruncate", "read", "read", "kill"]
    ),
    max_size=40,
)


@pytest.fixture(autouse=True, scope="module")
def _no_grace() -> Iterator[None]:
    """What was moved away is left at once: nobody writes to it here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "GRACE", 0.0)
        yield


class Reader:
    """Reads as the daemon does; of what it read since the position that was stored, a kill leaves nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stored: Position | None = None
        self._stored_length = 0
        self._tail = LogTail(path)
        self.content = bytearray()

    def read(self, *, stores: bool) -> None:
        while (block := self._tail.read()) is not None:
            self.content += block.lines
            if stores:
                self._stored, self._stored_length = block.position, len(self.content)

    def kill(self) -> None:
        self._tail.close()
        del self.content[self._stored_length :]
        self._tail = LogTail(self._path, self._stored)

    def close(self) -> None:
        self._tail.close()


@given(HAPPENINGS, st.randoms(use_true_random=False))
def test_every_line_arrives_once_and_in_order(happenings: list[str], random: Random) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = GrowingLog(Path(directory, "emerge.log"))
        with contextlib.closing(Reader(log.path)) as reader:
            for number, happening in enumerate(happenings):
                happen(log, reader, happening, number, random.randint(1, 300), stores=random.random() < 0.7)
            reader.read(stores=True)
            assert bytes(reader.content) == bytes(log.content)


def happen(log: GrowingLog, reader: Reader, what: str, number: int, length: int, *, stores: bool) -> None:
    if what == "write":
        lines = range(number % 7 + 1)
        log.append(b"".join(b"%d:  === %d %s\n" % (STAMP + number, line, b"x" * length) for line in lines))
    elif what == "read":
        reader.read(stores=stores)
    elif what == "kill":
        reader.kill()
    elif log.size and what == "copytruncate":
        reader.read(stores=stores)  # truncating loses what nobody had the time to look at
        log.copytruncate()
    elif log.size:
        log.rename(compress=what == "compress")
