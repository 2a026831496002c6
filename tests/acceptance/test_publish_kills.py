# SPDX-License-Identifier: GPL-2.0-or-later
"""Whenever a publication is killed, no reader sees an index that names a missing or a differing file.

Real `bdcs publish` commands die by SIGKILL at random steps, beside a real `bdcs serve` and a real signer,
while readers go through index and files again and again. GENTWOO_TEST_SEED repeats the choices of a run.
"""

import contextlib
import gzip
import hashlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bdcs.domain.packages_index import parse_entry
from tests.crashing import CrashLab
from tests.packages import make_gpkg
from tests.processes import Collector
from tests.signing import Signer, running_signer, short_directory
from tests.waiting import until

KILLS: Final = 50
READERS: Final = 2
STEPS_IN: Final = ("blobs", "services", "store")
TARGET: Final = "amd64"


class Reader(threading.Thread):
    """Reads one of the two index files, then every file that it names; again and again until `end`."""

    def __init__(self, data: Path, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._index = data / "binhost" / TARGET / name
        self._packages = data / "packages" / TARGET
        self._ending = threading.Event()
        self.wrong: list[str] = []
        self.rounds = 0
        self.seen: set[str] = set()

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                raw = self._index.read_bytes()
            except FileNotFoundError:
                continue  # before the first publication
            text = gzip.decompress(raw) if self._index.suffix == ".gz" else raw
            self._compare(text.decode())
            self.rounds += 1

    def _compare(self, text: str) -> None:
        head, *blocks = text.removesuffix("\n\n").split("\n\n")
        entries = [parse_entry(block) for block in blocks]
        if parse_entry(head)["PACKAGES"] != str(len(entries)):
            self.wrong.append(f"an index of {len(entries)} entries says that it has others")
        for entry in entries:
            self.seen.add(entry["PATH"])
            try:
                content = (self._packages / entry["PATH"]).read_bytes()
            except FileNotFoundError:
                self.wrong.append(f"{entry['PATH']} is listed, and missing")
                continue
            if (str(len(content)), hashlib.md5(content).hexdigest()) != (entry["SIZE"], entry["MD5"]):
                self.wrong.append(f"{entry['PATH']} is listed, and another file")

    def end(self) -> None:
        self._ending.set()
        self.join()


@pytest.fixture
def signer() -> Iterator[Signer]:
    with short_directory() as directory, running_signer(directory) as signer:
        signer.create_key()
        yield signer


@pytest.fixture
def collector(tmp_path: Path, signer: Signer) -> Iterator[Collector]:
    with Collector(tmp_path / "collector") as collector:
        place = ("--chost", "x86_64-pc-linux-gnu", "--profile", "default/linux/amd64/23.0", "--cflags=-O2")
        collector.bdcs("target", "add", TARGET, *place)
        yield collector


@pytest.mark.timeout(600)
def test_no_reader_sees_a_listed_file_that_is_missing_or_another(
    tmp_path: Path, collector: Collector, signer: Signer
) -> None:
    choices = random.Random(os.environ.get("GENTWOO_TEST_SEED", "publish"))
    files: list[Path] = []

    def make() -> Path:
        path = tmp_path / f"{len(files)}.gpkg.tar"
        cpv = f"app-misc/p{choices.randrange(KILLS // 3)}-1.0"
        files.append(make_gpkg(path, cpv=cpv, image={"usr/bin/it": choices.randbytes(20_000)}))
        return path

    readers = [Reader(collector.data, ("Packages", "Packages.gz")[number % 2]) for number in range(READERS)]
    settings = {"BDCS_DATA": str(collector.data), "BDCS_SIGNER": str(signer.socket)}
    with contextlib.ExitStack() as ending, CrashLab("bdcs", **settings) as lab:
        for _ in range(2):  # the first one takes more steps: it asks for the key
            whole = lab.run(["publish", make(), "--target", TARGET], places=STEPS_IN)
            assert whole.exit_code == 0, whole.output
        for reader in readers:
            reader.start()
            ending.callback(reader.end)
        killed = 0
        while killed < KILLS:
            # Half of them where files appear, rows are written, and the index.
            step = choices.randint(1 if killed % 2 else whole.steps * 2 // 3, whole.steps)
            outcome = lab.run(["publish", make(), "--target", TARGET], places=STEPS_IN, step=step)
            assert outcome.was_killed or outcome.exit_code == 0, outcome.output
            killed += outcome.was_killed
        # Whoever was killed does it again; what had come through is recognised.
        done = lab.run(["publish", *files, "--target", TARGET])
        assert done.exit_code == 0, done.output
        until(lambda: all(len(reader.seen) == len(files) for reader in readers), what="all are listed once")

    assert [reader.wrong for reader in readers] == [[]] * READERS
    assert all(reader.rounds for reader in readers)

    # At its start the server tidies up; then rows, index and files agree, and nothing else lies about.
    collector.stop()
    collector.start()
    assert collector.process is not None
    until(lambda: list((collector.data / "quarantine").iterdir()) == [], what="workspaces are gone")
    collector.process.until_printed("which no row names")  # some died between placing and committing
    until(lambda: collector.bdcs("check", check=False).returncode == 0, what="a clean check")
    listed = {path.relative_to(collector.data / "packages" / TARGET) for path in _files(collector)}
    assert {str(path) for path in listed} == readers[0].seen


def _files(collector: Collector) -> list[Path]:
    return [path for path in (collector.data / "packages" / TARGET).rglob("*") if path.is_file()]
