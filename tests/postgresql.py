# SPDX-License-Identifier: GPL-2.0-or-later
"""PostgreSQL on loopback: a cluster of its own in a temporary directory, ended by pid.

    with running_postgresql(tmp_path) as postgresql:       # the server's log is tmp_path / "postgresql.log"
        store = Store(PostgreSQL(postgresql.new_database()))         # has the schema; 0.1 s
        empty = postgresql.new_database(is_empty=True)
        collector = Collector(home, options=["--store", postgresql.new_database()])

The whole suite runs on PostgreSQL with `GENTWOO_TEST_STORE=postgresql pytest …`: see `tests/stores.py`.

What was committed survives a kill of all processes, but no power cut (`fsync=off`), unless `is_durable`.
`add_replica` makes a synchronous replica, which `promote` makes the primary; `postgresql.kill()` is kill -9
of all its processes.

Whoever starts a server holds a lock beside its data for as long as it lives. What a killed test run has left,
the next that starts a server ends and removes.
"""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from bdcs.store import schema
from bdcs.store.engine import create_writer
from bdcs.store.places import PostgreSQL
from bdcs.store.store import transaction
from tests.processes import free_port
from tests.waiting import until

USER: Final = "postgres"
TEMPLATE: Final = "gentwoo_template"
PREFIX: Final = "gentwoo-postgresql-"
_OWNER: Final = "owner"
_CONFIGURATION: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
max_wal_size = 2GB
wal_level = replica
logging_collector = off
log_destination = stderr
autovacuum_naptime = 10s
jit = off
"""
_FAST: Final = """
fsync = off
full_page_writes = off
"""
_DURABLE: Final = """
fsync = on
"""


def programs() -> Path:
    """The directory of the newest PostgreSQL that is installed here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert found, "PostgreSQL is not installed: python3 -m dev.setup engines"
    return found[-1]


@dataclass
class Server:
    """One server process with its data."""

    directory: Path
    log: Path
    port: int
    process: subprocess.Popen[bytes]
    replicas: list["Server"] = field(default_factory=list)

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @property
    def url(self) -> str:
        """The URL of the database that every cluster has."""
        return self.url_of("postgres")

    @property
    def host(self) -> str:
        """HOST:PORT, as it stands in a URL of several."""
        return f"127.0.0.1:{self.port}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run `statement` outside of any transaction; return its rows."""
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, *, is_empty: bool = False) -> str:
        """Make a database, with the collector's schema unless `is_empty`; return its URL."""
        name = f"gentwoo_{secrets.token_hex(6)}"
        if is_empty:
            self.execute(f"CREATE DATABASE {name}")
        else:
            self._make_template()
            self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")  # half as long
        return self.url_of(name)

    def copy_database(self, source: str, target: str) -> None:
        """Make a database a copy of another, which nobody is connected to; both by their URLs."""
        self.drop_database(target)
        name, template = (url.rpartition("/")[2] for url in (target, source))
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")

    def drop_database(self, url: str) -> None:
        """Drop it, whoever uses it."""
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def add_replica(self, *, is_synchronous: bool = True, port: int | None = None) -> "Server":
        """Start a replica, at any port unless told; if synchronous, every commit from now on waits for it."""
        directory = _new_directory()
        name = f"replica_{secrets.token_hex(4)}"
        source = f"host=127.0.0.1 port={self.port} user={USER} application_name={name}"
        _run(
            [
                "pg_basebackup",
                "-D",
                str(directory),
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
                "-d",
                source,
            ]
        )
        log = self.log.with_name(f"{name}.log")
        replica = _started(directory, log, port)
        self.replicas.append(replica)
        if is_synchronous:
            self.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
            self.execute("ALTER SYSTEM SET synchronous_commit = 'on'")
            self.execute("SELECT pg_reload_conf()")
            until(
                lambda: self.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"),
                what="a synchronous replica",
            )
        return replica

    def promote(self) -> None:
        """Make this replica the primary, of nobody yet; returns when it takes writes."""
        self.execute("ALTER SYSTEM RESET synchronous_standby_names")
        self.execute("SELECT pg_promote(true, 60)")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL for all processes of this server; return when none of them holds its memory any more."""
        self.process.send_signal(signal.SIGSTOP)  # it forks no more
        children = _children(self.process.pid)
        for pid in [self.process.pid, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: not any(_has_memory(pid) for pid in children), what=f"the end of {children}")

    def stop(self) -> None:
        """End it at once, and its replicas; nothing is left on the disk."""
        for replica in self.replicas:
            replica.stop()
        if self.is_running():
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.directory.parent, ignore_errors=True)
        _let_go(self.directory.parent)

    def close(self) -> None:
        """End it as an operator does; its data stay."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(600)

    def restart(self) -> None:
        """Start it again, on the same port, after `kill` or `close`."""
        self.process = _launch(self.directory, self.log, self.port)
        _await(self)

    def _make_template(self) -> None:
        if self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{TEMPLATE}'"):
            return
        self.execute(f"CREATE DATABASE {TEMPLATE}")
        engine = create_writer(PostgreSQL(self.url_of(TEMPLATE)))
        with transaction(engine) as connection:
            schema.upgrade(connection)
        engine.dispose()


