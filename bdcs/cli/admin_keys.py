# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs admin keys …`: the signer's keys, and the foreign ones that a target trusts.

What concerns the signer's keys works on its home, whether the signer runs or not, as the home's owner or as
root, who takes that user's place: the collector's user cannot. What a target trusts stands in the store.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdcs.errors import EXIT_DONE, ConfigurationError, UnusableKey
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bdcs.domain.signing_keys import SigningKey
    from bdcs.openpgp.foreign import PublicKey
    from bdcs.services.trusted_keys import TrustedKey
    from bdcs.signer.keyring import Keyring

HELP = "keys that sign packages, and keys that targets trust"

LARGEST_FILE = 4 * 1024 * 1024  # bytes

_PERIOD = "90d, 8w, 18m, 2y, a date such as 2030-01-31, or never"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with keys."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    create = _on_home(actions, "create", "make a new key; it signs from now on")
    create.add_argument("--name", help="whose key it is (default: GenTwoo packages of this host's name)")
    create.add_argument("--email", help="an address that readers of the key see (default: none)")
    create.add_argument("--expires", metavar="PERIOD", default="2y", help=f"{_PERIOD} (default: 2y)")

    imported = _on_home(actions, "import", "take over a secret key that gpg exported")
    imported.add_argument(
        "file", metavar="FILE", type=Path, help="`gpg --export-secret-keys` wrote it; - for stdin"
    )

    listed = _on_home(actions, "list", "all keys of the signer, or those that a target trusts")
    listed.add_argument("--target", metavar="NAME", help="list the keys that this target trusts instead")

    export = _on_home(actions, "export", "public keys, as text")
    export.add_argument(
        "fingerprint", metavar="FPR", nargs="?", help="that of one key (default: all of them)"
    )

    extend = _on_home(actions, "extend", "let a key expire later; clients need its new public half")
    extend.add_argument("fingerprint", metavar="FPR", help="the key's fingerprint")
    extend.add_argument("period", metavar="PERIOD", help=f"from now: {_PERIOD}")

    retire = _on_home(actions, "retire", "sign nothing new with a key; what it signed stays valid")
    retire.add_argument("fingerprint", metavar="FPR", help="the key's fingerprint")

    trust = _on_target(actions, "trust", "let a target take packages that others signed, as they are")
    trust.add_argument("file", metavar="FILE", type=Path, help="their public keys; - for stdin")

    untrust = _on_target(
        actions, "untrust", "take no more packages signed with that key; published ones stay"
    )
    untrust.add_argument("fingerprint", metavar="FPR", help="the key's fingerprint")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    if getattr(arguments, "target", None):
        _ON_TARGET[arguments.action](arguments, settings)
    else:
        _ON_HOME[arguments.action](arguments)
    return EXIT_DONE


