# SPDX-License-Identifier: GPL-2.0-or-later
"""Searching the catalogue: what comes first, page by page, through the API and by `gentwoo search`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from bdcs.web.documents import SearchDocument
from gentwoo_client.wire.errors import Malformed
from gentwoo_client.wire.search import SearchAnswer
from tests.ebuild_repositories import Tree
from tests.peer import Answer, request
from tests.processes import GENTWOO, Collector, environment, run

PACKAGES = {
    "app-editors/vim-9.1": "Vi, improved",
    "app-editors/vim-core-9.1": "vim and gvim shared files",
    "app-editors/gvim-9.1": "GUI version of the Vim text editor",
    "app-editors/nano-8.0": "Text editor, small and friendly",
    "app-text/evince-48": "Viewer for PDF and other documents",
    "dev-python/PyPDF-1": "Library to read PDF files",
    "dev-libs/libfoo++-2_beta": '100% of it\'s "quoted" OR NEAR(words) *',
}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    home = tmp_path_factory.mktemp("search")
    tree = Tree.create(home / "repo")
    for cpv, description in PACKAGES.items():
        tree.add(cpv, DESCRIPTION=description)
    tree.add("app-editors/vim-9999", KEYWORDS="", PROPERTIES="live", DESCRIPTION="Vi, improved")
    for number in range(30):
        tree.add(f"dev-perl/Many{number:02}-1", DESCRIPTION="One of many")
    with Collector(home) as collector:
        collector.bdcs("repository", "add", "gentoo", "--location", str(tree.root))
        collector.bdcs("repository", "sync", "gentoo")
        yield collector


def get(collector: Collector, **query: str) -> Answer:
    return request(collector.url, "GET", f"/v1/search?{urlencode(query)}")


def search(collector: Collector, query: str, **more: str) -> dict[str, Any]:
    """The answer, held against its description and read as the client reads it."""
    answer = get(collector, q=query, **more)
    assert answer.status == 200, answer
    SearchDocument.model_validate_json(answer.body)
    assert SearchAnswer.from_json(answer.document).to_json() == answer.document
    return answer.document


def names(collector: Collector, query: str) -> list[str]:
    return [package["name"] for package in search(collector, query)["packages"]]


def test_the_name_itself_comes_first(collector: Collector) -> None:
    assert names(collector, "vim") == ["vim", "vim-core", "gvim"]
    assert names(collector, "VIM") == ["vim", "vim-core", "gvim"]
    assert names(collector, "app-editors/vi") == ["vim", "vim-core", "gvim"], "the last by its description"
    assert names(collector, "pypdf") == ["PyPDF"]


def test_words_of_the_description_are_found_by_their_beginnings(collector: Collector) -> None:
    assert names(collector, "friendly editor") == ["nano"]
    assert names(collector, "text edi") == ["nano", "gvim"] or names(collector, "text edi") == [
        "gvim",
        "nano",
    ]
    assert names(collector, "pdf") == ["PyPDF", "evince"]
    assert names(collector, "pdf absent") == []


def test_a_live_version_is_not_the_newest(collector: Collector) -> None:
    found = search(collector, "vim")["packages"][0]
    assert found == {
        "category": "app-editors",
        "name": "vim",
        "description": "Vi, improved",
        "newest": "9.1",
        "repositories": ["gentoo"],
    }


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "*",
        "OR",
        "NEAR(",
        "a AND NOT",
        "name:vim",
        "%",
        "_",
        "' --",
        "libfoo++",
        "\\",
        "vim\u00ad",
        "(" * 200,
    ],
)
def test_nothing_is_a_command_to_the_engine(collector: Collector, query: str) -> None:
    assert get(collector, q=query).status == 200 or not query.isprintable()


def test_what_looks_like_syntax_is_text(collector: Collector) -> None:
    assert names(collector, "libfoo++") == ["libfoo++"]
    assert names(collector, '"quoted"') == ["libfoo++"]
    assert names(collector, "*") == []
    assert "vim" not in names(collector, "v_m")


def test_page_by_page(collector: Collector) -> None:
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = search(collector, "many", limit="7", **({"after": after} if after else {}))
        assert len(page["packages"]) <= 7
        seen += [package["name"] for package in page["packages"]]
        after = page["after"]
    assert seen == [f"Many{number:02}" for number in range(30)]
    assert search(collector, "many", after="999")["packages"] == []


def test_similar_names_where_nothing_is_found(collector: Collector) -> None:
    answer = search(collector, "evnice")
    assert (answer["packages"], answer["nearest"]) == ([], ["app-text/evince"])


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": ""},
        {"q": " "},
        {"q": "a" * 201},
        {"q": "a\nb"},
        {"q": "a", "limit": "0"},
        {"q": "a", "limit": "501"},
        {"q": "a", "limit": "x"},
        {"q": "a", "after": "x" * 17},
    ],
)
def test_questions_that_are_none(collector: Collector, query: dict[str, str]) -> None:
    answer = get(collector, **query)
    assert answer.status == 400
    assert answer.document["type"].endswith(":malformed")


def gentwoo(collector: Collector, *words: str, code: int = 0) -> Any:
    done = run([*GENTWOO, "search", "--collector", collector.url, *words], env=environment())
    assert done.returncode == code, done
    return done


def test_the_command(collector: Collector) -> None:
    done = gentwoo(collector, "vim")
    assert done.stdout.splitlines()[:2] == ["app-editors/vim-9.1", "    Vi, improved"]
    assert done.stderr == ""
    assert "There are more" in gentwoo(collector, "many", "--limit", "3").stderr
    document = json.loads(gentwoo(collector, "--json", "pdf", "viewer").stdout)
    assert [package["name"] for package in document["packages"]] == ["evince"]
    nothing = gentwoo(collector, "evnice", code=1)
    assert "app-text/evince" in nothing.stderr
    gentwoo(collector, "vim", "--limit", "0", code=2)
    gentwoo(collector, "x" * 300, code=2)


@pytest.mark.parametrize(
    "change",
    [
        {"packages": "many"},
        {"packages": [{}]},
        {
            "packages": [
                {"category": "a", "name": "b", "description": "\x1b[2J", "newest": "1", "repositories": []}
            ]
        },
        {"packages": [{"category": "a", "name": "-b", "description": "", "newest": "1", "repositories": []}]},
        {"packages": [{"category": "a", "name": "b", "description": "", "newest": "x", "repositories": []}]},
        {"nearest": None},
        {"after": 3},
    ],
)
def test_an_answer_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        SearchAnswer.from_json({"packages": [], "after": None, "nearest": [], **change})


def test_without_a_repository_nothing_is_found(tmp_path: Path) -> None:
    with Collector(tmp_path) as empty:
        assert search(empty, "vim") == {"packages": [], "after": None, "nearest": []}
