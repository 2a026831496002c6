# SPDX-License-Identifier: GPL-2.0-or-later
"""What is remembered of requests that nobody waits for, and sets of packages."""

import multiprocessing
import os
from pathlib import Path

import pytest

from gentwoo_client.building import notifications
from gentwoo_client.building.notifications import Awaited, Notification, changing, read, take_news
from gentwoo_client.building.sets import Sets, atoms_in, check_atom, check_name, with_atoms, without_atoms
from gentwoo_client.errors import GentwooError, UsageError


def awaited(number: str) -> Awaited:
    return Awaited(id=number, collector="http://c", target="amd64", atoms=("app-misc/alpha",), since=1)


def end(directory: Path, number: str, text: str) -> None:
    with changing(directory) as memory:
        memory.ended(
            awaited(number),
            Notification(id=number, atoms=("app-misc/alpha",), state="published", at=2, text=text),
        )


# Notifications


def test_what_ended_is_told_once_and_stays_listed(tmp_path: Path) -> None:
    with changing(tmp_path) as memory:
        memory.await_(awaited("one"))
    assert read(tmp_path).awaited == {"one": awaited("one")}
    assert not (tmp_path / notifications.NEWS).exists()
    end(tmp_path, "one", "alpha is there")
    assert read(tmp_path).awaited == {}
    assert take_news(tmp_path) == ["alpha is there"]
    assert take_news(tmp_path) == []
    assert [entry.text for entry in read(tmp_path).notifications] == ["alpha is there"]


def test_news_gather_until_they_are_told(tmp_path: Path) -> None:
    end(tmp_path, "one", "first")
    end(tmp_path, "two", "second")
    assert take_news(tmp_path) == ["first", "second"]
    end(tmp_path, "three", "third")
    assert take_news(tmp_path) == ["third"]


def test_what_was_not_changed_is_not_written(tmp_path: Path) -> None:
    with changing(tmp_path):
        pass
    assert not (tmp_path / notifications.FILE).exists()


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with changing(tmp_path) as memory:
            memory.await_(awaited("one"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read(tmp_path).awaited == {}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"agreed": 3}', '{"agreed":[],"awaited":[{}],"notifications":[]}']
)
def test_a_damaged_file_is_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / notifications.FILE).write_text(content)
    assert read(tmp_path) == notifications.Memory()


def test_news_are_read_from_nothing_but_a_plain_file(tmp_path: Path) -> None:
    """Root may read them in a directory of somebody else."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    (tmp_path / notifications.NEWS).symlink_to(secret)
    assert take_news(tmp_path) == []
    os.mkfifo(tmp_path / notifications.NEWS)
    assert take_news(tmp_path) == []
    assert secret.read_text() == "hunter2\n"


def test_news_cannot_command_the_terminal(tmp_path: Path) -> None:
    (tmp_path / notifications.NEWS).write_text("\x1b[2Jnothing\n")
    assert take_news(tmp_path) == ["[2Jnothing"]


def test_changes_of_several_processes_do_not_lose_each_other(tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=_await_many, args=(tmp_path, name))
        for name in "abcd"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(read(tmp_path).awaited) == 40


def _await_many(directory: Path, name: str) -> None:
    for number in range(10):
        with changing(directory) as memory:
            memory.await_(awaited(f"{name}{number}"))


# Sets


def test_editing_a_set_keeps_comments_and_order(tmp_path: Path) -> None:
    text = "# mine\napp-misc/alpha  # the first\n\n>=app-misc/beta-2"
    assert atoms_in(text) == ["app-misc/alpha", ">=app-misc/beta-2"]
    longer = with_atoms(text, ["app-misc/gamma", "app-misc/alpha", "app-misc/gamma"])
    assert longer == f"{text}\napp-misc/gamma\n"
    assert without_atoms(longer, ["app-misc/alpha"]) == "# mine\n\n>=app-misc/beta-2\napp-misc/gamma\n"
    with pytest.raises(UsageError, match="not in the set"):
        without_atoms(text, ["app-misc/delta"])


def test_sets_are_files(tmp_path: Path) -> None:
    sets = Sets(tmp_path)
    assert sets.names() == []
    sets.create("desktop", ["app-misc/alpha"])
    assert (tmp_path / "sets/desktop").read_text() == "app-misc/alpha\n"
    assert (tmp_path / "sets/desktop").stat().st_mode & 0o777 == 0o644
    with pytest.raises(GentwooError, match="already"):
        sets.create("desktop", [])
    with pytest.raises(GentwooError, match="no set other"):
        sets.read("other")
    sets.write("@desktop", "")
    assert sets.names() == ["desktop"]


@pytest.mark.parametrize("name", ["world", "@system", "selected", "../etc", "a/b", "", ".hidden", "back~"])
def test_names_that_a_set_must_not_have(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


@pytest.mark.parametrize("text", ["alpha", "!app-misc/alpha", "app-misc/", "--all", "/etc/passwd", "@../x"])
def test_atoms_that_a_set_must_not_have(text: str) -> None:
    with pytest.raises(UsageError):
        check_atom(text)


@pytest.mark.parametrize("text", ["app-misc/alpha", ">=app-misc/alpha-1:2[gtk]", "@other"])
def test_atoms_that_a_set_may_have(text: str) -> None:
    assert check_atom(text) == text
