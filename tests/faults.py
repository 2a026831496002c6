# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine and its collector under faults: a log that grows and rotates, a relay that knows what is on the
wire, and what can be learnt from a journal whose owner has just been killed.

    with Site.create(tmp_path) as site:
        site.start()
        site.log.append(b"1795307625: Started emerge on: ...\n")
        site.drain()
        site.collector.export()
"""

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Self

from gentwoo_client.log.tracker import MergeTracker
from tests.processes import Collector, Machine, Process, without
from tests.waiting import until

DATA = Path(__file__).parent / "data" / "emerge-logs"
OUTSIDE_THE_CHAIN = ("observed", "clock", "created_at", "machine", "id")
"""What an export of two runs over the same log may differ in."""

Moment = Literal["arriving", "sent", "answered"]
MOMENTS: Final[tuple[Moment, ...]] = ("arriving", "sent", "answered")


@dataclass(slots=True, eq=False)
class Trap:
    """Strikes once, in the middle of the next push that passes the relay.

    `arriving`: half of the request has been passed on. `sent`: all of it. `answered`: the collector has
    answered, and the client will never read it.
    """

    moment: Moment
    strike: Callable[[], None]
    sprung: threading.Event = field(default_factory=threading.Event)


class Relay:
    """Passes bytes between client and collector; its address is the collector's public_url.

    So the collector may come back on another port, and a test sees from outside which pushes were answered.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.target: str | None = None
        """HOST:PORT of the collector; None while it is away: connections are then closed at once."""
        self.broken = 0
        """Pushes whose connection ended before the client had its answer."""
        self.pushes = 0
        """Pushes that the client got an answer to."""
        self._trap: Trap | None = None
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End all connections and threads."""
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def arm(self, trap: Trap) -> None:
        """Set `trap` for the next push."""
        self._trap = trap

    def disarm(self) -> None:
        """Take the trap away, if it has not sprung."""
        self._trap = None

    def _accept(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            client, _ = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            host, _, port = (self.target or "").partition(":")
            if host:
                with socket.create_connection((host, int(port))) as server:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    Exchange(self, client, server).run()

    def take_trap(self, *moments: Moment) -> Trap | None:
        """The trap, if it is for one of these moments; it will not spring again."""
        trap = self._trap
        if trap is None or trap.moment not in moments:
            return None
        self._trap = None
        return trap

    @property
    def is_closing(self) -> bool:
        """Whether connections are to end."""
        return self._closing.is_set()


class Exchange:
    """One connection through the relay."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay = relay
        self._client = client
        self._server = server
        self._push_under_way = False

    def run(self) -> None:
        """Pass bytes on until either side has enough."""
        try:
            while not self._relay.is_closing:
                readable, _, _ = select.select([self._client, self._server], [], [], 0.05)
                if self._server in readable and not self._pass_answer():
                    return
                if self._client in readable and not self._pass_request():
                    return
        finally:
            if self._push_under_way:
                self._relay.broken += 1

    def _pass_request(self) -> bool:
        data = self._client.recv(1 << 16)
        if not data:
            return False
        if re.match(rb"POST /v1/machines/[0-9a-f-]+/segments ", data):
            self._push_under_way = True
        trap = self._relay.take_trap("arriving", "sent") if self._push_under_way else None
        if trap is None:
            self._server.sendall(data)
            return True
        self._server.sendall(data if trap.moment == "sent" else data[: len(data) // 2])
        trap.strike()
        trap.sprung.set()
        return trap.moment == "sent"

    def _pass_answer(self) -> bool:
        data = self._server.recv(1 << 16)
        if not data:
            return False
        trap = self._relay.take_trap("answered") if self._push_under_way else None
        if trap is not None:
            trap.strike()
            trap.sprung.set()
            return False
        self._client.sendall(data)
        if self._push_under_way:
            self._push_under_way = False
            self._relay.pushes += 1
        return True


class GrowingLog:
    """An emerge.log that is written and rotated. `content` is all that was ever written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = bytearray()
        self.changes = 0
        """How many changes the whole lines of `content` tell of."""
        self._told = 0  # bytes of whole lines that are counted in `changes`
        self._tracker = MergeTracker()
        path.parent.mkdir(parents=True, exist_ok=True)

    def append(self, data: bytes) -> None:
        """Write `data` in one write to the end, as Portage does."""
        with self.path.open("ab", buffering=0) as file:
            file.write(data)
        self.content += data
        end = self.content.rfind(b"\n") + 1
        if end > self._told:
            self.changes += len(self._tracker.feed(bytes(self.content[self._told : end])))
            self._told = end

    def rename(self, *, compress: bool = False) -> None:
        """Rotate by renaming; the next `append` makes a new file. `compress`: all copies but the newest."""
        self._make_room(compress=compress)
        self.path.rename(self._copy(1))

    def copytruncate(self) -> None:
        """Rotate by copying and cutting the file down to nothing."""
        self._make_room(compress=False)
        shutil.copyfile(self.path, self._copy(1))
        os.truncate(self.path, 0)

    @property
    def size(self) -> int:
        """Bytes of the file as it is now; 0 where there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _copy(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _make_room(self, *, compress: bool) -> None:
        copies = (re.fullmatch(r".*\.log\.(\d+)(\.gz)?", path.name) for path in self.path.parent.iterdir())
        for number, suffix in sorted(((int(c[1]), c[2] or "") for c in copies if c), reverse=True):
            older = self._copy(number).with_name(self._copy(number).name + suffix)
            if compress and not suffix:
                target = self._copy(number + 1).with_name(self._copy(number + 1).name + ".gz")
                target.write_bytes(_gzip(older.read_bytes()))
                older.unlink()
            else:
                older.rename(self._copy(number + 1).with_name(self._copy(number + 1).name + suffix))


def _gzip(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=31)
    return compressor.compress(data) + compressor.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalView:
    """What a journal holds, found in a copy: closing the last connection to the journal would change it."""

    records: int
    unsent: int
    """Records that may be sent, and are not acknowledged."""
    unacknowledged: tuple[str, ...]
    """Digests of segments that were signed and are not acknowledged."""
    state: dict[str, str]

    @classmethod
    def of(cls, state_dir: Path) -> "JournalView":
        """The journal in `state_dir`, as the next process to open it would find it."""
        names = ("journal.sqlite", "journal.sqlite-wal")
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in zip(names, _at_rest([state_dir / name for name in names]), strict=True):
                Path(scratch, name).write_bytes(content)
            with contextlib.closing(sqlite3.connect(Path(scratch, names[0]))) as connection:
                return cls._read(connection)

    @classmethod
    def _read(cls, connection: sqlite3.Connection) -> "JournalView":
        state = dict(connection.execute("SELECT key, value FROM state"))
        chain = int(state.get("chain") or 1)
        pending = connection.execute(
            "SELECT digest FROM segments WHERE chain = ? AND acknowledged IS NULL ORDER BY first_seq",
            (chain,),
        )
        done = "SELECT coalesce(max(last_seq), 0) FROM segments WHERE chain = ? AND acknowledged IS NOT NULL"
        unsent = f"SELECT count(*) FROM records WHERE chain = ? AND seq > ({done})"
        return cls(
            records=connection.execute("SELECT count(*) FROM records").fetchone()[0],
            unsent=connection.execute(unsent, (chain, chain)).fetchone()[0],
            unacknowledged=tuple(digest for (digest,) in pending),
            state=state,
        )

    def has_read(self, log: GrowingLog) -> bool:
        """Whether all changes that the log tells of are in the journal. Other lines are not missed."""
        return self.records >= log.changes


def _at_rest(files: list[Path]) -> list[bytes]:
    """What all files hold at one moment: read until nothing changed meanwhile. A missing file is empty."""
    before = None
    while (content := [_content(file) for file in files]) != before:
        before = content
    return content


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


@dataclass(eq=False)
class Site:
    """One machine, its log, its collector, and the relay between."""

    home: Path
    relay: Relay
    log: GrowingLog
    collector: Collector
    machine: Machine
    daemon: Process | None = None

    @classmethod
    @contextlib.contextmanager
    def create(cls, home: Path, **settings: str) -> Iterator[Self]:
        """Make a site in `home`, nothing of it started. `settings` are the client's, each as TOML text."""
        relay = Relay()
        home.mkdir(parents=True, exist_ok=True)
        (home / "bdcs.toml").write_text(f'public_url = "{relay.url}"\n')
        log = GrowingLog(home / "log" / "emerge.log")
        client = {
            "collector": f'"{relay.url}"',
            "log": f'"{log.path}"',
            "repositories": '["*"]',
            "state_dir": f'"{home / "state"}"',
            **settings,
        }
        site = cls(
            home=home,
            relay=relay,
            log=log,
            collector=Collector(home / "collector", options=("--config", str(home / "bdcs.toml"))),
            machine=Machine(
                home / "machine", "".join(f"{name} = {value}\n" for name, value in client.items())
            ),
        )
        try:
            yield site
        finally:
            site._end()

    @property
    def state_dir(self) -> Path:
        """The client's state directory."""
        return self.home / "state"

    def start(self) -> None:
        """Start the collector, register, start the daemon."""
        self.start_collector()
        self.machine.register()
        self.start_daemon()

    def start_collector(self) -> None:
        """Start it, wait until it listens, and lead the relay there."""
        self.collector.url = ""
        self.collector.start()
        self.relay.target = self.collector.url.removeprefix("http://")

    def kill_collector(self) -> None:
        """SIGKILL, and nobody answers any more."""
        self.relay.target = None
        self.collector.kill()

    def start_daemon(self) -> None:
        """Start the daemon; does not wait for it."""
        self.daemon = self.machine.daemon()

    def kill_daemon(self) -> None:
        """SIGKILL to the resident process alone."""
        assert self.daemon is not None
        self.daemon.kill()

    def sender(self) -> int | None:
        """The pid of the daemon's push child, or None."""
        return next(iter(children(self.daemon.pid)), None) if self.daemon is not None else None

    def kill_sender(self) -> bool:
        """SIGKILL to the push child; False where there is none."""
        assert self.daemon is not None
        with sender_of(self.daemon.pid) as descriptor:
            if descriptor is None:
                return False
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            return True

    def journal(self) -> JournalView:
        """What the journal holds now."""
        return JournalView.of(self.state_dir)

    def is_read(self) -> bool:
        """Whether all of the log was read. The daemon has to be running."""
        assert self.daemon is not None
        assert self.daemon.is_running(), self.daemon.output
        return self.journal().has_read(self.log)

    def is_drained(self) -> bool:
        """Whether all of the log was read and all of it acknowledged. The daemon has to be running."""
        if not self.is_read():
            return False
        view = self.journal()  # looked at later, so it has what came of the lines that were read
        return not view.unsent and not view.unacknowledged

    def drain(self, timeout: float = 180) -> None:
        """Wait until all is read and acknowledged."""
        until(self.is_drained, timeout, what=f"all of {self.log.path} at the collector\n{self.told()}")

    def told(self) -> str:
        """The last lines that the daemon printed."""
        return "\n".join(self.daemon.output.splitlines()[-5:]) if self.daemon is not None else ""

    def checked_changes(self) -> list[dict[str, Any]]:
        """What the collector has, but for what two runs over the same log may differ in.

        Before, `bdcs check` has to agree, and each machine's records have to be there once.
        """
        self.collector.bdcs("check")
        records = self.collector.export()
        seqs: dict[str, list[int]] = {}
        for record in records:
            seqs.setdefault(record["machine"], []).append(record["seq"])
        for machine, found in seqs.items():
            assert found == list(range(1, len(found) + 1)), f"{machine}: numbers missing or twice"
        return without(records, *OUTSIDE_THE_CHAIN)

    def _end(self) -> None:
        """End every process and thread of the site."""
        if self.daemon is not None and self.daemon.is_running():
            with sender_of(self.daemon.pid) as descriptor:
                self.daemon.kill()
                if descriptor is not None:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        if self.collector.process is not None and self.collector.process.is_running():
            self.collector.kill()
        self.relay.close()


def children(pid: int) -> list[int]:
    """The pids of the children of `pid`; none where it is gone."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for tasks in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (tasks / "children").read_text().split())
    return found


@contextlib.contextmanager
def sender_of(daemon: int) -> Iterator[int | None]:
    """A descriptor of the daemon's child, so that a signal reaches nobody else; None where it has none."""
    descriptor = None
    for pid in children(daemon):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            if pid in children(daemon):  # still the one we meant: its number was not given away meanwhile
                break
            os.close(descriptor)
            descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def wait_a_moment(seconds: float) -> None:
    """Let `seconds` pass: for moments that are meant to be random, never to wait for something."""
    select.select([], [], [], seconds)


@contextlib.contextmanager
def small_disk(path: Path, *, size: int) -> Iterator[Path]:
    """A file system of `size` bytes at `path` (tmpfs; needs root), unmounted afterwards."""
    path.mkdir(parents=True, exist_ok=True)
    Process(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", path], log=path.with_suffix(".mount")
    ).wait()
    try:
        assert os.path.ismount(path), path.with_suffix(".mount").read_text()
        yield path
    finally:
        Process(["umount", "--lazy", path], log=path.with_suffix(".mount")).wait()


def fill(disk: Path) -> Path:
    """Write a file that takes all space left on `disk`; return it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return ballast


@cache
def real_log() -> bytes:
    """The 10,000 lines of a real machine (see tests/data), from the first whole run on, as of now."""
    content = (DATA / "emlop-10000.log").read_bytes()
    return as_of_now(content[content.index(b" Started emerge on: ") - len(b"1517698744:") :])


@cache
def scenario_logs() -> bytes:
    """The 44 small logs of one situation each, one after the other, as of now."""
    return as_of_now(b"".join(path.read_bytes() for path in sorted((DATA / "scenarios").glob("*.log"))))


def as_of_now(content: bytes) -> bytes:
    """The log, moved to begin now: merges that were open when a machine booted would count no more."""
    return shifted(content, int(time.time()) - int(content.partition(b":")[0]))


def quarters(content: bytes, count: int) -> list[bytes]:
    """`content` in `count` pieces of about the same size, each beginning where a run of emerge does."""
    cuts = [0]
    for number in range(1, count):
        cuts.append(
            content.index(b"*** terminating.\n", number * len(content) // count) + len(b"*** terminating.\n")
        )
    return [content[start:end] for start, end in zip(cuts, [*cuts[1:], len(content)], strict=True)]


def shifted(content: bytes, seconds: int) -> bytes:
    """The log with all stamps moved by `seconds`; lines without a stamp stay as they are."""

    def move(match: re.Match[bytes]) -> bytes:
        return b"%d:" % (int(match[1]) + seconds)

    return re.sub(rb"^([0-9]+):", move, content, flags=re.MULTILINE)


@cache
def undisturbed(content: bytes) -> list[dict[str, Any]]:
    """What a collector has of a machine that read `content` in one go, and that nothing ever happened to.

    But for what two runs over the same log may differ in.
    """
    with tempfile.TemporaryDirectory() as home, Site.create(Path(home)) as site:
        site.log.append(content)
        site.start_collector()
        site.machine.register()
        site.machine.gentwoo("push")
        return site.checked_changes()
