# SPDX-License-Identifier: GPL-2.0-or-later
"""A builder reaches a collector by another address than the public one, which its tokens name."""

import asyncio
from pathlib import Path

from bdcs.builder.collector import BuilderAPI
from gentwoo_client.machine_key import create_key
from tests.processes import Collector

PUBLIC = "http://bdcs.invalid:8642"


def test_the_way_is_another_and_the_tokens_are_the_same(tmp_path: Path) -> None:
    async def speak(address: str) -> tuple[str, str]:
        async with BuilderAPI(PUBLIC, create_key(tmp_path / "key"), address=address) as api:
            state = await api.register()
            (target,) = await api.targets()
            return state.state, api.reached(target.url)

    with Collector(tmp_path, options=["--public-url", PUBLIC]) as collector:
        settings = ("--chost=x86_64-pc-linux-gnu", "--profile=default", "--cflags=-O2")
        collector.bdcs("target", "add", "amd64", *settings)
        assert asyncio.run(speak(collector.url)) == ("approved", f"{collector.url}/binhost/amd64")
