# SPDX-License-Identifier: GPL-2.0-or-later
"""Publishing: what becomes visible, under which number and signature, and what leaves nothing behind."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from bdcs.domain.admission import Origin
from bdcs.domain.gpkg.limits import DEFAULT
from bdcs.domain.gpkg.reading import read_package
from bdcs.domain.targets import Cause
from bdcs.errors import (
    CollectorError,
    NoSuchTarget,
    PackageRefused,
    SignerDiskFull,
    SignerUnavailable,
    StoreUnavailable,
)
from bdcs.services import generations, targets
from bdcs.services.intake import Source
from bdcs.services.publishing import Publisher
from bdcs.services.signatures import verify
from bdcs.services.trusted_keys import trust
from bdcs.services.upkeep import Tidied
from bdcs.store.tables import builds
from tests.packages import make_gpkg
from tests.processes import BDCS, environment, run
from tests.publishing import Site
from tests.signing import GpgHome, Signer, running_signer, short_directory

ALPHA = "app-misc/alpha/alpha-1.0-{}.gpkg.tar"

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A target `open` where signatures are optional, and nobody signs."""
    site = Site.create(tmp_path / "data")
    site.add_target("open", signatures="optional")
    yield site
    site.publisher.close()


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    with short_directory() as directory, running_signer(directory) as signer:
        signer.create_key()
        yield signer


