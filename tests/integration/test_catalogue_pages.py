# SPDX-License-Identifier: GPL-2.0-or-later
"""What the catalogue adds to the pages of packages, whether machines have them or not."""

from collections.abc import Iterator

import pytest

from tests.ebuild_repositories import Tree
from tests.fleet import all_merge, join
from tests.integration.test_pages import Links, get, page, restart, text
from tests.processes import Collector


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Ten machines have alpha, one has beta; the repository has these, and gamma, which nobody has."""
    home = tmp_path_factory.mktemp("catalogue-pages")
    tree = Tree.create(home / "repo")
    tree.add("app-misc/alpha-1.0", DESCRIPTION="The first letter")
    tree.add("app-misc/beta-1.0", DESCRIPTION="Another letter")
    tree.add("app-misc/gamma-1.0", KEYWORDS="~amd64", SLOT="1/1.0", IUSE="+ssl doc", LICENSE="MIT")
    tree.add(
        "app-misc/gamma-2.0",
        DESCRIPTION="A letter <script>alert(1)</script>",
        HOMEPAGE="https://example.org/gamma javascript:alert(1)",
        IUSE="+ssl",
    )
    with Collector(home) as collector:
        members = join(collector.url, 10)
        all_merge(members, "app-misc/alpha-1.0")
        all_merge(members[:1], "app-misc/beta-1.0")
        collector.bdcs("repository", "add", "gentoo", "--location", str(tree.root))
        collector.bdcs("repository", "sync", "gentoo")
        restart(collector)
        yield collector


def test_a_search_shows_what_repositories_have_besides(collector: Collector) -> None:
    html = page(collector, "/packages?q=a")
    words = text(html)
    assert words.index("app-misc/ alpha") < words.index("In the ebuild repositories")
    assert "app-misc/ beta 1.0 Another letter" in words
    assert words.count("app-misc/ alpha") == 1
    assert not Links(html).forbidden


def test_words_of_a_description_are_found(collector: Collector) -> None:
    words = text(page(collector, "/packages?q=another+letter"))
    assert "app-misc/ beta 1.0" in words
    assert "No package on 10 machines or more has another letter in its name" in words


def test_the_name_of_one_package_leads_to_its_page(collector: Collector) -> None:
    assert get(collector, "/packages?q=gamma").headers["Location"] == "/packages/app-misc/gamma"


def test_a_package_that_no_machine_has_is_a_page(collector: Collector) -> None:
    html = page(collector, "/packages/app-misc/gamma")
    words = text(html)
    assert "is in the ebuild repositories, and on fewer than 10 machines, not shown" in words
    assert "2.0 not yet gentwoo build =app-misc/gamma-2.0 0 gentoo amd64 –" in words
    assert "1.0 not yet gentwoo build =app-misc/gamma-1.0 1/1.0 gentoo ~amd64 MIT" in words
    assert "gentwoo install app-misc/gamma" in words
    assert "USE flags of 2.0: +ssl" in words
    assert "<script>" not in html
    assert "https://example.org/gamma" in Links(html).found
    assert "javascript:" not in html


def test_few_machines_and_none_look_alike(collector: Collector) -> None:
    pages = [page(collector, f"/packages/app-misc/{name}") for name in ("beta", "gamma")]
    leads = [each.partition('<p class="lead">')[2].partition("</p>")[0] for each in pages]
    assert leads[0].replace("beta", "NAME") == leads[1].replace("gamma", "NAME")


def test_the_catalogue_can_be_browsed(collector: Collector) -> None:
    assert "app-misc 3" in text(page(collector, "/packages"))
    words = text(page(collector, "/packages/app-misc"))
    assert "All packages of app-misc, by name" in words
    assert "beta 1.0 Another letter gamma 2.0" in words
    rest = text(page(collector, "/packages/app-misc?from=beta"))
    assert "gamma 2.0" in rest
    assert "beta 1.0" not in rest
    assert "In the ebuild repositories" not in text(page(collector, "/packages/dev-none"))
