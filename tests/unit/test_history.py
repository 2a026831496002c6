# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo history`: what it prints of a log."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from gentwoo_client import history
from gentwoo_client.cli import main
from gentwoo_client.errors import UsageError
from gentwoo_client.history import JsonFormat, Selection, parse_moment, show
from gentwoo_client.log.files import LINE_SIZE, in_order_of_time, read_blocks
from gentwoo_client.repositories import Repositories
from gentwoo_client.wire.records import FIELDS, PackageStateChange

LOGS = Path(__file__).parents[1] / "data" / "emerge-logs"
BIG = LOGS / "emlop-10000.log"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, and nothing of this machine's configuration counts."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def scenario(name: str) -> str:
    return str(LOGS / "scenarios" / f"{name}.log")


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints. It has to end well."""
    assert main(["history", *words]) == 0
    return capsys.readouterr().out


def records(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told(capsys, "--json", *words).splitlines()]


def json_format() -> JsonFormat:
    return JsonFormat(Selection(), Repositories())


def packers() -> dict[str, Callable[[bytes], bytes]]:
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress}


def test_json_line_is_a_record_then_root(capsys: pytest.CaptureFixture[str]) -> None:
    for line in records(capsys, "--log", str(BIG)):
        root = line.pop("root", "/")
        record = PackageStateChange.from_json(line)
        assert record.to_json() == line
        assert tuple(line) == FIELDS
        assert root == "/"
        assert (record.observed, record.clock) == ("backfill", "unknown")


def test_json_is_numbered_in_the_order_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    lines = records(capsys, "--log", str(BIG))
    assert [line["seq"] for line in lines] == list(range(1, 1725))
    repositories = {line["repository"] for line in lines if line["install_type"] == "source"}
    assert repositories == {"gentoo", None}  # some come from somebody's home directory


def test_filtered_json_keeps_the_numbers_of_the_whole_log(capsys: pytest.CaptureFixture[str]) -> None:
    every = records(capsys, "--log", str(BIG))
    failures = records(capsys, "--log", str(BIG), "--event", "failure")
    assert failures == [line for line in every if line["event"] == "failure"]
    assert len(failures) == 58


def test_atoms_select(capsys: pytest.CaptureFixture[str]) -> None:
    every = records(capsys, "--log", str(BIG))
    bare = records(capsys, "sqlite", "--log", str(BIG))
    assert bare == [line for line in every if line["name"] == "sqlite"]
    newer = records(capsys, ">=dev-db/sqlite-3.22.0", "net-libs/nodejs", "--log", str(BIG))
    assert {(line["name"], line["version"]) for line in newer} == {
        (line["name"], line["version"])
        for line in every
        if line["name"] == "nodejs" or (line["name"] == "sqlite" and line["version"] != "3.21.0")
    }


def test_repository_comes_from_the_place_of_the_ebuild(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A location that exists says its own name; where it is gone, convention does."""
    place = tmp_path / "some-tree"
    (place / "profiles").mkdir(parents=True)
    (place / "profiles" / "repo_name").write_text("my-overlay\n")
    log = tmp_path / "emerge.log"
    text = Path(scenario("01-install-source")).read_text()
    log.write_text(text.replace("/var/db/repos/gentoo", str(place)))
    assert records(capsys, "--log", str(log))[0]["repository"] == "my-overlay"
    assert records(capsys, "my-overlay/x", "--log", str(log)) == []
    assert len(records(capsys, "app-misc/alpha::my-overlay", "--log", str(log))) == 1
    log.write_text(text.replace("/var/db/repos/gentoo", str(tmp_path / "gone")))
    assert records(capsys, "--log", str(log))[0]["repository"] is None
    log.write_text(text.replace("/var/db/repos/gentoo", "/var/db/repos/guru"))
    assert records(capsys, "--log", str(log))[0]["repository"] == "guru"


