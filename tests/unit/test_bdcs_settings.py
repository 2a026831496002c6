# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector's settings, and where each may come from."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bdcs.domain.build_policy import BuildPolicy, Keeping
from bdcs.errors import ConfigurationError, UnknownSetting
from bdcs.settings import NAMES, load_settings


def from_text(path: Path, text: str, **flags: Any) -> Any:
    file = path / "bdcs.toml"
    file.write_text(text)
    return load_settings(flags, {}, file)


def test_nothing_needs_to_be_set() -> None:
    settings = load_settings({"data": None}, {"PATH": "/bin"})
    assert settings.address == ("127.0.0.1", 8642)
    assert settings.threshold == 10


def test_flags_overrule_the_environment_and_that_overrules_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bdcs.toml"
    file.write_text('threshold = 20\nlisten = "[::1]:80"\napproval = "required"\n')
    settings = load_settings({"listen": "0.0.0.0:1"}, {"BDCS_THRESHOLD": "30", "BDCS_LISTEN": "x:2"}, file)
    assert (settings.address, settings.threshold, settings.approval) == (("0.0.0.0", 1), 30, "required")


def test_a_builder_is_named_by_its_targets(tmp_path: Path) -> None:
    assert from_text(tmp_path, 'builder = ["*", "v3"]\nbuilder_eprefix = "/x"').builder == ("*", "v3")
    settings = load_settings({}, {"BDCS_BUILDER_OPTIONS": "--jobs=2 --hours=1"})
    assert settings.builder_options == ("--jobs=2", "--hours=1")


def test_an_ipv6_address_is_written_in_brackets(tmp_path: Path) -> None:
    assert from_text(tmp_path, 'listen = "[::1]:80"').address == ("::1", 80)


def test_an_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownSetting, match="did you mean 'threshold'") as caught:
        from_text(tmp_path, "treshold = 10")
    assert caught.value.nearest == "threshold"
    with pytest.raises(UnknownSetting, match="environment"):
        load_settings({}, {"BDCS_APROVAL": "open"})


@pytest.mark.parametrize(
    "text",
    [
        "threshold = 4",
        "threshold = true",
        'threshold = "many"',
        'listen = "8642"',
        'listen = "host:99999"',
        'approval = "never"',
        'proposals = "perhaps"',
        'builder = ["no name"]',
        'builder = ["all"]',
        "builder = [1]",
        "builder_options = 7",
        'log_level = "loud"',
        'public_url = "ftp://x"',
        'public_url = "https://x/?q=1"',
        'trusted_proxies = ["10.0.0.1/8"]',
        "trusted_proxies = [1.5]",
        "trusted_proxies = 7",
        'store = ""',
        'blobs = "/var/packages"',
        'blobs = "s3://"',
        'blobs = "s3://bucket/a b"',
        's3_endpoint = "s3.example.org"',
        's3_endpoint = "https://somebody@s3.example.org"',
        's3_region = ""',
        's3_download = "proxy"',
        "data = 1",
        "registrations_per_network = 0",
        "lease = 9",
        "open_requests = 0",
        "requests_per_day = 0",
        "upload_timeout = 0",
        "keep_logs = 0",
        "keep_requests = true",
        "failure_hours = -1",
        "not toml",
    ],
)
def test_values_that_cannot_be_used_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        from_text(tmp_path, text)


def test_package_files_may_be_in_a_bucket(tmp_path: Path) -> None:
    settings = from_text(
        tmp_path, 'blobs = "s3://bucket/some/prefix"\ns3_download = "https://cdn.example.org/packages/"\n'
    )
    assert settings.blobs == "s3://bucket/some/prefix"
    assert settings.s3_download == "https://cdn.example.org/packages"
    assert from_text(tmp_path, "").blobs == "file:"


def test_values_are_read_as_what_they_are(tmp_path: Path) -> None:
    settings = from_text(
        tmp_path, 'trusted_proxies = ["127.0.0.1/32", "::1/128"]\npublic_url = "https://c.example/"\n'
    )
    assert settings.trusted_proxies == (ip_network("127.0.0.1/32"), ip_network("::1/128"))
    assert settings.public_url == "https://c.example"
    settings = load_settings({}, {"BDCS_TRUSTED_PROXIES": "10.0.0.0/8, 192.168.0.0/16"})
    assert len(settings.trusted_proxies) == 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_settings({}, {}, tmp_path / "absent.toml")


def test_every_setting_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in text.partition("## The collector")[2]] == []


def test_rules_of_builds_follow_from_settings(tmp_path: Path) -> None:
    assert from_text(tmp_path, "").build_policy == BuildPolicy()
    assert from_text(tmp_path, "").keeping == Keeping()
    settings = from_text(
        tmp_path,
        "lease = 90\nfailure_hours = 2\ntrouble_minutes = 5\n"
        "keep_logs = 7\nkeep_requests = 10\nkeep_builders = 3\nnew_versions = 60\n",
    )
    assert settings.build_policy == BuildPolicy(lease=90, lasting=7_200, passing=300)
    assert settings.keeping == Keeping(
        logs=7, requests=60, builders=3
    )  # new versions need requests of 60 days
