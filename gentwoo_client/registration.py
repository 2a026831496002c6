# SPDX-License-Identifier: GPL-2.0-or-later
"""Who this machine is, to whom; and how it becomes so, step by step, each perhaps the last before a crash.

The journal's state holds what was agreed: `machine` (the UUID, once the collector knows it), `collector`,
`history`, `registration` (`approved` or `awaiting-approval`), `stopped` (see `gentwoo_client.uploader`),
`former` (identities given up: JSON of UUID to collector) and `forgotten` (the last UUID that was erased).

*Registering*: (1) the key is made and durable; (2) the collector is told, which may be repeated; (3) the
journal notes it. *Renewing*: (1) `machine.key.new` is made; (2) the collector is told; (3) the journal
changes to the new chain, in one transaction; (4) the new key takes the old one's place, which is put aside as
`machine-UUID.key`. What is found half done is finished by `settle_keys`, which everyone who needs the key
calls first: the journal decides, since step 3 is atomic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gentwoo_client.errors import CollectorRefused, KeyUnusable, NotRegistered, PushingStopped
from gentwoo_client.journal import Journal
from gentwoo_client.locks import exclusive_locks
from gentwoo_client.machine_key import (
    KEY_NAME,
    NEW_KEY_NAME,
    MachineKey,
    create_key,
    credential_path,
    kept_key_path,
    load_key,
    load_machine_key,
    sync_directory,
)
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.collector_api import MachineState
    from gentwoo_client.outbox import Outbox

STATE_KEYS = (
    "machine",
    "collector",
    "history",
    "registration",
    "stopped",
    "former",
    "forgotten",
    "retry_at",
)

REGISTER = "run `gentwoo register`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a registered machine needs to know in order to push."""

    machine: str
    """The UUID, as text."""
    collector: str
    settings: Settings
    """With the choices made at registration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What became of `register`."""

    state: MachineState
    is_new: bool
    """Whether the machine has another identity than before."""
    carried: int
    """Records that were waiting and belong to the new identity now."""


def current_registration(get: Callable[[str], str | None], settings: Settings) -> Registration:
    """Return the registration in force; `get` reads the journal's state.

    Raises `NotRegistered`, also where the configuration names another collector than the one registered with.
    Reads no key and no network, so that the daemon can ask before it does anything.
    """
    machine, collector = get("machine"), get("collector")
    if get("forgotten") and not machine:
        raise NotRegistered(
            "this machine was forgotten, as it asked; nothing is sent any more",
            advice=f"to take part again, {REGISTER}",
        )
    if not machine or not collector:
        raise NotRegistered("this machine is not registered", advice=REGISTER)
    settings = settings.with_choices(collector=collector, history=get("history"))
    if settings.collector != collector:
        raise NotRegistered(
            f"this machine is registered with {collector}, but {settings.source('collector')} says"
            f" {settings.collector}",
            advice="put that right, or move there as a new machine: `gentwoo register --renew`",
        )
    return Registration(machine=machine, collector=collector, settings=settings)


def open_registration(settings: Settings) -> tuple[Registration, MachineKey]:
    """Return the registration in force and its key. Raises `NotRegistered`, `KeyUnusable`, `NoPermission`."""
    with closing(Journal.open(settings.state_dir)) as journal:
        registration = current_registration(journal.get, settings)
    settle_keys(settings.state_dir, registration.machine)
    key = load_machine_key(settings.state_dir)
    if str(key.machine) != registration.machine:
        raise KeyUnusable(
            f"{key.path} is the key of {key.machine}, but the journal is that of {registration.machine}",
            advice="put the right key back, or begin as a new machine: `gentwoo register --renew`",
        )
    return registration, key


