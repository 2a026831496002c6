# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files in a bucket of S3, or of what speaks like it.

    s3://BUCKET/PREFIX/packages/TARGET/CATEGORY/NAME/PF-BUILD_ID.gpkg.tar   as in a directory
    s3://BUCKET/PREFIX/quarantine/uploads/ID
    s3://BUCKET/PREFIX/logs/ATTEMPT.log                                     of builds that have ended

Quarantine of what is published is S3's own: a multipart upload, of which nobody sees anything before it is
completed. `settle` sends the parts, which takes long; `place` completes it on the condition that the name is
free (If-None-Match: *). Drafts are on this host (`workspace`); beside each, `N.multipart` says which upload
it has, so that the next `upkeep` aborts those of a process that died. Where the host itself is lost, any
other collector does that after a day (`drop_lost`).

An answer of S3 may get lost, so each file carries a token of who sent it: whoever finds their own under the
name has placed it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from bdcs import measures
from bdcs.blobs.blobs import (
    Address,
    Blob,
    Placement,
    RemoteFile,
    attempts_of,
    checked_place,
    checked_target,
    checked_upload,
    log_name,
)
from bdcs.blobs.workspace import QUARANTINE, Draft, Workspace, Workspaces, space_errors
from bdcs.domain.batches import batches
from bdcs.domain.package_files import FOR_GOOD, content_type
from bdcs.errors import BlobMissing, BlobsUnavailable, BlobTaken
from bdcs.settings import REDIRECT, SEND, Settings

PACKAGES: Final = "packages"
UPLOADS: Final = f"{QUARANTINE}/uploads"
LOGS: Final = "logs"
RECORD: Final = ".multipart"
PART: Final = 8 << 20  # bytes of a part; S3 takes 5 MiB and more
PARTS: Final = 10_000  # of one upload, at most
THREADS: Final = 8  # requests at a time, each with a part in memory
BATCH: Final = 1000  # names that one request deletes
SIGNED_FOR: Final = 3600  # seconds in which a signed URL can be used
LED_FOR: Final = 300  # seconds for which caches lead to the same signed URL
DAY: Final = 86_400
MTIME: Final = "mtime"  # of the draft, among the metadata of a file
TOKEN: Final = "token"

_MISSING: Final = frozenset(("NoSuchKey", "404"))
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Multipart:
    """An upload in parts that was begun, and, once they were all sent, its parts."""

    key: str
    upload: str
    token: str
    parts: tuple[dict[str, Any], ...] = ()


