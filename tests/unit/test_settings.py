# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings: which source wins, and that nothing wrong passes unnoticed."""

from pathlib import Path

import pytest

from gentwoo_client.errors import SettingsError
from gentwoo_client.settings import REGISTRATION, SETTING_NAMES, Settings, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "gentwoo.toml"


def load(config: Path, text: str, *, env: dict[str, str] | None = None, **flags: str) -> Settings:
    config.write_text(text)
    return load_settings(flags, env or {}, config=config)


def test_defaults_need_no_file() -> None:
    settings = load_settings({}, {}, config=None)
    assert settings.collector is None
    assert settings.repositories == ("gentoo", "guru")
    assert settings.history == "all"
    assert settings.log == Path("/var/log/emerge.log")
    assert settings.state_dir == Path("/var/lib/gentwoo")


def test_flags_overrule_environment_overrules_file(config: Path) -> None:
    text = 'state_dir = "/file"\nlog_level = "debug"\nhistory = "none"'
    env = {"GENTWOO_STATE_DIR": "/environment", "GENTWOO_LOG_LEVEL": "error", "HOME": "/root"}
    settings = load(config, text, env=env, state_dir="/flag")
    assert (settings.state_dir, settings.log_level, settings.history) == (Path("/flag"), "error", "none")
    assert settings.source("log_level") == "GENTWOO_LOG_LEVEL"
    assert settings.source("history") == str(config)


def test_the_environment_may_name_the_file(config: Path) -> None:
    config.write_text('collector = "https://bdcs.example.org/"')
    assert load_settings({}, {"GENTWOO_CONFIG": str(config)}).collector == "https://bdcs.example.org"


def test_a_named_file_must_exist(config: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load_settings({}, {}, config=config)


def test_emerge_log_dir_names_the_log(config: Path) -> None:
    assert load(config, "", env={"EMERGE_LOG_DIR": "/elsewhere"}).log == Path("/elsewhere/emerge.log")


def test_prefix_moves_the_defaults_but_not_what_was_said(config: Path) -> None:
    settings = load(config, 'eprefix = "/home/larry/gentoo/"\nportage_bin = "/opt/bin"')
    assert settings.log == Path("/home/larry/gentoo/var/log/emerge.log")
    assert settings.state_dir == Path("/home/larry/gentoo/var/lib/gentwoo")
    assert settings.portage_bin == Path("/opt/bin")


def test_repositories_of_the_environment_are_words(config: Path) -> None:
    assert load(config, "", env={"GENTWOO_REPOSITORIES": "gentoo, mine"}).repositories == ("gentoo", "mine")


WRONG = [
    ('colector = "https://x.org"', "unknown setting colector: did you mean collector?"),
    ('zzz = "1"', "unknown setting zzz: known are collector, repositories"),
    ('collector = "bdcs.example.org"', "collector: 'bdcs.example.org' is not an http or https URL"),
    ('collector = "https://x.org/?q"', "must not hold"),
    ('collector = "https://larry@x.org"', "must not hold"),
    ('collector = "https://x.org:port"', "is not a URL"),
    ("collector = 3", "collector: 3 is not a string"),
    ('repositories = "gentoo"', 'not a list of names such as ["gentoo", "guru"]'),
    ('repositories = ["*", "gentoo"]', "must stand alone"),
    ('history = "some"', '"all", "none" or a date such as "2025-01-01"'),
    ('eprefix = "gentoo"', "not an absolute path"),
    ('log = ""', "log: is empty"),
    ('log_level = "loud"', "one of debug, info, warning, error"),
    ("collector = ", "is not TOML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_errors_name_file_key_and_what_is_allowed(config: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(config, text)
    assert str(config) in str(caught.value)
    assert message in str(caught.value)


def test_an_unknown_variable_is_an_error(config: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean GENTWOO_COLLECTOR"):
        load(config, "", env={"GENTWOO_COLECTOR": "https://x.org"})


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ('"all"', 0),
        ('"none"', None),
        ('"2025-01-01"', 1735689600),
        ("2025-01-01", 1735689600),
    ],
)
def test_history_says_from_when_on(config: Path, text: str, since: int | None) -> None:
    assert load(config, f"history = {text}").history_since == since


def test_choices_of_the_registration_count_only_where_nothing_else_is_said(config: Path) -> None:
    settings = load(config, 'history = "none"')
    chosen = settings.with_choices(collector="https://x.org", history="all")
    assert (chosen.collector, chosen.history) == ("https://x.org", "none")
    assert chosen.source("collector") == REGISTRATION


@pytest.mark.parametrize("setting", SETTING_NAMES)
def test_every_setting_is_documented(setting: str) -> None:
    assert f"`{setting}`" in DOCUMENT.read_text()