def settle_keys(state_dir: Path, machine: str | None, previous: str | None = None) -> None:
    """Finish the last step of a renewal to the identity `machine`, if it was not finished.

    The earlier key is put aside under the UUID that follows from it, or `previous` if it is damaged.
    """
    new, current = state_dir / NEW_KEY_NAME, state_dir / KEY_NAME
    if not new.exists() or str(load_key(new).machine) != machine:
        return
    if current.exists():
        try:
            name: object = load_key(current).machine
        except KeyUnusable:
            name = previous or "unusable"
        current.rename(kept_key_path(state_dir, str(name)))
        sync_directory(state_dir)
    new.rename(current)
    sync_directory(state_dir)


async def register(
    outbox: Outbox, state_dir: Path, *, collector: str, history: str, renew: bool = False
) -> Registered:
    """Make the machine known to `collector`. May be repeated at any time, and after any crash.

    With `renew`, or where the collector was asked to forget it, the machine gets a new identity; nobody may
    read or send meanwhile (`AlreadyRunning`), lest records of the new one be signed with the old key. Raises
    `NotRegistered` where it is registered elsewhere, and what `CollectorAPI` raises.
    """
    with ExitStack() as locks:
        if renew or not await outbox.get("machine"):
            locks.enter_context(exclusive_locks(state_dir))
        state = await _read_state(outbox)
        settle_keys(state_dir, state["machine"])
        if renew:
            return await _renew(outbox, state_dir, state, collector=collector, history=history)
        if not state["machine"]:
            return await _register_first(outbox, state_dir, state, collector=collector, history=history)
        return await _register_again(
            outbox, state_dir, state, collector=collector, history=history, locks=locks
        )


async def _read_state(outbox: Outbox) -> dict[str, str | None]:
    return {name: await outbox.get(name) for name in STATE_KEYS}


async def _register_again(
    outbox: Outbox,
    state_dir: Path,
    state: dict[str, str | None],
    *,
    collector: str,
    history: str,
    locks: ExitStack,
) -> Registered:
    """See what the collector says of a machine that the journal knows to be registered."""
    if state["collector"] not in (None, collector):
        raise NotRegistered(
            f"this machine is already registered with {state['collector']}",
            advice=f"`gentwoo register --renew --collector {collector}` moves there as a new machine",
        )
    key = _own_key(state_dir, state)
    try:
        answer = await _tell(collector, key)
    except CollectorRefused as error:
        if error.reason != "forgotten":
            raise
        # Erased, and the journal did not learn of it: a crash within `forget`, or another copy of the key.
        locks.enter_context(exclusive_locks(state_dir))
        state = {**await _read_state(outbox), "forgotten": str(key.machine)}
        return await _renew(outbox, state_dir, state, collector=collector, history=history)
    await outbox.put(registration=answer.state, stopped=None, retry_at=None, attempts=None)
    return Registered(state=answer, is_new=False, carried=0)


async def _register_first(
    outbox: Outbox, state_dir: Path, state: dict[str, str | None], *, collector: str, history: str
) -> Registered:
    """Register a machine whose journal knows no identity: there never was one, or it was forgotten."""
    key = _own_key(state_dir, state)
    if str(key.machine) == state["forgotten"]:
        return await _renew(outbox, state_dir, state, collector=collector, history=history)
    try:
        answer = await _tell(collector, key)
    except CollectorRefused as error:
        if error.reason != "forgotten":
            raise
        erased = {**state, "forgotten": str(key.machine)}
        return await _renew(outbox, state_dir, erased, collector=collector, history=history)
    if answer.head.seq > 0:
        raise PushingStopped(
            f"{collector} has {answer.head.seq} records of this machine that its journal does not know",
            reason="fork",
            advice="put the journal back, or begin as a new machine: `gentwoo register --renew`",
        )
    carried = await outbox.renew(
        carry="everything", history=history, state=_agreed(answer, collector, history)
    )
    return Registered(state=answer, is_new=True, carried=carried)