def _on_home(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    from bdcs.cli.signer import add_home

    action = _action(actions, name, text)
    add_home(action)
    return action


def _on_target(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    action = _action(actions, name, text)
    action.add_argument("--target", metavar="NAME", required=True, help="the target")
    return action


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=text, allow_abbrev=False
    )
    if name != "export":
        action.add_argument("--json", action="store_true", help="print JSON")
    return action


# On the signer's home.


def _create(arguments: argparse.Namespace) -> None:
    from bdcs.signer import home

    home.prepare(arguments.home.absolute())
    name = arguments.name or f"GenTwoo packages of {os.uname().nodename}"
    _with_keyring(
        arguments,
        lambda keyring: [keyring.create(name=name, email=arguments.email, expires=arguments.expires)],
    )


def _import(arguments: argparse.Namespace) -> None:
    from bdcs.signer import home

    data = _read(arguments.file)
    home.prepare(arguments.home.absolute())
    _with_keyring(arguments, lambda keyring: [keyring.import_key(data)])


def _list(arguments: argparse.Namespace) -> None:
    _with_keyring(arguments, lambda keyring: keyring.all())


def _export(arguments: argparse.Namespace) -> None:
    from bdcs.openpgp.armour import armour

    fingerprint = _fingerprint(arguments.fingerprint) if arguments.fingerprint else None
    with _keyring(arguments) as keyring:
        keys = keyring.all() if fingerprint is None else [keyring.require(fingerprint)]
    for key in keys:
        sys.stdout.write(armour(key.public_key))


def _extend(arguments: argparse.Namespace) -> None:
    fingerprint = _fingerprint(arguments.fingerprint)
    _with_keyring(arguments, lambda keyring: [keyring.extend(fingerprint, arguments.period)])


def _retire(arguments: argparse.Namespace) -> None:
    fingerprint = _fingerprint(arguments.fingerprint)
    _with_keyring(arguments, lambda keyring: [keyring.retire(fingerprint)])


def _with_keyring(arguments: argparse.Namespace, do: Callable[[Keyring], list[SigningKey]]) -> None:
    """Do something in the signer's home, and print the keys that come of it."""
    from bdcs.domain.signing_keys import choose

    now = time.time()
    with _keyring(arguments) as keyring:
        keys = do(keyring)
        chosen = choose(keyring.all(), now)
    signs = None if chosen is None else chosen.fingerprint
    if arguments.json:
        print(json.dumps({"keys": [_document(key, signs, now) for key in keys]}))
        return
    for key in keys:
        print(_line(key, signs, now))
    if signs is None:
        print("nothing can be signed: run `bdcs admin keys create`, or `extend` a key", file=sys.stderr)


@contextlib.contextmanager
def _keyring(arguments: argparse.Namespace) -> Iterator[Keyring]:
    from bdcs.cli.signer import absolute
    from bdcs.signer import home
    from bdcs.signer.keyring import Keyring

    place = arguments.home.absolute()
    home.enter(place)
    with home.in_use(place):
        yield Keyring(home=place, passphrase_file=absolute(arguments.passphrase_file))


def _document(key: SigningKey, signs: str | None, now: float) -> dict[str, Any]:
    from bdcs.openpgp.armour import armour

    return {
        "fingerprint": key.fingerprint,
        "user_id": key.user_id,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "state": str(key.state),
        "expired": key.is_expired(now),
        "signs": key.fingerprint == signs,
        "public_key": armour(key.public_key),
    }


def _line(key: SigningKey, signs: str | None, now: float) -> str:
    from gentwoo_client.wire.records import format_time

    state = "signs" if key.fingerprint == signs else "expired" if key.is_expired(now) else str(key.state)
    end = "never expires" if key.expires_at is None else f"until {format_time(key.expires_at)}"
    return f"{key.fingerprint}  {state:<7}  {end}  {key.user_id}"


# On a target.


def _trust(arguments: argparse.Namespace, settings: Settings) -> None:
    from bdcs.openpgp.foreign import read_public_keys
    from bdcs.services import targets, trusted_keys

    keys: list[PublicKey] = read_public_keys(_read(arguments.file))
    with _store(settings, writing=True) as connection:
        target = targets.require(connection, arguments.target)
        pairs = [(key.key.fingerprint, key.data) for key in keys]
        trusted_keys.trust(connection, target, pairs, time.time())
        wanted = {key.key.fingerprint for key in keys}
        found = [key for key in trusted_keys.trusted(connection, target) if key.fingerprint in wanted]
    _print_trusted(arguments, found)


def _untrust(arguments: argparse.Namespace, settings: Settings) -> None:
    from bdcs.services import targets, trusted_keys

    fingerprint = _fingerprint(arguments.fingerprint)
    with _store(settings, writing=True) as connection:
        target = targets.require(connection, arguments.target)
        trusted_keys.untrust(connection, target, fingerprint)
        found = trusted_keys.trusted(connection, target)
    _print_trusted(arguments, found)


def _list_trusted(arguments: argparse.Namespace, settings: Settings) -> None:
    from bdcs.services import targets, trusted_keys

    with _store(settings, writing=False) as connection:
        found = trusted_keys.trusted(connection, targets.require(connection, arguments.target))
    _print_trusted(arguments, found)


def _store(settings: Settings, *, writing: bool) -> AbstractContextManager[Connection]:
    from bdcs.cli.existing import existing_store
    from bdcs.store.store import transaction

    return transaction(existing_store(settings, writing=writing))


def _print_trusted(arguments: argparse.Namespace, keys: Iterable[TrustedKey]) -> None:
    from bdcs.openpgp.armour import armour
    from gentwoo_client.wire.records import format_time

    if arguments.json:
        documents = [
            {
                "fingerprint": key.fingerprint,
                "added_at": key.added_at,
                "public_key": armour(key.public_key),
            }
            for key in keys
        ]
        print(json.dumps({"target": arguments.target, "trusted": documents}))
        return
    for key in keys:
        print(f"{key.fingerprint}  trusted at {arguments.target} since {format_time(key.added_at)}")


def _fingerprint(text: str) -> str:
    from bdcs.domain.signing_keys import fingerprint

    try:
        return fingerprint(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _read(path: Path) -> bytes:
    if str(path) == "-":
        data = sys.stdin.buffer.read(LARGEST_FILE + 1)
    else:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise UnusableKey(f"{path}: larger than any file of keys")
    return data


_ON_HOME: dict[str, Callable[[argparse.Namespace], None]] = {
    "create": _create,
    "import": _import,
    "list": _list,
    "export": _export,
    "extend": _extend,
    "retire": _retire,
}

_ON_TARGET: dict[str, Callable[[argparse.Namespace, Settings], None]] = {
    "trust": _trust,
    "untrust": _untrust,
    "list": _list_trusted,
}
