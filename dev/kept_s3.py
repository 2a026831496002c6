# SPDX-License-Identifier: GPL-2.0-or-later
"""S3 for `make run-cluster`: moto's server, which keeps everything in its memory, with a journal beside it.

    python -m dev.kept_s3 PORT JOURNAL BUCKET

Each request that changed something is written to the journal before it is answered. When the process starts
again it does all of them again, so a kill loses nothing. Uploads in parts get other numbers then; those who
were at one go on with the number that they know.
"""

from __future__ import annotations

import io
import json
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import EnvironBuilder, run_wsgi_app

CHANGING: Final = ("PUT", "POST", "DELETE")
LOCATION: Final = (
    b"<CreateBucketConfiguration><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>"
)
REGION: Final = "eu-central-1"
_UPLOAD: Final = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_SIZE: Final = struct.Struct("!II")

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Kept:
    """The application, remembered; serves one request after the other."""

    def __init__(self, application: Application, journal: Path) -> None:
        self._application = application
        self._uploads: dict[str, str] = {}  # number that its client knows → number that it has here
        journal.touch()
        with journal.open("rb") as file:
            for request, body in _entries(file):
                self._repeat(request, body)
            end = file.tell()
        self._journal = journal.open("r+b")
        self._journal.truncate(end)  # what a kill left of a last entry was never answered
        self._journal.seek(end)

    def __call__(self, environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Serve one request (WSGI)."""
        method = environment["REQUEST_METHOD"]
        body = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        request = {
            "method": method,
            "path": environment["PATH_INFO"],
            "query": environment["QUERY_STRING"],
            "headers": dict(_headers(environment)),
        }
        content, status, headers = self._do(request, body)
        if method in CHANGING and status.startswith("2"):
            number = _UPLOAD.search(content)
            request["upload"] = number[1].decode() if number and "uploads" in request["query"] else None
            text = json.dumps(request).encode()
            self._journal.write(_SIZE.pack(len(text), len(body)) + text + body)
            self._journal.flush()
        start(status, list(headers))
        return [content]

    def _repeat(self, request: dict[str, Any], body: bytes) -> None:
        content, status, _ = self._do(request, body)
        assert status.startswith("2"), (request, status, content)
        number = _UPLOAD.search(content)
        if request["upload"] is not None and number is not None:
            self._uploads[request["upload"]] = number[1].decode()

    def _do(self, request: dict[str, Any], body: bytes) -> tuple[bytes, str, Any]:
        query = request["query"]
        for known, here in self._uploads.items():
            query = query.replace(known, here)
        builder = EnvironBuilder(
            method=request["method"],
            path=request["path"],
            query_string=query,
            headers=request["headers"],
            input_stream=io.BytesIO(body),
            content_length=len(body),
        )
        content, status, headers = run_wsgi_app(self._application, builder.get_environ(), buffered=True)
        return b"".join(content), status, headers


def _headers(environment: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if name.startswith("HTTP_"):
            yield name.removeprefix("HTTP_").replace("_", "-").title(), value
        elif name == "CONTENT_TYPE" and value:
            yield "Content-Type", value


def _entries(file: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield what the journal has in whole; the file stands behind it then."""
    while True:
        start = file.tell()
        size = file.read(_SIZE.size)
        if len(size) == _SIZE.size:
            text_size, body_size = _SIZE.unpack(size)
            text, body = file.read(text_size), file.read(body_size)
            if len(text) == text_size and len(body) == body_size:
                yield json.loads(text), body
                continue
        file.seek(start)
        return


def main(port: str, journal: str, bucket: str) -> None:
    """Serve until SIGTERM, with that bucket."""
    kept = Kept(DomainDispatcherApplication(create_backend_app), Path(journal))
    if not Path(journal).stat().st_size:
        made = EnvironBuilder(method="PUT", path=f"/{bucket}", data=LOCATION % REGION.encode())
        _, status, _ = run_wsgi_app(kept, made.get_environ(), buffered=True)
        assert status.startswith("200"), status
    server = make_server("127.0.0.1", int(port), kept)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
