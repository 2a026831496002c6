# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the engine can be reached, as those find who connect to it."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator


class Contact:
    """Knows since when an engine across a network has been out of reach. Used by several threads."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._trying: dict[int, float] = {}
        self._lost_since: float | None = None

    @property
    def lost_for(self) -> float:
        """Seconds for which somebody has connected in vain, or waited for an answer; 0 where nobody has."""
        times, lost_since = [*self._trying.copy().values()], self._lost_since
        if lost_since is not None:  # for others, it may be None again by now
            times.append(lost_since)
        return time.monotonic() - min(times) if times else 0.0

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """In the block somebody connects; its end, unless by an error, is contact."""
        number, began = next(self._numbers), time.monotonic()
        self._trying[number] = began
        try:
            yield
        except BaseException:
            self.lost(began)
            raise
        else:
            self._lost_since = None
        finally:
            del self._trying[number]

    def lost(self, since: float) -> None:
        """Nothing was heard since `since`, monotonic, until it was given up; nor since an earlier loss."""
        before = self._lost_since
        self._lost_since = since if before is None else min(since, before)
