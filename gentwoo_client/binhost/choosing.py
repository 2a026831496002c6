# SPDX-License-Identifier: GPL-2.0-or-later
"""Which collector, which of its targets, and from whose keys: what is settled before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from gentwoo_client.binhost.fitting import Fit, Fitness, Machine, best, judge
from gentwoo_client.binhost.keyring import PublicKey
from gentwoo_client.binhost.machine_facts import explicit_flags, instructions
from gentwoo_client.binhost.portage_facts import PortageFacts
from gentwoo_client.errors import BinhostRefused, NotConfigured, UsageError
from gentwoo_client.privileges import read_as_owner
from gentwoo_client.settings import DEFAULT, DEFAULT_CONFIG, Settings, is_loopback
from gentwoo_client.wire.targets import REQUIRED, Target, is_fingerprint


@dataclass(frozen=True, slots=True)
class OfferedKey:
    """A key of a target, as the file that the collector serves really holds it."""

    key: PublicKey
    content: bytes


class NoneFits(BinhostRefused):
    """No target of the collector suits this machine; one may be proposed."""


def collector_of(settings: Settings) -> str:
    """The collector to take packages from: the setting, else the one that this machine registered with.

    Raises `NotConfigured`.
    """
    collector = settings.collector
    if settings.source("collector") == DEFAULT:
        collector = read_as_owner(settings.state_dir, lambda: _registered(settings)) or None
    if collector is None:
        raise NotConfigured(
            "it is not known which collector to take packages from",
            advice=f'write `collector = "https://…"` into {DEFAULT_CONFIG}, or give --collector URL',
        )
    return collector


def _registered(settings: Settings) -> str:
    from gentwoo_client.journal import Journal

    with closing(Journal.open(settings.state_dir)) as journal:
        return journal.get("collector") or ""


def check_transport(url: str, *, insecure: bool) -> None:
    """See that nobody on the way can exchange what `url` answers. Raises `NotConfigured`."""
    if url.startswith("http:") and not insecure and not is_loopback(url):
        raise NotConfigured(
            f"{url} is not encrypted: the list of packages is not signed, so whoever is on the way could hold"
            " back updates or offer other packages",
            advice="use https, or accept it with --insecure",
        )


def this_machine(facts: PortageFacts, eprefix: str) -> Machine:
    """What decides about targets here."""
    return Machine(
        chost=facts.chost,
        profile=facts.profile,
        cflags=explicit_flags(facts.chost, facts.cflags, eprefix),
        instructions=instructions(),
    )


def judged(machine: Machine, targets: Sequence[Target]) -> list[Fit]:
    """What is to be said of each target, in the order of their names."""
    return [judge(machine, target) for target in sorted(targets, key=lambda target: target.name)]


def named(fits: Sequence[Fit], name: str) -> Fit:
    """The target that was asked for. Raises `BinhostRefused` where there is none, or it does not fit."""
    fit = next((fit for fit in fits if fit.target.name == name), None)
    if fit is None:
        offered = ", ".join(fit.target.name for fit in fits) or "none at all"
        raise BinhostRefused(
            f"the collector has no target {name}, or it is private",
            advice=f"it has {offered}; a private one needs --token-file",
        )
    if fit.fitness is Fitness.UNFIT:
        raise BinhostRefused(
            f"{name} does not fit this machine: {fit.reason}", advice="name one that fits, or none"
        )
    return fit


def candidates(fits: Sequence[Fit]) -> tuple[Fit, ...]:
    """The best of those that fit. Raises `NoneFits`."""
    found = best(fits)
    if found:
        return found
    reasons = "".join(f"; {fit.target.name}: {fit.reason}" for fit in fits)
    raise NoneFits(
        f"no target of this collector fits this machine{reasons}"
        if fits
        else "this collector has no target that everybody may use",
        advice="ask its operator for one with this machine's CHOST, profile and flags; a private one needs"
        " --token-file",
    )


def usable(fit: Fit, offered: Sequence[OfferedKey]) -> list[OfferedKey]:
    """The keys that are neither expired nor revoked.

    Raises `BinhostRefused` where the target demands signatures and there is none.
    """
    found = [offer for offer in offered if offer.key.defect is None]
    if found or fit.target.signatures != REQUIRED:
        return found
    defects = [f"its key {offer.key.fingerprint} is {offer.key.defect}" for offer in offered]
    raise BinhostRefused(
        f"{fit.target.name} demands signatures, but {'; '.join(defects) or 'it has no key yet'}",
        advice="tell its operator, who can make or extend one with `bdcs admin keys`; run this again then",
    )


def parse_fingerprint(text: str) -> str:
    """The fingerprint that a person wrote: with blanks, in small letters, with 0x. Raises `UsageError`."""
    fingerprint = "".join(text.split()).upper().removeprefix("0X").replace(":", "")
    if not is_fingerprint(fingerprint):
        raise UsageError(
            f"{text!r} is not the fingerprint of a key",
            advice="it has 40 hexadecimal digits; short ids do not do",
        )
    return fingerprint


def with_fingerprints(offered: Sequence[OfferedKey], wanted: Sequence[str]) -> list[OfferedKey]:
    """The keys that were vouched for. Raises `BinhostRefused` where the collector has none of them."""
    found = [offer for offer in offered if offer.key.fingerprint in wanted]
    if not found:
        has = ", ".join(offer.key.fingerprint for offer in offered) or "none"
        raise BinhostRefused(
            f"the collector's key is not the one you named: it has {has}",
            advice="ask its operator, by another way, which one is right; nothing was changed",
        )
    return found
