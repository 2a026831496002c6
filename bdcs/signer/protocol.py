# SPDX-License-Identifier: GPL-2.0-or-later
"""What the signer and who asks it say to each other: over a Unix stream socket, one request a connection.

The request is one JSON object, sent with the open files that it concerns (SCM_RIGHTS, unix(7)), and ended by
shutting down that direction; so is the answer, which brings no files. `{"do": "sign"}` comes with two files:
the package, readable, and an empty one, readable and writable. `{"do": "keys"}` comes with none.

Answers: `{"fingerprint": …, "warning": … or null}`, `{"keys": [{…}]}`, or `{"error": KIND, "reason": …,
"advice": …}`. A truncated document is no JSON; so nobody takes half an answer for a whole one.
"""

from __future__ import annotations

import array
import base64
import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bdcs.domain.signing_keys import KeyState, SigningKey
from bdcs.errors import (
    CollectorError,
    GpgFailed,
    InvalidPackage,
    NoUsableKey,
    SignerDiskFull,
    SignerFailed,
    SignerRefused,
)

REQUEST_SIZE: Final = 4096  # bytes
ANSWER_SIZE: Final = 4 * 1024 * 1024  # bytes; some hundred keys
FILES: Final = 2
"""Open files that come with a request at most."""

_CHUNK: Final = 65_536


class BrokenMessage(Exception):
    """The other side said nothing complete in time, or nothing that is understood."""


def send(connection: socket.socket, document: Mapping[str, Any], files: Sequence[int] = ()) -> None:
    """Send `document` and the open `files` with it, and end this direction. Raises `OSError`."""
    data = json.dumps(document).encode()
    sent = socket.send_fds(connection, [data], list(files)) if files else 0
    connection.sendall(data[sent:])
    connection.shutdown(socket.SHUT_WR)


def receive(
    connection: socket.socket, *, size: int, seconds: float, files: list[int] | None = None
) -> dict[str, Any]:
    """Return the document that the other side sends within `seconds`, of at most `size` bytes.

    Open files that come with it are appended to `files`, also where this raises: they are the caller's to
    close. Without `files` none are taken. Raises `BrokenMessage`, `OSError`.
    """
    deadline = time.monotonic() + seconds
    data = bytearray()
    while True:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            chunk = _receive(connection, files) if files is not None else connection.recv(_CHUNK)
        except ConnectionResetError:
            chunk = b""  # the other side left without reading all of ours; what it said came before
        except TimeoutError:
            raise BrokenMessage(f"it did not come to an end within {seconds:g} seconds") from None
        if not chunk:
            break
        data += chunk
        if len(data) > size:
            raise BrokenMessage(f"it has more than {size} bytes")
    try:
        document = json.loads(data)
    except ValueError:
        raise BrokenMessage("it is no JSON") from None
    if not isinstance(document, dict):
        raise BrokenMessage("it is no object")
    return document


def _receive(connection: socket.socket, files: list[int]) -> bytes:
    """Receive some bytes, and the open files that come with them; unlike `socket.recv_fds`, close-on-exec."""
    received = array.array("i")
    room = socket.CMSG_LEN((FILES + 1) * received.itemsize)
    chunk, ancillary, flags, _ = connection.recvmsg(_CHUNK, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
    files.extend(received)
    if flags & socket.MSG_CTRUNC or len(files) > FILES:
        raise BrokenMessage(f"more than {FILES} files came with it")
    return chunk


def close_all(files: Sequence[int]) -> None:
    """Close these descriptors."""
    for descriptor in files:
        with contextlib.suppress(OSError):
            os.close(descriptor)


# Errors: the kinds that travel, and what each is on both sides.

_KINDS: Final[Mapping[str, type[CollectorError]]] = {
    "package": InvalidPackage,
    "key": NoUsableKey,
    "gpg": GpgFailed,
    "refused": SignerRefused,
    "full": SignerDiskFull,
    "later": SignerFailed,
}


def error_document(error: CollectorError) -> dict[str, Any]:
    """Return the answer that carries `error` to who asked."""
    kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), "refused")
    return {"error": kind, "reason": str(error), "advice": error.advice}


def raise_error(document: Mapping[str, Any]) -> None:
    """Raise the error that an answer carries, if it does."""
    kind = document.get("error")
    if kind is None:
        return
    reason, advice = str(document.get("reason", "")), str(document.get("advice", ""))
    error_type = _KINDS.get(str(kind), SignerRefused)
    if issubclass(error_type, NoUsableKey | GpgFailed):
        raise error_type(reason, advice=advice)
    raise error_type(reason)


def key_document(key: SigningKey) -> dict[str, Any]:
    """Return the JSON object for `key`."""
    return {
        "fingerprint": key.fingerprint,
        "public_key": base64.b64encode(key.public_key).decode("ascii"),
        "user_id": key.user_id,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "state": str(key.state),
    }


def parse_key(document: Mapping[str, Any]) -> SigningKey:
    """Return the key that `document` describes. Raises `BrokenMessage`."""
    try:
        return SigningKey(
            fingerprint=str(document["fingerprint"]),
            public_key=base64.b64decode(document["public_key"], validate=True),
            user_id=str(document["user_id"]),
            created_at=int(document["created_at"]),
            expires_at=None if document["expires_at"] is None else int(document["expires_at"]),
            state=KeyState(document["state"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenMessage(f"a key in it cannot be read: {error}") from error
