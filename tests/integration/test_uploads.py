# SPDX-License-Identifier: GPL-2.0-or-later
"""What builders send waits in quarantine: compared with what was declared, published once, or dropped."""

import asyncio
import hashlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from bdcs.domain.uploads import LIFE, Declared, State
from bdcs.errors import NoSuchUpload, PackageRefused, UploadsDiffer
from bdcs.services import builders, uploads
from bdcs.services.uploads import QUOTA, Reception, Upload, Uploads
from bdcs.store import tables
from bdcs.store.store import Store
from gentwoo_client.wire.errors import (
    Forbidden,
    InvalidCPV,
    NotFound,
    RefusedPackage,
    TooLarge,
    TooManyRequests,
    Unregistered,
)
from tests.packages import gpkg
from tests.processes import BDCS, environment, run
from tests.publishing import Site

LARGEST = 100_000  # bytes of the largest package that is taken
MACHINE = UUID("8d1a2b3c-4d5e-8f60-8a7b-9c0d1e2f3a4b")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Targets `open` and `other`, of which `MACHINE` is a builder, and `foreign`, of which it is none."""
    site = Site.create(tmp_path / "data")
    with site.publisher.writing() as connection:
        connection.execute(
            tables.machines.insert().values(
                uuid=str(MACHINE), public_key=bytes(32), state="approved", registered_at=0, head_seq=0
            )
        )
    for name in ("open", "other", "foreign"):
        target = site.add_target(name, signatures="optional")
        if name != "foreign":
            with site.publisher.writing() as connection:
                builders.approve(connection, target, MACHINE, now=0)
    return site


@pytest_asyncio.fixture
async def store(site: Site) -> AsyncIterator[Store]:
    store = Store(site.data / "bdcs.sqlite")
    yield store
    await store.close()
    site.publisher.close()


@pytest.fixture
def receiving(site: Site, store: Store) -> Uploads:
    return Uploads(store, site.publisher.blobs, package_size=LARGEST)


def declared(data: bytes, **changes: Any) -> Declared:
    """What a builder says of `data`, a package of app-misc/alpha-1.0."""
    of = Declared(
        machine=MACHINE,
        target="open",
        category="app-misc",
        pf="alpha-1.0",
        size=len(data),
        sha512=hashlib.sha512(data).hexdigest(),
    )
    return replace(of, **changes)


async def send(receiving: Uploads, data: bytes, of: Declared | None = None) -> Upload:
    """Send `data` in pieces, as the server receives them."""
    reception = await receiving.begin(of or declared(data))
    if isinstance(reception, Upload):
        return reception
    try:
        for start in range(0, len(data), 4096):
            await asyncio.to_thread(reception.write, data[start : start + 4096])
        return await receiving.finish(reception)
    except RefusedPackage as error:
        await receiving.refuse(reception, error.detail)
        raise
    finally:
        await receiving.end(reception)


async def test_upload_waits_until_it_is_published(site: Site, receiving: Uploads) -> None:
    data = gpkg(build_id=7)
    upload = await send(receiving, data)
    assert (upload.state, upload.machine, upload.size) == (State.QUARANTINED, str(MACHINE), len(data))
    assert site.files() == [f"quarantine/uploads/{upload.id}"]
    published = await asyncio.to_thread(uploads.publish, site.publisher, [upload.id])
    assert published.generation == 1
    (row,) = site.builds("open")
    assert (row.origin, row.actor, row.build_id) == ("upload", str(MACHINE), 7)
    with site.publisher.reading() as connection:
        assert uploads.require(connection, upload.id).state is State.PUBLISHED
    site.assert_consistent()


async def test_sending_again_does_nothing(site: Site, receiving: Uploads) -> None:
    data = gpkg()
    first = await send(receiving, data)
    again = await receiving.begin(declared(data))
    assert again == first
    uploads.publish(site.publisher, [first.id])
    later = await receiving.begin(declared(data))
    assert isinstance(later, Upload)
    assert later.state is State.PUBLISHED
    assert len(site.builds("open")) == 1


async def test_closure_is_published_as_one(site: Site, receiving: Uploads) -> None:
    ids = []
    for name in ("alpha", "beta", "gamma"):
        data = gpkg(cpv=f"app-misc/{name}-1.0")
        ids.append((await send(receiving, data, declared(data, pf=f"{name}-1.0"))).id)
    assert uploads.publish(site.publisher, ids).generation == 1
    assert len(site.paths("open")) == 3
    with pytest.raises(NoSuchUpload):
        uploads.publish(site.publisher, ids[:1])


async def test_uploads_for_two_targets_are_not_one_publication(site: Site, receiving: Uploads) -> None:
    data = gpkg()
    ids = [(await send(receiving, data, declared(data, target=name))).id for name in ("open", "other")]
    with pytest.raises(UploadsDiffer, match="open, other"):
        uploads.publish(site.publisher, ids)


Case = tuple[bytes, Callable[[bytes], Declared], str]

REFUSED: dict[str, Case] = {
    "other bytes": (gpkg(), lambda data: declared(data, sha512="0" * 128), "the sha512 of what arrived"),
    "more bytes": (gpkg(), lambda data: declared(data, size=len(data) - 512), "more arrives than"),
    "fewer bytes": (gpkg(), lambda data: declared(data, size=len(data) + 512), "bytes arrived"),
    "another package": (gpkg(cpv="app-misc/beta-1"), declared, "it is app-misc/beta-1, and was sent as"),
    "another CHOST": (gpkg(metadata={"CHOST": "i686-pc-linux-gnu"}), declared, "built for CHOST"),
    "not to be passed on": (gpkg(metadata={"RESTRICT": "bindist"}), declared, "redistributed"),
    "no package": (b"not a package, but long enough to be one" * 100, declared, "does not begin as"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_refused_upload_leaves_only_its_reason(site: Site, receiving: Uploads, case: Case) -> None:
    data, describe, reason = case
    of = describe(data)
    with pytest.raises(RefusedPackage, match=reason):
        await send(receiving, data, of)
    assert site.files() == []
    with site.publisher.reading() as connection:
        (known,) = uploads.listed(connection, "open")
    assert known.state is State.REFUSED
    assert reason in (known.reason or "")
    with pytest.raises(NoSuchUpload):
        uploads.publish(site.publisher, [known.id])
    # Sent again it is read again: what was wrong may have been on the way.
    reception = await receiving.begin(of)
    assert isinstance(reception, Reception)
    await receiving.end(reception)


async def test_only_builders_of_the_target_are_let_in(receiving: Uploads) -> None:
    data = gpkg()
    with pytest.raises(Forbidden):
        await receiving.begin(declared(data, target="foreign"))
    with pytest.raises(NotFound):
        await receiving.begin(declared(data, target="nowhere"))
    with pytest.raises(Unregistered):
        await receiving.begin(declared(data, machine=uuid4()))
    with pytest.raises(InvalidCPV):
        await receiving.begin(declared(data, pf="no version"))
    with pytest.raises(TooLarge):
        await receiving.begin(declared(data, size=LARGEST + 1))


async def test_machine_has_a_quota(site: Site, receiving: Uploads) -> None:
    arriving = [
        await receiving.begin(declared(b"", size=LARGEST, sha512=f"{number}")) for number in range(QUOTA)
    ]
    with pytest.raises(TooManyRequests):
        await receiving.begin(declared(b"", size=1, sha512="more"))
    for reception in arriving:
        assert isinstance(reception, Reception)
        await receiving.end(reception)
    assert site.files() == []
    await send(receiving, gpkg())


async def test_what_nobody_published_goes(site: Site, receiving: Uploads) -> None:
    upload = await send(receiving, gpkg())
    assert site.upkeep(later=LIFE - 60).tidy().uploads == 0
    assert site.upkeep(later=LIFE + 60).tidy().uploads == 1
    assert site.files() == []
    with site.publisher.reading() as connection:
        assert uploads.find(connection, upload.id) is None


async def test_file_that_no_row_names_goes(site: Site, receiving: Uploads) -> None:
    kept = await send(receiving, gpkg())
    with site.publisher.blobs.workspace() as workspace:
        draft = workspace.create()
        draft.finish(int(time.time()))
        site.publisher.blobs.keep_upload(draft, "left-by-a-killed-server")
    assert site.upkeep(later=60).tidy().uploads == 0  # it may be about to get its row
    assert site.upkeep(later=2 * 3600).tidy().uploads == 1
    assert site.files() == [f"quarantine/uploads/{kept.id}"]


async def test_what_cannot_be_published_waits_on(site: Site, receiving: Uploads) -> None:
    upload = await send(receiving, gpkg())
    with site.publisher.writing() as connection:
        connection.execute(tables.targets.update().values(chost="aarch64-unknown-linux-gnu"))
    with pytest.raises(PackageRefused, match=f"upload {upload.id}: it is built for CHOST"):
        uploads.publish(site.publisher, [upload.id])
    assert site.files() == [f"quarantine/uploads/{upload.id}"]


# The command.


def publish_command(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {"BDCS_SIGNER": str(site.data / "nobody-signs"), "BDCS_DATA": str(site.data)}
    return run([*BDCS, "publish", *arguments], env=environment(**settings))


async def test_command_lists_and_publishes_uploads(site: Site, receiving: Uploads) -> None:
    upload = await send(receiving, gpkg())
    done = publish_command(site, "--list-uploads", "--target", "open", "--json")
    (listed,) = json.loads(done.stdout)["uploads"]
    assert (listed["upload"], listed["machine"], listed["state"]) == (
        upload.id,
        str(MACHINE),
        "quarantined",
    )
    assert upload.id in publish_command(site, "--list-uploads").stdout
    assert publish_command(site, "--list-uploads", "--target", "other").stdout == ""
    done = publish_command(site, "--upload", upload.id)
    assert done.returncode == 0, done.stderr
    assert "published as app-misc/alpha/alpha-1.0-1.gpkg.tar" in done.stdout
    done = publish_command(site, "--upload", upload.id)
    assert done.returncode == 1
    assert "no upload" in done.stderr
