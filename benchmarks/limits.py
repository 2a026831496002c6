# SPDX-License-Identifier: GPL-2.0-or-later
"""What bounds a collector on this machine: a handler that does nothing, and the verification of signatures.

python -m benchmarks.limits handler       serves pushes and 304s, and prints its URL as `bdcs serve` does
python -m benchmarks.limits verify        prints how many Ed25519 verifications one core does in a second
"""

import json
import sys
import time

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECONDS = 2.0
MESSAGE_SIZE = 800  # bytes: about what the signature of a segment with one record covers


async def answer(request: web.Request) -> web.Response:
    """Read the body, and say what a collector would."""
    await request.read()
    head = {"head": {"seq": 1, "segment": "x" * 43}}
    return web.Response(body=json.dumps(head).encode(), content_type="application/json")


async def not_modified(_request: web.Request) -> web.Response:
    """Say that the client has it."""
    return web.Response(status=304)


async def application() -> web.Application:
    """The application with the routes that a push and a client of the binhost take."""
    app = web.Application()
    app.router.add_post("/v1/machines/{uuid}/segments", answer)
    app.router.add_get("/binhost/{target}/{path:.*}", not_modified)
    return app


def serve() -> None:
    """Serve on a free port of loopback."""
    import socket

    import uvloop

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    web.run_app(application(), sock=listener, print=None, access_log=None, loop=uvloop.new_event_loop())


def verify() -> None:
    """Verify one signature again and again."""
    key = Ed25519PrivateKey.generate()
    public, message = key.public_key(), bytes(MESSAGE_SIZE)
    signature = key.sign(message)
    count, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS:
        for _ in range(100):
            public.verify(signature, message)
        count += 100
    print(count / seconds)


if __name__ == "__main__":
    {"handler": serve, "verify": verify}[sys.argv[1]]()
