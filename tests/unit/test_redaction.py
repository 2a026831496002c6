# SPDX-License-Identifier: GPL-2.0-or-later
"""Passwords of URLs stand in no message."""

import pytest

from bdcs.bus.configured import without_password
from bdcs.capacity.marathon import Application
from bdcs.errors import CapacityRefused, ConfigurationError
from bdcs.store.engine import create_reader
from bdcs.store.places import PostgreSQL


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:secret@h/v", "amqp://u:***@h/v"),
        ("amqp://u:a@secret@h/v", "amqp://u:***@h/v"),
        ("amqps://u:secret@h:5671/v?x=a@b", "amqps://u:***@h:5671/v?x=a@b"),
        ("amqp://h/v@x", "amqp://h/v@x"),
    ],
)
def test_of_a_broker(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_of_a_store() -> None:
    with pytest.raises(ConfigurationError) as caught:
        create_reader(PostgreSQL("postgresql://bdcs:top%secret@db/bdcs"))
    assert "secret" not in str(caught.value)
    assert "%25" in str(caught.value)


def test_of_marathon() -> None:
    with pytest.raises(CapacityRefused) as caught:
        Application("http://" + "admin:secret" + "@marathon:8080/builders")
    assert "secret" not in str(caught.value)
