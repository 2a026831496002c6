# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending an open file: validators, conditions and single ranges of RFC 9110, and the kernel's sendfile.

    answer = file_answer(request, Opened.of(file), {"Content-Type": …, "Cache-Control": …})

uvloop has no sendfile, and aiohttp's own answer would read such a file in pieces and, beside a `.gz`, send
that instead. Here the kernel copies from the file to the socket; a thread asks it to, since a page that is
not in memory makes it wait, and the loop waits for room in the socket. TLS needs the bytes in this process.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache, partial
from http import HTTPStatus
from typing import BinaryIO, Final, NamedTuple, Self

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from bdcs.blobs.blobs import RemoteFile
from bdcs.errors import BlobsUnavailable
from bdcs.services.finishing import to_its_end
from bdcs.web.problems import problem_response
from gentwoo_client.wire.errors import PreconditionFailed, RangeNotSatisfiable

PIECE: Final = 8 << 20  # bytes after which a thread looks after another reader
BLOCK: Final = 256 << 10  # bytes read at once where TLS needs them here
STALLED: Final = 60.0  # seconds in which a reader must take something
THREADS: Final = 4
FETCHERS: Final = 16  # threads that wait for what comes over the network

_DIGITS: Final = 18  # of a position in a file
_RANGE: Final = re.compile(rf"bytes=\s*([0-9]{{0,{_DIGITS}}})-([0-9]{{0,{_DIGITS}}})\s*", re.IGNORECASE)
_ENTITY_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_senders: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="sendfile")
_fetchers: Final = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")


