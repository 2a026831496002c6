# SPDX-License-Identifier: GPL-2.0-or-later
"""The logs of this machine, walked through."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from gentwoo_client.log.merges import Beginning, Happening
from gentwoo_client.prediction.history import Estimated, Walk
from gentwoo_client.prediction.merges import SOURCE, Circumstances, Merge

if TYPE_CHECKING:
    from gentwoo_client.log.tracker import LoggedChange

FORETOLD: Final = 1200
"""Happenings, the latest, in which merges are foretold in order to learn how right that is: the losses and
residuals of earlier ones have faded."""


def walk_through(
    walk: Walk, happenings: Iterable[Happening], *, foretell: bool = True
) -> Iterator[Estimated]:
    """Feed `walk`; yield what was expected of each merge that completed, as it did."""
    for happening in happenings:
        if isinstance(happening, Beginning):
            walk.began(merge_of(happening), happening.root, circumstances_of(happening), foretell=foretell)
        elif happening.event == "install":
            estimated = _completed(walk, happening)
            if estimated is not None:
                yield estimated
        elif happening.event == "failure":
            walk.failed(Merge(happening.category, happening.name, happening.version), happening.root or "/")


def walk_quickly(walk: Walk, happenings: Sequence[Happening]) -> None:
    """Feed `walk`, foretelling only in the latest part."""
    for _ in walk_through(walk, happenings[:-FORETOLD], foretell=False):
        pass
    for _ in walk_through(walk, happenings[-FORETOLD:]):
        pass


def merge_of(beginning: Beginning) -> Merge:
    """Return what begins, as far as is known then."""
    return Merge(beginning.category, beginning.name, beginning.version)


def circumstances_of(beginning: Beginning) -> Circumstances:
    """Return the circumstances of a merge that begins."""
    return Circumstances(beginning.at, beginning.at_work, beginning.jobs, beginning.size, beginning.place)


def moment(seconds: float) -> str:
    """Return Unix seconds as RFC 3339, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(seconds))


def _completed(walk: Walk, change: LoggedChange) -> Estimated | None:
    merge = Merge(
        change.category, change.name, change.version, change.install_type or SOURCE, change.replaces
    )
    return walk.completed(
        merge,
        change.root or "/",
        ended_at=change.at,
        seconds=change.time_delta,
        concurrency=change.concurrency,
    )
