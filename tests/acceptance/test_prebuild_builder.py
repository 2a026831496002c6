# SPDX-License-Identifier: GPL-2.0-or-later
"""What was built unasked is what machines ask for then: a real builder, real emerge, a real catalogue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.binhost import Taker, running_binhost
from tests.builders import running_builder
from tests.builds import TARGET, Wisher
from tests.ebuild_repositories import make_cache
from tests.waiting import until
from tests.workshops import specification

pytestmark = [pytest.mark.timeout(400)]


def test_the_next_version_is_there_before_anybody_asks(tmp_path: Path) -> None:
    """With the flags that were asked for, and a new one as the ebuild has it."""
    with running_binhost(tmp_path / "binhost", new_versions=0) as binhost:
        binhost.add_target(TARGET)
        bdcs = binhost.collector.bdcs
        machine = Taker.create(tmp_path / "world", binhost.verify_home)
        machine.world.ebuild("app-misc/alpha-1.0", iuse="one +two")
        make_cache(machine.world)
        bdcs("repository", "add", "gentoo", "--location", str(machine.world.repository))
        bdcs("repository", "sync", "gentoo")
        wisher = Wisher(binhost.collector.url)
        wisher.register()
        with running_builder(binhost, machine.world, tmp_path / "builder", TARGET) as builder:
            asked = wisher.ask(specification("app-misc/alpha-1.0", iuse="one +two", use=["one"]))
            until(
                lambda: wisher.state(asked["id"])["state"] == "published",
                180,
                what=f"the first version: {builder.output}",
            )
            assert bdcs("prebuild", "--json").stdout == ""
            machine.world.ebuild("app-misc/alpha-2.0", iuse="one +two +three")
            make_cache(machine.world)
            bdcs("repository", "sync", "gentoo")
            (found,) = map(json.loads, bdcs("prebuild", "--json").stdout.splitlines())
            assert (found["cpv"], found["use"], found["machines"]) == (
                "app-misc/alpha-2.0",
                ["one", "three"],
                1,
            )
            assert "app-misc/alpha-2.0 for amd64: queued" in bdcs("prebuild", "--queue").stdout
            assert bdcs("prebuild", "--json").stdout == "", "it is on its way, or there"
            wished = specification("app-misc/alpha-2.0", iuse="one +two +three", use=["one", "three"])
            until(
                lambda: wisher.ask(wished, commit=False)["packages"][0]["answer"] == "published",
                180,
                what=f"the second version: {builder.output}",
            )
            assert builder.stop() == 0, builder.output
        machine.use(binhost.url(TARGET), FEATURES="binpkg-request-signature")
        machine.emerge("--getbinpkgonly", "app-misc/alpha", USE="one -two three")
        assert machine.world.is_installed("app-misc/alpha-2.0")