@pytest.fixture
def signed(tmp_path: Path, signer: Signer) -> Iterator[Site]:
    """A target `signed`, where every package is, by our own signer."""
    site = Site.create(tmp_path / "signed", signer=signer.socket)
    site.add_target("signed")
    yield site
    site.publisher.close()


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes packages, each in a file of its own, and each another one."""
    count = 0

    def make(**settings: object) -> Path:
        nonlocal count
        count += 1
        settings.setdefault("image", {"usr/bin/it": b"%d" % count})
        return make_gpkg(tmp_path / f"made-{count}.gpkg.tar", **settings)  # type: ignore[arg-type]

    return make


# What becomes visible.


def test_package_is_listed_with_what_its_file_is(site: Site, make: Make) -> None:
    path = make(cpv="dev-libs/libfoo-1.2_p3-r1", build_id=7, metadata={"USE": "ssl", "IUSE": "+ssl test"})
    published = site.publisher.publish("open", [path])
    (entry,) = site.listed("open")
    assert entry["CPV"] == "dev-libs/libfoo-1.2_p3-r1"
    assert (entry["USE"], entry["IUSE"], entry["BUILD_ID"]) == ("ssl", "+ssl test", "7")
    (file,) = published.files
    assert (published.generation, file.path, file.is_new) == (1, entry["PATH"], True)
    site.assert_consistent()


def test_file_keeps_its_bytes_and_time_where_nothing_is_to_be_changed(site: Site, make: Make) -> None:
    path = make(build_id=3)
    os.utime(path, ns=(0, 1_600_000_000_987_654_321))
    site.publisher.publish("open", [path])
    placed = site.file("open", ALPHA.format(3))
    assert placed.read_bytes() == path.read_bytes()
    assert placed.stat().st_mtime_ns == 1_600_000_000 * 10**9
    assert site.listed("open")[0]["MTIME"] == "1600000000"


def test_closure_is_one_generation(site: Site, make: Make) -> None:
    paths = [make(cpv=f"app-misc/p{number}-1") for number in range(5)]
    published = site.publisher.publish("open", paths)
    assert published.generation == 1
    assert len(site.paths("open")) == 5
    with site.publisher.reading() as connection:
        generation = generations.require(connection, site.target("open"), 1)
    assert (generation.cause, generation.actor, generation.added) == (Cause.PUBLISH, "admin", 5)
    site.assert_consistent()


def test_one_bad_package_keeps_the_others_out(site: Site, make: Make, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gpkg.tar"
    broken.write_bytes(make().read_bytes()[:3000])
    with pytest.raises(PackageRefused, match="the package is cut off"):
        site.publisher.publish("open", [make(), broken])
    assert site.files() == []
    assert site.builds("open") == []
    assert site.target("open").generation == 0


# The same again.


def test_same_file_again_does_nothing(site: Site, make: Make) -> None:
    path = make()
    site.publisher.publish("open", [path])
    before = site.target("open")
    again = site.publisher.publish("open", [path, path])
    assert [file.is_new for file in again.files] == [False, False]
    assert site.target("open") == before
    site.assert_consistent()


def test_what_we_signed_is_recognised_by_what_it_was_and_by_what_it_is(signed: Site, make: Make) -> None:
    path = make()
    (first,) = signed.publisher.publish("signed", [path]).files
    ours = signed.file("signed", first.path)
    again = signed.publisher.publish("signed", [path, ours])
    assert [(file.build, file.is_new) for file in again.files] == [(first.build, False)] * 2
    assert len(signed.builds("signed")) == 1


def test_same_file_twice_at_once_is_one_build(site: Site, make: Make) -> None:
    path = make()
    published = site.publisher.publish("open", [path, path])
    assert {file.build for file in published.files} == {published.files[0].build}
    assert len(site.builds("open")) == 1


def test_withdrawn_package_comes_back_as_the_same_build(site: Site, make: Make) -> None:
    path = make()
    (first,) = site.publisher.publish("open", [path]).files
    withdraw(site, [first.build])
    published = site.publisher.publish("open", [path])
    assert (published.generation, published.files[0].build) == (3, first.build)
    assert published.files[0].is_new
    site.assert_consistent()


def test_again_signs_anew_in_place_of_what_was(signed: Site, make: Make, signer: Signer) -> None:
    path = make()
    (first,) = signed.publisher.publish("signed", [path]).files
    ours = signed.file("signed", first.path)
    (second,) = signed.publisher.publish("signed", [ours], again=True).files
    assert (second.build_id, second.is_new) == (2, True)
    assert signed.paths("signed") == [second.path]
    assert read_package(signed.file("signed", second.path)).signed
    assert not signed.publisher.publish("signed", [path]).is_new  # it is still known as what it was
    (third,) = signed.publisher.publish("signed", [path], again=True).files
    assert signed.paths("signed") == [third.path]
    signed.assert_consistent()


def test_again_is_only_for_what_the_target_has(signed: Site, make: Make, stranger: GpgHome) -> None:
    for path in (make(), make(**signed_by(stranger))):
        with pytest.raises(PackageRefused, match="has no such package"):
            signed.publisher.publish("signed", [path], again=True)
    assert signed.files() == []


def withdraw(site: Site, builds: list[int]) -> None:
    with site.publisher.writing() as connection:
        target = targets.require(connection, "open")
        generations.advance(connection, target, [], builds, cause=Cause.WITHDRAW, actor="admin")


# Numbers and signatures.


def test_unsigned_packages_are_numbered_and_signed(signed: Site, make: Make, signer: Signer) -> None:
    paths = [make(build_id=9), make(build_id=None), make(build_id=9)]
    files = signed.publisher.publish("signed", paths).files
    assert [file.build_id for file in files] == [1, 2, 3]
    (key,) = signer.told()
    for file in files:
        placed = signed.file("signed", file.path)
        package = read_package(placed)
        assert package.build_id == file.build_id
        assert package.prefix == f"alpha-1.0-{file.build_id}"
        assert verify(placed, package, [key.public_key]) == key.fingerprint == file.signed_by
    signed.assert_consistent()


def test_numbers_are_never_given_out_again(site: Site, make: Make) -> None:
    first = site.publisher.publish("open", [make(build_id=None), make(build_id=None)]).files
    withdraw(site, [file.build for file in first])
    later = site.upkeep(grace=1, later=3 * 86_400)
    assert later.tidy().withdrawn == 2
    (third,) = site.publisher.publish("open", [make(build_id=None)]).files
    assert third.build_id == 3


def test_own_number_is_kept_where_it_is_free(site: Site, make: Make) -> None:
    assert [file.build_id for file in site.publisher.publish("open", [make(build_id=5)]).files] == [5]
    assert [file.build_id for file in site.publisher.publish("open", [make(build_id=2)]).files] == [2]
    assert [file.build_id for file in site.publisher.publish("open", [make(build_id=5)]).files] == [6]


def test_numbers_within_one_publication_do_not_meet(site: Site, make: Make) -> None:
    paths = [make(build_id=None), make(build_id=1), make(build_id=1), make(build_id=2)]
    numbers = [file.build_id for file in site.publisher.publish("open", paths).files]
    assert numbers[1] == 1
    assert numbers[3] == 2
    assert len(set(numbers)) == 4


def test_number_that_somebody_else_took_meanwhile_is_replaced(site: Site, make: Make) -> None:
    with site.publisher.begin("open", actor="admin", origin=Origin.PUBLISH, cause=Cause.PUBLISH) as slow:
        candidate = slow.take(Source.of(make(build_id=1)))
        site.publisher.publish("open", [make(build_id=1)])
        (file,) = slow.commit([candidate]).files
    assert file.build_id == 2
    site.assert_consistent()


# Signed elsewhere.


@pytest.fixture(scope="module")
def stranger() -> Iterator[GpgHome]:
    with short_directory() as directory, GpgHome(directory / "home") as home:
        home.make_key()
        yield home


def signed_by(home: GpgHome) -> dict[str, object]:
    """What makes a package signed by the key in `home`."""
    return {
        "detach": lambda data: home.gpg("--armor", "--detach-sign", data=data),
        "clearsign": lambda data: home.gpg("--digest-algo", "SHA512", "--clear-sign", data=data),
    }


def trust_key(site: Site, target: str, home: GpgHome) -> str:
    (fingerprint,) = home.fingerprints()
    with site.publisher.writing() as connection:
        key = (fingerprint, home.public_key(fingerprint))
        trust(connection, targets.require(connection, target), [key], 0)
    return fingerprint


def test_trusted_signature_and_its_number_are_kept(signed: Site, make: Make, stranger: GpgHome) -> None:
    fingerprint = trust_key(signed, "signed", stranger)
    path = make(build_id=4, **signed_by(stranger))
    (file,) = signed.publisher.publish("signed", [path]).files
    assert (file.build_id, file.signed_by) == (4, fingerprint)
    assert signed.file("signed", file.path).read_bytes() == path.read_bytes()
    # Our own numbers go on above it.
    assert signed.publisher.publish("signed", [make()]).files[0].build_id == 5
    signed.assert_consistent()


def test_trusted_package_whose_number_is_taken_is_refused(
    signed: Site, make: Make, stranger: GpgHome
) -> None:
    trust_key(signed, "signed", stranger)
    signed.publisher.publish("signed", [make()])
    before = signed.files()
    with pytest.raises(PackageRefused, match="another build has BUILD_ID 1 of"):
        signed.publisher.publish("signed", [make(build_id=1, **signed_by(stranger))])
    assert signed.files() == before


@pytest.mark.parametrize("target", ["open", "signed"])
def test_signature_of_a_stranger_is_refused(
    site: Site, signed: Site, make: Make, stranger: GpgHome, target: str
) -> None:
    at = {"open": site, "signed": signed}[target]
    with pytest.raises(PackageRefused, match="key"):
        at.publisher.publish(target, [make(**signed_by(stranger))])
    assert at.files() == []


def test_without_its_signer_a_target_takes_nothing_unsigned(site: Site, make: Make) -> None:
    site.add_target("strict")
    with pytest.raises(SignerUnavailable):
        site.publisher.publish("strict", [make()])
    assert site.files() == []
    assert site.builds("strict") == []


# What a target demands.


def test_other_chost_is_refused(site: Site, make: Make) -> None:
    with pytest.raises(PackageRefused, match="built for CHOST aarch64-unknown-linux-gnu"):
        site.publisher.publish("open", [make(metadata={"CHOST": "aarch64-unknown-linux-gnu"})])
    assert site.files() == []


@pytest.mark.parametrize("restrict", ["bindist", "fetch", "mirror fetch bindist"])
def test_what_must_not_be_redistributed_is_refused_unless_the_target_is_ones_own(
    site: Site, make: Make, restrict: str
) -> None:
    site.add_target("own", signatures="optional", bindist=True)
    path = make(metadata={"RESTRICT": restrict})
    with pytest.raises(PackageRefused, match="must not be redistributed"):
        site.publisher.publish("open", [path])
    site.publisher.publish("own", [path])
    assert len(site.paths("own")) == 1


def test_value_that_no_index_can_hold_is_refused(site: Site, make: Make) -> None:
    with pytest.raises(PackageRefused, match="SLOT in the metadata"):
        site.publisher.publish("open", [make(metadata={"SLOT": "a b"})])
    assert site.files() == []


def test_unknown_target_is_named(site: Site, make: Make) -> None:
    with pytest.raises(NoSuchTarget):
        site.publisher.publish("nowhere", [make()])


# At the same time.


def test_many_publish_at_once(site: Site, make: Make) -> None:
    paths = [make(build_id=None if number % 2 else 1) for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        published = list(pool.map(lambda path: site.publisher.publish("open", [path]), paths))
    files = [file for each in published for file in each.files]
    assert len({file.build_id for file in files}) == len(paths)
    assert sorted(each.generation for each in published) == list(range(1, 13))
    assert len(site.builds("open")) == len(paths)
    site.upkeep().tidy()
    site.check()


def test_same_file_from_many_at_once_is_one_build(site: Site, make: Make) -> None:
    path = make()
    with ThreadPoolExecutor(6) as pool:
        published = list(pool.map(lambda _: site.publisher.publish("open", [path]), range(6)))
    assert sum(each.is_new for each in published) == 1
    assert len(site.builds("open")) == 1
    site.assert_consistent()


# What goes wrong late.


def test_target_that_goes_meanwhile_takes_the_files_along(site: Site, make: Make) -> None:
    with site.publisher.begin(
        "open", actor="admin", origin=Origin.PUBLISH, cause=Cause.PUBLISH
    ) as publication:
        candidate = publication.take(Source.of(make()))
        with site.publisher.writing() as connection:
            targets.remove(connection, targets.require(connection, "open"))
        with pytest.raises(NoSuchTarget):
            publication.commit([candidate])
    assert site.files() == []


def test_files_stay_where_nobody_knows_whether_the_rows_are_stored(
    site: Site, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to COMMIT can be lost, and what it stored is there."""
    writing = Publisher.writing

    @contextlib.contextmanager
    def without_answer(publisher: Publisher) -> Iterator[Connection]:
        with writing(publisher) as connection:
            yield connection
            is_listed = connection.scalar(select(builds.c.id).where(builds.c.visible)) is not None
        if is_listed:
            raise StoreUnavailable("the server closed the connection unexpectedly")

    with site.publisher.begin(
        "open", actor="admin", origin=Origin.PUBLISH, cause=Cause.PUBLISH
    ) as publication:
        candidate = publication.take(Source.of(make()))
        monkeypatch.setattr(Publisher, "writing", without_answer)
        with pytest.raises(StoreUnavailable):
            publication.commit([candidate])
    monkeypatch.undo()
    assert len(site.files()) == 1
    (difference,) = site.check().first  # that the index is behind, which its keeper mends
    assert difference.startswith("target open: the index cannot be read")