def test_table_shows_when_what_how_long_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    logs = [
        word
        for name in (
            "03-upgrade",
            "04-downgrade",
            "05-two-slots",
            "08-unmerge",
            "11-fail-compile",
            "20-binary-local",
        )
        for word in ("--log", scenario(name))
    ]
    lines = told(capsys, *logs).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "2026-11-22 00:33:52 0:00:02 source app-misc/alpha-1.1 upgrade from 1.0",
        "2026-11-22 00:33:55 0:00:02 source app-misc/alpha-1.0 downgrade from 1.1",
        "2026-11-22 00:33:57 0:00:02 source app-misc/slotted-1.9 new",
        "2026-11-22 00:33:59 0:00:02 source app-misc/slotted-2.0 new",
        "2026-11-22 00:34:05 0:00:00 app-misc/alpha-1.0 removed",
        "2026-11-22 00:34:09 0:00:00 source app-misc/failc-1.0 failed (build)",
        "2026-11-22 00:35:39 0:00:01 binary app-misc/alpha-1.1-r1 rebuild",
        "5 merges in 0:00:09, 1 removal, 1 failure",
    ]


def test_replaced_versions_are_shown_when_uninstalls_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = told(capsys, "--log", scenario("03-upgrade"), "--event", "uninstall").splitlines()
    assert [line.split()[-1] for line in lines] == ["replaced", "removal"]


def test_other_root_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "new in /mnt/target/" in told(capsys, "--log", scenario("23-other-root"))
    assert records(capsys, "--log", scenario("23-other-root"))[0]["root"] == "/mnt/target/"
    assert "root" not in records(capsys, "--log", scenario("08-unmerge"))[0]


def test_table_is_in_local_time_also_when_clocks_change(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    log = tmp_path / "emerge.log"
    stamps = [1521939540, 1521939660, 1521990000, 1540688340, 1540688460]  # around both changes of 2018
    log.write_text(
        "".join(f"{stamp}:  ::: completed emerge (1 of 1) a/one-{n} to /\n" for n, stamp in enumerate(stamps))
    )
    expected = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp)) for stamp in stamps]
    assert [line[:19] for line in told(capsys, "--log", str(log)).splitlines()[:-1]] == expected


def test_nothing_matched_is_said_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--log", str(BIG), "app-misc/nothing-here"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "nothing" in err


def test_missing_log_says_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["history", "--log", str(tmp_path / "none.log")]) == 1
    assert "--log FILE" in capsys.readouterr().err


def test_directory_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["history", "--log", str(tmp_path)]) == 1
    assert "directory" in capsys.readouterr().err


