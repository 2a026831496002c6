# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what setup did still holds: at Portage, in the keyring, at the collector."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

from gentwoo_client.binhost import binrepos
from gentwoo_client.binhost.binrepos import Entry, Place
from gentwoo_client.binhost.fitting import Fitness, Machine, judge
from gentwoo_client.binhost.keyring import Keyring, PublicKey
from gentwoo_client.binhost.portage_facts import PortageFacts
from gentwoo_client.errors import DONE, FAILED, LATER, NOT_CONFIGURED, GentwooError, TryLater
from gentwoo_client.wire.records import format_time
from gentwoo_client.wire.targets import REQUIRED, Target

EXPIRES_SOON = 14 * 86400  # seconds
_AGAIN = "run `gentwoo binhost setup` again"


@dataclass(slots=True, kw_only=True)
class KeyStatus:
    """What is to be said of one key."""

    fingerprint: str
    state: str
    """`trusted`, `expiring`, `expired`, `revoked`, `untrusted` or `missing`."""
    expires_at: str | None


@dataclass(slots=True, kw_only=True)
class Problem:
    """Something that keeps packages from being taken, or soon will."""

    message: str
    advice: str
    passes: bool = False
    """Whether it may pass without anybody's doing."""


@dataclass(kw_only=True, slots=True)
class Status:
    """What is told; None where it is not known."""

    configured: bool = False
    file: str
    collector: str | None = None
    target: str | None = None
    url: str | None = None
    signatures: bool | None = None
    """Whether Portage refuses packages without a good signature from this binhost."""
    keys: list[KeyStatus] = field(default_factory=list)
    answers: bool | None = None
    fits: str | None = None
    """`exact`, `compatible` or `unfit`."""
    reason: str | None = None
    packages: int | None = None
    index_at: str | None = None
    """TIMESTAMP of the index."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 only when all is well; 78 where setup never ran; 75 where it may pass by itself; else 1."""
        if not self.configured:
            return NOT_CONFIGURED
        if not self.problems:
            return DONE
        return LATER if all(problem.passes for problem in self.problems) else FAILED

    def to_json(self) -> dict[str, object]:
        """The mapping that `--json` prints."""
        return asdict(self)

    def complain(self, message: str, advice: str, *, passes: bool = False) -> None:
        """Note a problem."""
        self.problems.append(Problem(message=message, advice=advice, passes=passes))


def local_status(facts: PortageFacts, eprefix: str) -> tuple[Status, Entry | None]:
    """What can be told without the collector. Raises `NoPermission`, `BinhostRefused`, `NotConfigured`."""
    place = Place.find(facts.configuration)
    status = Status(file=str(place.path))
    content, entry = binrepos.read(place)
    if entry is None:
        status.complain("no binhost of a collector is set up", "run `gentwoo binhost setup`")
        return status, None
    status.configured, status.collector, status.target = True, entry.collector, entry.target
    status.url, status.signatures = entry.url, entry.verify
    try:
        binrepos.check_ours(content, place)
    except GentwooError as error:
        status.complain(str(error), error.advice or "")
    if (broken := binrepos.syntax_error(place)) is not None:
        status.complain(f"Portage cannot read binrepos.conf: {broken}", "repair it: Portage uses none of it")
    if entry.verify:
        _check_keys(status, entry, facts, Keyring.of(facts.verify_home, eprefix))
    if "binpkg-ignore-signature" in facts.features:
        status.complain(
            "FEATURES has binpkg-ignore-signature: signatures of packages are not looked at",
            "take it out of make.conf",
        )
    return status, entry


def _check_keys(status: Status, entry: Entry, facts: PortageFacts, keyring: Keyring) -> None:
    if str(facts.verify_home) != entry.home:
        status.complain(
            f"Portage verifies with {facts.verify_home} now, but setup put the keys into {entry.home}",
            "run `gentwoo binhost remove`, then `gentwoo binhost setup`",
        )
    known = keyring.keys()
    for fingerprint in entry.keys:
        key = known.get(fingerprint)
        state = _key_state(key)
        expires_at = None if key is None or key.expires_at is None else format_time(key.expires_at)
        status.keys.append(KeyStatus(fingerprint=fingerprint, state=state, expires_at=expires_at))
        if state == "expiring":
            status.complain(
                f"the key {fingerprint} expires at {expires_at}",
                f"{_AGAIN} once the collector's operator has extended it",
            )
        elif state != "trusted":
            status.complain(f"the key {fingerprint} is {state} in {facts.verify_home}", _AGAIN)


def _key_state(key: PublicKey | None) -> str:
    if key is None:
        return "missing"
    if key.defect is not None:
        return key.defect
    if not key.is_trusted:
        return "untrusted"
    return "expiring" if key.expires_at and key.expires_at < time.time() + EXPIRES_SOON else "trusted"


async def ask_collector(status: Status, entry: Entry, machine: Machine) -> None:
    """Add what the collector says now."""
    from gentwoo_client.collector_api import Patience, PublicAPI

    try:
        async with PublicAPI(entry.collector, patience=Patience(connect=5, read=10, total=20)) as api:
            credentials = None if entry.credentials is None else entry.credentials.pair
            targets = await api.targets(credentials)
            index = await api.index_state(entry.url, credentials)
    except TryLater as error:
        status.answers = False
        status.complain(str(error), error.advice or "try again later", passes=True)
        return
    except GentwooError as error:
        status.complain(str(error), error.advice or "ask the operator of the collector")
        return
    status.answers = True
    if index.status == 401:
        what = "the collector does not accept the token"
        status.complain(
            what if entry.credentials else f"{entry.target} is private now",
            "ask its operator for a token, then run `gentwoo binhost setup` with --token-file",
        )
        return
    target = next((target for target in targets if target.name == entry.target), None)
    if target is None:
        status.complain(f"the collector has no target {entry.target} any more", _AGAIN)
        return
    _compare(status, entry, machine, target)
    if index.status != 200:
        status.complain(
            f"{entry.url}/Packages.gz answers {index.status}", "ask the operator of the collector"
        )
    elif index.modified_at is not None:
        status.index_at = format_time(index.modified_at)


def _compare(status: Status, entry: Entry, machine: Machine, target: Target) -> None:
    fit = judge(machine, target)
    status.fits, status.reason, status.packages = fit.fitness.value, fit.reason, target.packages
    if fit.fitness is Fitness.UNFIT:
        status.complain(f"{target.name} does not fit this machine any more: {fit.reason}", _AGAIN)
    if target.url != entry.url:
        status.complain(f"the collector serves {target.name} at {target.url} now", _AGAIN)
    if target.signatures == REQUIRED and not entry.verify:
        status.complain(f"the packages of {target.name} are signed now, and Portage does not look", _AGAIN)
    _compare_keys(status, entry, target)


def _compare_keys(status: Status, entry: Entry, target: Target) -> None:
    """The key in use comes first; one that was extended has to be fetched again."""
    if not entry.verify or not target.keys:
        return
    if target.keys[0].fingerprint not in entry.keys:
        status.complain(
            f"the collector signs with another key now, {target.keys[0].fingerprint}",
            f"{_AGAIN}, which shows it and asks",
        )
    here = {key.fingerprint: key.expires_at for key in status.keys}
    for key in target.keys:
        expires_at = None if key.expires_at is None else format_time(key.expires_at)
        if here.get(key.fingerprint) is not None and expires_at != here[key.fingerprint]:
            status.complain(f"the collector's key {key.fingerprint} was extended", _AGAIN)
