# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that claim at the same time: one transaction for all, and yet each gets what he would alone."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection, delete, func, select

from bdcs.blobs.attempt_logs import Logs
from bdcs.bus.memory import Bus
from bdcs.domain.machines import State
from bdcs.services import builders as known_builders
from bdcs.services import machines, queueing
from bdcs.services.attempting import Attempting
from bdcs.services.authentication import Authenticator
from bdcs.services.build_documents import BuildDocuments
from bdcs.services.claiming import Asking, claim_all
from bdcs.services.machines import Keys
from bdcs.services.publishing import Publisher
from bdcs.services.waking import Transactions
from bdcs.store import tables
from bdcs.store.store import Store
from benchmarks.claims import AUDIENCE, BUILDERS, Builder, prepare
from gentwoo_client.wire.build_messages import Claim
from gentwoo_client.wire.errors import Forbidden, Quarantined
from tests.waiting import until

JOBS = 3 * BUILDERS
"""As many for each target as there are builders: nobody who claims once finds his targets' jobs gone."""


class Scene:
    """A store with jobs, and who answers builders."""

    def __init__(self, place: Path) -> None:
        self.builders = prepare(place, JOBS)
        self.store = Store(place)
        self.attempting = Attempting(
            transactions=Transactions(store=self.store, bus=Bus(), now=time.time),
            authenticator=Authenticator(keys=Keys(self.store), audience=AUDIENCE, now=time.time),
            documents=BuildDocuments(public_url=AUDIENCE),
            logs=cast(Logs, None),
            publisher=cast(Publisher, None),
            now=time.time,
        )

    async def claim(self, builder: Builder) -> int | None:
        """The job that a builder gets."""
        answer = await self.attempting.claim(builder.signed(time.time()), builder.claim, wait=0)
        return json.loads(answer.body)["job"]["job"] if answer.status == 201 else None

    async def leased(self) -> list[int]:
        return await self.store.read(
            lambda connection: list(connection.scalars(select(tables.attempts.c.job_id)))
        )

    async def __aenter__(self) -> "Scene":
        return self

    async def __aexit__(self, *_: object) -> None:
        assert await self.store.read(queueing.wrong) == []
        self.attempting.close()
        await self.store.close()


def jobs_of(results: Sequence[Any]) -> list[int]:
    return [job for job in results if isinstance(job, int)]


async def test_each_gets_another_job_until_none_is_left(tmp_path: Path) -> None:
    async with Scene(tmp_path / "bdcs.sqlite") as scene:
        first = await asyncio.gather(*map(scene.claim, scene.builders))
        jobs = jobs_of(first)
        while got := jobs_of(await asyncio.gather(*map(scene.claim, scene.builders))):
            jobs += got
        assert None not in first
        assert sorted(jobs) == sorted(await scene.leased()) == list(range(1, JOBS + 1))


async def test_who_may_not_is_refused_alone(tmp_path: Path) -> None:
    """… and who was drained gets nothing."""
    async with Scene(tmp_path / "bdcs.sqlite") as scene:
        one, stranger, drained, *rest = scene.builders
        strange = replace(stranger, claim=Claim(targets=["sparc"], name="b"))
        assert await scene.claim(drained) is not None
        name = drained.claim.name
        await scene.store.write(
            lambda connection: known_builders.drain(connection, name, known_builders.OPERATOR)
        )
        results = await asyncio.gather(
            scene.claim(one), scene.claim(strange), scene.claim(drained), *map(scene.claim, rest),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(results[1], Forbidden)
        assert results[2] is None
        assert len(jobs_of(results)) == 1 + len(rest)
        assert len(await scene.leased()) == 2 + len(rest)


@pytest.mark.parametrize("how", ["quarantined", "revoked"])
async def test_who_was_stopped_while_he_waited_gets_nothing(tmp_path: Path, how: str) -> None:
    async with Scene(tmp_path / "bdcs.sqlite") as scene:
        builder = scene.builders[0]
        attempting = scene.attempting
        signed = builder.signed(time.time())
        token = await attempting.authenticator.verified(signed)
        asking = Asking(signed=signed, token=token, claim=builder.claim, is_noted=True)

        def stop(connection: Connection) -> None:
            if how == "quarantined":
                machines.set_state(connection, builder.machine, State.QUARANTINED)
            else:
                connection.execute(delete(tables.builder_targets))

        await scene.store.write(stop)
        outcomes = await attempting.transactions.write(
            lambda book: claim_all(book, [asking], attempting.documents)
        )
        assert [type(outcome) for outcome in outcomes] == [Quarantined if how == "quarantined" else Forbidden]
        assert await scene.leased() == []


async def test_a_request_that_comes_twice_at_once_gets_one_job(tmp_path: Path) -> None:
    async with Scene(tmp_path / "bdcs.sqlite") as scene:
        builder = scene.builders[0]
        signed = builder.signed(time.time())
        answers = await asyncio.gather(
            *(scene.attempting.claim(signed, builder.claim, wait=0) for _ in range(5))
        )
        assert answers[0].status == 201
        assert answers == [answers[0]] * 5
        assert await scene.attempting.claim(signed, builder.claim, wait=0) == answers[0]
        assert len(await scene.leased()) == 1


async def test_who_has_gone_meanwhile_gets_nothing(tmp_path: Path) -> None:
    async with Scene(tmp_path / "bdcs.sqlite") as scene:
        await asyncio.gather(*map(scene.claim, scene.builders[:2]))  # their keys are known
        go_on = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(_connection: object) -> None:
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()

        holding = asyncio.create_task(scene.store.write(hold))
        await asyncio.sleep(0)
        gone, stays = (asyncio.create_task(scene.claim(each)) for each in scene.builders[:2])
        await asyncio.to_thread(until, lambda: scene.store.waiting == 3)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        go_on.set()
        await holding
        assert await stays is not None
        count = await scene.store.read(
            lambda connection: connection.scalar(select(func.count()).select_from(tables.attempts))
        )
        assert count == 3