def test_unreadable_log_is_a_question_of_permission(tmp_path: Path) -> None:
    """As somebody else, really: exit code 77, and the group that helps."""
    tmp_path.chmod(0o755)
    log = tmp_path / "emerge.log"
    log.write_bytes(b"")
    log.chmod(0o600)
    program = f"from gentwoo_client.cli import main; raise SystemExit(main(['history', '--log', '{log}']))"
    command = [sys.executable, "-c", f"import os; {program}"]
    if os.geteuid() == 0:
        for directory in tmp_path.parents:
            if str(directory).startswith("/tmp/"):
                directory.chmod(0o755)
        command = ["runuser", "-u", "nobody", "--", "/usr/bin/python3", "-c", f"{program}"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.returncode == 77, done.stderr
    assert "portage" in done.stderr


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_compressed_log_reads_the_same(
    ending: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    packed = tmp_path / f"emerge.log.1.{ending}"
    packed.write_bytes(packers()[ending](BIG.read_bytes()))
    assert told(capsys, "--json", "--log", str(packed)) == told(capsys, "--json", "--log", str(BIG))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_damaged_archive_is_an_error_that_names_it(
    ending: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    packed = tmp_path / f"emerge.log.{ending}"
    packed.write_bytes(packers()[ending](BIG.read_bytes())[:3000])
    assert main(["history", "--log", str(packed)]) == 1
    assert packed.name in capsys.readouterr().err


def test_rotated_parts_are_read_in_order_of_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A merge that runs across a rotation keeps its start."""
    lines = BIG.read_bytes().splitlines(True)
    parts = [tmp_path / "emerge.log.2.gz", tmp_path / "emerge.log-20180301", tmp_path / "emerge.log"]
    parts[0].write_bytes(gzip.compress(b"".join(lines[:3003])))
    parts[1].write_bytes(b"".join(lines[3003:6001]))
    parts[2].write_bytes(b"".join(lines[6001:]))
    words = [word for part in (parts[2], parts[0], parts[1]) for word in ("--log", str(part))]
    assert told(capsys, "--json", *words) == told(capsys, "--json", "--log", str(BIG))
    assert in_order_of_time(map(str, reversed(parts))) == [str(part) for part in parts]


def test_blocks_are_whole_lines_of_bounded_length(tmp_path: Path) -> None:
    log = tmp_path / "emerge.log"
    log.write_bytes(b"first\n" + b"x" * (3 * LINE_SIZE) + b"\nlast\n" + b"in the making")
    assert b"".join(read_blocks(str(log))) in (b"first\nlast\n", b"first\n" + b"\nlast\n")
    log.write_bytes(b"\0" * (5 * LINE_SIZE))
    assert b"".join(read_blocks(str(log))) == b""
    assert (
        b"".join(block for block in read_blocks(str(BIG), 1000, 2000))
        == BIG.read_bytes()[1000:2000].rpartition(b"\n")[0] + b"\n"
    )


@pytest.mark.parametrize("damage", [False, True])
def test_two_processes_write_what_one_does(
    damage: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut into hundreds of segments, byte for byte the same; also where much is open at the cuts."""
    data = BIG.read_bytes()
    if damage:
        lines = data.splitlines(True)
        data = b"".join(line for number, line in enumerate(lines) if number % 7 or b"Started" in line)
    log = tmp_path / "emerge.log"
    log.write_bytes(data)
    alone: list[bytes] = []
    assert show([str(log)], json_format(), alone.append, encoding="utf-8") > 1000
    monkeypatch.setattr(history, "ALONE_BELOW", 0)
    monkeypatch.setattr(history, "SEGMENT_SIZE", 4000)
    monkeypatch.setattr(history, "_WINDOW", 700)
    output = tmp_path / "output"
    with output.open("wb", buffering=0) as file:
        show([str(log)], json_format(), file.write, encoding="utf-8")
    assert output.read_bytes() == b"".join(alone)


def test_reader_that_goes_away_is_no_error() -> None:
    """`gentwoo history | head -1` says nothing on stderr."""
    program = "from gentwoo_client.cli import main; raise SystemExit(main())"
    words = [sys.executable, "-c", program, "history", "--json", "--log", str(BIG)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"seq":1,')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() in (0, 141)


@pytest.mark.parametrize(
    ("text", "end", "moment"),
    [
        ("2018-02-05", False, 1517788800),
        ("2018-02-05", True, 1517875199),
        ("2018-02-05T10:32", False, 1517826720),
        ("2018-02-05T10:32:51+01:00", False, 1517823171),
        ("1517823171", False, 1517823171),
        ("now", False, 1520000000),
        ("today", False, 1519948800),
        ("yesterday", False, 1519862400),
        ("yesterday", True, 1519948799),
        ("3 days", False, 1520000000 - 3 * 86400),
        ("2 weeks ago", False, 1520000000 - 14 * 86400),
        ("an hour ago", False, 1520000000 - 3600),
        ("90min", False, 1520000000 - 5400),
    ],
)
def test_moments(text: str, end: bool, moment: int) -> None:
    assert parse_moment(text, 1520000000.5, end=end) == moment


@pytest.mark.parametrize("text", ["", "soon", "2018-13-05", "2018-02-30", "3 parsecs", "12", "99999-01-01"])
def test_what_is_no_moment_is_refused_with_advice(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_moment(text, 1520000000)
    assert error.value.advice


def test_since_and_until_are_inclusive(capsys: pytest.CaptureFixture[str]) -> None:
    every = records(capsys, "--log", str(BIG))
    day = records(capsys, "--log", str(BIG), "--since", "2018-02-05", "--until", "2018-02-05")
    assert day == [line for line in every if line["recorded_at"].startswith("2018-02-05")]
    assert day


def test_colour_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in told(capsys, "--log", str(BIG))