class Version(NamedTuple):
    """What tells one version of a file from another."""

    mtime: int
    """Unix seconds: what Last-Modified says, and for an index its TIMESTAMP."""
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The version that a file's status shows."""
        return cls(status.st_mtime_ns // 1_000_000_000, status.st_size)

    @property
    def etag(self) -> str:
        """The entity tag, in the form that nginx gives to the same file."""
        return f'"{self.mtime:x}-{self.size:x}"'


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is open for reading, and its version; whoever answers with it closes it."""

    file: BinaryIO | RemoteFile
    version: Version

    @classmethod
    def of(cls, file: BinaryIO | RemoteFile) -> Self:
        """The version is that of the open file, whatever its name leads to by now."""
        if isinstance(file, RemoteFile):
            return cls(file, Version(file.mtime, file.size))
        return cls(file, Version.of(os.fstat(file.fileno())))


def validators(version: Version) -> dict[str, str]:
    """Return the headers by which a client can ask whether it has this version."""
    return {hdrs.ETAG: version.etag, hdrs.LAST_MODIFIED: _http_date(version.mtime)}


def unchanged(headers: Mapping[str, str], version: Version) -> bool:
    """Return whether the client has this version already (RFC 9110 §13.1.2, §13.1.3)."""
    tags = headers.get(hdrs.IF_NONE_MATCH)
    if tags is not None:
        return _matches(tags, version.etag, weak=True)
    since = _seconds(headers.get(hdrs.IF_MODIFIED_SINCE))
    return since is not None and version.mtime <= since


def file_answer(request: web.Request, opened: Opened, headers: Mapping[str, str]) -> web.StreamResponse:
    """Return the answer to a GET or HEAD for the file: 200, 206, 304, 412 or 416. The file gets closed."""
    version = opened.version
    answer = _without_body(request, version, {**headers, **validators(version)})
    if answer is not None:
        opened.file.close()
        return answer
    whole = {**headers, **validators(version), hdrs.ACCEPT_RANGES: "bytes"}
    part = _range(request, version)
    if part is None:
        return FileAnswer(opened.file, range(version.size), HTTPStatus.OK, whole)
    span = f"bytes {part.start}-{part.stop - 1}/{version.size}"
    return FileAnswer(opened.file, part, HTTPStatus.PARTIAL_CONTENT, {**whole, hdrs.CONTENT_RANGE: span})


def _without_body(
    request: web.Request, version: Version, headers: Mapping[str, str]
) -> web.StreamResponse | None:
    """Return the answer of a condition that forbids to send the file, or of a range that is not in it."""
    if _precondition_failed(request.headers, version):
        return problem_response(PreconditionFailed())
    if unchanged(request.headers, version):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    part = _range(request, version)
    if part is not None and not part:
        refusal = problem_response(RangeNotSatisfiable(f"the file has {version.size} bytes"))
        refusal.headers[hdrs.CONTENT_RANGE] = f"bytes */{version.size}"
        return refusal
    return None


def _precondition_failed(headers: Mapping[str, str], version: Version) -> bool:
    tags = headers.get(hdrs.IF_MATCH)
    if tags is not None:
        return not _matches(tags, version.etag, weak=False)
    since = _seconds(headers.get(hdrs.IF_UNMODIFIED_SINCE))
    return since is not None and version.mtime > since


def _range(request: web.Request, version: Version) -> range | None:
    """Return the bytes asked for; empty where none of them exist, None for the whole file.

    Several ranges at once, and whatever is no range, count as no wish (RFC 9110 §14.2 allows both).
    """
    wish = request.headers.get(hdrs.RANGE)
    if wish is None or request.method != hdrs.METH_GET or not _if_range(request.headers, version):
        return None
    match = _RANGE.fullmatch(wish)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, version.size - int(last)), version.size)
    start, stop = int(first), version.size if not last else min(int(last) + 1, version.size)
    if last and int(last) < start:
        return None
    return range(start, stop) if start < version.size else range(0)


def _if_range(headers: Mapping[str, str], version: Version) -> bool:
    """Return whether the range continues what the client has (RFC 9110 §13.1.5)."""
    condition = headers.get(hdrs.IF_RANGE)
    if condition is None:
        return True
    return condition == version.etag or _seconds(condition) == version.mtime


def _matches(tags: str, etag: str, *, weak: bool) -> bool:
    """Return whether a list of entity tags has this one, or is `*`."""
    if tags.strip() == "*":
        return True
    found = _ENTITY_TAG.findall(tags)
    return any((tag.removeprefix("W/") if weak else tag) == etag for tag in found)


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


@lru_cache(maxsize=1024)
def _seconds(date: str | None) -> int | None:
    """Return the Unix time of a date of HTTP; None where it is none, since such a condition is ignored."""
    if date is None or len(date) > 64:
        return None
    try:
        parsed = parsedate_to_datetime(date)
        return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


class FileAnswer(web.StreamResponse):
    """Sends bytes of a file, and closes it.

    It does so while it is prepared: after the middlewares, which could not answer otherwise any more.
    """

    def __init__(
        self, file: BinaryIO | RemoteFile, part: range, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(status=status, headers=headers)
        self.content_length = len(part)
        self._file = file
        self._part = part

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head, then the bytes. Raises `ConnectionError` where the reader has gone or stalls."""
        if self.prepared:
            return await super().prepare(request)
        with self._file:
            writer = await super().prepare(request)
            if writer is not None and self._part and request.method != hdrs.METH_HEAD:
                await self._send(request, writer)
        return writer

    async def _send(self, request: web.BaseRequest, writer: AbstractStreamWriter) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        connection = transport.get_extra_info("socket")
        try:
            if isinstance(self._file, RemoteFile):
                await _copy(partial(_fetch, self._file), self._part, writer, _fetchers)
            elif transport.get_extra_info("sslcontext") is not None or connection is None:
                await _copy(partial(os.pread, self._file.fileno()), self._part, writer, _senders)
            else:
                await _emptied(transport, writer)
                await _sendfile(self._file, self._part, connection)
        except (OSError, TimeoutError, BlobsUnavailable) as error:
            # What was promised cannot be sent: only a broken connection says so.
            transport.abort()
            raise ConnectionResetError("the file was not sent to its end") from error


async def _copy(
    read: Callable[[int, int], bytes], part: range, writer: AbstractStreamWriter, threads: ThreadPoolExecutor
) -> None:
    """Write that part; `read` gives so many bytes from a position on."""
    loop = asyncio.get_running_loop()
    for position in part[::BLOCK]:
        size = min(BLOCK, part.stop - position)
        block = await loop.run_in_executor(threads, read, size, position)
        if len(block) < size:
            raise OSError("the file ends too early")
        async with asyncio.timeout(STALLED):
            await writer.write(block)


def _fetch(file: RemoteFile, size: int, position: int) -> bytes:
    file.seek(position)
    blocks = []
    while size and (block := file.read(size)):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


async def _emptied(transport: asyncio.Transport, writer: AbstractStreamWriter) -> None:
    """Wait until everything written to the transport is with the kernel."""
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(high=0)
    try:
        async with asyncio.timeout(STALLED):
            await writer.drain()
        if transport.get_write_buffer_size():
            raise OSError("the transport still holds what belongs before the file")
    finally:
        transport.set_write_buffer_limits(high=high, low=low)


async def _sendfile(file: BinaryIO, part: range, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    # The loop refuses to watch a socket that belongs to a transport, but not its duplicate.
    duplicate = os.dup(connection.fileno())
    try:
        position = part.start
        while position < part.stop:
            count = min(PIECE, part.stop - position)
            position += await to_its_end(_senders, partial(_move, duplicate, file.fileno(), position, count))
            if position < part.stop:
                async with asyncio.timeout(STALLED):
                    await _writable(loop, duplicate)
    finally:
        os.close(duplicate)


def _move(target: int, source: int, position: int, count: int) -> int:
    """Have the kernel copy until the socket takes no more; return how many bytes it took."""
    moved = 0
    while moved < count:
        try:
            now = os.sendfile(target, source, position + moved, count - moved)
        except BlockingIOError:
            break
        if not now:
            raise OSError("the file ends too early")
        moved += now
    return moved


async def _writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)
