# SPDX-License-Identifier: GPL-2.0-or-later
"""S3 on loopback: moto's server in a process of its own, with buckets in its memory, and faults on demand.

    with running_s3(tmp_path) as s3:
        bucket = s3.new_bucket()                            # every test has its own
        s3.fail("POST", "uploadId=", "lost")                # done, and nobody is told; the next such request
        blobs_of(Settings(data=…, blobs=f"s3://{bucket}/some", s3_endpoint=s3.url, s3_region=REGION))

Requests are served one after the other, so that conditions are as atomic as those of S3. Run as a program,
this file is that process; nothing else here imports moto.
"""

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.peer import request
from tests.processes import Process

REGION = "eu-central-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}
FAULTS = "/-/faults"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True, slots=True)
class RunningS3:
    """The server, as tests see it."""

    url: str
    process: Process

    def new_bucket(self) -> str:
        """Make a bucket, and return its name."""
        name = f"bucket-{uuid4().hex}"
        answer = request(self.url, "PUT", f"/{name}", body=_LOCATION.encode())
        assert answer.status == 200, answer
        return name

    def fail(self, method: str, query: str, how: str, times: int = 1) -> None:
        """Have the next requests whose query has that text fail: `lost` after they are done, or `refused`."""
        fault = {"method": method, "query": query, "how": how, "times": times}
        answer = request(self.url, "POST", FAULTS, body=json.dumps(fault).encode())
        assert answer.status == 204, answer

    def multiparts(self, bucket: str) -> int:
        """How many uploads in parts are begun and not ended."""
        answer = request(self.url, "GET", f"/{bucket}?uploads")
        assert answer.status == 200, answer
        return answer.body.count(b"<UploadId>")


@contextlib.contextmanager
def running_s3(home: Path, address: str = "127.0.0.1") -> Iterator[RunningS3]:
    """A server with its log in `home`; this process, and those that it starts, have credentials for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with Process([sys.executable, "-m", "tests.s3", address], log=home / "s3.log") as process:
            yield RunningS3(process.until_printed(r"S3 at (\S+)")[1], process)


_LOCATION = (
    "<CreateBucketConfiguration>"
    f"<LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
)


class _Faulty:
    """The application before which faults stand."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._turn = threading.Lock()
        self._faults: list[dict[str, Any]] = []

    def __call__(self, environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Serve one request (WSGI)."""
        with self._turn:
            if environment["PATH_INFO"] == FAULTS:
                self._faults.append(
                    json.loads(environment["wsgi.input"].read(int(environment["CONTENT_LENGTH"])))
                )
                start("204 No Content", [])
                return []
            how = self._fault(environment)
            if how == "refused":
                start("503 Slow Down", [("Content-Type", "application/xml")])
                return [SLOW_DOWN]
            answer = list(self._application(environment, start))
            if how == "lost":
                environment["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return answer

    def _fault(self, environment: dict[str, Any]) -> str | None:
        for fault in self._faults:
            if (
                fault["times"]
                and environment["REQUEST_METHOD"] == fault["method"]
                and fault["query"] in environment["QUERY_STRING"]
            ):
                fault["times"] -= 1
                return str(fault["how"])
        return None


def _serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = _Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server(sys.argv[1], 0, application, threaded=True)
    print(f"S3 at http://{sys.argv[1]}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve()
