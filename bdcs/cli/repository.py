# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs repository …`: the ebuild repositories of the catalogue, also beside a running server."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bdcs.cli.actions import Actions
from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings

if TYPE_CHECKING:
    from bdcs.services.repositories import Repository, Unreadable

HELP = "tell the catalogue which ebuild repositories there are"

SHOWN = 10
"""Files that cannot be read, of those that `status` names."""

_DESCRIPTION = (
    "The catalogue knows the packages of these ebuild repositories. It reads metadata/md5-cache, as"
    " `egencache --update` makes it, and runs nothing of a repository. `bdcs serve` looks at those of git and"
    " at local directories every two minutes, and asks an rsync mirror once a day, unless it is your own."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    parser.description = _DESCRIPTION
    action = Actions.of(parser, name="the repository's name, as it calls itself").add

    adding = action("add", "add a repository", _add)
    adding.add_argument(
        "--sync-type",
        choices=("local", "git", "rsync"),
        default="local",
        help="how it gets here; local: the directory is kept up to date by somebody else (default: local)",
    )
    adding.add_argument(
        "--sync-uri", metavar="URI", default="", help="where it comes from, for git and rsync"
    )
    adding.add_argument(
        "--location",
        metavar="DIR",
        type=Path,
        help="its directory (default, for git and rsync: repositories/NAME in --data)",
    )
    adding.add_argument(
        "--own-mirror", action="store_true", help="the rsync mirror is your own: ask it every two minutes"
    )
    for name, text, run, named in (
        ("list", "list all repositories", _list, False),
        ("status", "show how a repository stands, and what of it cannot be read", _status, True),
        ("sync", "bring a repository up to date and read it now", _sync, True),
    ):
        action(name, text, run, named=named).add_argument(
            "--json", action="store_true", help="print it as JSON"
        )
    action("remove", "remove a repository from the catalogue; its files stay", _remove)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    code: int = arguments.act(arguments, settings)
    return code


def _add(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.domain.ebuild_repositories import SyncType
    from bdcs.services import repositories
    from bdcs.store.store import transaction

    with transaction(existing_store(settings, writing=True)) as connection:
        added = repositories.add(
            connection,
            arguments.name,
            data=settings.data,
            sync_type=SyncType(arguments.sync_type),
            sync_uri=arguments.sync_uri,
            location=arguments.location,
            own_mirror=arguments.own_mirror,
            now=time.time(),
        )
    print(f"repository {added.name}: {added.location}")
    print(f"the server reads it within seconds; `bdcs repository sync {added.name}` does so now")
    return EXIT_DONE


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import repositories
    from bdcs.store.store import transaction

    with transaction(existing_store(settings)) as connection:
        found = repositories.listed(connection)
        unreadable = repositories.unreadable_counts(connection)
    if arguments.json:
        documents = [
            {**repository.to_json(), "unreadable": unreadable.get(repository.id, 0)} for repository in found
        ]
        _print_json({"repositories": documents})
        return EXIT_DONE
    width = max((len(repository.name) for repository in found), default=0)
    for repository in found:
        print(f"{repository.name:<{width}}  {repository.sync_type:<5}  {_state(repository)}")
        if count := unreadable.get(repository.id):
            print(f"{'':<{width}}         … but {_spoilt(count)}: `bdcs repository status {repository.name}`")
    return EXIT_DONE


def _status(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import repositories
    from bdcs.store.store import transaction

    with transaction(existing_store(settings)) as connection:
        repository = repositories.require(connection, arguments.name)
        count, first = repositories.unreadable(connection, repository, SHOWN)
    if arguments.json:
        document = repository.to_json()
        document["unreadable"] = count
        document["first_unreadable"] = [{"path": each.path, "reason": each.reason} for each in first]
        _print_json(document)
    else:
        _print_status(repository, count, first)
    return EXIT_DONE


def _sync(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services.refreshing import Refresher
    from bdcs.store.engine import place_of

    existing_store(settings).dispose()
    refresher = Refresher.of(store=place_of(settings.store, settings.data), data=settings.data)
    with contextlib.closing(refresher):
        refreshed = refresher.refresh(arguments.name)
    if arguments.json:
        _print_json(refreshed.to_json())
    else:
        print(f"{arguments.name}: {refreshed}")
    return EXIT_DONE


def _remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import repositories
    from bdcs.services.refreshing import repository_lock
    from bdcs.store.store import transaction

    engine = existing_store(settings, writing=True)
    with transaction(engine) as connection:
        repository = repositories.require(connection, arguments.name)
    with repository_lock(engine, settings.data, arguments.name), transaction(engine) as connection:
        repositories.remove(connection, repository)
    print(f"repository {arguments.name} is no longer in the catalogue; {repository.location} stays")
    return EXIT_DONE


def _state(repository: Repository) -> str:
    from gentwoo_client.wire.records import format_time

    if repository.problem is not None:
        return f"in trouble: {repository.problem}"
    if repository.read_at is None:
        return "not read yet"
    uncached = f", {repository.uncached} ebuilds without metadata cache" if repository.uncached else ""
    amount = f"{repository.packages} packages, {repository.versions} versions{uncached}"
    return f"{amount}; as of {format_time(repository.read_at)}"


def _spoilt(count: int) -> str:
    files = "1 file" if count == 1 else f"{count} files"
    return f"{files} of metadata/md5-cache cannot be read, so that those packages are not known"


def _print_status(repository: Repository, count: int, first: list[Unreadable]) -> None:
    lines = {
        "repository": repository.name,
        "location": str(repository.location),
        "comes by": f"{repository.sync_type} {repository.sync_uri}".strip(),
        "state": _state(repository),
    }
    if repository.revision is not None:
        lines["revision"] = repository.revision
    for name, value in lines.items():
        print(f"{name:<11} {value}")
    if repository.uncached:
        print(
            f"{repository.uncached} ebuilds are not in metadata/md5-cache, so the catalogue does not know"
            " them: a builder whose root has them makes that within minutes, or"
            f" `egencache --update --repo {repository.name}` where Portage is"
        )
    if count:
        print(f"{_spoilt(count)}:")
        for each in first:
            print(f"  {each.path}: {each.reason}")


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2))
