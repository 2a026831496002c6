# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: one place for errors and exit codes, options on either side, imports only when needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gentwoo_client.cli import COMMANDS, main
from gentwoo_client.errors import EXIT_CODES
from gentwoo_client.machine_key import KEY_NAME, MachineKey, create_key
from gentwoo_client.version import VERSION
from gentwoo_client.wire import base64url
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment, digest, sign_segment

HEAVY = {"aiohttp", "aiosqlite", "asyncio", "cryptography", "jwt", "pydantic", "sqlite3", "logging"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("GENTWOO_"):
            monkeypatch.delenv(name)


def imported_by(*arguments: str) -> set[str]:
    """Top-level packages that `gentwoo ARGUMENTS` has imported when it ends."""
    script = (
        "import sys\nfrom gentwoo_client.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], text=True, capture_output=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["history", "--log", "/dev/null"], ["--version"]])
def test_what_is_quick_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not imported_by(*arguments) & HEAVY


def test_help_imports_nothing_heavy_either() -> None:
    assert not imported_by("--help") & {"aiohttp", "cryptography", "pydantic"}


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for word in (*COMMANDS, *EXIT_CODES.values()):
        assert word in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: gentwoo {command}" in text
    assert "--state-dir" in text
    assert "exit codes:" in text


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gentwoo {VERSION}\n"


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regsiter"]) == 2
    assert "did you mean register?" in capsys.readouterr().err


def test_without_a_command_help_is_shown_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize("before", [True, False])
def test_global_options_stand_before_or_after(
    before: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--state-dir", str(tmp_path / "absent"), "--log-level=error"]
    arguments = [*options, "status", "--json"] if before else ["status", "--json", *options]
    umask = os.umask(0o022)
    try:
        assert main(arguments) == 78
    finally:
        os.umask(umask)
    assert str(tmp_path / "absent") in json.loads(capsys.readouterr().out)["stopped"]["message"]


def test_a_bad_setting_ends_with_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gentwoo.toml"
    config.write_text("colector = 1")
    assert main(["--config", str(config), "status"]) == 78
    assert "did you mean collector?" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing")
    assert main(["verify", missing]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main(["verify", missing, "--log-level", "debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_whoever_stops_reading_our_output_gets_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [
        sys.executable,
        "-c",
        "import sys; from gentwoo_client.cli import main; sys.exit(main(sys.argv[1:]))",
    ]
    evidence = b"invalid\n" * 2000
    done = subprocess.run(
        [*argv, "verify", "-", "--public-key", "A" * 43],
        input=evidence,
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 141


# verify


def chain(key: MachineKey, length: int) -> list[bytes]:
    """Segments of one record each."""
    segments: list[bytes] = []
    for seq in range(1, length + 1):
        record = PackageStateChange(
            seq=seq,
            event="uninstall",
            category="app-misc",
            name="hello",
            version="1",
            repository=None,
            install_type=None,
            cause="manual",
            replaces=None,
            recorded_at=1763771625,
            time_delta=None,
            concurrency=None,
            observed="backfill",
            clock="unknown",
        )
        segment = Segment(
            machine=key.machine,
            audience="https://bdcs.example.org",
            first_seq=seq,
            prev=digest(segments[-1]) if segments else None,
            created_at=1763771630,
            records=(record,),
        )
        segments.append(sign_segment(segment, key.private))
    return segments


@pytest.fixture
def key(tmp_path: Path) -> MachineKey:
    return create_key(tmp_path / KEY_NAME)


def document(key: MachineKey, segments: list[bytes]) -> str:
    return json.dumps(
        {"public_key": base64url.encode(key.public), "segments": [segment.decode() for segment in segments]}
    )


def verify(path: Path, content: bytes | str, *options: str) -> int:
    file = path / "evidence"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    umask = os.umask(0o022)
    try:
        return main(["verify", str(file), "--state-dir", str(path), *options])
    finally:
        os.umask(umask)


def test_evidence_needs_nothing_else(
    tmp_path: Path, key: MachineKey, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = chain(key, 3)
    assert verify(tmp_path, document(key, segments) + "\n" + document(key, segments[1:])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0] == f"{key.machine}  1-1  {digest(segments[0])}  valid, for https://bdcs.example.org"


def test_the_machines_own_segments_need_no_key(tmp_path: Path, key: MachineKey) -> None:
    assert verify(tmp_path, b"\n".join(chain(key, 2))) == 0


def test_a_stranger_needs_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = create_key(tmp_path / "other")
    create_key(tmp_path / KEY_NAME)
    content = b"\n".join(chain(other, 1))
    assert verify(tmp_path, content) == 2
    assert "--public-key" in capsys.readouterr().err
    assert verify(tmp_path, content, "--public-key", base64url.encode(other.public)) == 0


@pytest.mark.parametrize("beginning", ["-", "-h", "--"])
def test_a_key_may_begin_with_a_dash(tmp_path: Path, key: MachineKey, beginning: str) -> None:
    given = beginning + "A" * (43 - len(beginning))
    assert verify(tmp_path, b"\n".join(chain(key, 1)), "--public-key", given) == 1


def test_the_public_key_needs_a_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        verify(tmp_path, b"", "--public-key")
    assert "--public-key: expected one argument" in capsys.readouterr().err


def test_an_altered_byte_is_found(
    tmp_path: Path, key: MachineKey, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = chain(key, 1)[0]
    middle = len(segment) // 2
    altered = (
        segment[:middle] + (b"A" if segment[middle : middle + 1] != b"A" else b"B") + segment[middle + 1 :]
    )
    assert verify(tmp_path, altered) == 1
    assert "INVALID" in capsys.readouterr().out


def test_another_machines_key_proves_nothing(tmp_path: Path, key: MachineKey) -> None:
    other = create_key(tmp_path / "other")
    assert verify(tmp_path, document(other, chain(key, 1))) == 1


@pytest.mark.parametrize("order", [[0, 2], [1, 0], [0, 0]])
def test_a_missing_or_misplaced_segment_is_found(
    tmp_path: Path, key: MachineKey, order: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    segments = chain(key, 3)
    assert verify(tmp_path, document(key, [segments[index] for index in order])) == 1
    assert "does not continue" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"segments": 3}', b"{}", b'{"segments": ["a.b.c"]}', b"\xff"]
)
def test_what_is_no_evidence_is_refused(
    tmp_path: Path, key: MachineKey, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path, content) == 1
    assert "unexpected" not in capsys.readouterr().err
