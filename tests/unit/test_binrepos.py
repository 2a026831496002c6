# SPDX-License-Identifier: GPL-2.0-or-later
"""binrepos.conf: our section comes and goes, and everything else stays as it is, byte for byte."""

import configparser
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentwoo_client.binhost import binrepos
from gentwoo_client.binhost.binrepos import Credentials, Entry, Place
from gentwoo_client.binhost.portage_facts import profile_name
from gentwoo_client.errors import BinhostRefused

KEY = "0123456789ABCDEF0123456789ABCDEF01234567"
OTHER = "89ABCDEF0123456789ABCDEF0123456789ABCDEF"
ENTRY = Entry(
    collector="https://bdcs.example.org",
    target="amd64-v3",
    url="https://bdcs.example.org/binhost/amd64-v3",
    verify=True,
    home="/etc/portage/gnupg",
    keys=(KEY, OTHER),
    imported=(KEY,),
    trust={OTHER: 4},
    made=("/etc/portage/binrepos.conf/gentwoo.conf",),
    modes={"/etc/portage/gnupg": 0o700},
)
THEIRS = b"""\
# Gentoo's own
[gentoobinhost]
priority = 1
sync-uri = https://distfiles.gentoo.org/releases/amd64/binpackages/23.0/x86-64
"""
PATH = Path("binrepos.conf")


def options(content: bytes) -> dict[str, str]:
    """What Portage's parser makes of our section."""
    parser = configparser.ConfigParser(defaults={"EPREFIX": "/prefix"})
    parser.read_string(content.decode())
    return {name: value for name, value in parser["gentwoo"].items() if name != "eprefix"}


def test_portage_reads_what_is_written() -> None:
    content, _ = binrepos.with_entry(None, ENTRY)
    assert options(content) == {
        "priority": "10",
        "sync-uri": "https://bdcs.example.org/binhost/amd64-v3",
        "verify-signature": "true",
    }
    assert options(binrepos.with_entry(None, replace(ENTRY, verify=False))[0])["verify-signature"] == "false"


def test_a_percent_sign_survives_the_parser() -> None:
    """A lone one would end emerge with a traceback."""
    url = "https://bdcs.example.org/a%20b/x"
    content, entry = binrepos.with_entry(None, replace(ENTRY, url=url))
    assert b"a%%20b" in content
    assert options(content)["sync-uri"] == url
    assert binrepos.parse(content, PATH) == entry


def test_credentials_stand_in_the_address_and_nowhere_else() -> None:
    credentials = Credentials.parse("machine-7:s3cret_~.x\n")
    content, entry = binrepos.with_entry(None, replace(ENTRY, credentials=credentials))
    user, token = credentials.pair
    assert options(content)["sync-uri"] == f"https://{user}:{token}@bdcs.example.org/binhost/amd64-v3"
    assert content.count(b"s3cret") == 1
    assert binrepos.parse(content, PATH) == entry
    assert "s3cret" not in repr(entry)


@pytest.mark.parametrize("text", ["", "token", "a:b:c", "a:", ":b", "a:b%", "a:b@c", "ä:b", "a:b\nc"])
def test_credentials_need_no_encoding(text: str) -> None:
    with pytest.raises(ValueError, match="NAME:TOKEN"):
        Credentials.parse(text)


@pytest.mark.parametrize("before", [b"", THEIRS, THEIRS.rstrip(b"\n"), b"\n\n", THEIRS + b"\r\n# \xff\n"])
def test_it_goes_as_it_came(before: bytes) -> None:
    content, entry = binrepos.with_entry(before, ENTRY)
    assert content.startswith(before)
    assert binrepos.parse(content, PATH) == entry
    assert binrepos.without_entry(content, entry) == before


@given(before=st.binary(max_size=200), after=st.binary(max_size=200))
def test_whatever_stands_around_it_stays(before: bytes, after: bytes) -> None:
    content, entry = binrepos.with_entry(before, ENTRY)
    content += after
    assert binrepos.without_entry(content, entry) == before + after
    again, entry = binrepos.with_entry(content, replace(entry, target="other"))
    assert binrepos.without_entry(again, entry) == before + after


def test_another_target_takes_its_place() -> None:
    content, entry = binrepos.with_entry(THEIRS, ENTRY)
    content += b"[later]\nsync-uri = https://example.org/later\n"
    other = replace(entry, target="other", url="https://bdcs.example.org/binhost/other")
    again, _ = binrepos.with_entry(content, other)
    assert again.count(b"[gentwoo]") == 1
    assert again.startswith(THEIRS)
    assert again.endswith(b"[later]\nsync-uri = https://example.org/later\n")
    assert options(again)["sync-uri"].endswith("/other")