async def forget(outbox: Outbox, state_dir: Path, registration: Registration, key: MachineKey) -> None:
    """Have the collector erase everything of this machine, and stop pushing until it is registered again.

    The journal stays: it is the machine's own history.
    """
    await _erase(registration.collector, key)
    await outbox.put(machine=None, registration=None, forgotten=registration.machine, retry_at=None)
    if not key.is_credential:
        key.path.unlink(missing_ok=True)
        sync_directory(state_dir)


def _former_identities(state: Mapping[str, str | None]) -> dict[str, str]:
    """Identities that were given up and not erased: UUID to collector."""
    former: dict[str, str] = json.loads(state.get("former") or "{}")
    return former


async def forget_former(outbox: Outbox, state_dir: Path) -> list[str]:
    """Have the collectors erase the identities that were given up; return their UUIDs."""
    former = _former_identities(await _read_state(outbox))
    erased = []
    for machine, collector in list(former.items()):
        path = kept_key_path(state_dir, machine)
        if path.exists():
            await _erase(collector, load_key(path))
            erased.append(machine)
        del former[machine]
        await outbox.put(former=json.dumps(former) if former else None)
        path.unlink(missing_ok=True)
    return erased


async def _renew(
    outbox: Outbox, state_dir: Path, state: dict[str, str | None], *, collector: str, history: str
) -> Registered:
    """Take another identity: key, UUID and chain. What the old one had not sent goes over to the new."""
    credential = credential_path()
    if credential is not None:
        raise KeyUnusable(
            f"{credential}: a key that systemd hands over cannot be replaced here",
            advice="put another key where systemd takes it from, then register again",
        )
    path = state_dir / NEW_KEY_NAME
    key = load_key(path) if path.exists() else create_key(path)
    answer = await _tell(collector, key)
    former = _former_identities(state)
    erased = state["forgotten"]
    if state["machine"] and state["collector"] and state["machine"] != erased:
        former[state["machine"]] = state["collector"]
    everything = erased is not None and state["machine"] in (None, erased)
    carried = await outbox.renew(
        carry="everything" if everything else "unsent",
        history=history if everything or history != state["history"] else None,
        state={**_agreed(answer, collector, history), "former": json.dumps(former) if former else None},
    )
    settle_keys(state_dir, str(key.machine), state["machine"])
    if erased:
        kept_key_path(state_dir, erased).unlink(missing_ok=True)
    return Registered(state=answer, is_new=True, carried=carried)


def _agreed(answer: MachineState, collector: str, history: str) -> dict[str, str | int | None]:
    return {
        "machine": str(answer.machine),
        "registration": answer.state,
        "collector": collector,
        "history": history,
        "stopped": None,
        "forgotten": None,
        "retry_at": None,
        "attempts": None,
    }


def _own_key(state_dir: Path, state: Mapping[str, str | None]) -> MachineKey:
    """Return the machine's key; make one where there never was one."""
    try:
        key = load_machine_key(state_dir)
    except NotRegistered:
        if state["machine"]:
            raise KeyUnusable(
                f"the key of {state['machine']} is missing in {state_dir}",
                advice="put it back from a backup, or begin as a new machine: `gentwoo register --renew`",
            ) from None
        return create_key(state_dir / KEY_NAME)
    if state["machine"] and str(key.machine) != state["machine"]:
        raise KeyUnusable(
            f"{key.path} is the key of {key.machine}, but the journal is that of {state['machine']}",
            advice="put the right key back, or begin as a new machine: `gentwoo register --renew`",
        )
    return key


async def _tell(collector: str, key: MachineKey) -> MachineState:
    from gentwoo_client.collector_api import CollectorAPI

    async with CollectorAPI(collector, key) as api:
        return await api.register()


async def _erase(collector: str, key: MachineKey) -> None:
    """Erase `key`'s machine at `collector`; one that is not there any more is erased already."""
    from gentwoo_client.collector_api import CollectorAPI

    async with CollectorAPI(collector, key) as api:
        try:
            await api.forget()
        except CollectorRefused as error:
            if error.reason not in ("forgotten", "unregistered"):
                raise
