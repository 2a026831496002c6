# SPDX-License-Identifier: GPL-2.0-or-later
"""The log as beginnings and ends of merges, with the circumstances in which each began.

Changes alone say when a merge ended, how long it took and what ran beside it on average. Who foretells needs
what was known at its *start*: how many were at work then, and of what list of which emerge it was a part.
Pure, as the tracker that does the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from gentwoo_client.log import parser
from gentwoo_client.log.files import in_order_of_time, read_blocks
from gentwoo_client.log.tracker import LoggedChange, MergeTracker

if TYPE_CHECKING:
    from gentwoo_client.log.parser import Package
    from gentwoo_client.log.tracker import _Item, _Run

MOST_JOBS: Final = 10_000
"""Nobody has as many; with a number of hundreds of digits nothing could be calculated."""


class Beginning(NamedTuple):
    """` >>> emerge (N of M) CPV to ROOT`."""

    category: str
    name: str
    version: str
    root: str
    at: int
    """Unix seconds."""
    at_work: int
    """Merges at work on the whole machine from then on, this one included."""
    place: int
    """N."""
    size: int
    """M, how many its list has."""
    jobs: int
    """What `--jobs` of its emerge allows: 1 without the option, 0 without limit."""


Happening: TypeAlias = Beginning | LoggedChange


class MergeReader(MergeTracker):
    """A tracker that tells beginnings as well: `feed` returns both, in the order of the log."""

    def read(self, lines: bytes) -> list[Happening]:
        """Take whole lines and return what they tell."""
        return self.feed(lines, locate=False)  # type: ignore[return-value]  # beginnings stand between changes

    def running(self) -> list[Beginning]:
        """Return the merges that are at work, oldest first, each with how many are at work now."""
        items = sorted((item for item in self._items() if item.at_work), key=lambda item: item.start)
        return [self._beginning(item) for item in items]

    @property
    def is_open(self) -> bool:
        """Whether an emerge began of which the end was not logged, also between two of its merges."""
        return bool(self._runs)

    def _start(self, at: int, place: bytes, cpv: bytes, package: Package, root: bytes) -> _Item:
        item = super()._start(at, place, cpv, package, root)
        self._tell_beginning(self._beginning(item), len(self._changes))
        return item

    def _whole(self, package: Package, fields: tuple[Any, ...]) -> bool:
        before = len(self._changes)
        if not super()._whole(package, fields):
            return False
        at, place, _, root = fields[:4]
        n, m = parser.PLACES[place]
        self._tell_beginning(
            Beginning(
                package.category, package.name, package.version, parser.ROOTS[root],
                int(at), 1, n, m, jobs_of(self._runs[0]),
            ),
            before,
        )  # fmt: skip
        return True

    def _beginning(self, item: _Item) -> Beginning:
        category, name, version, _ = item.package
        n, m = parser.PLACES[item.place]
        return Beginning(
            category, name, version, parser.ROOTS[item.root],
            item.start, self._at_work, n, m, jobs_of(item.run),
        )  # fmt: skip

    def _tell_beginning(self, beginning: Beginning, position: int) -> None:
        self._changes.insert(position, beginning)  # type: ignore[arg-type]  # see `read`


def jobs_of(run: _Run) -> int:
    """Return what `--jobs` of the run's command allows: 1 where it has none, 0 without limit."""
    if run.command is None:
        return 1
    return min(parser.jobs(run.command), MOST_JOBS)


def read_happenings(paths: Iterable[str]) -> Iterator[Happening]:
    """Yield what logs tell, in order of time. Raises OSError."""
    reader = MergeReader()
    logs = list(paths)
    for path in in_order_of_time(logs) if len(logs) > 1 else logs:
        for block in read_blocks(path):
            yield from reader.read(block)
