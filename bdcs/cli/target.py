# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs target …`: the trees of the binhost, also beside a running server."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdcs.cli import target_generations
from bdcs.cli.actions import Actions
from bdcs.errors import EXIT_DONE, TargetRefused
from bdcs.settings import Settings

if TYPE_CHECKING:
    from bdcs.services.portage_settings import PortageSettings
    from bdcs.services.targets import Contents, Target

HELP = "make and change targets, and look at and go back in their history"


_DESCRIPTION = (
    "A target is one tree of the binhost: packages for one CHOST, profile, set of compiler flags and"
    " toolchain, with an index of its own, served at /binhost/NAME/. Portage compares neither flags nor"
    " profile: machines that differ in these need different targets."
)
TEXT_OPTIONS = ("--cflags",)
"""Options whose values begin with a dash."""

_CHECKED = ("chost", "profile", "cflags")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    parser.description = _DESCRIPTION
    action = Actions.of(parser, name="the target's name").add

    adding = action("add", "make a target", _add)
    _add_settings(adding)
    adding.add_argument(
        "--from-portage",
        metavar="DIR",
        nargs="?",
        const=Path("/usr/bin"),
        type=Path,
        help="take what is not given from Portage of this host, and the index's header too; its commands are"
        " in DIR (default: /usr/bin)",
    )
    _add_json(action("list", "list all targets", _list, named=False))
    _add_json(action("show", "show one target", _show))
    changing = action("set", "change settings of a target; packages that are there stay as they are", _set)
    _add_settings(changing)
    removing = action("remove", "remove a target", _remove)
    removing.add_argument(
        "--force", action="store_true", help="also with packages: their files go at once, without grace"
    )
    target_generations.add_actions(action)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    code: int = arguments.act(arguments, settings)
    return code


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chost", help="CHOST of its packages, as x86_64-pc-linux-gnu")
    parser.add_argument(
        "--profile", metavar="PATH", help="the profile, below profiles/, as default/linux/amd64/23.0"
    )
    parser.add_argument("--cflags", metavar="FLAGS", help="CFLAGS of its packages, as “-O2 -march=x86-64-v3”")
    parser.add_argument("--cpu", metavar="WORDS", help="the CPUs that it is meant for, as x86-64-v3")
    parser.add_argument("--toolchain", metavar="WORDS", help="compiler and libc, as “gcc 15, glibc 2.42”")
    parser.add_argument("--description", metavar="TEXT", help="one line for people")
    parser.add_argument(
        "--signatures",
        choices=("required", "optional"),
        help="whether every package must be signed (default: required)",
    )
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="serve it only to holders of a token (`bdcs admin tokens`)",
    )
    parser.add_argument(
        "--bindist",
        action=argparse.BooleanOptionalAction,
        help="take packages that must not be redistributed (RESTRICT of bindist or fetch) as well: only where"
        " nobody else can fetch them",
    )
    parser.add_argument("--arch", metavar="ARCH", help="ARCH of the index's header, as amd64")
    parser.add_argument(
        "--header",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a further key of the index's header, as IUSE_IMPLICIT, USE_EXPAND or TTL; empty: without it;"
        " may be repeated",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that stand on the command line, without those of the header."""
    from bdcs.services.targets import TEXTS

    names = (*TEXTS, "signatures", "private", "bindist")
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _header(arguments: argparse.Namespace) -> dict[str, str]:
    from bdcs.services.targets import header_settings

    arch = {} if arguments.arch is None else {"ARCH": arguments.arch}
    return {**arch, **header_settings(arguments.header)}


def _add(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import targets
    from bdcs.store.store import transaction

    given, header = _given(arguments), _header(arguments)
    if arguments.from_portage is not None:
        from bdcs.services.portage_settings import portage_settings

        found = portage_settings(arguments.from_portage)
        given = {**_example(found), **given}
        header = {**found.header, **header}
    missing = [f"--{name}" for name in _CHECKED if not given.get(name)]
    if missing:
        raise TargetRefused(
            f"a target needs {' and '.join(missing)}; --from-portage takes what is not given from this host"
        )
    engine = existing_store(settings, writing=True)
    with transaction(engine) as connection:
        target = targets.add(connection, arguments.name, now=time.time(), header=header, **given)
    print(f"target {target.name}: {target.chost}, {target.profile}, {target.cflags}")
    print(f"it is served at /binhost/{target.name}/; `bdcs publish FILE… --target {target.name}` fills it")
    _tell_of_flags(target)
    return EXIT_DONE


def _tell_of_flags(target: Target) -> None:
    from bdcs.services.verdicts import flags_objection

    if objection := flags_objection(target):
        print(f"… but {objection}")


def _example(found: PortageSettings) -> dict[str, str]:
    values = {"chost": found.chost, "profile": found.profile or "", "cflags": found.cflags}
    return {name: value for name, value in values.items() if value}


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import targets
    from bdcs.store.store import transaction

    with transaction(existing_store(settings)) as connection:
        found = targets.listed(connection)
        contents = targets.contents(connection)
    if arguments.json:
        _print_json(
            {"targets": [_document(target, contents.get(target.id)) for target in found]},
        )
        return EXIT_DONE
    width = max((len(target.name) for target in found), default=0)
    for target in found:
        print(f"{target.name:<{width}}  {_amount(contents.get(target.id))}  {target.chost}  {target.profile}")
    return EXIT_DONE


def _show(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import builders, targets, tokens
    from bdcs.store.store import transaction
    from gentwoo_client.wire.records import format_time

    with transaction(existing_store(settings)) as connection:
        target = targets.require(connection, arguments.name)
        contents = targets.contents(connection).get(target.id)
        approved = builders.listed(connection, target)
        given = tokens.listed(connection, target)
    if arguments.json:
        document = _document(target, contents)
        document["builders"] = [str(builder.machine) for builder in approved]
        document["tokens"] = [token.name for token in given]
        _print_json(document)
        return EXIT_DONE
    access = f"private, {len(given)} tokens" if target.private else "public"
    lines = {
        "target": target.name,
        "description": target.description,
        "chost": target.chost,
        "profile": target.profile,
        "cflags": target.cflags,
        "cpu": target.cpu,
        "toolchain": target.toolchain,
        "signatures": str(target.signatures),
        "access": access,
        "bindist": "also packages that must not be redistributed" if target.bindist else "",
        "packages": " ".join(_amount(contents).split()),
        "generation": str(target.generation or "none yet"),
        "index of": format_time(target.timestamp) if target.timestamp else "",
        "builders": " ".join(str(builder.machine) for builder in approved),
        **{f"  {key}": value for key, value in target.header.items()},
    }
    width = max(map(len, lines))
    for title, value in lines.items():
        if value:
            print(f"{title:<{width}}  {value}")
    return EXIT_DONE


def _set(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services import target_changes, targets

    given, header = _given(arguments), _header(arguments)
    if not given and not header:
        raise TargetRefused("nothing to set was named")
    engine = existing_store(settings, writing=True)
    with target_changes.changing(engine, settings.data, arguments.name) as change:
        if header:
            given["header"] = {**change.target.header, **header}
        after = targets.change(change.connection, change.target, now=time.time(), **given)
        unsigned = targets.unsigned(change.connection, after)
    names = [name for name in given if getattr(after, name) != getattr(change.target, name)]
    print(f"target {after.name}: {', '.join(names) + ' changed' if names else 'nothing to change'}")
    if unsigned and after.signatures == "required":
        print(f"… but {unsigned} of its packages are not signed: `bdcs target withdraw` takes them out")
    if "cflags" in names:
        _tell_of_flags(after)
    return EXIT_DONE


def _remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from bdcs.blobs.configured import blobs_of
    from bdcs.cli.existing import existing_store
    from bdcs.services import target_changes

    engine = existing_store(settings, writing=True)
    blobs = blobs_of(settings)
    target_changes.remove(engine, settings.data, blobs, arguments.name, force=arguments.force)
    print(f"target {arguments.name} is removed")
    return EXIT_DONE


def _document(target: Target, contents: Contents | None) -> dict[str, object]:
    document = target.to_json()
    document["builds"] = 0 if contents is None else contents.builds
    document["size"] = 0 if contents is None else contents.size
    return document


def _amount(contents: Contents | None) -> str:
    from bdcs.domain.amounts import size_text

    builds, size = (0, 0) if contents is None else (contents.builds, contents.size)
    return f"{builds:>6} packages  {size_text(size):>9}"


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2))
