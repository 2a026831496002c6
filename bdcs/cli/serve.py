# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs serve`."""

from __future__ import annotations

import argparse

from bdcs.domain.targets import EVERY_FITTING
from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings

HELP = "take records and serve pages, until SIGTERM or Ctrl-C"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to listen (default: 127.0.0.1:8642)")
    parser.add_argument(
        "--public-url", metavar="URL", help="the URL that machines use (default: the address listened on)"
    )
    parser.add_argument(
        "--builder",
        metavar="TARGET",
        nargs="?",
        const=EVERY_FITTING,
        action="append",
        help="run a builder for that target as well, or for all that Portage of this host would build for;"
        " may be repeated",
    )

    parser.add_argument(
        "--check", action="store_true", help="only see whether it could start, and say why not"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Serve."""
    from bdcs.privileges import become_owner
    from bdcs.server.running import check, serve

    if arguments.check:
        become_owner(settings.data)
        check(settings)
    else:
        serve(settings)
    return EXIT_DONE
