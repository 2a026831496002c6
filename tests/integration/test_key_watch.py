# SPDX-License-Identifier: GPL-2.0-or-later
"""What the signer's keys are is told by the collector soon, and also while the signer is down."""

from pathlib import Path

from tests.peer import request
from tests.processes import Collector
from tests.signing import running_signer, short_directory
from tests.waiting import until


def told(collector: Collector) -> list[tuple[str, str]]:
    """Fingerprint and state of each key that is told of."""
    keys = request(collector.url, "GET", "/binhost/keys.json").document["keys"]
    return [(key["fingerprint"], key["state"]) for key in keys]


def test_new_keys_are_told_of_and_stay(tmp_path: Path) -> None:
    with short_directory() as directory, running_signer(directory) as signer:
        first = signer.create_key()
        (tmp_path / "bdcs.toml").write_text(f'signer = "{signer.client.path}"\n')
        with Collector(tmp_path, options=("--config", str(tmp_path / "bdcs.toml"))) as collector:
            collector.bdcs(
                "target", "add", "amd64", "--chost=x86_64-pc-linux-gnu", "--profile=default", "--cflags=-O2"
            )
            assert until(lambda: told(collector)) == [(first, "active")]
            second = signer.create_key()
            until(lambda: (second, "active") in told(collector))
            target = request(collector.url, "GET", "/v1/targets/amd64").document["keys"]
            assert target[0]["fingerprint"] == second
            before = told(collector)
            assert request(collector.url, "GET", f"/binhost/keys/{first}.asc").status == 200
            signer.stop()
            assert collector.stop() == 0
            collector.start()
            assert told(collector) == before