@contextlib.contextmanager
def running_postgresql(home: Path, *, is_durable: bool = False) -> Iterator[Server]:
    """Give a fresh cluster whose log is in `home`; it ends with the block, its replicas as well."""
    server = start_postgresql(home, is_durable=is_durable)
    try:
        yield server
    finally:
        server.stop()


def start_postgresql(home: Path, *, is_durable: bool = False) -> Server:
    """Start one that somebody stops. Sorting is not that of "C": what relies on it has to say so."""
    directory = _new_directory()
    _make(directory, _CONFIGURATION + (_DURABLE if is_durable else _FAST))
    return _started(directory, home / "postgresql.log")


def open_postgresql(home: Path, settings: str) -> Server:
    """Start the one whose data are below `home`, made if need be, with these lines of configuration."""
    directory = home / "postgresql"
    if not directory.exists():
        home.mkdir(parents=True, exist_ok=True)
        _own(home, directory)
        _make(directory, f"{_CONFIGURATION}include = 'more.conf'\n")
    (directory / "more.conf").write_text(settings)
    return _started(directory, home / "postgresql.log")


def _make(directory: Path, configuration: str) -> None:
    locale = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
    _run(["initdb", "-D", str(directory), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync", *locale])
    with (directory / "postgresql.conf").open("a") as file:
        file.write(configuration)


def _started(directory: Path, log: Path, port: int | None = None) -> Server:
    for _ in range(5):  # somebody may have taken the port meanwhile
        number = port or free_port()
        server = Server(directory, log, number, _launch(directory, log, number))
        with contextlib.suppress(ChildProcessError):
            _await(server)
            return server
    raise AssertionError(f"PostgreSQL does not start: {log}")


def _launch(directory: Path, log: Path, port: int) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [programs() / "postgres", "-D", directory, "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=_environment(),
            **_identity(),  # type: ignore[call-overload]
        )
    return process


def _await(server: Server) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not server.is_running():
            raise ChildProcessError(server.log)
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"PostgreSQL does not answer: {server.log}")


_OWNED: Final[dict[Path, int]] = {}
"""The locked file of each directory that this process has made."""


def _new_directory() -> Path:
    """A directory that the server's user can reach: pytest's own are root's alone."""
    remove_abandoned()
    parent = Path(tempfile.mkdtemp(prefix=PREFIX))
    draft = parent / f".{_OWNER}"
    draft.touch()
    _OWNED[parent] = _lock(draft)
    draft.rename(parent / _OWNER)  # nobody sees it unlocked
    _own(parent, parent / "data")
    return parent / "data"


def _lock(path: Path) -> int:
    """Open and lock a file; raises `OSError` where another has it. No child process inherits the lock."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _let_go(parent: Path) -> None:
    descriptor = _OWNED.pop(parent, None)
    if descriptor is not None:
        os.close(descriptor)


def remove_abandoned() -> None:
    """End the servers whose test run is gone, and remove their data."""
    for parent in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            descriptor = _lock(parent / _OWNER)
        except OSError:  # its owner lives, is another user, or is just making it
            continue
        _end_server_of(parent / "data")
        shutil.rmtree(parent, ignore_errors=True)
        os.close(descriptor)


def _end_server_of(directory: Path) -> None:
    server = _server_of(directory)
    if server is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGQUIT)
        until(lambda: _server_of(directory) is None, what=f"the end of the server on {directory}")


def _server_of(directory: Path) -> int | None:
    """The process that serves these data, if any does."""
    try:
        pid = int((directory / "postmaster.pid").read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return None
    return pid if os.fsencode(directory) in command else None


def _own(parent: Path, directory: Path) -> None:
    """Make `directory`, and give both to the server's user."""
    directory.mkdir(mode=0o700)
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        for path in (parent, directory):
            os.chown(path, user.pw_uid, user.pw_gid)


def _run(argv: list[str]) -> None:
    done = subprocess.run(
        [programs() / argv[0], *argv[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        env=_environment(),
        check=False,
        **_identity(),  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"


def _identity() -> Mapping[str, object]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C.UTF-8"}


def _has_memory(pid: int) -> bool:
    """Whether that process has not ended: what nobody has reaped yet has no memory."""
    try:
        return bool(Path(f"/proc/{pid}/maps").read_bytes())
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