def publish_command(site: Site, *paths: Path, limit: int = resource.RLIM_INFINITY) -> tuple[int, str]:
    """Run `bdcs publish`, which may write files of `limit` bytes; return its exit code and what it said."""
    done = subprocess.run(
        [*BDCS, "publish", *paths, "--target", "open"],
        env=environment(BDCS_SIGNER=str(site.data / "nobody-signs"), BDCS_DATA=str(site.data)),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_file_size_limit_says_what_to_do_and_leaves_nothing(site: Site, make: Make) -> None:
    path = make(build_id=None, image={"usr/bin/large": os.urandom(3_000_000)})
    code, output = publish_command(site, path, limit=2_000_000)
    assert code == 75, output
    assert "File too large" in output
    assert "free some space" in output
    assert site.files() == []
    assert site.builds("open") == []
    assert publish_command(site, path)[0] == 0
    site.assert_consistent()


@only_root
def test_full_disk_says_what_to_do_and_leaves_nothing(tmp_path: Path, make: Make) -> None:
    data = tmp_path / "small"
    data.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", data], check=True)
    try:
        site = Site.create(data)
        site.add_target("open", signatures="optional")
        site.publisher.publish("open", [make(image={"usr/bin/small": os.urandom(500_000)})])
        before = site.files()
        code, output = publish_command(site, make(image={"usr/bin/large": os.urandom(7_000_000)}))
        assert code == 75, output
        assert "No space left on device" in output
        assert "free some space" in output
        assert site.files() == before
        assert len(site.listed("open")) == 1
        site.publisher.publish("open", [make(image={"usr/bin/small": os.urandom(300_000)})])
        site.assert_consistent()
        site.publisher.close()
    finally:
        run(["umount", "--lazy", data], check=True)


@only_root
def test_disk_that_is_full_when_it_is_signed_says_so(tmp_path: Path, make: Make, signer: Signer) -> None:
    data = tmp_path / "small"
    data.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", data], check=True)
    try:
        site = Site.create(data, signer=signer.socket)
        site.add_target("signed")
        with pytest.raises(SignerDiskFull, match="No space left") as refused:  # it is there three times then
            site.publisher.publish("signed", [make(image={"usr/bin/large": os.urandom(3_000_000)})])
        assert "free some space" in refused.value.advice
        assert site.files() == []
        site.publisher.close()
    finally:
        run(["umount", "--lazy", data], check=True)


@only_root
def test_read_only_file_system_is_named(tmp_path: Path) -> None:
    data = tmp_path / "small"
    data.mkdir()
    run(["mount", "-t", "tmpfs", "tmpfs", data], check=True)
    try:
        Site.create(data).publisher.close()
        run(["mount", "-o", "remount,ro", data], check=True)
        done = run([*BDCS, "target", "list", "--data", data])
        assert done.returncode == 77
        assert "mounted read-only" in done.stderr
    finally:
        run(["umount", "--lazy", data], check=True)


# The command.


def test_command_says_what_it_published(site: Site, make: Make) -> None:
    path = make()
    code, output = publish_command(site, path)
    assert code == 0
    assert f"{path}: published as {ALPHA.format(1)}, not signed" in output
    code, output = publish_command(site, path)
    assert code == 0
    assert "published before" in output
    assert "nothing to do" in output


def test_command_needs_files_with_a_target_or_uploads(tmp_path: Path) -> None:
    no_files = (["--target", "here"], ["--upload", "x", "--again"], ["--list-uploads", "--again"])
    for words in ([], ["a.gpkg.tar"], *no_files, ["a", "--target", "here", "--upload", "x"]):
        assert run([*BDCS, "publish", *words, "--data", tmp_path]).returncode == 2


def test_errors_survive_the_way_to_another_process() -> None:
    import pickle

    for error in (PackageRefused("a", "b"), NoSuchTarget("a", ["b"]), SignerUnavailable("c")):
        back = pickle.loads(pickle.dumps(error))
        assert isinstance(back, CollectorError)
        assert (str(back), vars(back), back.advice) == (str(error), vars(error), error.advice)


# Upkeep.


def test_withdrawn_file_stays_for_the_grace_and_then_goes(site: Site, make: Make) -> None:
    (file,) = site.publisher.publish("open", [make()]).files
    withdraw(site, [file.build])
    assert site.upkeep(grace=30, later=29 * 86_400).tidy().withdrawn == 0
    assert site.file("open", file.path).exists()
    assert site.upkeep(grace=30, later=31 * 86_400).tidy().withdrawn == 1
    assert site.files() == []
    assert site.builds("open")[0].deleted_at is not None


def test_file_of_a_kept_generation_does_not_go(site: Site, make: Make) -> None:
    (file,) = site.publisher.publish("open", [make()]).files
    with site.publisher.writing() as connection:
        generations.keep(connection, targets.require(connection, "open"), 1)
    withdraw(site, [file.build])
    assert site.upkeep(later=400 * 86_400).tidy().withdrawn == 0
    assert site.file("open", file.path).exists()


def test_file_without_row_goes(site: Site, make: Make) -> None:
    (file,) = site.publisher.publish("open", [make()]).files
    orphan = site.file("open", ALPHA.format(99))
    orphan.write_bytes(b"left by somebody who died")
    stray = site.file("removed", ALPHA.format(1))
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"of a target that is no more")
    assert site.check().differences == 2
    assert site.upkeep().tidy().orphans == 2
    assert site.files() == [f"packages/open/{file.path}"]
    site.assert_consistent()


