# SPDX-License-Identifier: GPL-2.0-or-later
"""A cluster on one machine, any part of which may be killed, or cut off.

    with running_cluster(home, builders=2) as cluster:
        cluster.url                                # HAProxy, which takes requests for both collectors
        cluster.collectors["c1"].kill()
        cluster.kill_primary().promote()           # its synchronous replica takes its place
        cluster.add_replica()                      # … which has one again
        cluster.link.cut(); cluster.link.heal()    # between c2 and store, broker and S3
        cluster.builders["builder-1"].kill()

PostgreSQL with a synchronous replica, RabbitMQ, S3 (moto), a signer, two collectors behind HAProxy, builders.
The collector c2 is in a network namespace of its own (as root, with iproute2): two virtual cables lead there,
one for HAProxy, one to everything that it needs. Addresses are of 198.18.0.0/15 (RFC 2544), on no real net.
"""

import contextlib
import json
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.binhost import Binhost
from tests.builders import approve, listed, start_builder
from tests.haproxy import HAProxy, reserved
from tests.peer import Peer
from tests.postgresql import USER, Server, start_postgresql
from tests.processes import BDCS, Collector, Process
from tests.rabbitmq import RabbitMQ
from tests.s3 import REGION, RunningS3, running_s3
from tests.signing import running_signer, short_directory, verify_home
from tests.waiting import until
from tests.world import World

TARGET = "amd64"
LEASE = 20
"""Seconds after which the job of a builder that was killed goes to another."""
OURS = Path("/proc/self/autogroup")
"""How important this session is to a kernel that shares processors among sessions (autogroup in sched(7))."""
NOBODY = "02:00:00:00:00:fe"
"""A hardware address that nothing has."""


@dataclass(frozen=True, slots=True)
class Cable:
    """A virtual cable between this machine and a namespace."""

    namespace: str
    device: str
    """Its name on either side."""
    near: str
    far: str

    def lay(self) -> None:
        """Connect both sides."""
        _ip("link", "add", self.device, "type", "veth", "peer", "name", self.device, "netns", self.namespace)
        for where, address in (((), self.near), (("-n", self.namespace), self.far)):
            _ip(*where, "addr", "add", f"{address}/30", "dev", self.device)
            _ip(*where, "link", "set", self.device, "up")

    def cut(self) -> None:
        """Lose every packet in either direction, silently: each side sends to hardware that is not there."""
        for where, other in (((), self.far), (("-n", self.namespace), self.near)):
            _ip(*where, "neigh", "replace", other, "lladdr", NOBODY, "dev", self.device, "nud", "permanent")

    def heal(self) -> None:
        """Let packets through again."""
        for where, other in (((), self.far), (("-n", self.namespace), self.near)):
            _ip(*where, "neigh", "del", other, "dev", self.device)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace with two cables; gone when its `with` block ends."""

    name: str
    front: Cable
    back: Cable

    @classmethod
    def new(cls) -> Self:
        """One whose name and addresses nobody else has."""
        number = random.randrange(1, 1 << 12)
        name = f"gtw-{os.getpid()}-{number:x}"
        start = (198 << 24) + (18 << 16) + 8 * number
        near, far, back_near, back_far = (_dotted(start + offset) for offset in (1, 2, 5, 6))
        return cls(
            name,
            Cable(name, f"gtwf{number:x}", near, far),
            Cable(name, f"gtwb{number:x}", back_near, back_far),
        )

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        self.front.lay()
        self.back.lay()
        return self

    def __exit__(self, *_exception: object) -> None:
        for cable in (self.front, self.back):
            _ip("link", "del", cable.device, check=False)
        _ip("netns", "del", self.name)

    def is_there(self) -> bool:
        """Whether the kernel knows it."""
        return self.name in _ip("netns", "list").split()


@dataclass
class FarRabbitMQ(RabbitMQ):
    """A broker that also listens on another address."""

    far: str = ""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        with (self.home / "rabbitmq.conf").open("a") as file:
            file.write(f"listeners.tcp.far = {self.far}:{self.port}\n")


@dataclass(slots=True, kw_only=True)
class Cluster:
    """All of it, as tests see it."""

    home: Path
    proxy: HAProxy
    collectors: dict[str, Collector]
    primary: Server
    replica: Server
    broker: RabbitMQ
    s3: RunningS3
    namespace: Namespace
    binhost: Binhost
    """Its collector is the proxy: commands of administrators, and the addresses of packages."""
    world: World
    """Builders build in it; what they build installs wherever EPREFIX is the same."""
    database: str
    builders: dict[str, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where machines find it."""
        return self.proxy.url

    @property
    def link(self) -> Cable:
        """The cable between the second collector and all that it needs."""
        return self.namespace.back

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask whatever is the primary now."""
        return self.primary.execute(statement, self.database)

    def kill_primary(self) -> Server:
        """SIGKILL for all of the primary; return the replica, which has all that was acknowledged."""
        self.primary.kill()
        self.primary, replica = self.replica, self.primary
        self.replica = replica
        return self.primary

    def add_replica(self) -> None:
        """Have a synchronous replica again, in place of the killed primary: collectors know no other."""
        self.replica = self.primary.add_replica(port=self.replica.port)

    def start_builder(self, name: str) -> None:
        """Start a builder, for the first time or again."""
        self.builders[name] = start_builder(self.binhost, self.world, self.home / name, TARGET, name=name)

    def kill_builder(self, name: str) -> None:
        """SIGKILL for the builder alone; what it started has to end by itself."""
        self.builders[name].kill()

    def bdcs(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of an administrator."""
        return self.binhost.collector.bdcs(*arguments, check=check)


