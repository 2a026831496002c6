# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines at work on a cluster that fails: they push, install with real `emerge`, and want builds.

    with Load.running(cluster, Numbers(clients=16, loops=6, builders=2)) as load:
        load.advance()                         # until each of them got something done
        with load.fault("broker"):             # what fails here is no failure; `is_hidden`: it is
            cluster.broker.kill()
            load.advance()
            cluster.broker.start()
    assert load.unexplained() == []

All of them ask the proxy, and again, byte for byte, until they are answered. What they install is what the
builders built meanwhile, each time in a ROOT that never heard of a binhost.
"""

import contextlib
import http.client
import json
import os
import random
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from gentwoo_client.wire import segments
from tests.builds import Wisher
from tests.cluster import TARGET, Cluster
from tests.peer import Answer
from tests.signing import portage_verifies
from tests.waiting import until
from tests.workshops import specification
from tests.world import Emerge, RunningEmerge

PAUSE: Final = 0.25
"""Seconds between two pushes of a machine at least, and before anything is tried again."""
PUSHES: Final = 32
"""Pushes a second of all machines together, at most: this one process signs and sends them all."""
PATIENCE: Final = 600.0
"""Seconds in which everybody has to get something done, and `emerge` to end, on however busy a machine."""
SHOWN: Final = 2000
"""Characters of what an `emerge` said that are shown: its end tells why."""
PACKAGES: Final = 400
"""Ebuilds that there are: more than are built in a test."""
FETCH: Final = 'wget -t 3 -T 60 --passive-ftp -O "${DISTDIR}/${FILE}" "${URI}"'
"""How Portage fetches where nobody tells it otherwise (make.globals). The worlds of other tests give up after
five seconds: so long a collector that is cut off takes until it has the proxy ask the other one."""
NOT_FETCHED: Final = (
    "Error fetching binhost package info",
    "Unable to fetch",
    "Couldn't download",
    "Fetch failed",
    "ERROR 50",
    "Giving up.",
)
"""What Portage, or its wget, says when it gets nothing, which is no broken package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How many of everything there are."""

    clients: int
    loops: int
    builders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A try that failed, and between which times."""

    who: str
    began: float
    ended: float
    text: str


@dataclass(slots=True, kw_only=True)
class Fault:
    """What was done to the cluster, from the first blow until everybody had got on again."""

    name: str
    is_hidden: bool
    began: float
    ended: float = float("inf")

    def explains(self, trouble: Trouble) -> bool:
        """Whether a try may fail because of it."""
        return not self.is_hidden and trouble.ended >= self.began and trouble.began <= self.ended


@dataclass(slots=True)
class Worker:
    """Somebody who does the same again and again, in a thread."""

    name: str
    over: threading.Event
    troubles: list[Trouble] = field(default_factory=list)
    done: list[tuple[float, float]] = field(default_factory=list)
    """When each thing was begun, and when it was done."""
    pause: float = 0.0
    """Seconds from one time to the next."""
    thread: threading.Thread | None = None
    error: BaseException | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, name=self.name)
        self.thread.start()

    def turn(self) -> None:
        """Do it once."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What comes before the first turn."""

    def _run(self) -> None:
        try:
            self.prepare()
            while not self.over.is_set():
                began = time.monotonic()
                self.turn()
                self.done.append((began, time.monotonic()))
                self.over.wait(self.pause)
        except BaseException as error:  # it is told where the test is
            self.error = error

    def insist(self, send: Callable[[], Answer]) -> Answer:
        """Send until it is taken; the same each time. Raises `AssertionError` when it never is."""
        deadline = time.monotonic() + PATIENCE
        while True:
            began = time.monotonic()
            try:
                answer = send()
            except (OSError, http.client.HTTPException) as error:
                text = f"{type(error).__name__}: {error}"
            else:
                if answer.status < 300:
                    return answer
                assert answer.status >= 500, f"{self.name} is refused: {answer}"
                text = f"{answer.status} {answer.body[:300]!r}"
            self.troubles.append(Trouble(who=self.name, began=began, ended=time.monotonic(), text=text))
            assert time.monotonic() < deadline, self.troubles[-1]
            time.sleep(PAUSE)