def test_upkeep_leaves_alone_what_no_name_of_ours_fits(site: Site, make: Make) -> None:
    site.publisher.publish("open", [make()])
    places = ("packages/lost+found/x", "packages/open/README", "packages/open/app-misc/.nfs01")
    for place in (*places, "quarantine/uploads/.nfs02"):
        stranger = site.data / place
        stranger.parent.mkdir(parents=True, exist_ok=True)
        stranger.write_bytes(b"")
        os.utime(stranger, (0, 0))
    before = site.files()
    assert site.upkeep().tidy() == Tidied()
    assert site.files() == before
    assert site.check().differences == 3


# What is no file.


def test_what_is_no_file_is_refused_at_once(site: Site, tmp_path: Path) -> None:
    fifo, zeros, huge = (tmp_path / f"{name}.gpkg.tar" for name in ("fifo", "zeros", "huge"))
    os.mkfifo(fifo)
    zeros.symlink_to("/dev/zero")
    with huge.open("wb") as file:
        file.truncate(DEFAULT.package_size + 1)
    for path, reason in ((fifo, "no file"), (zeros, "no file"), (tmp_path, "no file"), (huge, "larger than")):
        with pytest.raises(PackageRefused, match=reason):
            site.publisher.publish("open", [path])
    assert site.files() == []
