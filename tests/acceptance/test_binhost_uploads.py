# SPDX-License-Identifier: GPL-2.0-or-later
"""From an approved builder to a machine that installs; and the hostile uploads and paths of cases 31 and 32.

reference/binhost.md §9. Every refusal says why, and leaves nothing in the data directory.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.binhost import Binhost, Taker, entries, running_binhost
from tests.packages import (
    DIRTYPE,
    LNKTYPE,
    SYMTYPE,
    Members,
    Special,
    compress,
    gpkg,
    image_members,
    info,
    make_gpkg,
    manifest_of,
    tar,
)
from tests.peer import Answer, Peer, request
from tests.signing import GpgHome, short_directory

pytestmark = [pytest.mark.timeout(240)]

TARGET = "amd64"
CPV = "app-misc/evil-1.0"
LARGEST = 8 << 20  # bytes
GOOD = gpkg(cpv=CPV)
PREFIX = "evil-1.0-1"


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost"), package_size=LARGEST) as binhost:
        binhost.add_target(TARGET)
        yield binhost
        assert binhost.collector.bdcs("check").returncode == 0


@pytest.fixture(scope="module")
def builder(binhost: Binhost) -> Peer:
    peer = Peer(binhost.collector.url)
    assert peer.register().status == 201
    binhost.collector.bdcs("admin", "builders", "approve", str(peer.machine), "--target", TARGET)
    return peer


@pytest.fixture
def machine(binhost: Binhost, tmp_path: Path) -> Taker:
    return Taker.create(tmp_path / "world", binhost.verify_home)


def send(builder: Peer, content: bytes, cpv: str = CPV, *, size: int | None = None) -> Answer:
    """Send `content` as that package."""
    digest = hashlib.sha512(content).hexdigest()
    declared = len(content) if size is None else size
    path = f"/v1/targets/{TARGET}/packages/{cpv}.gpkg.tar?size={declared}&sha512={digest}"
    bearer = {"Authorization": f"Bearer {builder.token('PUT', path, body=None)}"}
    return request(builder.collector, "PUT", path, body=content, headers=bearer)


def files(binhost: Binhost) -> list[str]:
    """Everything in the data directory but the store itself."""
    return sorted(
        str(path.relative_to(binhost.data))
        for path in binhost.data.rglob("*")
        if path.is_file() and ".sqlite" not in path.name
    )


def test_from_a_builder_to_a_machine(binhost: Binhost, builder: Peer, machine: Taker, tmp_path: Path) -> None:
    """What emerge built there is sent, waits, is published, and installs here with our signature."""
    cpv = "app-misc/sent-1.0"
    machine.world.ebuild(cpv)
    (built,) = machine.build(cpv)
    answer = send(builder, built.read_bytes(), cpv)
    assert (answer.status, answer.document["state"]) == (201, "quarantined")
    machine.use(binhost.url(TARGET), FEATURES="binpkg-request-signature")
    assert machine.emerge("-pG", "app-misc/sent", check=False).returncode == 1
    binhost.collector.bdcs("publish", "--upload", answer.document["upload"])
    machine.emerge("--getbinpkgonly", "app-misc/sent")
    assert machine.world.is_installed(cpv)
    assert list((binhost.data / "quarantine").rglob("*.tar")) == []


# Case 31.


def evil(**arguments: Any) -> bytes:
    return gpkg(cpv=CPV, **arguments)


def image(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A package whose image has these besides."""
    return evil(raw_image=tar([*image_members({"usr/share/evil": b"x"}), *members]))


def device() -> tarfile.TarInfo:
    header = info("image/dev/mem", tarfile.CHRTYPE)
    header.devmajor, header.devminor = 1, 1
    return header


def of_members(change: Any) -> bytes:
    """A package whose container is changed, with a Manifest that fits."""

    def changed(members: Members) -> Members:
        inner = change(members[:-1])
        return [*inner, (members[-1][0], manifest_of(inner))]

    return evil(members=changed)