@dataclass(slots=True)
class Pusher(Worker):
    """A machine whose records come all the time."""

    peer: Wisher = field(default_factory=lambda: Wisher(""))

    def prepare(self) -> None:
        self.insist(self.peer.register)

    def turn(self) -> None:
        count = random.randint(1, 3)
        compact = self.peer.signed(self.peer.payload(count))
        self.insist(lambda: self.peer.send(compact))
        self.peer.seq += count
        self.peer.prev = segments.digest(compact)


@dataclass(slots=True)
class Wanting(Worker):
    """A machine that wants one package after the other, none of which anybody wanted before."""

    peer: Wisher = field(default_factory=lambda: Wisher(""))
    next_one: Callable[[], str] = str
    published: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        self.insist(self.peer.register)

    def turn(self) -> None:
        cpv = self.next_one()
        wish = {
            "target": TARGET,
            "packages": [specification(cpv).to_json()],
            "atoms": [f"={cpv}"],
            "key": uuid.uuid4().hex,
        }
        state = self._ask("POST", "/v1/builds", wish)
        while state["state"] == "open":
            path = f"/v1/builds/{state['id']}"
            if self.over.is_set():
                state = self._ask("DELETE", path)
                if state["packages"][0]["state"] != "published":
                    return
            else:
                state = self._ask("GET", f"{path}?wait=5&since={state['version']}")
        assert [each["state"] for each in state["packages"]] == ["published"], state
        self.over.wait(state["listed_in"])
        self.published.append(cpv)

    def _ask(self, method: str, path: str, document: object | None = None) -> dict[str, Any]:
        return self.insist(lambda: self.peer.send_json(method, path, document)).document


