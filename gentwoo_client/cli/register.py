# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo register`: make this machine known to a collector."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from gentwoo_client.errors import DONE, NotConfigured, UsageError
from gentwoo_client.settings import (
    DEFAULT,
    DEFAULT_CONFIG,
    Settings,
    checked_collector,
    checked_history,
    is_loopback,
)

NAME = "register"
HELP = "make this machine known to a collector"

_FIELDS = (
    "category, name, version and repository of each package merged or removed; when, how long, from source"
    " or binary, how many at once, and whether it failed"
)
_ATTEMPTS = 3
_PREVIEWED_LOG = 50_000_000  # bytes; reading a larger one takes longer than anybody wants to wait here


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `register`."""
    parser.description = (
        "Make this machine known to a collector. A key is made and stored in the state directory; the "
        "collector gets its public half and nothing else. Run it again at any time: it changes "
        "nothing, and finishes what an earlier run could not. On a terminal it asks for what it is "
        "not told."
    )
    parser.add_argument(
        "--collector", metavar="URL", help="the collector's public_url (default: the setting)"
    )
    parser.add_argument(
        "--history", metavar="HOW", help="how much of the past may be sent: all, none, or a date (YYYY-MM-DD)"
    )
    parser.add_argument(
        "--renew",
        action="store_true",
        help="take a new identity (key, UUID, chain), as after cloning or restoring the state directory; what"
        " was not sent yet goes over to it",
    )
    parser.add_argument(
        "--forget-old",
        action="store_true",
        help="have the collector erase the identities that were given up; without it they stay",
    )
    parser.add_argument("--non-interactive", action="store_true", help="never ask")
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="accept plain http to another machine: everybody on the way can read",
    )
    parser.epilog = (
        "examples:\n"
        "  gentwoo register --collector https://bdcs.example.org --history none\n"
        "  gentwoo register --renew --forget-old"
    )


@dataclass(frozen=True, slots=True)
class _Terms:
    """To whom, and how much of the past."""

    collector: str
    history: str


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Register; return 0."""
    from gentwoo_client.journal import Journal
    from gentwoo_client.privileges import enter_state_directory

    enter_state_directory(settings.state_dir, create=True)
    with closing(Journal.open(settings.state_dir, create=True)) as journal:
        machine, collector, history = map(journal.get, ("machine", "collector", "history"))
    is_known = machine is not None and not arguments.renew
    # A renewal may lead elsewhere, so an earlier choice is no more than a default.
    chosen = settings.with_choices(collector=collector, history=history)
    # Asked before there is an event loop, under which Ctrl-C would wait for the answer.
    terms = _terms(arguments, chosen, ask=_may_ask(arguments) and not is_known)
    _check_transport(terms.collector, insecure=arguments.insecure)
    if is_known and arguments.history and terms.history != history:
        raise UsageError(
            f"this machine is registered, and `history = {history}` was chosen then",
            advice="how much of the past is sent can only change for a new identity: add --renew",
        )
    if not is_known:
        _show(terms, chosen)
        if machine is None:
            _preview(chosen._replace(collector=terms.collector, history=terms.history))
    asyncio.run(_register(settings.state_dir, terms, renew=arguments.renew, forget_old=arguments.forget_old))
    return DONE


async def _register(state_dir: Path, terms: _Terms, *, renew: bool, forget_old: bool) -> None:
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.registration import forget_former, register

    async with Outbox.open(state_dir) as outbox:
        result = await register(
            outbox, state_dir, collector=terms.collector, history=terms.history, renew=renew
        )
        _tell(result.state.state, str(result.state.machine), terms.collector, is_new=result.is_new)
        if forget_old:
            for machine in await forget_former(outbox, state_dir):
                print(f"The collector has erased {machine}.")


def _may_ask(arguments: argparse.Namespace) -> bool:
    # stdin decides: under `emerge --config`, stdout is a terminal even when it was redirected.
    return not arguments.non_interactive and sys.stdin.isatty()


def _terms(arguments: argparse.Namespace, settings: Settings, *, ask: bool) -> _Terms:
    collector = settings.collector
    if collector is None:
        if not ask:
            config = arguments.config or DEFAULT_CONFIG
            raise NotConfigured(
                "it is not known to which collector this machine shall report",
                advice=f'write `collector = "https://…"` into {config}, or give --collector URL',
            )
        collector = _ask("URL of the collector: ", checked_collector)
    history = settings.history
    if ask and settings.source("history") == DEFAULT:
        history = _ask("How much of the past may be sent: all, none, or since a date? [all] ", _history)
    return _Terms(collector, history)


def _history(answer: str) -> str:
    return checked_history(answer or "all")


def _ask(question: str, check: Callable[[str], str]) -> str:
    for _ in range(_ATTEMPTS):
        print(question, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            break
        try:
            return check(line.strip())
        except ValueError as error:
            print(error, file=sys.stderr)
    raise UsageError("no usable answer was given", advice="give --collector and --history instead")


def _check_transport(collector: str, *, insecure: bool) -> None:
    if collector.startswith("http:") and not insecure and not is_loopback(collector):
        raise NotConfigured(
            f"{collector} is not encrypted: everybody on the way could read what this machine has installed",
            advice="use https, or accept it with --insecure",
        )


def _show(terms: _Terms, settings: Settings) -> None:
    past = {"all": "all of it", "none": "none of it; only what happens from now on"}
    repositories = f"{', '.join(settings.repositories)}; packages from others stay on this machine"
    if settings.repositories == ("*",):
        repositories = "all"
    for label, text in (
        ("To", terms.collector),
        ("What", _FIELDS),
        ("From", f"{settings.log}; merges into {settings.eprefix or '/'} only"),
        ("Repositories", repositories),
        ("The past", past.get(terms.history, f"since {terms.history}")),
        ("Not sent", "USE flags, files, users, host name; no IP address is stored"),
    ):
        print(f"{label + ':':<14}{text}")


def _preview(settings: Settings) -> None:
    """Say what the log as it is now would give, by the very rules that will apply. Nothing of it is kept."""
    from gentwoo_client.follow import Follower
    from gentwoo_client.journal import Journal

    try:
        if settings.log.stat().st_size > _PREVIEWED_LOG:
            return
        if not os.access(settings.log, os.R_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        print(f"{'Now:':<14}{settings.log}: {error.strerror}; it is read as soon as it can be")
        return
    sendable, withheld, example = 0, Counter[str](), None
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gentwoo-"))
        journal = stack.enter_context(closing(Journal.open(Path(directory), create=True)))
        stack.enter_context(closing(Follower(journal, settings))).read_to_end()
        for record in journal.iter_records():
            if record.withheld is None:
                sendable, example = sendable + 1, record.change
            else:
                withheld[record.withheld] += 1
    stay = "".join(f"; {count:,} stay here ({reason})" for reason, count in sorted(withheld.items()))
    print(f"{'Now:':<14}{sendable:,} records{stay}")
    if example is not None:
        print(f"{'The last:':<14}{json.dumps(example.to_json())}")


def _tell(state: str, machine: str, collector: str, *, is_new: bool) -> None:
    print(f"{'Registered' if is_new else 'Already registered'} with {collector} as {machine}.")
    if state == "approved":
        print("Start the daemon, or run `gentwoo push`. `gentwoo show` prints what is sent next.")
    elif state == "awaiting-approval":
        print(
            "It waits for approval: the collector's operator has to approve this machine before records are"
            " taken. They are kept here; a daemon that runs sends them then, and so does `gentwoo push`."
        )
    else:
        print(f"The collector takes nothing of this machine: it says {state}. Ask its operator why.")
