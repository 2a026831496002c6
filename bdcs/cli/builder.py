# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs builder`: a machine that builds what others asked for."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdcs.errors import EXIT_CONFIGURATION, EXIT_DONE, EXIT_USAGE, BuilderStopped
from bdcs.settings import Settings

if TYPE_CHECKING:
    from bdcs.builder.worker import Configuration

HELP = "build what machines ask a collector for, until SIGTERM or Ctrl-C"

DATA = Path("/var/lib/bdcs-builder")
GIB = 1 << 30
MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.description = (
        "Build packages with real emerge, each in a throw-away root inside of bubblewrap, and have the"
        " collector publish them. The builder has a key of its own, which it makes when it is first"
        " started; the collector's operator approves it (`bdcs admin builders approve`). Its state is in"
        f" --data, {DATA} unless given. A first SIGTERM lets what is being built end, a second one gives it"
        " back."
    )
    _add_whom(parser)
    _add_place(parser)
    _add_conduct(parser)
    _add_limits(parser.add_argument_group("limits of one build"))


def _add_whom(parser: argparse.ArgumentParser) -> None:
    """Add what says whom it builds for."""
    add = parser.add_argument
    add("--collector", metavar="URL", required=True, help="the collector's public_url")
    add(
        "--address",
        metavar="URL",
        help="where the collector is reached, if not at its public_url, as http://127.0.0.1:8642",
    )
    add("--insecure", action="store_true", help="accept plain http to another machine: anybody could answer")
    add(
        "--target",
        metavar="NAME",
        dest="targets",
        action="append",
        required=True,
        help="target to build for; may be repeated",
    )
    add(
        "--name",
        default=socket.gethostname().partition(".")[0],
        help="what people call it (default: %(default)s)",
    )


def _add_place(parser: argparse.ArgumentParser) -> None:
    """Add what says where it builds, and what builds see."""
    add = parser.add_argument
    add(
        "--root",
        metavar="DIR",
        type=Path,
        default=Path("/"),
        help="system to build in, as an unpacked stage 3 (default: /); nothing in it changes",
    )
    add(
        "--eprefix", metavar="DIR", type=Path, help="Gentoo Prefix to build in instead; nothing in it changes"
    )
    more: dict[str, Any] = {"type": Path, "nargs": "+", "action": "extend", "default": []}
    add(
        "--readable",
        metavar="PATH",
        **more,
        help="what builds may read besides, as a shared directory with ebuild repositories",
    )
    add(
        "--hide",
        metavar="DIR",
        **more,
        help="what builds find empty besides, where --root has secrets in unusual places",
    )


def _add_conduct(parser: argparse.ArgumentParser) -> None:
    """Add what says how it works, and until when."""
    add = parser.add_argument
    add("--jobs", metavar="N", type=int, default=1, help="packages built at once (default: %(default)s)")
    add(
        "--attended",
        action="store_true",
        help="leave at once, as after a second SIGTERM, when standard input ends: for who starts it",
    )
    add("--check", action="store_true", help="only see whether it could start, and say why not")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--hours", type=float, default=12.0, help="time for all of it (default: %(default)g)")
    group.add_argument(
        "--disk", metavar="GIB", type=float, default=16.0, help="all that it writes (default: %(default)g)"
    )
    group.add_argument("--memory", metavar="GIB", type=float, help="memory (default: what there is)")
    group.add_argument(
        "--log", metavar="MIB", type=float, default=256.0, help="what it prints (default: %(default)g)"
    )
    group.add_argument(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=300.0,
        help="time that it has to end after SIGTERM, before it is given back (default: %(default)g)",
    )


def _configuration(arguments: argparse.Namespace) -> Configuration:
    """Return what the options say. Raises `BuilderStopped`."""
    from bdcs.builder.building import BuildRoot
    from bdcs.builder.limits import Limits
    from bdcs.builder.worker import Configuration

    eprefix = None if arguments.eprefix is None else _directory(arguments.eprefix)
    root = _directory(arguments.root)
    collector = _url("--collector", arguments.collector)
    address = None if arguments.address is None else _url("--address", arguments.address)
    _check_transport(address or collector, insecure=arguments.insecure)
    return Configuration(
        collector=collector,
        address=address,
        name=arguments.name,
        targets=tuple(dict.fromkeys(arguments.targets)),
        jobs=max(1, arguments.jobs),
        build_root=BuildRoot(
            root=Path("/") if root == eprefix else root,
            eprefix=eprefix,
            readable=tuple(path.absolute() for path in arguments.readable),
            hidden=tuple(path.absolute() for path in arguments.hide),
        ),
        data=(arguments.data or DATA).absolute(),
        limits=Limits(
            time=arguments.hours * 3600,
            disk=int(arguments.disk * GIB),
            memory=None if arguments.memory is None else int(arguments.memory * GIB),
            log=int(arguments.log * MIB),
        ),
        patience=arguments.patience,
        attended=arguments.attended,
    )


def _url(option: str, text: str) -> str:
    from urllib.parse import urlsplit

    url = text.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise BuilderStopped(f"{option}: {url!r} is no http or https URL", exit_code=EXIT_USAGE)
    return url


def _check_transport(url: str, *, insecure: bool) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or "") and not insecure:
        raise BuilderStopped(
            f"{url} is not encrypted: anybody on the way could say what is built, and change what is sent",
            advice="use https, or accept it with --insecure",
            exit_code=EXIT_CONFIGURATION,
        )


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _directory(path: Path) -> Path:
    if not path.is_dir():
        raise BuilderStopped(f"{path} is no directory", exit_code=EXIT_CONFIGURATION)
    return path.resolve()


def run(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Build."""
    from bdcs.builder import worker

    configuration = _configuration(arguments)
    if arguments.check:
        worker.check(configuration)
    else:
        worker.work(configuration)
    return EXIT_DONE
