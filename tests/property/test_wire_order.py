# SPDX-License-Identifier: GPL-2.0-or-later
"""CPV, versions and atoms agree with Portage itself, and with pkgcore, on whatever hypothesis thinks of."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pkgcore.ebuild.cpv import Revision, ver_cmp

from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.cpv import CPV, is_version, split_cpv
from gentwoo_client.wire.errors import InvalidAtom
from gentwoo_client.wire.version import Version, compare_versions
from tests.wire_samples import cpvs, versions

ROOT = Path(__file__).parents[2]
ORACLE = """
import json, sys
from portage.dep import Atom, match_from_list
from portage.exception import InvalidAtom
from portage.versions import catpkgsplit, vercmp

def valid(text):
    try:
        Atom(text, allow_repo=True)
    except InvalidAtom:
        return False
    return True

def matches(atom, cpv):
    return bool(match_from_list(Atom(atom, allow_repo=True), [cpv]))

answers = {"vercmp": vercmp, "catpkgsplit": catpkgsplit, "valid": valid, "matches": matches}
for line in sys.stdin:
    question, *arguments = json.loads(line)
    print(json.dumps(answers[question](*arguments)), flush=True)
"""

Ask = Callable[..., object]


@pytest.fixture(scope="session")
def portage() -> Iterator[Ask]:
    """Portage's own functions, in its own interpreter, a line each: thousands of questions cost little."""
    with subprocess.Popen(
        [ROOT / ".portage/bin/python", "-c", ORACLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def ask(*question: object) -> object:
            questions.write(json.dumps(question) + "\n")
            questions.flush()
            return json.loads(answers.readline())

        yield ask
        questions.close()


def sign(number: object) -> int:
    """-1, 0 or 1."""
    assert isinstance(number, int)
    return (number > 0) - (number < 0)


def inter_revised(version: str) -> bool:
    """Whether the revision has a second part, as only old Prefix systems write it."""
    return "." in version.partition("-r")[2]


def almost(text: str) -> st.SearchStrategy[str]:
    """Versions that differ from `text` in one place, where order is decided."""
    neighbours = [text, text + "0", text + ".0", text + "_p", text + "_rc", text + "-r0", "0" + text]
    return st.sampled_from([each for each in neighbours if is_version(each) and not inter_revised(each)])


version_pairs = st.tuples(versions, versions) | versions.flatmap(
    lambda text: st.tuples(st.just(text), almost(text))
)


@given(pair=version_pairs)
@example(pair=("1.0", "1.00"))
@example(pair=("1.010", "1.1"))
@example(pair=("1.0", "1"))
@example(pair=("1_p", "1_p0"))
@example(pair=("1_alpha_p", "1_alpha"))
@example(pair=("1-r0", "1"))
@example(pair=("01.1", "1.1"))
@example(pair=("1.10", "1.9"))
@example(pair=("1_rc", "1"))
@example(pair=("1a", "1_p"))
def test_order_is_that_of_portage(portage: Ask, pair: tuple[str, str]) -> None:
    """`compare_versions` decides as vercmp does."""
    left, right = pair
    assert compare_versions(left, right) == sign(portage("vercmp", left, right))
    assert compare_versions(right, left) == -compare_versions(left, right)


@given(pair=version_pairs)
def test_order_is_that_of_pkgcore(pair: tuple[str, str]) -> None:
    """A second implementation of PMS agrees, but for zeros before the first component, which it counts."""
    assume(not any(re.match("0[0-9]", text) for text in pair))
    (left, left_revision), (right, right_revision) = (_parted(text) for text in pair)
    assert compare_versions(*pair) == sign(ver_cmp(left, left_revision, right, right_revision))


def _parted(text: str) -> tuple[str, object]:
    version, _, revision = text.partition("-r")
    return version, Revision(revision)


@given(st.lists(versions, min_size=2, max_size=6))
def test_versions_sort(texts: list[str]) -> None:
    """Sorting by `Version` and comparing in pairs agree; equal versions hash equally."""
    ordered = sorted(map(Version.parse, texts))
    for lower, higher in itertools.pairwise(ordered):
        assert compare_versions(lower.text, higher.text) <= 0
        if lower == higher:
            assert hash(lower) == hash(higher)


characters = st.text("abZ019_+.-/", min_size=1, max_size=14)
likely_cpvs = (
    cpvs.map(str)
    | characters
    | st.builds("{}/{}-{}".format, characters, characters, versions)
    | st.builds("cat/{}-{}-{}".format, st.sampled_from(["a", "a-b", "a+", "9", "x-1x"]), versions, versions)
)


@given(text=likely_cpvs)
@example(text="media-fonts/font-adobe-100dpi-1.0.4")
@example(text="app-misc/foo-2a_b-0.0.0.0_pre20240102-r0")
@example(text="app-misc/gcc-config-9x-1")
@example(text="app-misc/Zed+plus_under-1_alpha_beta2_p-r12")
def test_split_is_that_of_portage(portage: Ask, text: str) -> None:
    """`split_cpv` takes apart and refuses what catpkgsplit does, but where PMS is stricter."""
    ours, theirs = split_cpv(text), portage("catpkgsplit", text)
    if ours is not None and inter_revised(ours[2]):
        return
    if ours is None:
        stricter = text.startswith("+") or "/+" in text  # PMS §3.1.1, §3.1.2: no plus sign in front
        assert theirs is None or stricter
        return
    assert isinstance(theirs, list)
    category, name, version, revision = theirs
    assert ours[:2] == (category, name)
    assert ours[2].partition("-r")[0] == version
    assert (ours[2].partition("-r")[2] or "0") == revision.removeprefix("r")


slots = st.sampled_from(["", ":0", ":3.11", ":0/1", ":=", ":*", ":0=", ":0/1="])
atoms = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "!", "!!"]),
    cpvs.map(lambda cpv: cpv.cp)
    | st.builds("{}{}".format, st.sampled_from(["<", "<=", "=", ">=", ">"]), cpvs)
    | st.builds("={}*".format, cpvs),
    slots,
    st.sampled_from(["", "::gentoo"]),
    st.sampled_from(["", "[ssl]", "[-doc]", "[ssl?,!doc?]", "[ssl=,!doc=]", "[ssl(+),-doc(-)]"]),
)
wrong_atoms = st.sampled_from(
    ["", "foo", "a/b-1", "=a/b", ">a/b-1*", "a/b:", "a/b[", "a/b[]", "a/b[!ssl]", "a/b[-ssl?]",
     "a/b:0:1", "a/b[ssl,]", "=a/b-1:0*", "a/b:0*", "!!!a/b", "<>a/b-1", "a/b c", "a/b\n", "a/b::"]
)  # fmt: skip


