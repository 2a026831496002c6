# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo search`: packages that the collector's ebuild repositories have."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, FAILED

if TYPE_CHECKING:
    import argparse

    from gentwoo_client.settings import Settings
    from gentwoo_client.wire.search import SearchAnswer

NAME = "search"
HELP = "find packages by name or by words of their description"

PAGE = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Find packages in the ebuild repositories that the collector knows: by name, by the beginning of one,"
        " or by words of the description. The likeliest come first. Nothing about this machine is sent."
    )
    parser.add_argument("words", metavar="WORDS", nargs="+", help="what to look for")
    parser.add_argument(
        "--limit", metavar="N", type=int, default=PAGE, help=f"how many at most (default: {PAGE})"
    )
    parser.add_argument("--collector", metavar="URL", help="ask this collector")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = (
        "examples:\n  gentwoo search vim\n  gentwoo search dev-libs/open\n  gentwoo search pdf viewer"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print what is found; exit code 1 where that is nothing."""
    from gentwoo_client.binhost.choosing import collector_of
    from gentwoo_client.errors import UsageError
    from gentwoo_client.wire import limits

    query = " ".join(" ".join(arguments.words).split())
    if not 1 <= arguments.limit <= limits.SEARCH_PAGE:
        raise UsageError(f"--limit: {arguments.limit} is no number from 1 to {limits.SEARCH_PAGE}")
    if not query or len(query) > limits.SEARCH_LENGTH or not query.isprintable():
        raise UsageError(f"that is no line of at most {limits.SEARCH_LENGTH} characters to look for")
    answer = asyncio.run(_search(collector_of(settings), query, arguments.limit))
    if arguments.json:
        print(json.dumps(answer.to_json()))
    else:
        _print(answer, query)
    return DONE if answer.packages else FAILED


async def _search(collector: str, query: str, limit: int) -> SearchAnswer:
    from gentwoo_client.collector_api import PublicAPI

    async with PublicAPI(collector) as api:
        return await api.search(query, limit=limit)


def _print(answer: SearchAnswer, query: str) -> None:
    for package in answer.packages:
        print(f"{package.category}/{package.name}-{package.newest}")
        if package.description:
            print(f"    {package.description}")
    if answer.after is not None:
        print("There are more; --limit shows them, more words leave fewer.", file=sys.stderr)
    if not answer.packages:
        print(f"gentwoo: no package is called {query!r} or described so", file=sys.stderr)
        if answer.nearest:
            print(f"gentwoo: similar names: {', '.join(answer.nearest)}", file=sys.stderr)