@dataclass(slots=True)
class Installing(Worker):
    """A machine that installs what there is, with real `emerge`."""

    cluster: Cluster | None = None
    choices: Callable[[], list[str]] = list
    place: Path = Path()
    broken: list[str] = field(default_factory=list)

    def turn(self) -> None:
        until(lambda: self.choices() or self.over.is_set(), PATIENCE, what="a package to install")
        if not self.choices():
            return
        cpv = random.choice(self.choices())
        began = time.monotonic()
        done = self._emerge(cpv)
        installed = list(self.place.glob(f"root/**/var/db/pkg/{cpv}/CONTENTS"))
        if "Traceback" in done.output or (done.returncode == 0) != bool(installed):
            self.broken.append(self._kept(done))
        elif done.returncode and any(words in done.output for words in NOT_FETCHED):
            ended = time.monotonic()
            self.troubles.append(Trouble(who=self.name, began=began, ended=ended, text=self._kept(done)))
        elif done.returncode:
            self.broken.append(self._kept(done))
        shutil.rmtree(self.place / "root")

    def _kept(self, done: Emerge) -> str:
        """How it ended, and the file that has all that it said."""
        file = self.place / f"failed-{len(self.broken) + len(self.troubles) + 1}.out"
        file.write_text(done.output)
        return f"exit {done.returncode} of {file}, which ends:\n{done.output[-SHOWN:]}"

    def _emerge(self, cpv: str) -> Emerge:
        assert self.cluster is not None
        world, root = self.cluster.world, self.place / "root"
        for directory in ("tmp", "log"):
            (root / directory).mkdir(parents=True)
        env = {
            **world.environment(),
            **portage_verifies(self.cluster.binhost.verify_home),
            "ROOT": str(root),
            "PKGDIR": str(root / "packages"),
            "PORTAGE_TMPDIR": str(root / "tmp"),
            "EMERGE_LOG_DIR": str(root / "log"),
            "PORTAGE_BINHOST": self.cluster.binhost.url(TARGET),
            "FETCHCOMMAND": FETCH,
            "RESUMECOMMAND": FETCH.replace("wget", "wget -c"),
        }
        output = root / "emerge.out"
        with output.open("wb") as stdout:
            process = subprocess.Popen(
                [
                    world.portage_bin / "emerge",
                    "--color=n",
                    "--nospinner",
                    "--getbinpkgonly",
                    "-1",
                    f"={cpv}",
                ],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return RunningEmerge(process, output).wait(PATIENCE)


@dataclass(slots=True)
class Load:
    """All who are at work."""

    pushers: list[Pusher]
    wanting: list[Wanting]
    installing: list[Installing]
    faults: list[Fault] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def running(cls, cluster: Cluster, numbers: Numbers) -> Iterator[Self]:
        """Have them work until the block ends; then each ends what it is at."""
        cpvs = iter([f"app-misc/p{number}-1.0" for number in range(PACKAGES)])
        taken = threading.Lock()
        over = threading.Event()

        def next_one() -> str:
            with taken:
                return next(cpvs)

        for number in range(PACKAGES):
            cluster.world.ebuild(f"app-misc/p{number}-1.0")
        wanting = [
            Wanting(f"wanting {number}", over, peer=Wisher(cluster.url), next_one=next_one)
            for number in range(numbers.builders)
        ]

        def published() -> list[str]:
            return [cpv for each in wanting for cpv in each.published]

        pause = max(PAUSE, numbers.clients / PUSHES)
        load = cls(
            [
                Pusher(f"pusher {number}", over, pause=pause, peer=Wisher(cluster.url))
                for number in range(numbers.clients)
            ],
            wanting,
            [
                Installing(
                    f"emerge {number}",
                    over,
                    cluster=cluster,
                    choices=published,
                    place=cluster.home / f"loop-{number}",
                )
                for number in range(numbers.loops)
            ],
        )
        for worker in load.workers:
            worker.start()
        try:
            yield load
        finally:
            over.set()
            for worker in load.workers:
                assert worker.thread is not None
                worker.thread.join()
        load.require()

    @property
    def workers(self) -> list[Worker]:
        return [*self.pushers, *self.wanting, *self.installing]

    def require(self) -> None:
        """Raise what anybody broke down with."""
        for worker in self.workers:
            if worker.error is not None:
                raise AssertionError(f"{worker.name} broke down") from worker.error

    def advance(self, workers: list[Worker] | None = None) -> float:
        """Wait until each has done something that was begun from now on; return the seconds it took."""
        since = time.monotonic()
        for worker in self.workers if workers is None else workers:
            until(lambda at=worker: self._is_on(at, since), PATIENCE, what=f"{worker.name} getting on")  # type: ignore[misc]
        return time.monotonic() - since

    def _is_on(self, worker: Worker, since: float) -> bool:
        self.require()
        return bool(worker.done) and worker.done[-1][0] >= since

    @contextlib.contextmanager
    def fault(self, name: str, *, is_hidden: bool = False) -> Iterator[Fault]:
        """Something is done to the cluster, and mended; then everybody gets on."""
        fault = Fault(name=name, is_hidden=is_hidden, began=time.monotonic())
        self.faults.append(fault)
        yield fault
        self.advance()
        fault.ended = time.monotonic()
        print(f"{name}: {self.told(fault)}", flush=True)

    def told(self, fault: Fault) -> str:
        """What came of it, in figures."""
        pushes = [
            (began, ended)
            for each in self.pushers
            for began, ended in list(each.done)
            if ended >= fault.began and began <= fault.ended
        ]
        longest = max((ended - began for began, ended in pushes), default=0.0)
        failed = [
            trouble
            for worker in self.workers
            for trouble in worker.troubles
            if trouble.ended >= fault.began and trouble.began <= fault.ended
        ]
        kinds = {
            kind: sum(each.who.startswith(kind) for each in failed)
            for kind in ("pusher", "wanting", "emerge")
        }
        return (
            f"{fault.ended - fault.began:.1f} s in all, {len(pushes)} pushes, the slowest {longest:.2f} s;"
            f" tries that failed: {json.dumps(kinds)}"
        )

    def acknowledged_after(self, moment: float) -> float | None:
        """When the first push after that was acknowledged."""
        times = [ended for each in self.pushers for _, ended in list(each.done) if ended > moment]
        return min(times, default=None)

    def unexplained(self) -> list[Trouble]:
        """Tries that failed although nothing was done that they may fail of."""
        return [
            trouble
            for worker in self.workers
            for trouble in worker.troubles
            if not any(fault.explains(trouble) for fault in self.faults)
        ]

    def records(self) -> list[tuple[str, int]]:
        """What was acknowledged, by machine and number."""
        return [(str(each.peer.machine), seq) for each in self.pushers for seq in range(1, each.peer.seq + 1)]


def processes_of(*places: Path) -> list[str]:
    """The processes whose command line or environment names one of these directories."""
    marks = [os.fsencode(place) for place in places]
    found = []
    for number in filter(str.isdecimal, os.listdir("/proc")):
        if int(number) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = Path("/proc", number, "cmdline").read_bytes()
            told = words + Path("/proc", number, "environ").read_bytes()
            if any(mark in told for mark in marks):
                found.append(f"{number} {words.decode(errors='replace')}")
    return found
