# SPDX-License-Identifier: GPL-2.0-or-later
"""Links to a machine's own page."""

from uuid import UUID

import pytest

from bdcs.services.report_links import LIFETIME, ReportLinks
from gentwoo_client.wire.messages import ReportLink

MACHINE = UUID("a7ff38df-0d95-8a1e-8b17-a524d2e4ee62")
LINKS = ReportLinks(secret=b"s" * 32, public_url="https://collector.example")
NOW = 1_790_000_000.0


def link() -> str:
    return str(LINKS.make(MACHINE, NOW)["url"]).partition("?link=")[2]


def test_a_link_opens_its_machine_until_it_expires() -> None:
    assert LINKS.machine_of(link(), NOW + LIFETIME - 1) == MACHINE
    assert LINKS.machine_of(link(), NOW + LIFETIME) is None


def test_the_document_is_the_protocols() -> None:
    ReportLink.model_validate(LINKS.make(MACHINE, NOW))


@pytest.mark.parametrize("text", ["", "A", "AAAA", "ä", link()[:-2], "A" + link()[1:], link() + "AAAA"])
def test_nothing_else_opens_anything(text: str) -> None:
    assert LINKS.machine_of(text, NOW) is None


def test_another_collectors_link_opens_nothing_and_the_secret_is_not_shown() -> None:
    other = ReportLinks(secret=b"t" * 32, public_url=LINKS.public_url)
    assert other.machine_of(link(), NOW) is None
    assert "ssss" not in repr(LINKS)