class S3:
    """`Blobs` below one prefix of a bucket."""

    keeps_mtime = False

    def __init__(
        self,
        *,
        data: Path,
        bucket: str,
        prefix: str,
        endpoint: str | None = None,
        region: str | None = None,
        download: str = REDIRECT,
    ) -> None:
        """`data`: directory of this host for drafts. The others are as in `Settings`."""
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._download = download
        self._client = _client(endpoint, region)
        self._workspaces = Workspaces(data / QUARANTINE, self._abort)
        self._seen: dict[str, float] = {}
        """When uploads in parts that are not ended were first seen."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Make the one that the settings name."""
        place = urlsplit(settings.blobs)
        return cls(
            data=settings.data,
            bucket=place.netloc,
            prefix=place.path.strip("/"),
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            download=settings.s3_download,
        )

    def workspace(self) -> Workspace:
        """Return a place for drafts. Raises `BlobsFull`."""
        return self._workspaces.create()

    def settle(self, placements: Sequence[Placement]) -> None:
        """Send the bytes of finished drafts, for the names that they get. Raises `BlobsUnavailable`."""
        self._send(
            [(each.draft, self._package(each.target, each.path), _headers(each)) for each in placements]
        )

    def place(self, placements: Sequence[Placement]) -> None:
        """Make all of them visible; after an error, some may be. Raises `BlobTaken`, `BlobsUnavailable`."""
        self.settle([each for each in placements if not _is_settled(each.draft)])
        _each(self._complete_if_free, placements)
        for placement in placements:
            _record(placement.draft).unlink()
            placement.draft.remove()

    def open(self, target: str, path: str) -> RemoteFile:
        """Open a file for reading. Raises `BlobMissing`, also for a path that cannot be one of ours."""
        try:
            return self._open(self._package(target, path))
        except ValueError as error:
            raise BlobMissing(f"{target}/{path}") from error

    def address(self, target: str, path: str, *, is_private: bool) -> Address | None:
        """Return where readers can fetch the file themselves; None where it has to be sent to them."""
        if self._download == SEND:
            return None
        if self._download != REDIRECT and not is_private:
            return Address(url=f"{self._download}/{quote(f'{target}/{path}')}", lasts=DAY)
        what = {"Bucket": self._bucket, "Key": self._package(target, path)}
        if is_private:
            what["ResponseCacheControl"] = "private, no-cache"
        with self._errors():
            url = self._client.generate_presigned_url("get_object", Params=what, ExpiresIn=SIGNED_FOR)
        return Address(url=url, lasts=0 if is_private else LED_FOR)

    def delete(self, target: str, paths: Iterable[str]) -> None:
        """Remove files; what is not there is gone already."""
        self._delete(self._package(target, path) for path in paths)

    def clear(self, target: str) -> None:
        """Remove everything that a target has, also what others put there."""
        self._delete([found["Key"] for found in self._found(self._packages(target))])

    def listed(self, target: str) -> Iterator[Blob]:
        """Yield all files of a target."""
        yield from self._blobs(self._packages(target))

    def targets(self) -> list[str]:
        """Return the targets that have files."""
        top = f"{self._prefix}{PACKAGES}/"
        return sorted(
            found["Prefix"].removeprefix(top).rstrip("/")
            for page in self._pages(Prefix=top, Delimiter="/")
            for found in page.get("CommonPrefixes", ())
        )

    def keep_upload(self, draft: Draft, upload: str) -> None:
        """Durably put a finished draft into quarantine, under the name `upload`."""
        self._send([(draft, self._upload(upload), {})])
        multipart = _read(_record(draft))
        try:
            self._complete(multipart)
        except BlobsUnavailable:
            if not self._is_ours(multipart):
                raise  # else only the answer was lost
        _record(draft).unlink()
        draft.remove()

    def open_upload(self, upload: str) -> RemoteFile:
        """Open what is in quarantine under that name. Raises `BlobMissing`."""
        return self._open(self._upload(upload))

    def drop_upload(self, upload: str) -> None:
        """Remove it; what is not there is gone already."""
        self._delete([self._upload(upload)])

    def uploads(self) -> Iterator[Blob]:
        """Yield what is in quarantine; `path` is the name."""
        yield from self._blobs(f"{self._prefix}{UPLOADS}/")

    def keep_log(self, attempt: int, text: bytes) -> None:
        """Durably keep the log of an attempt, in the place of any before."""
        with self._errors():
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._log(attempt),
                Body=text,
                ContentType="text/plain; charset=utf-8",
            )

    def open_log(self, attempt: int) -> RemoteFile:
        """Open a log that was kept. Raises `BlobMissing`."""
        return self._open(self._log(attempt))

    def drop_log(self, attempt: int) -> None:
        """Remove it; what is not there is gone already."""
        self._delete([self._log(attempt)])

    def logs(self) -> Iterator[int]:
        """Yield the attempts whose logs were kept."""
        top = f"{self._prefix}{LOGS}/"
        yield from attempts_of(found["Key"].removeprefix(top) for found in self._found(top))

    def drop_lost(self, seconds: float) -> int:
        """Abort the uploads in parts that were there that long ago, whoever began them.

        They are known by what this object saw: not every service says rightly when an upload was begun.
        """
        now = time.monotonic()
        with self._errors():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            there = [
                _Multipart(key=found["Key"], upload=found["UploadId"], token="")
                for page in pages
                for found in page.get("Uploads", ())
            ]
        self._seen = {each.upload: self._seen.get(each.upload, now) for each in there}
        lost = [each for each in there if self._seen[each.upload] <= now - seconds]
        for multipart in lost:
            self._abort_one(multipart)
        return len(lost)

    def abandoned(self) -> list[str]:
        """Return the workspaces of processes that died."""
        return self._workspaces.abandoned()

    def drop_abandoned(self, name: str) -> None:
        """Remove one of them, and its uploads."""
        self._workspaces.drop(name)

    # Names.

    def _packages(self, target: str) -> str:
        return f"{self._prefix}{PACKAGES}/{checked_target(target)}/"

    def _package(self, target: str, path: str) -> str:
        return self._packages(target) + checked_place(path)

    def _upload(self, upload: str) -> str:
        return f"{self._prefix}{UPLOADS}/{checked_upload(upload)}"

    def _log(self, attempt: int) -> str:
        return f"{self._prefix}{LOGS}/{log_name(attempt)}"

    # Uploads in parts.

    def _send(self, drafts: Sequence[tuple[Draft, str, dict[str, str]]]) -> None:
        """Begin an upload for each draft, under a key, with headers, and send all its parts."""
        begun = _each(lambda what: (what[0], self._begin(*what)), drafts)
        waiting = [
            (draft, multipart, number, part)
            for draft, multipart in begun
            for number, part in enumerate(_parts(draft.path), start=1)
        ]
        sent = iter(_each(lambda what: self._send_part(*what), waiting))
        for draft, multipart in begun:
            parts = tuple(islice(sent, sum(1 for _ in _parts(draft.path))))
            _write(_record(draft), replace(multipart, parts=parts))

    def _begin(self, draft: Draft, key: str, headers: dict[str, str]) -> _Multipart:
        token = secrets.token_hex(16)
        metadata = {MTIME: str(int(draft.path.stat().st_mtime)), TOKEN: token}
        with self._errors():
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=key, Metadata=metadata, **headers
            )
        multipart = _Multipart(key=key, upload=begun["UploadId"], token=token)
        _write(_record(draft), multipart)
        return multipart

    def _send_part(self, draft: Draft, multipart: _Multipart, number: int, part: range) -> dict[str, Any]:
        with draft.open() as file:
            body = os.pread(file.fileno(), len(part), part.start)
        with self._errors():
            sent = self._client.upload_part(
                Bucket=self._bucket,
                Key=multipart.key,
                UploadId=multipart.upload,
                PartNumber=number,
                Body=body,
            )
        sums = {name: sent[name] for name in sent if name.startswith("Checksum") and name != "ChecksumType"}
        return {"PartNumber": number, "ETag": sent["ETag"], **sums}

    def _complete(self, multipart: _Multipart, **conditions: str) -> None:
        with self._errors():
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=multipart.key,
                UploadId=multipart.upload,
                MultipartUpload={"Parts": list(multipart.parts)},
                **conditions,
            )

    def _complete_if_free(self, placement: Placement) -> None:
        multipart = _read(_record(placement.draft))
        try:
            self._complete(multipart, IfNoneMatch="*")
        except BlobsUnavailable as error:
            if self._is_ours(multipart):
                return  # only the answer was lost
            code = _code(error.__cause__)
            if code == "PreconditionFailed":
                raise BlobTaken(placement.target, placement.path) from error
            if code == "NoSuchUpload":
                _record(placement.draft).unlink()  # somebody aborted it: it is sent anew next time
            raise

    def _is_ours(self, multipart: _Multipart) -> bool:
        try:
            found = self._head(multipart.key)
        except BlobMissing:
            return False
        return bool(found["Metadata"].get(TOKEN) == multipart.token)

    def _abort(self, workspace: Path) -> None:
        """Abort the uploads of a workspace. Raises `BlobsUnavailable`.

        What a power cut left of a record says nothing: that upload is aborted when it is old (`drop_lost`).
        """
        for record in workspace.glob(f"*{RECORD}"):
            try:
                multipart = _read(record)
            except ValueError:
                pass
            else:
                self._abort_one(multipart)
            record.unlink()

    def _abort_one(self, multipart: _Multipart) -> None:
        try:
            with self._errors():
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=multipart.key, UploadId=multipart.upload
                )
        except BlobsUnavailable as error:
            if _code(error.__cause__) != "NoSuchUpload":
                raise

    # What there is.

    def _head(self, key: str) -> dict[str, Any]:
        try:
            with self._errors():
                found: dict[str, Any] = self._client.head_object(Bucket=self._bucket, Key=key)
        except BlobsUnavailable as error:
            if _code(error.__cause__) not in _MISSING:
                raise
            with self._errors():
                self._client.head_bucket(Bucket=self._bucket)  # else everything would seem to be missing
            raise BlobMissing(key) from error
        return found

    def _open(self, key: str) -> RemoteFile:
        found = self._head(key)

        def read(start: int) -> Any:
            with self._errors():
                return self._client.get_object(
                    Bucket=self._bucket, Key=key, Range=f"bytes={start}-", IfMatch=found["ETag"]
                )["Body"]

        mtime = found["Metadata"].get(MTIME) or found["LastModified"].timestamp()
        return _Object(read, self._errors, size=found["ContentLength"], mtime=int(mtime))

    def _pages(self, **what: str) -> Iterator[dict[str, Any]]:
        with self._errors():
            yield from self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, **what)

    def _found(self, prefix: str) -> Iterator[dict[str, Any]]:
        for page in self._pages(Prefix=prefix):
            yield from page.get("Contents", ())

    def _blobs(self, prefix: str) -> Iterator[Blob]:
        for found in self._found(prefix):
            yield Blob(
                path=found["Key"].removeprefix(prefix),
                size=found["Size"],
                mtime=int(found["LastModified"].timestamp()),
            )

    def _delete(self, keys: Iterable[str]) -> None:
        for batch in batches(keys, BATCH):
            with self._errors():
                done = self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
                )
            for failed in done.get("Errors", ()):
                raise BlobsUnavailable(self._name, f"{failed['Key']}: {failed.get('Message')}")

    @property
    def _name(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn whatever goes wrong with S3 into `BlobsUnavailable`; the cause says what it was."""
        try:
            yield
        except (BotoCoreError, ClientError, HTTPError) as error:
            measures.BLOB_ERRORS.add("unavailable")
            raise BlobsUnavailable(self._name, str(error)) from error


class _Object(RemoteFile):
    """A file of a bucket. Reading goes on where it is; a seek elsewhere begins another request."""

    def __init__(
        self,
        begin: Callable[[int], Any],
        errors: Callable[[], contextlib.AbstractContextManager[None]],
        *,
        size: int,
        mtime: int,
    ) -> None:
        """`begin` gives the bytes from a position on; `errors` says what goes wrong while they come."""
        super().__init__(size=size, mtime=mtime)
        self._begin = begin
        self._errors = errors
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return where it is read next."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read from there on; nothing is asked of S3 yet."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        position = max(0, base + offset)
        if position != self._position:
            self._drop()
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        """Read what comes next. Raises `BlobsUnavailable`, after which it can be read again."""
        if self._position >= self.size:
            return 0
        try:
            if self._body is None:
                self._body = self._begin(self._position)
            with self._errors():
                data = self._body.read(len(buffer))
        except BaseException:
            self._drop()
            raise
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Let go of the connection."""
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


@cache
def _client(endpoint: str | None, region: str | None) -> Any:
    """Return a client, which threads share, with the credentials that boto3 finds."""
    config = Config(
        signature_version="s3v4",
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=4 * THREADS,
        s3={"addressing_style": "path" if endpoint else "auto"},  # few others than AWS have a name a bucket
    )
    return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _headers(placement: Placement) -> dict[str, str]:
    return {
        "ContentType": content_type(placement.path),
        "CacheControl": f"public, {FOR_GOOD}" if placement.is_immutable else "no-cache",
    }


def _code(error: BaseException | None) -> str | None:
    """Return the code of an error that S3 answered."""
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


def _each(work: Callable[[_T], _R], what: Sequence[_T]) -> list[_R]:
    """Do the work for each, several at a time, and all of it before the first error is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(work, one) for one in what]
    return [one.result() for one in waiting]


def _parts(path: Path) -> Iterator[range]:
    """Yield the parts of a file; of an empty one, one that is empty."""
    size = path.stat().st_size
    length = max(PART, -(-size // PARTS))
    for start in range(0, max(size, 1), length):
        yield range(start, min(start + length, size))


def _record(draft: Draft) -> Path:
    return draft.path.with_name(draft.path.name + RECORD)


def _is_settled(draft: Draft) -> bool:
    """Whether all its parts were sent."""
    record = _record(draft)
    return record.exists() and bool(_read(record).parts)


def _write(record: Path, multipart: _Multipart) -> None:
    """Write a record, whole or not at all. Raises `BlobsFull`."""
    new = record.with_suffix(".new")
    with space_errors(record):
        new.write_text(json.dumps(asdict(multipart)))
    new.replace(record)


def _read(record: Path) -> _Multipart:
    document = json.loads(record.read_text())
    return _Multipart(**{**document, "parts": tuple(document["parts"])})