def altered(change: Callable[[str], str]) -> bytes:
    return change(binrepos.with_entry(THEIRS, ENTRY)[0].decode()).encode()


@pytest.mark.parametrize(
    "content",
    [
        altered(lambda text: text.replace("# gentwoo binhost: end\n", "")),
        altered(lambda text: text + text),
        altered(lambda text: text.replace('{"collector"', '{"kollektor"')),
        altered(lambda text: text.replace("[gentwoo]", "[gentoo]")),
        altered(lambda text: text.replace(KEY, "0xBAD")),
        altered(lambda text: text.replace("sync-uri = https://bdcs", "sync-uri = bdcs")),
        altered(lambda text: text.replace('"trust": {', '"trust": [')),
    ],
)
def test_what_cannot_be_understood_is_not_touched(content: bytes) -> None:
    with pytest.raises(BinhostRefused, match="was changed") as refused:
        binrepos.parse(content, PATH)
    assert "by hand" in str(refused.value.advice)


def test_a_file_that_setup_did_not_write_has_no_entry() -> None:
    assert binrepos.parse(THEIRS, PATH) is None


# Places


def test_the_place_is_a_file_of_its_own_in_a_directory(tmp_path: Path) -> None:
    assert Place.find(tmp_path).path == tmp_path / "binrepos.conf/gentwoo.conf"
    (tmp_path / "binrepos.conf").mkdir()
    assert Place.find(tmp_path).path == tmp_path / "binrepos.conf/gentwoo.conf"


def test_the_place_is_the_file_itself_where_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(THEIRS)
    (tmp_path / "binrepos.conf").symlink_to("real")
    place = Place.find(tmp_path)
    assert place.path == tmp_path / "real"
    assert place.directory is None


def test_a_section_of_our_name_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "binrepos.conf"
    directory.mkdir()
    place = Place.find(tmp_path)
    (directory / "ours.conf").write_bytes(THEIRS)
    (directory / ".hidden").write_text("[gentwoo]\n")
    (directory / "backup~").write_text("[gentwoo]\n")
    content, _ = binrepos.with_entry(None, ENTRY)
    binrepos.check_ours(content, place)
    with pytest.raises(BinhostRefused, match=r"gentwoo\.conf has a section"):
        binrepos.check_ours(b"[gentwoo]\nsync-uri = x\n" + content, place)
    (directory / "sub").mkdir()
    (directory / "sub/more.conf").write_text("[other]\n\n[gentwoo]\n")
    with pytest.raises(BinhostRefused, match=r"more\.conf"):
        binrepos.check_ours(content, place)


@pytest.mark.parametrize(
    ("broken", "why"),
    [("no heading\n", "no section headers"), ("[a]\nsync-uri = 50%\n", "'%' must be followed")],
)
def test_what_breaks_portages_parser_is_named(tmp_path: Path, broken: str, why: str) -> None:
    directory = tmp_path / "binrepos.conf"
    directory.mkdir()
    place = Place.find(tmp_path)
    assert binrepos.syntax_error(place) is None
    (directory / "a.conf").write_text(broken)
    assert why in str(binrepos.syntax_error(place))


def test_a_file_is_written_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("before")
    binrepos.write(path, b"after", mode=0o640, owner=(os.getuid(), os.getgid()))
    assert path.read_text() == "after"
    assert binrepos.mode_of(path) == 0o640
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        binrepos.write(path, b"after", mode=0o640, owner=(os.getuid(), os.getgid()))
    assert os.listdir(tmp_path) == ["f"]


# The profile, which the same configuration says


def test_the_profile_is_where_the_link_leads(tmp_path: Path) -> None:
    profile = tmp_path / "repo/profiles/default/linux/amd64/23.0"
    profile.mkdir(parents=True)
    link = tmp_path / "etc/make.profile"
    link.parent.mkdir()
    link.symlink_to("../repo/profiles/default/linux/amd64/23.0")
    assert profile_name(link) == "default/linux/amd64/23.0"


@pytest.mark.parametrize(
    ("parents", "name"),
    [
        ("gentoo:default/linux/amd64/23.0\n", "default/linux/amd64/23.0"),
        ("# mine\n\n../../repo/profiles/default\n", "default"),
        ("gentoo:default/linux/amd64/23.0\ngentoo:targets/systemd\n", None),
        ("/nowhere\n", None),
        ("", None),
    ],
)
def test_a_directory_with_one_parent_is_that_profile(tmp_path: Path, parents: str, name: str | None) -> None:
    directory = tmp_path / "etc/make.profile"
    directory.mkdir(parents=True)
    (directory / "parent").write_text(parents)
    assert profile_name(directory) == name


def test_no_profile_at_all(tmp_path: Path) -> None:
    assert profile_name(tmp_path / "make.profile") is None
