# SPDX-License-Identifier: GPL-2.0-or-later
"""The emerge that is at work: what of its list is done, what it does now, and what is still to come.

The log says what began; Portage's `mtimedb` holds the rest of the list, what is being merged included. Where
that cannot be read, or is of another emerge, only how many are to come is known.
"""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

from gentwoo_client.log.merges import Beginning, MergeReader
from gentwoo_client.prediction.merges import BINARY, SOURCE, Merge
from gentwoo_client.wire.cpv import split_cpv

_LARGEST: Final = 16 << 20  # bytes of mtimedb


class Running(NamedTuple):
    """A merge at work, or (`beginning` None) one to come."""

    merge: Merge
    root: str
    beginning: Beginning | None


class RunningList(NamedTuple):
    """What emerge still has to do."""

    merges: tuple[Running, ...]
    """Those at work first, then those to come, in the order of the list."""
    unnamed: int
    """How many more there are of which nothing is known."""
    done: int
    size: int
    jobs: int


def running_list(reader: MergeReader, eprefix: str) -> RunningList | None:
    """Return what is being done, going by the log that `reader` has read; None where nothing is."""
    beginnings = reader.running()
    if not beginnings or _is_surely_gone(beginnings):
        return None
    newest = max(beginnings, key=lambda each: each.at)
    listed = _resume_list(f"{eprefix}/var/cache/edb/mtimedb")
    kinds = {(each.merge.cp, each.merge.version, each.root): each.merge.kind for each in listed}
    at_work = [
        Running(
            merge=_merge_of(beginning, kinds.get(_key(beginning), SOURCE)),
            root=beginning.root,
            beginning=beginning,
        )
        for beginning in beginnings
    ]
    begun = {_key(beginning) for beginning in beginnings}
    to_come = [each for each in listed if (each.merge.cp, each.merge.version, each.root) not in begun]
    left = max(0, newest.size - newest.place)
    if len(to_come) < len(listed):
        left = len(to_come)  # it is this emerge's list
    else:
        to_come = []
    return RunningList(
        merges=(*at_work, *to_come),
        unnamed=left - len(to_come),
        done=max(0, newest.size - left - len(at_work)),
        size=max(newest.size, left + len(at_work)),
        jobs=newest.jobs,
    )


def boot_time() -> int:
    """Return when this machine booted, Unix seconds; 0 where that is not told."""
    try:
        with open("/proc/stat", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("btime "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def emerge_processes() -> list[int] | None:
    """Return the processes that are an emerge; None where others' processes cannot be seen."""
    try:
        with open("/proc/1/cmdline", "rb") as file:
            file.read(1)
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return None
    return [pid for pid in pids if _is_emerge(pid)]


def _is_emerge(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).split(b"\0")
    except OSError:
        return False
    return any(os.path.basename(word) == b"emerge" for word in words[:4])


def _is_surely_gone(beginnings: list[Beginning]) -> bool:
    """Whether what the log holds open was killed without a word."""
    if max(each.at for each in beginnings) < boot_time():
        return True
    return emerge_processes() == []


def _key(beginning: Beginning) -> tuple[str, str, str]:
    return f"{beginning.category}/{beginning.name}", beginning.version, beginning.root


def _merge_of(beginning: Beginning, kind: str) -> Merge:
    return Merge(beginning.category, beginning.name, beginning.version, kind)


def _resume_list(path: str) -> list[Running]:
    """Return what `mtimedb` says is still to be merged: `[type, root, cpv, action]` each."""
    import json

    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(_LARGEST))
        entries = document["resume"]["mergelist"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    if not isinstance(entries, list):
        return []
    found = (_of_entry(entry) for entry in entries)
    return [each for each in found if each is not None]


def _of_entry(entry: Any) -> Running | None:
    if not isinstance(entry, list) or len(entry) < 4 or entry[3] != "merge":
        return None
    kind, root, cpv = entry[:3]
    parts = split_cpv(cpv) if isinstance(cpv, str) else None
    if parts is None or not isinstance(root, str):
        return None
    merge = Merge(*parts, BINARY if kind == "binary" else SOURCE)
    return Running(merge=merge, root=root, beginning=None)
