# SPDX-License-Identifier: GPL-2.0-or-later
"""Where webhooks may go, how they are signed, when they are tried again."""

from __future__ import annotations

import base64
from ipaddress import ip_address

import pytest

from bdcs.domain.webhooks import (
    LONGEST_DELAY,
    MOST_ATTEMPTS,
    Destinations,
    check_url,
    delay,
    is_public,
    signature,
    told_secret,
)
from gentwoo_client.wire.errors import Malformed

NOWHERE = Destinations()


@pytest.mark.parametrize("text", ["8.8.8.8", "193.0.6.139", "2606:4700::1111", "2001:4860:4860::8888"])
def test_public_addresses(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.8",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2001:0:1::1",
        "2001:db8::1",
        "3fff::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "5f00::1",
    ],
)
def test_addresses_that_are_not(text: str) -> None:
    assert not is_public(ip_address(text))
    assert NOWHERE.objection("hooks.example.org", [text])


def test_one_address_that_is_not_public_spoils_all() -> None:
    assert NOWHERE.objection("hooks.example.org", ["8.8.8.8"]) is None
    assert NOWHERE.objection("hooks.example.org", ["8.8.8.8", "10.0.0.1"])
    assert NOWHERE.objection("hooks.example.org", [])
    assert NOWHERE.objection("hooks.example.org", ["nonsense"])


def test_an_operator_names_hosts_and_networks() -> None:
    own = Destinations.of(["Hooks.intranet", "10.0.0.0/8", "fd00::/8"])
    assert own.objection("hooks.INTRANET", ["192.168.1.1"]) is None
    assert own.objection("other.intranet", ["192.168.1.1"])
    assert own.objection("other.intranet", ["10.9.9.9", "fd00::1"]) is None
    assert own.objection("other.intranet", ["10.9.9.9", "127.0.0.1"])


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/",
        "https:///path",
        "https://",
        "https://user@hooks.example.org/",
        "https://hooks.example.org:0/",
        "https://hooks.example.org:99999/",
        "https://hooks.example.org/#part",
        "https://hooks.example.org\\@127.0.0.1/",
        "https://[::1",
        "https://hooks.example.org/\nx",
        "https://exämple.org/",
        "ftp://hooks.example.org/",
        "https://hooks.example.org/" + "a" * 500,
    ],
)
def test_urls_to_which_nothing_may_ever_be_sent(url: str) -> None:
    with pytest.raises(Malformed):
        check_url(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3:8443", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"]
)
def test_an_address_to_which_nothing_may_be_sent_is_refused_at_once(host: str) -> None:
    with pytest.raises(Malformed, match="not a public address"):
        NOWHERE.check_url(f"https://{host}/hook")


def test_public_addresses_names_and_what_the_operator_named_are_not() -> None:
    for host in ("8.8.8.8", "[2606:4700::1111]", "hooks.example.org", "localhost"):
        NOWHERE.check_url(f"https://{host}/hook")
    Destinations.of(["127.0.0.1"]).check_url("https://127.0.0.1/hook")
    with pytest.raises(Malformed, match="https://"):
        NOWHERE.check_url("http://8.8.8.8/hook")


def test_the_host_of_a_url() -> None:
    assert check_url("https://Hooks.Example.org:8443/a?b=c") == "hooks.example.org"
    assert check_url("https://[2606:4700::1111]/") == "2606:4700::1111"


def test_a_signature_is_that_of_standard_webhooks() -> None:
    """A vector that its libraries test with."""
    told = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    secret = base64.b64decode(told.removeprefix("whsec_"))
    assert told_secret(secret) == told
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected


def test_tries_become_rarer_and_end() -> None:
    delays = [delay(attempts, 0.0) for attempts in range(1, MOST_ATTEMPTS)]
    assert delays[:3] == [60, 120, 240]
    assert delays[-1] == LONGEST_DELAY
    assert delay(MOST_ATTEMPTS, 0.0) is None
    assert delay(1, 1.0) == 30
