# SPDX-License-Identifier: GPL-2.0-or-later
"""`make run`: the main job, on this machine, until Ctrl-C.

Starts a collector and a signer, registers this machine and starts the daemon on /var/log/emerge.log, or
where that cannot be read on a replayed sample; with RUN_EPREFIX on that Prefix. Where Portage is at hand, the
collector gets a target after its example, and runs a builder for it. Prints where to look, and a line for
each record that arrives. Everything is kept under `.run/PORT/`, so the next run goes on where this one
stopped.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.orphans import claim
from dev.places import PORTAGE, ROOT, VENV
from dev.sample import replay
from dev.session import CannotRun, run_until_stopped

PORT_SETTING = "RUN_PORT"
DEFAULT_PORT = 8642
EPREFIX_SETTING = "RUN_EPREFIX"
LOG = Path("var/log/emerge.log")
START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0  # seconds; what the collector's builder is at may end for ten
TARGET = "here"
LOOK = 0.4  # seconds between two looks at what has arrived, and between two lines of the sample


ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("GENTWOO_", "BDCS_"))
}
"""Settings of an installed GenTwoo are not those of this one."""


class Job:
    """Signer, collector and daemon of one directory."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.data = home / "collector"
        self.signer = home / "signer"
        self.config = home / "gentwoo.toml"
        self.collector_config = home / "bdcs.toml"
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *argv: str | Path) -> None:
        """Start a process whose output goes to `.run/PORT/NAME.log`; signals of this terminal pass it by.

        Who is started again goes on in the log that says why it ended.
        """
        with self.output(name).open("ab" if name in self.started else "wb") as output:
            self.started[name] = subprocess.Popen(
                [VENV / "bin" / argv[0], *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                start_new_session=True,
            )

    def output(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def check(self) -> None:
        """Raise `CannotRun` when a process has ended by itself."""
        for name, process in self.started.items():
            if process.poll() is not None:
                text = self.output(name).read_text(errors="replace")
                raise CannotRun(f"{name} ended with exit code {process.returncode}:\n{text}")

    def stop(self) -> None:
        """End what was started, the daemon first, so that it can still send what it has."""
        for process in reversed(self.started.values()):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def gentwoo(self, *arguments: str) -> str:
        """Run one client command; raises `CannotRun` with what it said."""
        return finish(VENV / "bin/gentwoo", "--config", self.config, *arguments)

    def bdcs(self, *arguments: str | Path) -> str:
        """Run one command of the collector; raises `CannotRun` with what it said."""
        return finish(VENV / "bin/bdcs", "--config", self.collector_config, *arguments)

    def records(self) -> Iterator[list[dict[str, Any]]]:
        """Each step gives the records that became durable since the step before."""
        since, looked_at = 0, (0, 0)
        while True:
            state = self._state_of_store()
            if state == looked_at:
                yield []
                continue
            fresh = self.records_after(since)
            if fresh is not None:
                looked_at = state
            since = fresh[-1]["id"] if fresh else since
            yield fresh or []

    def records_after(self, since: int) -> list[dict[str, Any]] | None:
        """The records that came after the one with that id; None: that cannot be told now."""
        return [json.loads(line) for line in self.bdcs("export", "--since", str(since)).splitlines()]

    def _state_of_store(self) -> tuple[int, int]:
        """Changes when something was written; asking costs nothing."""
        path = self.data / "bdcs.sqlite-wal"
        facts = path.stat() if path.exists() else (self.data / "bdcs.sqlite").stat()
        return facts.st_size, facts.st_mtime_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is followed, and what can be built."""

    prefix: str
    """The Gentoo Prefix, or nothing for the system itself."""
    log: Path
    is_sample: bool
    portage_bin: Path | None
    """Where Portage's commands are, or None where there is no Portage."""

    @property
    def builds(self) -> bool:
        """Whether this user may run a builder: in the system itself only root can build."""
        return self.portage_bin is not None and (bool(self.prefix) or os.geteuid() == 0)


def finish(*argv: str | Path) -> str:
    """Run a command to its end and return what it printed; raises `CannotRun` where it failed."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        raise CannotRun(f"{' '.join(map(str, argv))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def chosen_port() -> int:
    """The port to listen on; raises `CannotRun` where it is none."""
    text = os.environ.get(PORT_SETTING, str(DEFAULT_PORT))
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise CannotRun(f"{PORT_SETTING}={text}: not a port")
    return int(text)


def require_free(port: int) -> None:
    """Raise `CannotRun` where somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CannotRun(
                f"127.0.0.1:{port}: {error.strerror}.\n"
                f"Another `make run` may be at work. To use another port: {PORT_SETTING}=8700 make run"
            ) from error


def eprefix() -> str:
    """The Prefix to follow, or nothing for the system itself; raises `CannotRun` where it is none."""
    text = os.environ.get(EPREFIX_SETTING, "")
    path = ROOT / text
    if text and not (path / "usr/bin/portageq").exists():
        raise CannotRun(f"{EPREFIX_SETTING}={text}: no Gentoo Prefix is there; `make prefix` makes one")
    return str(path) if text else ""


def find_site(home: Path) -> Site:
    """Return what this machine has: a log of its own, or a replayed sample in `home`."""
    prefix = eprefix()
    log = Path(prefix or "/") / LOG
    has_log = bool(prefix) or (log.is_file() and os.access(log, os.R_OK))
    emerge = f"{prefix}/usr/bin/emerge" if prefix else shutil.which("emerge")
    return Site(
        prefix=prefix,
        log=log if has_log else home / "emerge.log",
        is_sample=not has_log,
        portage_bin=None if emerge is None else Path(emerge).parent,
    )


def is_ours(prefix: str) -> bool:
    """Whether `make prefix` made it: its Portage is the one in this clone."""
    return bool(prefix) and str(PORTAGE) in (Path(prefix) / "usr/bin/portageq").read_text(errors="replace")


def builder_options(prefix: str) -> list[str]:
    """Options of a builder, none of whose builds sees what is kept here."""
    options = ["--hide", str(ROOT / ".run")]
    if is_ours(prefix):
        python = Path(os.path.realpath(PORTAGE / "bin/python")).parent.parent
        options += ["--readable", *dict.fromkeys([str(PORTAGE), str(python)])]
    return options


def builder_settings(prefix: str) -> list[str]:
    """Settings of a collector that runs a builder."""
    return [
        'builder = ["*"]',
        *([f'builder_eprefix = "{prefix}"'] if prefix else []),
        f"builder_options = {json.dumps(builder_options(prefix))}",
    ]


def configure_collector(job: Job, site: Site) -> None:
    lines = [
        f'listen = "{job.url.removeprefix("http://")}"',
        f'data = "{job.data}"',
        f'signer = "{job.signer}.socket"',
        *(builder_settings(site.prefix) if site.builds else []),
    ]
    job.collector_config.write_text("\n".join(lines) + "\n")


def configure_machine(job: Job, site: Site) -> None:
    """Write the client's configuration; the sample's packages are of no repository, so all are allowed."""
    prefix = site.prefix
    lines = [
        f'collector = "{job.url}"',
        f'state_dir = "{job.home / "machine"}"',
        f'log = "{site.log}"',
        *([f'eprefix = "{prefix}"', f'portage_bin = "{prefix}/usr/bin"'] if prefix else []),
        *(['repositories = ["*"]'] if site.is_sample else []),
    ]
    job.config.write_text("\n".join(lines) + "\n")


def start_signer(job: Job) -> None:
    """Start the signer; it gets a key the first time."""
    if not job.signer.exists():
        job.bdcs("admin", "keys", "create", "--home", job.signer, "--name", "GenTwoo, trying it out")
    job.start("signer", "bdcs", "--config", job.collector_config, "signer", "--home", job.signer)
    wait_until_listening(job, "signer")


def wait_until_listening(job: Job, name: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while "listening on" not in job.output(name).read_text(errors="replace"):
        job.check()
        if time.monotonic() > deadline:
            raise CannotRun(f"the {name} does not listen: {job.output(name)}")
        time.sleep(0.05)


def make_target(job: Job, site: Site) -> bool:
    """Make a target after the example of Portage, unless there is one; whether there is one then.

    The catalogue gets to know Portage's repositories, and a Prefix of ours takes packages from here.
    """
    if site.portage_bin is None or not _add_target(job, site.portage_bin):
        return False
    list_repositories(job, site.portage_bin, site.prefix)
    if is_ours(site.prefix):
        set_up_binhost(job)
    return True


def _add_target(job: Job, portage_bin: Path) -> bool:
    if json.loads(job.bdcs("target", "list", "--json"))["targets"]:
        return True
    try:
        job.bdcs("target", "add", TARGET, "--from-portage", portage_bin)
    except CannotRun as error:
        print(f"There is no target to build for:\n{error}", file=sys.stderr)
        return False
    return True


def list_repositories(job: Job, portage_bin: Path, prefix: str) -> None:
    """Have the catalogue know the ebuild repositories of Portage, for searching and for new versions.

    Those without a metadata cache are left out: nothing that is asked for could be found in them.
    """
    known = {entry["name"] for entry in json.loads(job.bdcs("repository", "list", "--json"))["repositories"]}
    root, portageq = prefix or "/", portage_bin / "portageq"
    try:
        names = finish(portageq, "get_repos", root).split()
        places = [finish(portageq, "get_repo_path", root, name).strip() for name in names]
        for name, place in zip(names, map(Path, places), strict=True):
            if name not in known and (place / "metadata/md5-cache").is_dir():
                job.bdcs("repository", "add", name, "--location", place)
    except CannotRun as error:
        print(f"The catalogue does not know what could be built:\n{error}", file=sys.stderr)


def set_up_binhost(job: Job) -> None:
    """Have the Prefix that is our own take packages from here: whose key it is, is known."""
    keys = json.loads(job.bdcs("admin", "keys", "list", "--home", job.signer, "--json"))["keys"]
    words = [word for key in keys for word in ("--fingerprint", key["fingerprint"])]
    try:
        job.gentwoo("binhost", "setup", *words)
    except CannotRun as error:
        print(f"The Prefix takes no packages from here:\n{error}", file=sys.stderr)


def describe(record: dict[str, Any]) -> str:
    """One record as one line."""
    package = f"{record['category']}/{record['name']}-{record['version']}"
    detail = record["cause"] or record["install_type"] or ""
    took = "" if record["time_delta"] is None else f"{record['time_delta']} s"
    return f"  {record['recorded_at']}  {record['event']:<9} {package:<40} {detail:<11} {took:>7}".rstrip()


def follow(job: Job, lines: Iterator[None]) -> None:
    """Show records as they arrive, and let the sample go on, until a signal or a process's end."""
    for records, _ in zip(job.records(), lines, strict=False):
        for record in records:
            print(describe(record), flush=True)
        job.check()
        time.sleep(LOOK)


def nothing() -> Iterator[None]:
    """In place of the sample: the machine's own log moves by itself."""
    while True:
        yield


def describe_job(job: Job, site: Site, packages: str) -> str:
    """What is said before the first record; `packages` is what is said of these."""
    command = f".venv/bin/gentwoo --config {job.config.relative_to(ROOT)}"
    reason = " (a sample: this machine has no emerge.log that can be read)" if site.is_sample else ""
    return (
        f"Following {site.log}{reason}\n"
        f"Collector     {job.url}/\n"
        f"This machine  {job.gentwoo('report').strip()}\n"
        f"              (a link for a short time; another: {command} report)\n"
        f"Its commands  {command} …\n"
        f"              .venv/bin/bdcs --config {job.collector_config.relative_to(ROOT)} …\n"
        + (f"Packages      {packages}\n" if packages else "")
        + f"Kept under    {job.home.relative_to(ROOT)}/, with what the programs print. Ctrl-C ends them.\n"
    )


def run(job: Job) -> None:
    """Start everything, tell where it is, and follow it."""
    site = find_site(job.home)
    configure_collector(job, site)
    configure_machine(job, site)
    start_signer(job)
    job.start("collector", "bdcs", "--config", job.collector_config, "serve")
    wait_until_listening(job, "collector")
    lines = replay(site.log) if site.is_sample else nothing()
    next(lines)
    job.gentwoo("register", "--non-interactive")
    packages = ""
    if make_target(job, site):
        who = "a builder makes what is asked for" if site.builds else "nobody builds for it: only root can"
        packages = f"{TARGET}, a target after this Portage's example; {who}"
    job.start("daemon", "gentwoo", "--config", job.config, "daemon")
    print(f"{describe_job(job, site, packages)}\nRecords as they arrive:", flush=True)
    follow(job, lines)


def begin(leaving: ExitStack) -> None:
    """Run the job; `leaving` ends it."""
    port = chosen_port()
    home = ROOT / ".run" / str(port)
    ENVIRONMENT.update(claim(home, leaving))
    require_free(port)
    home.mkdir(exist_ok=True)
    job = Job(home, port)
    leaving.callback(job.stop)
    run(job)


def main() -> int:
    return run_until_stopped("run", begin)


if __name__ == "__main__":
    sys.exit(main())
