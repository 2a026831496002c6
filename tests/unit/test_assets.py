# SPDX-License-Identifier: GPL-2.0-or-later
"""Static files: named by their content, compressed once, immutable."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from importlib import resources

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bdcs.web.assets import Assets

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def assets() -> Assets:
    return Assets.load()


@pytest.fixture
async def client(assets: Assets) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_get("/static/{name}", assets.serve)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


def shipped(name: str) -> bytes:
    return resources.files("bdcs.web").joinpath("static", name).read_bytes()


async def test_the_address_carries_the_hash(assets: Assets, client: Client) -> None:
    url = assets.url("gentwoo.css")
    digest = hashlib.sha256(shipped("gentwoo.css")).hexdigest()
    assert re.fullmatch(r"/static/gentwoo\.([0-9a-f]{8})\.css", url)
    assert digest[:8] in url
    answer = await client.get(url, headers={"Accept-Encoding": "identity"})
    assert await answer.read() == shipped("gentwoo.css")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"


async def test_gzip_for_those_who_take_it(assets: Assets, client: Client) -> None:
    answer = await client.get(assets.url("mark.svg"), headers={"Accept-Encoding": "gzip, br"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(await answer.read()) == shipped("mark.svg")


async def test_not_again_for_those_who_have_it(assets: Assets, client: Client) -> None:
    first = await client.get(assets.url("gentwoo.css"))
    again = await client.get(assets.url("gentwoo.css"), headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")


@pytest.mark.parametrize(
    "name", ["gentwoo.00000000.css", "gentwoo.css", "..%2Fassets.py", "nothing.12345678.css"]
)
async def test_another_versions_file_is_not_found(client: Client, name: str) -> None:
    assert (await client.get(f"/static/{name}")).status == 404


def test_a_file_that_is_not_shipped_is_a_bug(assets: Assets) -> None:
    with pytest.raises(KeyError):
        assets.url("jquery.js")
