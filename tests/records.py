# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test expects of records, written as briefly as it is meant."""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.world import package_name

COMPARED = ("event", "category", "name", "version", "install_type", "cause", "replaces")

Expected = dict[str, Any]


def install(cpv: str, install_type: str = "source", *, replaces: str | None = None) -> Expected:
    """An install of `cpv`, `category/name-version`."""
    return {**_package(cpv), "event": "install", "install_type": install_type, "replaces": replaces}


def uninstall(cpv: str, cause: str = "manual") -> Expected:
    return {**_package(cpv), "event": "uninstall", "cause": cause}


def failure(cpv: str, cause: str | None, install_type: str | None = "source") -> Expected:
    return {**_package(cpv), "event": "failure", "install_type": install_type, "cause": cause}


def replacement(old: str, new: str, install_type: str = "source") -> list[Expected]:
    """What an upgrade, downgrade or rebuild gives: the old one's end, then the new one's install."""
    replaces = _package(old)["version"]
    return [uninstall(old, "replaced"), install(new, install_type, replaces=replaces)]


def compared(records: Iterable[Mapping[str, Any]]) -> list[Expected]:
    """The part of real records that the functions above speak of."""
    return [{name: record[name] for name in COMPARED} for record in records]


def _package(cpv: str) -> Expected:
    category, pf = cpv.split("/")
    name = package_name(pf)
    version = pf[len(name) + 1 :]
    fields: Expected = dict.fromkeys(COMPARED)
    return {**fields, "category": category, "name": name, "version": version}