@contextlib.contextmanager
def running_cluster(home: Path, *, builders: int) -> Iterator[Cluster]:
    """Run one whose state and logs are below `home`."""
    home.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as leaving:
        leaving.enter_context(served_first())
        namespace = leaving.enter_context(Namespace.new())
        far = namespace.back.near
        short = leaving.enter_context(short_directory())
        signer = leaving.enter_context(running_signer(short))
        fingerprint = signer.create_key("--name", "Cluster")
        verifying = verify_home(short / "verify", [signer.public_key(fingerprint)])
        s3 = leaving.enter_context(running_s3(home, far))
        broker = FarRabbitMQ(home / "rabbitmq", 1, far=far)
        leaving.callback(broker.end)
        broker.start()
        primary = start_postgresql(home)
        leaving.callback(primary.stop)
        listen_at(primary, far)
        database = primary.new_database().rpartition("/")[2]
        replica = primary.add_replica()
        port = leaving.enter_context(reserved())
        common: dict[str, object] = {
            "public_url": f"http://127.0.0.1:{port}",
            "signer": str(signer.socket),
            "blobs": f"s3://{s3.new_bucket()}",
            "s3_endpoint": s3.url,
            "s3_region": REGION,
            "lease": LEASE,
            "registrations_per_network": 100_000,
            "records_per_network": 1_000_000_000,
        }
        collectors = {}
        for name, host, proxy_at, inside in (
            ("c1", "127.0.0.1", "127.0.0.1", ()),
            ("c2", far, namespace.front.near, ("ip", "netns", "exec", namespace.name)),
        ):
            hosts = f"{host}:{primary.port},{host}:{replica.port}"
            settings = {
                **common,
                "store": f"postgresql://{USER}@{hosts}/{database}",
                "bus": broker.url.replace("127.0.0.1", host),
                "trusted_proxies": [f"{proxy_at}/32"],
            }
            collectors[name] = Collector(home / name, command=(*inside, *_bdcs(home / name, settings)))
        collectors["c2"].url = f"http://{namespace.front.far}:8642"
        for collector in collectors.values():
            leaving.enter_context(collector)
        urls = {name: collector.url for name, collector in collectors.items()}
        proxy = leaving.enter_context(HAProxy(home / "haproxy", urls, port=port))
        front = Collector(home / "admin", command=collectors["c1"].command, url=proxy.url)
        cluster = Cluster(
            home=home,
            proxy=proxy,
            collectors=collectors,
            primary=primary,
            replica=replica,
            broker=broker,
            s3=s3,
            namespace=namespace,
            binhost=Binhost(collector=front, signer=signer, fingerprint=fingerprint, verify_home=verifying),
            world=World.create(home / "world"),
            database=database,
        )
        cluster.binhost.add_target(TARGET)
        leaving.callback(_end_builders, cluster)
        for number in range(1, builders + 1):
            cluster.start_builder(f"builder-{number}")
        approved = {approve(cluster.binhost, builder, TARGET) for builder in cluster.builders.values()}
        peer = Peer(cluster.url)
        peer.register()
        until(lambda: approved <= listed(peer), what="the builders asking for work")
        yield cluster


@contextlib.contextmanager
def served_first() -> Iterator[None]:
    """Have the processes of this session come first, and then those in sessions of their own.

    Those are each `emerge` and each build, which stand for other machines.
    """
    if not OURS.exists():
        yield
        return
    before = OURS.read_text().split()[-1]
    OURS.write_text("-20")
    try:
        yield
    finally:
        OURS.write_text(before)


def _end_builders(cluster: Cluster) -> None:
    for builder in cluster.builders.values():
        builder.__exit__(None, None, None)


def _bdcs(home: Path, settings: dict[str, object]) -> tuple[str | Path, ...]:
    """The command with these settings."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "bdcs.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    return (*BDCS, "--config", file)


def listen_at(server: Server, address: str) -> None:
    """Have a server, and the replicas made of it, serve another address as well."""
    with (server.directory / "postgresql.conf").open("a") as file:
        file.write(f"listen_addresses = '127.0.0.1,{address}'\n")
    with (server.directory / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {address}/30 trust\n")
    server.kill()
    server.restart()


def _dotted(address: int) -> str:
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


def _ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(
        ["ip", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or not check, f"{done.args}: {done.stderr}"
    return done.stdout