@given(text=atoms | wrong_atoms)
def test_atoms_are_those_of_portage(portage: Ask, text: str) -> None:
    """What `Atom.parse` accepts Portage accepts, and the other way round; writing gives the same text."""
    try:
        atom = Atom.parse(text)
    except InvalidAtom:
        assert not portage("valid", text)
        return
    assert portage("valid", text)
    assert str(atom) == text


@given(
    operator=st.sampled_from(["<", "<=", "=", "~", ">=", ">", "=*"]),
    pair=version_pairs,
)
@example(operator="=*", pair=("1", "10"))
@example(operator="=*", pair=("1", "1.0"))
@example(operator="=*", pair=("1.0", "1.01"))
@example(operator="=*", pair=("01", "1.5"))
@example(operator="=*", pair=("1", "1a"))
@example(operator="~", pair=("1.0", "1.0-r3"))
@example(operator="~", pair=("1.0-r1", "1.0"))
def test_matching_is_that_of_portage(portage: Ask, operator: str, pair: tuple[str, str]) -> None:
    """`Atom.matches` decides as match_from_list does."""
    wanted, present = pair
    unlike = wanted.partition("-r")[0] != present.partition("-r")[0]
    assume(operator != "~" or not unlike or compare_versions(wanted, present))  # Portage compares texts here
    text = f"=a/b-{wanted}*" if operator == "=*" else f"{operator}a/b-{wanted}"
    cpv = f"a/b-{present}"
    assert Atom.parse(text).matches(CPV.parse(cpv)) == portage("matches", text, cpv)


def test_the_oracle_is_not_our_interpreter() -> None:
    """Portage answers from a venv of its own: in ours it would put its emerge first on PATH."""
    assert not (Path(sys.prefix) / "bin/emerge").exists()
