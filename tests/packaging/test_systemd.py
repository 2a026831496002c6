# SPDX-License-Identifier: GPL-2.0-or-later
"""Our units under a real systemd that was booted for it (tests/packaging/probe.py does and sees it all)."""

import json
from pathlib import Path
from typing import Any

import pytest

from dev.places import ROOT
from tests.packaging.boot import boot
from tests.packaging.layers import Layers
from tests.packaging.traces import STRACE, Traces

pytestmark = [pytest.mark.timeout(1500)]


MEMORY_HIGH = 128 * 1024


@pytest.fixture(scope="module")
def layers(installed: Layers, work: Path) -> Layers:
    return installed.above(work / "systemd")


@pytest.fixture(scope="module")
def seen(layers: Layers) -> dict[str, Any]:
    """What the probe saw."""
    probe = (ROOT / "tests/packaging/probe.py").read_text().replace("@STRACE@", STRACE)
    said = boot(layers, probe, timeout=1200)
    result = layers.changes / "root/result.json"
    assert result.is_file(), said[-4000:]
    document: dict[str, Any] = json.loads(result.read_text())
    assert not [name for name in document if name.startswith("error in")], document
    return document


def succeeded(seen: dict[str, Any], name: str) -> bool:
    code, output = seen[name]
    assert code == 0, f"{name}: {output}\n" + "\n".join(
        f"{key}: {text}" for key, text in seen.items() if key.startswith("journal of")
    )
    return True


def test_registered_and_started(seen: dict[str, Any]) -> None:
    """`start` returns when the daemon has said that it is ready (Type=notify)."""
    assert all(succeeded(seen, name) for name in ("bdcs", "register", "enable"))
    assert seen["active"] == "active"


def test_it_is_nobody_and_can_do_nothing(seen: dict[str, Any]) -> None:
    assert seen["user"]
    assert set(seen["capabilities"]) == {"0000000000000000"}
    code, output = seen["writes the log"]
    assert code != 0
    assert "Read-only file system" in output
    assert seen["reads shadow"][0] != 0


def test_a_merge_arrives_and_the_clock_was_read(seen: dict[str, Any]) -> None:
    assert succeeded(seen, "emerge")
    assert len(seen["record"]) == 1
    may_read_clock = seen["adjtimex"] >= 0
    assert (seen["record"][0]["clock"] != "unknown") == may_read_clock


def test_it_needs_no_more_memory_than_it_may_have(seen: dict[str, Any]) -> None:
    """Daemon and child together, in KiB: no memory controller is here that would hold them to it."""
    unit = (ROOT / "systemd/gentwoo.service").read_text()
    assert f"MemoryHigh={MEMORY_HIGH // 1024}M" in unit
    assert 0 < seen["memory"] < MEMORY_HIGH


def test_it_opens_nothing_else_and_runs_nothing_but_itself(seen: dict[str, Any], layers: Layers) -> None:
    assert all(succeeded(seen, name) for name in ("traced", "traced stop"))
    assert seen["traced record"]
    traces = Traces.read(layers.changes / "root/traces")
    assert {"/var/log/emerge.log", "/var/lib/gentwoo/machine.key"} <= traces.opened
    assert traces.unexpected() == []
    assert traces.denied == ()
    assert {Path(program).name for program in traces.executed} <= {"gentwoo", "python3", "ldconfig"}


def test_a_killed_daemon_and_a_hung_one_are_started_again(seen: dict[str, Any]) -> None:
    assert seen["restarted"]
    assert seen["watchdog"]
    assert seen["watchdog result"]


def test_reload(seen: dict[str, Any]) -> None:
    assert succeeded(seen, "reload")
    assert seen["reloaded"]
    assert seen["same process"]


def test_a_bad_configuration_is_not_tried_again(seen: dict[str, Any]) -> None:
    assert seen["bad"][0] != 0
    assert seen["bad state"] == ["failed", "78", "0"]


def test_stop_also_of_a_deaf_daemon(seen: dict[str, Any]) -> None:
    assert succeeded(seen, "stop")
    assert seen["stopped"] == ["inactive", "success"]
    assert seen["slow stopped"][1] == 0


def test_periodic_mode(seen: dict[str, Any]) -> None:
    assert succeeded(seen, "push")
    assert seen["push result"] == "success"
    assert succeeded(seen, "timer")
    assert seen["next"] not in ("", "0")


def test_signer(seen: dict[str, Any]) -> None:
    assert all(succeeded(seen, name) for name in ("key", "signer", "keys"))
    assert seen["socket"]


def test_builder(seen: dict[str, Any]) -> None:
    """Its sandbox lets it make throw-away roots: it looks at one before it says that it is ready."""
    assert succeeded(seen, "builder")
    assert "bdcs admin builders approve" in str(seen["builder log"])
    assert succeeded(seen, "builder stop")


def test_collector_reloads_and_stops(seen: dict[str, Any]) -> None:
    assert all(succeeded(seen, name) for name in ("bdcs reload", "bdcs stop"))
    assert seen["bdcs stopped"] == ["inactive", "success"]
