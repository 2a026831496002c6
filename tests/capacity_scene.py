# SPDX-License-Identifier: GPL-2.0-or-later
"""A target of its own at a real collector, with a pool, who asks, and builders made by hand.

scene = PoolScene.create(collector, machine, "t1", "asg:group?max=4")
scene.ask(3)
scene.autoscale()["start"]               # one round of `bdcs autoscale --once`, in this process
"""

import contextlib
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bdcs.cli import autoscale, command_parser
from bdcs.domain.capacity_pools import pool
from bdcs.services import builders, targets
from bdcs.settings import Settings
from bdcs.store.engine import SQLITE_NAME, create_writer
from bdcs.store.store import transaction
from tests.builds import HandBuilder, Wisher, specification
from tests.processes import Collector
from tests.shelf import Shelf


@dataclass
class PoolScene:
    """The target, and who takes part."""

    collector: Collector
    machine: Wisher
    target: str
    url: str
    """Of the pool's engine, without limits."""
    query: str = "max=4&startup=0&idle=0"

    @classmethod
    def create(cls, collector: Collector, machine: Wisher, target: str, url: str) -> Self:
        """Make the target."""
        shelf = Shelf(collector.data)
        shelf.add_target(target, signatures="optional")
        shelf.engine.dispose()
        return cls(collector, machine, target, url)

    def word(self, query: str) -> str:
        """The pool, as the setting has it."""
        return f"{self.target}={self.url}{'&' if '?' in self.url else '?'}{query}"

    def settings(self, query: str = "") -> Settings:
        """With a minute of patience."""
        word = self.word(query or self.query)
        return Settings(data=self.collector.data, capacity=(pool(word),), capacity_wait=1)

    def autoscale(self, *words: str, query: str = "") -> dict[str, Any]:
        """Do one round; return the exit code and what it says of the pool."""
        arguments = command_parser("autoscale", autoscale).parse_args(["--json", *(words or ("--once",))])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = autoscale.run(arguments, self.settings(query))
        (line,) = printed.getvalue().splitlines()
        return {"code": code, **json.loads(line)}

    def options(self, place: Path, query: str = "") -> list[str]:
        """The same for a process."""
        config = place / "bdcs.toml"
        config.write_text(f'capacity = ["{self.word(query or self.query)}"]\n')
        return ["--config", str(config), "--data", str(self.collector.data)]

    def ask(self, number: int) -> dict[str, Any]:
        """Have so many packages asked for."""
        some = [specification(f"app-misc/p{n}-1.0", target=self.target) for n in range(1, number + 1)]
        return self.machine.ask(*some, target=self.target)

    def builder(self, name: str) -> HandBuilder:
        """One that may build, and was not heard of yet."""
        builder = HandBuilder(self.collector.url, name=name)
        assert builder.register().status == 201
        writer = create_writer(self.collector.data / SQLITE_NAME)
        with transaction(writer) as connection:
            target = targets.require(connection, self.target)
            builders.approve(connection, target, builder.machine, now=time.time())
        writer.dispose()
        return builder

    def names(self, *names: str) -> list[str]:
        """Names that no other scene's builders have."""
        return [f"{self.target}-{name}" for name in names]

    def claim(self, builder: HandBuilder) -> dict[str, Any] | None:
        """Have the builder take the next job, if there is one for it."""
        return builder.claim(self.target)
