# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo binhost`: have Portage take binary packages from a collector, see whether it does, or stop it."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gentwoo_client.errors import DONE, BinhostRefused, UsageError
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.binhost.binrepos import Credentials, Entry
    from gentwoo_client.binhost.choosing import OfferedKey
    from gentwoo_client.binhost.fitting import Fit, Machine
    from gentwoo_client.binhost.keyring import Keyring
    from gentwoo_client.binhost.portage_facts import PortageFacts
    from gentwoo_client.binhost.status import Status
    from gentwoo_client.wire.targets import Target

Teller: TypeAlias = "Callable[[str], None]"

NAME = "binhost"
HELP = "have Portage take binary packages from a collector"

_ACTIONS = {
    "setup": (
        "choose the target that fits, and configure Portage for it",
        "Choose the collector's target that fits this machine, say why the others do not, show the key that"
        " its packages are signed with, and after confirmation let Portage trust that key and look for"
        " packages there. Writes the section [gentwoo] of binrepos.conf and puts the key into the GnuPG home"
        " that Portage verifies with; touches nothing else. Run it again after key or target changed.",
    ),
    "propose": (
        "propose a target that fits this machine",
        "Show what the collector would be told of this machine (CHOST, profile, CFLAGS with what"
        " -march=native stands for, CPU), and propose a target with just that, where there is none. What"
        " becomes of it is the operator's policy: made at once, decided by an administrator (exit code 75),"
        " or refused. `setup` proposes one as well, where no target fits.",
    ),
    "status": (
        "tell whether packages can be taken, and what to do if not",
        "Tell which target is set up, whether it answers, how old its index is, whether its keys are trusted,"
        " and whether it still fits. Exits with 0 only when all is well, with 75 where only the collector"
        " does not answer, with 78 where nothing is set up.",
    ),
    "remove": (
        "undo exactly what setup did",
        "Take the section out of binrepos.conf and the keys that setup imported out of the GnuPG home."
        " Installed packages stay, and so do downloaded ones in Portage's cache.",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    parser.description = (
        "Have Portage take binary packages from a collector, see whether it does, or stop it. "
        "`gentwoo binhost ACTION --help` explains an action."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (text, description) in _ACTIONS.items():
        action = actions.add_parser(name, help=text, description=description, allow_abbrev=False)
        action.add_argument("--json", action="store_true", help="tell it as one JSON object on stdout")
        if name == "setup":
            _add_setup(action)
        if name == "propose":
            _add_propose(action)
        if name == "remove":
            action.add_argument("--keep-keys", action="store_true", help="leave the keys trusted")
    parser.epilog = (
        "examples:\n"
        "  gentwoo binhost setup --collector https://bdcs.example.org\n"
        "  gentwoo binhost setup --target amd64-v3 --fingerprint 0123456789ABCDEF0123456789ABCDEF01234567\n"
        "  gentwoo binhost status --json"
    )


def _add_setup(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--collector",
        metavar="URL",
        help="the collector's public_url (default: the setting, else where this machine is registered)",
    )
    action.add_argument("--target", metavar="NAME", help="take this one; it must fit")
    action.add_argument(
        "--fingerprint",
        metavar="FPR",
        action="append",
        default=[],
        help="trust this key, which its operator told you, without being asked; may be repeated",
    )
    action.add_argument(
        "--yes", action="store_true", help="never ask; trust whatever keys the collector names, and say which"
    )
    action.add_argument(
        "--token-file", metavar="FILE", type=Path, help="NAME:TOKEN for a private target, as one line"
    )
    action.add_argument(
        "--insecure",
        action="store_true",
        help="accept plain http to another machine: whoever is on the way can meddle",
    )
    _add_non_interactive(action)


def _add_propose(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--collector",
        metavar="URL",
        help="the collector's public_url (default: the setting, else where this machine is registered)",
    )
    action.add_argument("--yes", action="store_true", help="never ask; propose it")
    _add_non_interactive(action)


def _add_non_interactive(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--non-interactive", action="store_true", help="never ask; without --yes nothing is proposed"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    return {"setup": _setup, "propose": _propose, "status": _status, "remove": _remove}[arguments.action](
        arguments, settings
    )


# setup


def _setup(arguments: argparse.Namespace, settings: Settings) -> int:
    from gentwoo_client.binhost import choosing
    from gentwoo_client.binhost.keyring import Keyring
    from gentwoo_client.binhost.portage_facts import read_portage
    from gentwoo_client.binhost.setup import apply, examine, has_trust_helper, run_trust_helper
    from gentwoo_client.cli.proposing import offer

    tell = _teller(arguments)
    fingerprints = [choosing.parse_fingerprint(text) for text in arguments.fingerprint]
    credentials = _credentials_in(arguments.token_file) if arguments.token_file else None
    collector = choosing.collector_of(settings)
    choosing.check_transport(collector, insecure=arguments.insecure)
    facts = read_portage(settings)
    examine(facts)
    keyring = Keyring.of(facts.verify_home, settings.eprefix)
    machine = choosing.this_machine(facts, settings.eprefix)
    targets = asyncio.run(_targets(collector, credentials))
    if _is_missing(arguments.target, targets) and credentials is None and _may_ask(arguments):
        credentials = _ask_credentials(arguments.target)
        targets = asyncio.run(_targets(collector, credentials))
    fits = choosing.judged(machine, targets)
    try:
        chosen = _choose(arguments, fits)
    except choosing.NoneFits as reason:
        name = offer(arguments, settings, collector, reason, tell)
        fits = choosing.judged(machine, asyncio.run(_targets(collector, credentials)))
        chosen = choosing.named(fits, name)
    _show(tell, collector, machine, fits, chosen)
    choosing.check_transport(chosen.target.url, insecure=arguments.insecure)
    offered = choosing.usable(chosen, asyncio.run(_keys(collector, chosen.target, keyring)))
    trusted = _confirm(arguments, tell, chosen, offered, fingerprints)
    if trusted and has_trust_helper(facts):
        tell(f"{'First:':<18}{facts.trust_helper} makes {facts.verify_home}, as Portage would have it do")
        run_trust_helper(facts)
    entry = apply(facts, _entry(collector, chosen.target, facts, trusted, credentials), trusted, keyring)
    _report(arguments, facts, entry, chosen, fits)
    return DONE


# propose


def _propose(arguments: argparse.Namespace, settings: Settings) -> int:
    from gentwoo_client.binhost import choosing
    from gentwoo_client.binhost.fitting import Fitness
    from gentwoo_client.binhost.portage_facts import read_portage
    from gentwoo_client.cli.proposing import offer

    collector = choosing.collector_of(settings)
    machine = choosing.this_machine(read_portage(settings), settings.eprefix)
    fits = choosing.judged(machine, asyncio.run(_targets(collector, None)))
    exact = [fit.target.name for fit in fits if fit.fitness is Fitness.EXACT]
    if exact:
        name = exact[0]
    else:
        reason = choosing.NoneFits("no target of this collector is just for this machine")
        name = offer(arguments, settings, collector, reason, _teller(arguments))
    if arguments.json:
        print(json.dumps({"collector": collector, "target": name, "new": not exact}))
    elif exact:
        print(f"{name} is for this machine already; `gentwoo binhost setup` takes packages from there.")
    else:
        print(
            f"There is a target for this machine now: {name}. `gentwoo binhost setup` takes packages from it."
        )
    return DONE


async def _targets(collector: str, credentials: Credentials | None) -> tuple[Target, ...]:
    from gentwoo_client.collector_api import PublicAPI

    async with PublicAPI(collector) as api:
        return await api.targets(None if credentials is None else credentials.pair)


def _is_missing(name: str | None, targets: Sequence[Target]) -> bool:
    return name is not None and name not in [target.name for target in targets]


async def _keys(collector: str, target: Target, keyring: Keyring) -> list[OfferedKey]:
    """The target's keys; each file must hold the key that the target names. Raises `BinhostRefused`."""
    from gentwoo_client.binhost.choosing import OfferedKey
    from gentwoo_client.collector_api import PublicAPI

    offered = []
    async with PublicAPI(collector) as api:
        for named in target.keys:
            content = await api.public_key(named)
            key = keyring.inspect(content)
            if key.fingerprint != named.fingerprint:
                raise BinhostRefused(
                    f"{named.url} holds the key {key.fingerprint}, not the one that it should",
                    advice="do not trust this collector before its operator has explained that",
                )
            offered.append(OfferedKey(key, content))
    return offered


def _choose(arguments: argparse.Namespace, fits: Sequence[Fit]) -> Fit:
    from gentwoo_client.binhost.choosing import candidates, named

    if arguments.target:
        return named(fits, arguments.target)
    found = candidates(fits)
    if len(found) == 1:
        return found[0]
    names = [fit.target.name for fit in found]
    if not _may_ask(arguments):
        raise UsageError(
            f"{len(names)} targets fit equally well: {', '.join(names)}",
            advice=f"choose one: add --target {names[0]}",
        )
    for fit in found:
        print(f"  {fit.target.name}: {fit.target.cflags}; {fit.target.description}", file=sys.stderr)
    return named(found, _ask(f"Which target? [{'/'.join(names)}] "))


def _confirm(
    arguments: argparse.Namespace,
    tell: Teller,
    chosen: Fit,
    offered: Sequence[OfferedKey],
    fingerprints: Sequence[str],
) -> list[OfferedKey]:
    """Return the keys to trust, once somebody has said so. Raises `UsageError`, `BinhostRefused`."""
    from gentwoo_client.binhost.choosing import with_fingerprints
    from gentwoo_client.wire.targets import REQUIRED

    trusted = with_fingerprints(offered, fingerprints) if fingerprints else list(offered)
    for offer in trusted:
        tell(f"{'Signed with:':<18}{_readable(offer.key.fingerprint)}")
        tell(f"{'':<18}{offer.key.user_id}, {_expiry(offer.key.expires_at)}")
    for offer in offered:
        if offer not in trusted:
            tell(f"{'Not trusted:':<18}{offer.key.fingerprint}, so Portage refuses packages that it signed")
    if chosen.target.signatures != REQUIRED:
        tell(f"{'Signatures:':<18}{chosen.target.name} does not demand them, so Portage will check none")
    if fingerprints or arguments.yes:
        how = "as --fingerprint says" if fingerprints else "because of --yes; only TLS vouches for that"
        tell(f"{'Trusted:':<18}{how}")
        return trusted
    if not _may_ask(arguments):
        raise UsageError(
            "nobody is here to confirm the key",
            advice=_line_to_use(arguments, chosen.target, trusted),
        )
    question = (
        "Whoever holds the key can run programs as root on this machine. Compare it with what the operator\n"
        "of the collector tells you in another way. Trust it? [y/N] "
        if trusted
        else "Whoever can change its answers can run programs as root on this machine. Take it? [y/N] "
    )
    if _ask(question).lower() not in ("y", "yes"):
        raise BinhostRefused("not confirmed; nothing was changed")
    return trusted


def _line_to_use(arguments: argparse.Namespace, target: Target, trusted: Sequence[OfferedKey]) -> str:
    """The command that does what was asked for, without a question."""
    words = ["gentwoo", "binhost", "setup", "--target", target.name]
    for offer in trusted:
        words += ["--fingerprint", offer.key.fingerprint]
    words += [] if trusted else ["--yes"]
    for name in ("config", "state_dir", "collector", "token_file"):
        value = getattr(arguments, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--insecure"] if arguments.insecure else []
    return f"if that is right, use `{shlex.join(words)}`"


def _credentials_in(path: Path) -> Credentials:
    from gentwoo_client.binhost.binrepos import Credentials

    try:
        return Credentials.parse(path.read_text())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def _ask_credentials(target: str) -> Credentials:
    from getpass import getpass

    from gentwoo_client.binhost.binrepos import Credentials

    print(f"There is no target {target} that everybody may use.", file=sys.stderr)
    try:
        return Credentials.parse(getpass("NAME:TOKEN, if it is private (not shown): "))
    except ValueError as error:
        raise UsageError(str(error)) from None


def _entry(
    collector: str,
    target: Target,
    facts: PortageFacts,
    trusted: Sequence[OfferedKey],
    credentials: Credentials | None,
) -> Entry:
    from gentwoo_client.binhost.binrepos import Entry
    from gentwoo_client.wire.targets import REQUIRED

    return Entry(
        collector=collector,
        target=target.name,
        url=target.url,
        verify=target.signatures == REQUIRED,
        home=str(facts.verify_home),
        keys=tuple(offer.key.fingerprint for offer in trusted),
        credentials=credentials if target.private else None,
    )


def _show(tell: Teller, collector: str, machine: Machine, fits: Sequence[Fit], chosen: Fit) -> None:
    profile = f"profile {machine.profile}" if machine.profile else "a profile of its own"
    tell(f"{'Collector:':<18}{collector}")
    tell(f"{'This machine:':<18}{machine.chost}, {profile}, {machine.cflags or 'no CFLAGS'}")
    tell(f"{'Target:':<18}{chosen.target.name} ({chosen.fitness.value}): {chosen.reason}")
    label = "Not:"
    for fit in fits:
        if fit is not chosen:
            private = "private; " if fit.target.private else ""
            tell(f"{label:<18}{fit.target.name} ({fit.fitness.value}): {private}{fit.reason}")
            label = ""


def _report(
    arguments: argparse.Namespace, facts: PortageFacts, entry: Entry, chosen: Fit, fits: Sequence[Fit]
) -> None:
    from gentwoo_client.binhost.binrepos import Place

    file = Place.find(facts.configuration).path
    if arguments.json:
        document = {
            "collector": entry.collector,
            "target": entry.target,
            "url": entry.url,
            "fits": chosen.fitness.value,
            "keys": list(entry.keys),
            "home": entry.home,
            "file": str(file),
            "targets": [
                {"name": fit.target.name, "fits": fit.fitness.value, "reason": fit.reason} for fit in fits
            ],
        }
        print(json.dumps(document))
        return
    print(f"{'Written:':<18}{file}")
    if entry.keys:
        print(f"{'Keys in:':<18}{entry.home}")
    print('Take packages with `emerge --getbinpkg PACKAGE`, or always: FEATURES="getbinpkg" in make.conf.')
    if "binpkg-ignore-signature" in facts.features:
        print("FEATURES has binpkg-ignore-signature, so Portage looks at no signature: better take it out.")
    if entry.verify and facts.trust_helper and not Path(facts.trust_helper).exists():
        print(
            f"Portage will say that {facts.trust_helper} is missing (PORTAGE_TRUST_HELPER). These packages do"
            " not need it; for Gentoo's own, install app-portage/getuto, run `gentwoo binhost remove`, and"
            " this again."
        )


def _teller(arguments: argparse.Namespace) -> Teller:
    """Where explanations go: beside the document of --json, not into it."""
    return lambda line: print(line, file=sys.stderr if arguments.json else sys.stdout)


def _may_ask(arguments: argparse.Namespace) -> bool:
    return not arguments.yes and not arguments.non_interactive and sys.stdin.isatty()


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _readable(fingerprint: str) -> str:
    """In groups of four, as gpg shows it and people compare it."""
    return " ".join(fingerprint[place : place + 4] for place in range(0, len(fingerprint), 4))


def _expiry(expires_at: int | None) -> str:
    from gentwoo_client.wire.records import format_time

    return "never expires" if expires_at is None else f"expires {format_time(expires_at)}"


# status


def _status(arguments: argparse.Namespace, settings: Settings) -> int:
    from gentwoo_client.binhost.choosing import this_machine
    from gentwoo_client.binhost.portage_facts import read_portage
    from gentwoo_client.binhost.status import ask_collector, local_status

    facts = read_portage(settings)
    status, entry = local_status(facts, settings.eprefix)
    if entry is not None:
        asyncio.run(ask_collector(status, entry, this_machine(facts, settings.eprefix)))
    if arguments.json:
        print(json.dumps(status.to_json()))
    else:
        _print(status)
    return status.exit_code


def _print(status: Status) -> None:
    answers = " (does not answer now)" if status.answers is False else ""
    count = None if status.packages is None else f"{status.packages:,}"
    at = f" (index of {status.index_at})" if status.index_at else ""
    for label, text in (
        ("Target", status.target or "none"),
        ("Collector", status.collector and f"{status.collector}{answers}"),
        ("From", status.url),
        ("Written in", status.file if status.configured else None),
        ("Signatures", None if status.signatures is None else _SIGNATURES[status.signatures]),
        *(("Key", f"{_readable(key.fingerprint)}: {key.state}") for key in status.keys),
        ("Fits", status.fits and f"{status.fits}: {status.reason}"),
        ("Packages", count and f"{count}{at}"),
    ):
        if text:
            print(f"{label + ':':<13}{text}")
    for problem in status.problems:
        print(f"{'Problem:':<13}{problem.message}")
        print(f"{'To repair:':<13}{problem.advice}")


_SIGNATURES = {True: "required", False: "not looked at"}


# remove


def _remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from gentwoo_client.binhost import binrepos
    from gentwoo_client.binhost.binrepos import Place
    from gentwoo_client.binhost.keyring import Keyring
    from gentwoo_client.binhost.portage_facts import read_portage
    from gentwoo_client.binhost.removal import take_away
    from gentwoo_client.binhost.setup import check_permission

    facts = read_portage(settings)
    place = Place.find(facts.configuration)
    _, entry = binrepos.read(place)
    if entry is not None:
        check_permission(facts.configuration, Path(entry.home))
        keyring = Keyring.of(Path(entry.home), settings.eprefix)
        take_away(place, entry, keyring, keep_keys=arguments.keep_keys)
    keys = list(entry.imported) if entry and not arguments.keep_keys else []
    if arguments.json:
        print(json.dumps({"target": entry and entry.target, "file": str(place.path), "keys": keys}))
    elif entry is None:
        print("No binhost of a collector is set up; nothing was changed.")
    else:
        print(f"Portage no longer takes packages from {entry.url}.")
        for fingerprint in keys:
            print(f"The key {_readable(fingerprint)} is no longer trusted.")
    return DONE
