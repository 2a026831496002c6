# SPDX-License-Identifier: GPL-2.0-or-later
"""How many machines one network may register, and whom a request comes from."""

from ipaddress import ip_address, ip_network

import pytest

from bdcs.domain.networks import DAY, Address, NetworkLimit, client_address, parse_address


def limit(per_day: int = 2) -> NetworkLimit:
    return NetworkLimit(per_day, lambda: b"k" * 32)


def test_a_network_may_register_so_many_a_day_and_not_more() -> None:
    counts = limit()
    assert [counts.take(ip_address(f"192.0.2.{host}"), 0.0) for host in (1, 2, 3)] == [0, 0, DAY + 1]
    assert counts.take(ip_address("198.51.100.1"), 0.0) == 0


def test_the_wait_ends_with_the_day() -> None:
    counts = limit(1)
    address = ip_address("2001:db8::1")
    assert counts.take(address, DAY - 10.0) == 0
    assert counts.take(ip_address("2001:db8:0:ffff::2"), DAY - 10.0) == 11
    assert counts.take(address, DAY + 1.0) == 0


def test_every_day_has_its_own_key() -> None:
    keys = iter([b"a" * 32, b"b" * 32])
    counts = NetworkLimit(1, lambda: next(keys))
    assert counts.take(ip_address("192.0.2.1"), 0.0) == 0
    assert counts.take(ip_address("192.0.2.1"), DAY) == 0
    with pytest.raises(StopIteration):
        counts.take(ip_address("192.0.2.1"), 2.0 * DAY)


def test_a_socket_without_address_is_not_counted() -> None:
    counts = limit(1)
    assert [counts.take(None, 0.0) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
    ],
)
def test_only_trusted_proxies_speak_for_others(peer: str, forwarded: list[str], client: str) -> None:
    assert client_address(peer, forwarded, [ip_network("10.0.0.0/8")]) == ip_address(client)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (None, None),
        ("", None),
        ("host", None),
        ("fe80::1%eth0", ip_address("fe80::1")),
        ("::ffff:1.2.3.4", ip_address("1.2.3.4")),
    ],
)
def test_addresses_are_read(text: str | None, address: Address | None) -> None:
    assert parse_address(text) == address


def test_records_are_counted_by_amount_and_the_last_batch_may_go_beyond() -> None:
    counts = limit(10)
    address, neighbour = ip_address("192.0.2.1"), ip_address("192.0.2.200")
    counts.count(address, 0.0, 9)
    assert counts.wait(neighbour, 0.0) == 0
    counts.count(neighbour, 0.0, 500)
    assert counts.wait(address, 0.0) == DAY + 1
    assert counts.wait(ip_address("198.51.100.1"), 0.0) == 0
    assert counts.wait(address, float(DAY)) == 0
