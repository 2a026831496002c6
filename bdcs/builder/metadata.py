# SPDX-License-Identifier: GPL-2.0-or-later
"""Making metadata of ebuilds that have none: Portage's egencache, in a throw-away root, without network.

Ebuilds run as they are read, so all of it happens in the sandbox, also looking at what came of it: a link
that an ebuild put in the place of an entry leads nowhere else. One repository at a time, so that none can say
anything of another's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bdcs.builder import portage_config, process
from bdcs.builder.building import ATTEMPTS, Workshop, group_prefix, own_user, places_in, sandbox_of
from bdcs.builder.collector import BuilderAPI
from bdcs.builder.limits import control_group, resource_limits
from bdcs.builder.root import throw_away_root
from bdcs.errors import BuildRootUnusable
from gentwoo_client.errors import CollectorRefused, GentwooError
from gentwoo_client.wire import limits
from gentwoo_client.wire.build_messages import EbuildWanted, MadeEntry, MetadataMade, RepositoryWanted
from gentwoo_client.wire.cpv import split_cpv

log = logging.getLogger(__name__)

INTERVAL: Final = 300.0  # seconds between two questions what is wanted
UNANSWERED: Final = 10.0  # … where the collector does not say: it is away, or has not approved us yet
TIME: Final = 3600.0  # seconds that one repository may take
VAIN: Final = 6 * 3600.0
"""Seconds for which nothing is tried again of which nothing came: broken ebuilds, or none that are here."""
_MOST_OUTPUT: Final = 64 << 20  # bytes that are read of what came of it
_ENTER: Final = 'place=$(portageq get_repo_path "$1" "$2") && cd "$place" || exit 3; shift 2; '
"""Shell that enters a repository: EROOT and its name are the first two arguments."""
_SHOW: Final = (
    "mark=$1; shift; cd metadata/md5-cache || exit 3; "
    'for f; do if [ -f "$f" ]; then echo "$mark $f"; cat "$f"; fi; done'
)


@dataclass(frozen=True, slots=True)
class MetadataMaker:
    """Asks the collector what it wants, and makes it."""

    workshop: Workshop
    calls: BuilderAPI
    _vain: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """Repository, CPV and MD5 of ebuilds that were tried, and until when that is remembered."""

    async def run(self) -> None:
        """Make what is wanted until cancelled."""
        while True:
            pause = await self.look()
            await asyncio.sleep(pause)

    async def look(self) -> float:
        """Make what is wanted now; return after how many seconds to ask again."""
        try:
            for repository in (await self.calls.metadata_wanted()).repositories:
                await self._serve(repository)
        except CollectorRefused as error:
            log.debug("no metadata is made: %s", error)
            return UNANSWERED
        except GentwooError as error:
            log.info("no metadata could be made: %s", error)
            return UNANSWERED
        except (BuildRootUnusable, OSError, TimeoutError) as error:
            log.warning("no metadata could be made: %s", error or "it took too long")
        return INTERVAL

    async def _serve(self, wanted: RepositoryWanted) -> None:
        name = wanted.repository
        now = time.monotonic()
        ebuilds = [
            one
            for one in wanted.ebuilds
            if split_cpv(one.cpv) is not None and self._vain.get((name, one.cpv, one.md5), 0.0) <= now
        ]
        if not ebuilds:
            return
        self._vain.update({(name, one.cpv, one.md5): now + VAIN for one in ebuilds})
        made = await make(self.workshop, name, ebuilds)
        log.info("repository %s: metadata of %d of %d ebuilds made", name, len(made), len(ebuilds))
        for some in _messages(name, made):
            taken = await self.calls.send_metadata(some)
            for refused in taken.refused:
                log.warning("repository %s: %s was not taken: %s", name, refused.cpv, refused.reason)


async def make(workshop: Workshop, repository: str, ebuilds: Sequence[EbuildWanted]) -> list[MadeEntry]:
    """Have Portage make entries of `ebuilds`; return those that came of it, of the very same ebuilds.

    Raises `BuildRootUnusable`, `TimeoutError`, `OSError`.
    """
    data, build_root = workshop.data, workshop.build_root
    name = f"metadata-{secrets.token_hex(4)}"
    directory = data / ATTEMPTS / name
    said: list[bytes] = []
    async with (
        asyncio.timeout(TIME),
        throw_away_root(build_root.source, directory, size=workshop.limits.disk) as root,
        control_group(f"{group_prefix(data)}{name}", workshop.limits) as group,
    ):
        places = places_in(build_root)
        environment = portage_config.environment(places, cflags="", make_jobs=1, user=own_user())
        sandbox = sandbox_of(workshop, root, None, has_network=False)

        async def run(argv: Sequence[str], output: list[bytes]) -> int:
            size = 0

            def heard(piece: bytes) -> None:
                nonlocal size
                size += len(piece)
                if size <= _MOST_OUTPUT:
                    output.append(piece)

            enter = group.enter() if group is not None else ()
            within = resource_limits(workshop.limits, has_group=group is not None)
            return await process.run(
                [*enter, *within, *root.enter(), *sandbox.command(argv, environment)], heard
            )

        atoms = sorted({"/".join(parts[:2]) for one in ebuilds if (parts := split_cpv(one.cpv))})
        where = ("sh", f"{places.eprefix}/", repository)
        command = f'exec egencache --update --tolerant --jobs={workshop.make_jobs} --repo="$@"'
        status = await run(["sh", "-c", _ENTER + command, *where, repository, *atoms], said)
        if status:
            text = b"".join(said).decode(errors="replace").strip()
            log.info("repository %s: egencache ended with %d: %s", repository, status, text[-500:])
        mark, shown = secrets.token_hex(16), list[bytes]()
        await run(["sh", "-c", _ENTER + _SHOW, *where, mark, *(one.cpv for one in ebuilds)], shown)
    return list(_entries(b"".join(shown).decode(errors="replace"), mark, ebuilds))


def _entries(text: str, mark: str, ebuilds: Sequence[EbuildWanted]) -> Iterator[MadeEntry]:
    """The entries in what was shown, each after a line with the mark that nobody inside knew before."""
    digests = {one.cpv: one.md5 for one in ebuilds}
    for part in text.split(f"{mark} ")[1:]:
        cpv, _, content = part.partition("\n")
        is_same = f"\n_md5_={digests.get(cpv)}\n" in f"\n{content}"
        if is_same and len(content) <= limits.ENTRY_LENGTH:
            yield MadeEntry(cpv=cpv, md5=digests[cpv], text=content)


def _messages(repository: str, made: Sequence[MadeEntry]) -> Iterator[MetadataMade]:
    """As many entries in each message as it may have, and no more bytes than half of what it may."""
    some: list[MadeEntry] = []
    size = 0
    for entry in made:
        length = len(entry.text.encode())
        if some and (len(some) == limits.ENTRIES_AT_ONCE or size + length > limits.METADATA_SIZE // 2):
            yield MetadataMade(repository=repository, entries=some)
            some, size = [], 0
        some.append(entry)
        size += length
    if some:
        yield MetadataMade(repository=repository, entries=some)
