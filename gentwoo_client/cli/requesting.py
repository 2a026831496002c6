# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands that ask for builds have in common: options, and install after waiting."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gentwoo_client.errors import DONE, FAILED, LATER
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.building.ordering import Mode
    from gentwoo_client.building.wanting import Wanted

ATOMS = "as emerge takes them: app-misc/hello, '=dev-lang/python-3.13*', @set"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what all of them know."""
    parser.add_argument(
        "--yes", action="store_true", help="never ask; agree to what is told to the collector"
    )
    add_non_interactive(parser)
    parser.add_argument("--retry", action="store_true", help="have built again what failed not long ago")


def add_non_interactive(parser: argparse.ArgumentParser) -> None:
    """Add what scripts say."""
    parser.add_argument(
        "--non-interactive",
        action="store_true",
        help="never ask; where something would have to be agreed to, stop and say so, unless --yes is given",
    )


def add_install_options(parser: argparse.ArgumentParser) -> None:
    """Add what those know that let emerge follow."""
    add_options(parser)
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="where something has to be built, ask for it and leave (exit code 75); the next gentwoo command"
        " tells when it is there",
    )


def order(
    arguments: argparse.Namespace, settings: Settings, wanted: Wanted, mode: Mode, *, installs: bool
) -> dict[str, Any]:
    """Have the state directory's owner ask the collector; see `building.ordering.carry_out`."""
    from gentwoo_client.building.ordering import Order, carry_out
    from gentwoo_client.privileges import do_as_owner

    wish = Order(
        wanted=wanted,
        mode=mode,
        yes=arguments.yes,
        non_interactive=arguments.non_interactive,
        retry=arguments.retry,
        installs=installs,
        quiet=getattr(arguments, "json", False),
        config=arguments.config,
    )
    return do_as_owner(settings.state_dir, lambda: carry_out(settings, wish))


def find(
    arguments: argparse.Namespace,
    settings: Settings,
    atoms: Sequence[str],
    *options: str,
    target: str | None = None,
    setup: bool = False,
) -> Wanted:
    """Return what `emerge OPTIONS ATOMS` would merge; see `building.wanting.find_wanted`.

    Where no binhost is set up because no target fits, one is proposed first, if somebody agrees.
    """
    from gentwoo_client.building.wanting import binhost_here, find_wanted
    from gentwoo_client.cli.proposing import where_none_fits

    if settings.state_dir.exists() and (target is None or setup) and binhost_here(settings) is None:
        where_none_fits(arguments, settings)
    return find_wanted(settings, atoms, *options, target=target, setup=setup)


def install(
    arguments: argparse.Namespace,
    settings: Settings,
    atoms: Sequence[str],
    *options: str,
    nothing: str,
) -> int:
    """Have what `emerge OPTIONS ATOMS` needs built, then run it; `nothing` is said where it needs nothing."""
    from gentwoo_client.building.emerging import check_may_merge, run_emerge
    from gentwoo_client.building.ordering import Mode, Outcome

    check_may_merge(settings)
    wanted = find(arguments, settings, atoms, *options, setup=True)
    if wanted.is_nothing:
        print(nothing)
        return DONE
    mode = Mode.LEAVE if arguments.no_wait else Mode.WAIT
    outcome = order(arguments, settings, wanted, mode, installs=True)["outcome"]
    if outcome == Outcome.DECLINED.value:
        print("Nothing was done.")
        return FAILED
    if outcome == Outcome.LEFT.value:
        return LATER
    return run_emerge(settings, ["--getbinpkg", "--ask=n", *options, "--", *atoms])