def without(word: bytes) -> bytes:
    """A package whose Manifest lacks one of the hashes."""

    def change(manifest: bytes) -> bytes:
        lines = []
        for line in manifest.splitlines():
            words = line.split()
            place = words.index(word)
            lines.append(b" ".join([*words[:place], *words[place + 2 :]]))
        return b"\n".join(lines) + b"\n"

    return evil(manifest=change)


def bomb() -> bytes:
    """256 MiB of zeros as one value, 25 kB when packed."""
    packed = compress(tar([(info("metadata/DESCRIPTION"), bytes(256 << 20))]), ".zst")
    return evil(
        before_manifest=lambda members: [
            (name, packed if "/metadata.tar" in name else data) for name, data in members
        ]
    )


def xpak() -> bytes:
    """An old package: a compressed tar, and a trailer."""
    index = len(b"CATEGORY").to_bytes(4) + b"CATEGORY" + (0).to_bytes(4) + (9).to_bytes(4)
    data = b"app-misc\n"
    block = b"XPAKPACK" + len(index).to_bytes(4) + len(data).to_bytes(4) + index + data + b"XPAKSTOP"
    return compress(tar([]), ".bz2") + block + len(block).to_bytes(4) + b"STOP"


HOSTILE = {
    "another CATEGORY": (evil(metadata={"CATEGORY": "sys-apps"}), "sys-apps/evil-1.0"),
    "another PF": (evil(metadata={"PF": "good-1.0"}), "good-1.0"),
    "PF with a slash": (evil(metadata={"PF": "../evil-1.0"}), "CATEGORY and PF"),
    "PF with NUL": (evil(metadata={"PF": b"evil\0-1.0\n"}), "control characters"),
    "a wrong hash": (evil(manifest=lambda text: text[:-9] + b"00000000\n"), "Manifest"),
    "no BLAKE2B": (without(b"BLAKE2B"), "Manifest"),
    "no SHA512": (without(b"SHA512"), "Manifest"),
    "another member": (of_members(lambda m: [*m, (f"{PREFIX}/extra", b"x")]), "does not belong"),
    "a member twice": (of_members(lambda m: [*m, m[1]]), "second metadata"),
    "a member with NUL": (of_members(lambda m: [*m, (f"{PREFIX}/image\0.tar", b"x")]), "NUL"),
    "a second directory": (of_members(lambda m: [*m, ("other-1/image.tar.zst", b"x")]), "second directory"),
    "an absolute name": (image((info("/etc/passwd"), b"x")), "/etc/passwd"),
    "a name that climbs": (image((info("image/../../etc/passwd"), b"x")), "../../etc/passwd"),
    "a device": (image((device(), b"")), "image/dev/mem"),
    "a FIFO": (image((info("image/pipe", tarfile.FIFOTYPE), b"")), "image/pipe"),
    "a hard link out": (image((info("image/shadow", LNKTYPE, link="../../etc/shadow"), b"")), "image/shadow"),
    "a way through a link": (
        image((info("image/lib", SYMTYPE, link="../../../etc"), b""), (info("image/lib/passwd"), b"x")),
        "image/lib",
    ),
    "a directory twice": (
        image((info("image/a", DIRTYPE), b""), (info("image/a", SYMTYPE, link="/etc"), b"")),
        "image/a",
    ),
    "nothing compressed": (evil(compression=""), "compress"),
    "an XPAK": (xpak(), "XPAK"),
    "a bomb": (bomb(), "metadata"),
    "half a package": (GOOD[: len(GOOD) // 2], "cut off"),
    "another CHOST": (evil(metadata={"CHOST": "riscv64-unknown-linux-gnu"}), "CHOST"),
    "bindist": (evil(metadata={"RESTRICT": "bindist"}), "bindist"),
    "a foreign set of bytes": (b"\xa5" * 20_000, "GPKG"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_upload_leaves_nothing(binhost: Binhost, builder: Peer, name: str) -> None:
    content, reason = HOSTILE[name]
    before = files(binhost)
    answer = send(builder, content)
    assert answer.slug == "refused-package", answer
    assert reason in answer.document["detail"], answer.document["detail"]
    assert files(binhost) == before


def test_setuid_is_no_secret(builder: Peer) -> None:
    """It is no crime either: many packages have such files."""
    content = gpkg(cpv="app-misc/setuid-1.0", image={"bin/su": Special(data=b"x", mode=0o4755)})
    assert send(builder, content, "app-misc/setuid-1.0").status == 201


def test_what_is_too_large_need_not_come(binhost: Binhost, builder: Peer) -> None:
    before = files(binhost)
    content = gpkg(cpv=CPV, image={"usr/share/large": os.urandom(LARGEST)})
    assert send(builder, content).slug == "too-large"
    assert files(binhost) == before


def test_names_that_are_none(binhost: Binhost, builder: Peer) -> None:
    before = files(binhost)
    for cpv in ("app-misc/..%2fevil-1.0", "app-misc/evil%00-1.0", "..%2f..%2fetc/evil-1.0", "app-misc/evil"):
        assert send(builder, GOOD, cpv).slug in ("malformed", "not-found"), cpv
    assert files(binhost) == before


def test_numbers_are_given_once(binhost: Binhost, builder: Peer, tmp_path: Path) -> None:
    """A BUILD_ID that is taken: what we sign gets another; what somebody signed cannot, so it is refused."""
    cpv = "app-misc/numbered-1.0"
    for number, text in enumerate((b"one", b"two"), 1):
        content = gpkg(cpv=cpv, image={"usr/share/numbered": text})
        upload = send(builder, content, cpv).document["upload"]
        done = binhost.collector.bdcs("publish", "--upload", upload)
        assert f"numbered-1.0-{number}.gpkg.tar" in done.stdout
    with short_directory() as directory, GpgHome(directory / "gpg") as gpg:
        fingerprint = gpg.make_key()
        (tmp_path / "key").write_bytes(gpg.public_key(fingerprint))
        binhost.collector.bdcs("admin", "keys", "trust", str(tmp_path / "key"), "--target", TARGET)
        signed = make_gpkg(
            tmp_path / "signed.gpkg.tar",
            cpv=cpv,
            build_id=2,
            detach=lambda data: gpg.gpg("--digest-algo", "SHA512", "--armor", "--detach-sign", data=data),
            clearsign=lambda data: gpg.gpg("--digest-algo", "SHA512", "--clear-sign", data=data),
        )
    before = files(binhost)
    upload = send(builder, signed.read_bytes(), cpv).document["upload"]
    refused = binhost.collector.bdcs("publish", "--upload", upload, check=False)
    assert refused.returncode == 1
    assert f"another build has BUILD_ID 2 of {cpv}" in refused.stderr
    assert files(binhost) == sorted([*before, f"quarantine/uploads/{upload}"])
    ids = [entry["BUILD_ID"] for entry in entries(binhost.index(TARGET)) if entry["CPV"] == cpv]
    assert ids == ["1", "2"]


# Case 32.


@pytest.mark.parametrize(
    "path",
    [
        f"{TARGET}/../{TARGET}/Packages",
        f"{TARGET}/%2e%2e/%2e%2e/bdcs.sqlite",
        f"{TARGET}/..%2f..%2fbdcs.sqlite",
        f"{TARGET}//Packages",
        f"{TARGET}/app-misc//numbered/numbered-1.0-1.gpkg.tar",
        f"{TARGET}/app-misc\\numbered\\numbered-1.0-1.gpkg.tar",
        f"{TARGET}/Packages%00.gz",
        f"{TARGET}/./Packages",
        f"{TARGET}/linked-1-1.gpkg.tar",
        f"{TARGET}/.lock",
        "../bdcs.sqlite",
    ],
)
def test_a_crooked_path_leads_nowhere(binhost: Binhost, path: str) -> None:
    link = binhost.data / "packages" / TARGET / "linked-1-1.gpkg.tar"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/etc/passwd")
    try:
        answer = binhost.get(path)
    finally:
        link.unlink()
    assert answer.status == 404, answer
    assert b"root:" not in answer.body
    assert b"SQLite" not in answer.body
