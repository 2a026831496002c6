# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipes of images: there is no engine here to build them with, so they are read, for what that tells."""

import fnmatch
import os
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev.places import CONTAINER_LOCK, LOCK, ROOT
from tests.deploy.documents import DEPLOY, entrypoint_secrets, is_pinned
from tests.house.sources import committed
from tests.processes import run

pytestmark = pytest.mark.engines

RECIPES = ("Containerfile", "Containerfile.builder")
DIRECTORY = DEPLOY / "container"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of a recipe."""

    name: str
    words: tuple[str, ...]

    @property
    def options(self) -> dict[str, str]:
        """Those that begin with two dashes."""
        return dict(word[2:].partition("=")[::2] for word in self.words if word.startswith("--"))

    @property
    def arguments(self) -> tuple[str, ...]:
        """All others."""
        return tuple(word for word in self.words if not word.startswith("--"))


def instructions(text: str) -> Iterator[Instruction]:
    """Those of a recipe, in order, of all its stages."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        if name:
            words = (rest,) if name == "RUN" or rest.startswith("[") else tuple(shlex.split(rest))
            yield Instruction(name, words)


def problems(text: str) -> Iterator[str]:
    """What must not be in a recipe."""
    found = list(instructions(text))
    stages = {one.words[2] for one in found if one.name == "FROM" and len(one.words) == 3}
    for one in found:
        if one.name == "FROM" and not is_pinned(one.words[0]):
            yield f"{one.words[0]} is not pinned"
        if one.name == "COPY":
            yield from _copy_problems(one, stages)
        if one.name == "ADD":
            yield "ADD may fetch anything"
        if one.name in ("ENV", "ARG") and re.search("(?i)password|secret|token|_key", " ".join(one.words)):
            yield f"{one.name} holds a secret"
        if one.name == "RUN" and (installs := re.findall(r"pip install [^&]*", one.words[0])):
            for install in installs:
                if "--require-hashes" not in install and "--no-index" not in install:
                    yield f"not locked: {install}"
    last = found[max(index for index, one in enumerate(found) if one.name == "FROM") :]
    if not any(one.name == "USER" for one in last):
        yield "no USER"
    entries = [one for one in last if one.name == "ENTRYPOINT"]
    targets = {one.arguments[-1] for one in last if one.name == "COPY"}
    if not entries or not any(f'"{target}"' in entries[-1].words[0] for target in targets):
        yield "the entry point is not in the image"


def _copy_problems(one: Instruction, stages: set[str]) -> Iterator[str]:
    if "from" in one.options:
        if one.options["from"] not in stages:
            yield f"no stage {one.options['from']}"
        return
    for source in one.arguments[:-1]:
        path = ROOT / source
        if not any(file == path or file.is_relative_to(path) for file in committed()):
            yield f"{source} is not in the tree"
        elif not _is_sent(source):
            yield f"{source} is left out by .containerignore"


def _is_sent(source: str) -> bool:
    """Whether an engine gets it: everything is ignored but what a later line takes back."""
    lines = [
        line for line in (DIRECTORY / ".containerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert lines[0] == "**"
    taken = [line[1:] for line in lines if line.startswith("!")]
    return any(
        fnmatch.fnmatch(source, line.removesuffix("/**"))
        or line == f"{source}/**"
        or (line.endswith("/**") and source.startswith(line[:-2]))
        for line in taken
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_is_amiss(recipe: str) -> None:
    assert list(problems((DIRECTORY / recipe).read_text())) == []


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("python:3.13.1-slim-bookworm", "python:latest", "is not pinned"),
        ("COPY gentwoo_client", "COPY gentwoo_cleint", "is not in the tree"),
        ("COPY bdcs ./bdcs", "COPY docs ./docs", "left out by .containerignore"),
        ("USER 10001:10001", "", "no USER"),
        ("COPY --from=build", "COPY --from=biuld", "no stage"),
        ("/usr/local/bin/entrypoint\n", "/usr/local/bin/enter\n", "entry point"),
        ("--require-hashes --only-binary", "--only-binary", "not locked"),
        ("EXPOSE 8642", "ENV PGPASSWORD=x", "holds a secret"),
    ],
)
def test_what_is_amiss_is_found(before: str, after: str, problem: str) -> None:
    text = (DIRECTORY / "Containerfile").read_text()
    assert before in text
    assert any(problem in found for found in problems(text.replace(before, after)))


def test_the_collectors_image_runs_as_a_user_of_its_own_by_number() -> None:
    found = [one for one in instructions((DIRECTORY / "Containerfile").read_text()) if one.name == "USER"]
    assert [one.words for one in found] == [("10001:10001",)]


def test_the_lock_is_part_of_the_one_lock_and_has_no_host() -> None:
    def entries(path: Path) -> dict[str, str]:
        text = re.sub(r"^\s+#.*\n", "", path.read_text(), flags=re.MULTILINE)
        found = re.findall(r"^(\S+==.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        return {entry.split("==")[0]: entry for entry in found}

    ours, all_of_them = entries(CONTAINER_LOCK), entries(LOCK)
    assert {name: all_of_them.get(name) for name in ours} == ours
    assert {"aiohttp", "psycopg", "aio-pika", "boto3", "alembic"} <= ours.keys()
    assert not {"pytest", "moto", "ruff"} & ours.keys()
    assert "://" not in CONTAINER_LOCK.read_text()
    awk = re.search(r"awk '(.*?)' everything.lock", (DIRECTORY / "Containerfile").read_text())
    assert awk
    assert run(["awk", awk[1], LOCK], check=True).stdout.startswith("setuptools==")


def test_the_entry_point_reads_secrets_and_becomes_the_command(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("it's $HOME\n")
    entry = DIRECTORY / "entrypoint.sh"
    assert stat.S_IMODE(entry.stat().st_mode) & 0o111
    given = {f"{name}_FILE": str(secret) for name in entrypoint_secrets()}
    done = run([entry, "env", "-0"], env={**os.environ, **given}, check=True)
    seen = dict(line.partition("=")[::2] for line in done.stdout.split("\0") if line)
    assert {seen.get(name) for name in entrypoint_secrets()} == {"it's $HOME"}
    assert not any(name in seen for name in given)
    assert run([entry, "sh", "-c", "exit 7"]).returncode == 7
    missing = {"PGPASSWORD_FILE": str(tmp_path / "missing")}
    assert run([entry, "true"], env={**os.environ, **missing}).returncode != 0


def test_who_runs_bdcs_in_a_container_has_the_secrets(tmp_path: Path) -> None:
    """`docker-compose exec` and `kubectl exec` pass the image's entry point by."""
    text = (DIRECTORY / "Containerfile").read_text()
    path = re.search(r"^ENV PATH=(\S+)", text, re.MULTILINE)
    script = re.search(r"printf '([^']+)' > (\S+)/bdcs", text)
    assert path
    assert script
    assert path[1].split(":")[0] == script[2]
    program, shown = tmp_path / "program", tmp_path / "shown"
    program.write_text(f'#!/bin/sh\necho "$PGPASSWORD" "$@" > {shown}\n')
    program.chmod(0o755)
    wrapper = tmp_path / "bdcs"
    wrapper.write_text(
        script[1]
        .replace("\\n", "\n")
        .replace("/usr/local/bin/entrypoint", str(DIRECTORY / "entrypoint.sh"))
        .replace("/opt/gentwoo/bin/bdcs", str(program))
    )
    wrapper.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("hidden\n")
    run([wrapper, "target", "list"], env={**os.environ, "PGPASSWORD_FILE": str(secret)}, check=True)
    assert shown.read_text() == "hidden target list\n"
