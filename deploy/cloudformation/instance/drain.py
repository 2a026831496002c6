# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends the builder of this instance before the instance ends, and tells its group when that is done.

EC2 tells an instance over its metadata: that its Auto Scaling group wants it gone (what is being built may
end, as long as the lifecycle hook and the unit allow), or that a spot instance is taken back in two minutes
(what is being built is given back after one, so that another builder begins with it).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Final

METADATA: Final = "http://169.254.169.254"
TOKEN_LASTS: Final = 300
PAUSE: Final = 5.0
"""Seconds from one look to the next, as AWS advises for spot instances."""
SPOT_PATIENCE: Final = 60.0
"""Seconds that what is being built has on a spot instance that is taken back."""
PATIENCE: Final = 20.0
"""Seconds that the metadata have to answer."""
UNIT: Final = "bdcs-builder.service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The instance's metadata, version 2: each look with a token."""

    url: str = METADATA

    def get(self, path: str) -> str | None:
        """Return what is at `path` below meta-data; None where nothing is. Raises OSError."""
        ask = urllib.request.Request(f"{self.url}/latest/api/token", method="PUT")
        ask.add_header("X-aws-ec2-metadata-token-ttl-seconds", str(TOKEN_LASTS))
        with urllib.request.urlopen(ask, timeout=PATIENCE) as answer:
            token = answer.read().decode()
        look = urllib.request.Request(f"{self.url}/latest/meta-data/{path}")
        look.add_header("X-aws-ec2-metadata-token", token)
        try:
            with urllib.request.urlopen(look, timeout=PATIENCE) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None


def reason(metadata: Metadata) -> str | None:
    """Return why the instance is about to end: `spot` or `group`; None where it is not. Raises OSError."""
    if metadata.get("spot/instance-action") is not None:
        return "spot"
    if metadata.get("autoscaling/target-lifecycle-state") == "Terminated":
        return "group"
    return None


def stop(why: str) -> None:
    """End the builder; returns when it has ended."""
    stopping = subprocess.Popen(["systemctl", "stop", UNIT])
    if why == "spot":
        try:
            stopping.wait(SPOT_PATIENCE)
        except subprocess.TimeoutExpired:
            # A second SIGTERM: what is being built is given back at once.
            subprocess.run(["systemctl", "kill", "--kill-whom=main", "--signal=TERM", UNIT], check=False)
    stopping.wait()


def tell(instance: str, group: str, hook: str) -> None:
    """Let the group end the instance now rather than when the hook's time is over."""
    command = ["aws", "autoscaling", "complete-lifecycle-action", "--lifecycle-action-result", "CONTINUE"]
    names = ["--auto-scaling-group-name", group, "--lifecycle-hook-name", hook, "--instance-id", instance]
    subprocess.run([*command, *names], check=True)


def watch(metadata: Metadata) -> str:
    """Return why the instance is about to end, once it is."""
    while True:
        try:
            why = reason(metadata)
        except OSError as error:
            print(f"metadata: {error}", file=sys.stderr)
            why = None
        if why is not None:
            return why
        time.sleep(PAUSE)


def main() -> int:
    """Wait for the end, then see to it."""
    metadata = Metadata(url=os.environ.get("GENTWOO_METADATA", METADATA))
    why = watch(metadata)
    print(f"leaving: {why}", file=sys.stderr)
    stop(why)
    if why == "group":
        instance = metadata.get("instance-id")
        assert instance is not None, "every instance has an id"
        tell(instance, os.environ["GENTWOO_GROUP"], os.environ["GENTWOO_HOOK"])
    while True:  # else systemd would start this anew, and it would see the same again
        time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
