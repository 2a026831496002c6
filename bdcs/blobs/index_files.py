# SPDX-License-Identifier: GPL-2.0-or-later
"""A target's index on disk: `Packages`, `Packages.gz`, and `.layout`, which says where each chunk is.

A chunk is a run of entries; in `Packages.gz` it is a gzip member of its own, and so is the header. Where a
few chunks change, the kernel copies what is before, between and behind them; only those are compressed anew.
Each file appears whole: it is written beside the old one, which it then replaces, `Packages` first and
`Packages.gz` last, both with the TIMESTAMP as their time. Clients ask for `Packages.gz` first.

Nothing is synced to the disk: the rows of the store can bring all of it back (`services.indexing`).
The caller holds the lock of the target.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from bdcs.errors import IndexNotWritten

PLAIN: Final = "Packages"
PACKED: Final = "Packages.gz"
LAYOUT: Final = ".layout"

DIRECTORY_MODE: Final = 0o755
FILE_MODE: Final = 0o644  # nginx may serve them, where the operator opens the directories above to it
COMPRESSION: Final = 9
READ_SIZE: Final = 1 << 20  # bytes at once where the kernel does not copy between files
_LAYOUT_FORM: Final = 1  # changes when what is in the file does
_CANNOT: Final = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV))
"""What file systems say to a call that they do not support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What of the store an index was written from."""

    target: int
    generation: int
    at: int
    """When the generation was made; tells it from one of equal number before the store was restored."""
    builds: int
    """How many it has."""
    header: str
    """A digest of the header's fields, count and TIMESTAMP aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A run of entries in both files."""

    first: str
    """The CPV of its first entry."""
    entries: int
    size: int
    """Bytes in `Packages`."""
    packed: int
    """Bytes in `Packages.gz`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What is where in the two files."""

    source: Source
    timestamp: int
    head: tuple[int, int]
    """Bytes of the header in `Packages` and in `Packages.gz`."""
    chunks: tuple[Chunk, ...]

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return sum(chunk.entries for chunk in self.chunks)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of the two files."""
        return (
            self.head[0] + sum(chunk.size for chunk in self.chunks),
            self.head[1] + sum(chunk.packed for chunk in self.chunks),
        )

    def to_json(self) -> str:
        """Return it as the text of the side file."""
        return json.dumps(
            {
                "form": _LAYOUT_FORM,
                "source": dataclasses.asdict(self.source),
                "timestamp": self.timestamp,
                "head": self.head,
                "chunks": [[chunk.first, chunk.entries, chunk.size, chunk.packed] for chunk in self.chunks],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read it back. Raises `ValueError`, `TypeError`, `KeyError` where it is something else."""
        fields = json.loads(text)
        if fields["form"] != _LAYOUT_FORM:
            raise ValueError("another form")
        return cls(
            source=Source(**fields["source"]),
            timestamp=int(fields["timestamp"]),
            head=(int(fields["head"][0]), int(fields["head"][1])),
            chunks=tuple(
                Chunk(first=str(first), entries=int(entries), size=int(size), packed=int(packed))
                for first, entries, size, packed in fields["chunks"]
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A chunk to be written."""

    first: str
    entries: int
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Chunks of the present files, from number `start` to before `end`, that stay as they are."""

    start: int
    end: int


class IndexFiles:
    """The index of one target, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, data: Path, target: str) -> Self:
        """Return those of `target` in the data directory."""
        return cls(data / "binhost" / target)

    def path(self, name: str) -> Path:
        """Return where `Packages` or `Packages.gz` is."""
        return self.directory / name

    def timestamp(self) -> int:
        """Return the largest TIMESTAMP that clients may have seen here; 0 where nothing is."""
        times = [0]
        for name in (PLAIN, PACKED):
            with contextlib.suppress(FileNotFoundError):
                times.append(int(self.path(name).stat().st_mtime))
        return max(times)

    def marks(self) -> tuple[object, ...]:
        """Return what is another as soon as any of the files is, at the cost of looking at their inodes."""
        return tuple(_mark(self.path(name)) for name in (PLAIN, PACKED, LAYOUT))

    def layout(self) -> Layout | None:
        """Return what is where; None where the files are missing or not those that it was written for."""
        try:
            layout = Layout.from_json(self.path(LAYOUT).read_bytes())
            states = [self.path(name).stat() for name in (PLAIN, PACKED)]
        except (OSError, ValueError, TypeError, KeyError, IndexError):
            return None
        times = {state.st_mtime_ns for state in states}
        if times != {layout.timestamp * 10**9} or tuple(state.st_size for state in states) != layout.sizes:
            return None
        return layout

    def forget(self) -> None:
        """Make the layout one that fits no files, so that all is written anew."""
        self.path(LAYOUT).unlink(missing_ok=True)

    def write(self, source: Source, timestamp: int, header: str, chunks: Iterable[Fresh]) -> Layout:
        """Write everything; `chunks` are taken one by one. Raises `IndexNotWritten`, and all is as it was."""
        with self._drafts() as drafts:
            return _fill(drafts, source, timestamp, _head(header, timestamp), map(_fresh, chunks))

    def update(
        self, old: Layout, source: Source, timestamp: int, header: str, parts: Iterable[Fresh | Kept]
    ) -> Layout:
        """Write the header and `parts` in their order, with what is `Kept` of the files of layout `old`.

        The result is, byte for byte, what `write` makes of the same chunks. Raises `IndexNotWritten`, and all
        is as it was.
        """
        with self._drafts() as drafts:
            for draft in (drafts.plain, drafts.packed):
                draft.open_old()
            head = _head(header, timestamp)
            pieces = [_fresh(part) if isinstance(part, Fresh) else _kept(old, part) for part in parts]
            # With its blocks reserved a file need not be written out before it may replace another (ext4).
            drafts.plain.reserve(sum(len(piece.plain) for piece in [head, *pieces]))
            drafts.packed.reserve(sum(len(piece.packed) for piece in [head, *pieces]))
            return _fill(drafts, source, timestamp, head, pieces)

    def holds(self, layout: Layout, header: str, chunks: Iterable[Fresh]) -> bool:
        """Whether both files of `layout` consist of just these; all of them is read."""
        try:
            with self.path(PLAIN).open("rb") as plain, self.path(PACKED).open("rb") as packed:

                def has(size: int, packed_size: int, text: bytes) -> bool:
                    member = packed.read(packed_size)
                    return plain.read(size) == text and gzip.decompress(member) == text

                if not has(*layout.head, header.encode()):
                    return False
                expected = iter(layout.chunks)
                for chunk in chunks:
                    there = next(expected, None)
                    if there is None or (there.first, there.entries) != (chunk.first, chunk.entries):
                        return False
                    if not has(there.size, there.packed, chunk.text):
                        return False
                return next(expected, None) is None
        except (OSError, EOFError, zlib.error):
            return False

    @contextlib.contextmanager
    def _drafts(self) -> Iterator[_Drafts]:
        try:
            self.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                yield _Drafts(
                    *(stack.enter_context(_Draft(self.path(name))) for name in (PLAIN, PACKED, LAYOUT))
                )
        except OSError as error:
            raise IndexNotWritten(f"{self.directory}: {error.strerror or error}") from error


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """What goes into both files: bytes, or where in the present file they are."""

    chunks: Sequence[Chunk]
    """Which chunks these are; none, where it is the header."""
    plain: bytes | range
    packed: bytes | range


def _head(text: str, timestamp: int) -> _Piece:
    plain = text.encode()
    return _Piece(chunks=(), plain=plain, packed=gzip.compress(plain, COMPRESSION, mtime=timestamp))


def _fresh(chunk: Fresh) -> _Piece:
    packed = gzip.compress(chunk.text, COMPRESSION, mtime=0)
    place = Chunk(first=chunk.first, entries=chunk.entries, size=len(chunk.text), packed=len(packed))
    return _Piece(chunks=(place,), plain=chunk.text, packed=packed)


def _kept(layout: Layout, part: Kept) -> _Piece:
    chunks = layout.chunks[part.start : part.end]
    before = layout.chunks[: part.start]
    plain = layout.head[0] + sum(chunk.size for chunk in before)
    packed = layout.head[1] + sum(chunk.packed for chunk in before)
    return _Piece(
        chunks=chunks,
        plain=range(plain, plain + sum(chunk.size for chunk in chunks)),
        packed=range(packed, packed + sum(chunk.packed for chunk in chunks)),
    )


def _fill(drafts: _Drafts, source: Source, timestamp: int, head: _Piece, pieces: Iterable[_Piece]) -> Layout:
    """Write header and pieces, and let the drafts appear."""
    chunks: list[Chunk] = []
    for piece in itertools.chain([head], pieces):
        drafts.plain.append(piece.plain)
        drafts.packed.append(piece.packed)
        chunks += piece.chunks
    sizes = len(head.plain), len(head.packed)
    layout = Layout(source=source, timestamp=timestamp, head=sizes, chunks=tuple(chunks))
    drafts.layout.append(layout.to_json().encode())
    for draft in drafts:
        draft.appear(timestamp)
    return layout


class _Draft:
    """A file that is going to take the place of another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(f".{path.name.lstrip('.')}.new")
        self._old = -1

    def __enter__(self) -> Self:
        # A killed process may have left one behind; who holds the lock of the target is alone.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._new, flags, FILE_MODE)
        return self

    def __exit__(self, *_exception: object) -> None:
        for file in (self._file, self._old):
            if file >= 0:
                os.close(file)
        self._new.unlink(missing_ok=True)

    def open_old(self) -> None:
        """Open the file that is there now, to copy from."""
        self._old = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def reserve(self, size: int) -> None:
        """Take so many bytes of the disk now."""
        try:
            os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise

    def append(self, what: bytes | range) -> None:
        """Write these bytes, or those at this place of the file that is there now."""
        if isinstance(what, range):
            self._copy(what.start, len(what))
            return
        left = memoryview(what)
        while left:
            left = left[os.write(self._file, left) :]

    def appear(self, timestamp: int) -> None:
        """Take the other's place."""
        os.utime(self._file, (timestamp, timestamp))
        self._new.replace(self._path)

    def _copy(self, offset: int, size: int) -> None:
        while size:
            copied = self._copied_by_kernel(offset, size)
            if not copied:
                data = os.pread(self._old, min(size, READ_SIZE), offset)
                if not data:
                    raise OSError(errno.EIO, "the index became shorter while it was read", str(self._path))
                self.append(data)
                copied = len(data)
            offset += copied
            size -= copied

    def _copied_by_kernel(self, offset: int, size: int) -> int:
        try:
            return os.copy_file_range(self._old, self._file, size, offset)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            return 0


class _Drafts(NamedTuple):
    """In the order in which they appear: who asks for `Packages.gz` first sees the change last."""

    plain: _Draft
    packed: _Draft
    layout: _Draft
