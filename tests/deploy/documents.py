# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of deploy/ have in common: YAML, settings, images."""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from bdcs.cli import COMMANDS, command_parser
from bdcs.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from dev.places import ROOT

DEPLOY: Final = ROOT / "deploy"
SECRET: Final = "_FILE"
PINNED: Final = re.compile(
    r"[a-z0-9.-]+(?::\d+)?/[a-z0-9._/-]+:(?!latest$)[A-Za-z0-9][A-Za-z0-9._-]*\d[A-Za-z0-9._-]*"
)
"""Registry, name, and a tag with a number in it."""
EXAMPLES: Final = {
    "BDCS_BUS": "amqp://gentwoo:secret@rabbitmq/%2F",
    "BDCS_STORE": "postgresql://gentwoo@postgresql/gentwoo",
}
"""What the files that hold secrets hold, or something like it."""


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings that `bdcs` finds there; what `NAME_FILE` stands for is known. Raises what bdcs raises."""
    given = {
        name.removesuffix(SECRET) if name.endswith(SECRET) else name: (
            EXAMPLES[name.removesuffix(SECRET)] if name.endswith(SECRET) else value
        )
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    return load_settings({}, given, Path("/dev/null"))


def is_pinned(image: str) -> bool:
    """Whether an image is named in full, and not by a tag that moves by itself."""
    return PINNED.fullmatch(image) is not None


def entrypoint_secrets() -> set[str]:
    """The names whose values the images' entry point reads from files."""
    text = (DEPLOY / "container/entrypoint.sh").read_text()
    found = re.search(r"^for name in ([A-Z_ ]+); do$", text, re.MULTILINE)
    assert found
    return set(found[1].split())


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What `bdcs` makes of these words behind its name. Raises `SystemExit` where it takes them not."""
    name = words[0]
    return command_parser(name, import_module(COMMANDS[name])).parse_args(list(words[1:]))


def strings(value: object) -> Iterator[str]:
    """Every text in a document, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from strings(key)
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
