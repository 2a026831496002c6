# SPDX-License-Identifier: GPL-2.0-or-later
"""Dependency specifications (PMS §8.2): read, reduced by USE, and in one spelling.

    reduced = reduce(parse("gtk? ( gui-libs/gtk:4= ) || ( a/b[ssl?] ( c/d ) )"), {"ssl"}, eapi="8")
    to_text(reduced)                                      # "|| ( a/b[ssl] c/d )"

Portage writes dependencies into a package after it reduced them, and compares those of an ebuild with them
so; hence what is equal here is what is equal there, whatever white space or needless parentheses an ebuild
has. The order stays: Portage heeds it, and in `|| ( )` it says what is preferred. Values of the same syntax
without atoms (LICENSE, PROPERTIES, RESTRICT) are read likewise. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import InvalidDependency

ALL_OF: Final = ""
ANY_OF: Final = "||"
UNSATISFIABLE: Final = "__const__/empty-any-of"
"""What stands for an any-of group of which USE left nothing, as Portage writes it."""

_EMPTY_ANY_OF_IS_TRUE = frozenset("0123456")  # EAPIs (PMS §8.2.3)
_CONDITION = re.compile(r"!?[A-Za-z0-9][A-Za-z0-9+_@.-]*\?")
_NO_WORD = re.compile(r"[()].*|.*[()?]|\|.*|.*\|")
_USE_DEPENDENCIES = re.compile(r"([^\[\]]+)\[([^\[\]]+)\](.*)")
_USE_DEPENDENCY = re.compile(r"([!-]?)([^][!?=()-][^][!?=()]*)(\([+-]\))?([?=]?)")


@dataclass(frozen=True, slots=True)
class Group:
    """A group in parentheses."""

    kind: str
    """`ALL_OF`, `ANY_OF`, or a condition: `flag?`, `!flag?`."""
    members: Nodes


Nodes = tuple["str | Group", ...]


def parse(text: str) -> Nodes:
    """The words and groups of `text`. Raises `InvalidDependency`; does not look at what a word names."""
    if len(text) > limits.DEPENDENCY_LENGTH:
        raise InvalidDependency(f"longer than {limits.DEPENDENCY_LENGTH} characters")
    open_groups: list[tuple[str, list[str | Group]]] = [(ALL_OF, [])]
    kind: str | None = None  # of the group that must begin now
    for word in text.split():
        if word == "(":
            if len(open_groups) > limits.DEPENDENCY_DEPTH:
                raise InvalidDependency(f"more than {limits.DEPENDENCY_DEPTH} groups within each other")
            open_groups.append((kind or ALL_OF, []))
            kind = None
        elif kind is not None:
            raise InvalidDependency(f"{kind[:100]} without a group")
        elif word == ")":
            _close(open_groups)
        elif word == ANY_OF or _CONDITION.fullmatch(word):
            kind = word
        elif _NO_WORD.fullmatch(word) or not word.isprintable():
            raise InvalidDependency(f"{word[:100]!r} is no word of a dependency")
        else:
            open_groups[-1][1].append(word)
    if kind is not None or len(open_groups) > 1:
        raise InvalidDependency("a group without its end")
    return tuple(open_groups[0][1])


def _close(open_groups: list[tuple[str, list[str | Group]]]) -> None:
    kind, members = open_groups.pop()
    if not open_groups:
        raise InvalidDependency("a parenthesis that closes nothing")
    if not members:
        raise InvalidDependency("an empty group")
    open_groups[-1][1].append(Group(kind, tuple(members)))


def reduce(nodes: Nodes, use: Collection[str], *, eapi: str) -> Nodes:
    """What is left of `nodes` where the flags of `use` are enabled and no others, without needless groups.

    Raises `InvalidDependency` for a malformed USE dependency.
    """
    return tuple(_Reduction(frozenset(use), eapi in _EMPTY_ANY_OF_IS_TRUE).all_of(nodes))


@dataclass(frozen=True, slots=True)
class _Reduction:
    use: frozenset[str]
    empty_any_of_is_true: bool

    def all_of(self, nodes: Nodes) -> Iterator[str | Group]:
        """What must all be there: groups that only say so are dissolved."""
        for node in nodes:
            if isinstance(node, str):
                yield self._word(node)
            elif node.kind == ANY_OF:
                yield from self._one_of(node)
            elif self._applies(node):
                yield from self.all_of(node.members)

    def _one_of(self, group: Group) -> Iterator[str | Group]:
        choices = tuple(self._choices(group.members))
        if len(choices) == 1:
            (only,) = choices
            yield from only.members if isinstance(only, Group) and only.kind == ALL_OF else choices
        elif choices:
            yield Group(ANY_OF, choices)
        elif not self.empty_any_of_is_true:
            yield UNSATISFIABLE

    def _choices(self, nodes: Nodes) -> Iterator[str | Group]:
        """What of an any-of group can be chosen; an any-of group in it offers its own."""
        for node in nodes:
            if isinstance(node, str):
                yield self._word(node)
                continue
            if node.kind != ANY_OF and not self._applies(node):
                continue
            inner = tuple(self._one_of(node) if node.kind == ANY_OF else self.all_of(node.members))
            if len(inner) > 1:
                yield Group(ALL_OF, inner)
            elif inner:
                (only,) = inner
                yield from only.members if isinstance(only, Group) else inner

    def _applies(self, group: Group) -> bool:
        if group.kind == ALL_OF:
            return True
        flag = group.kind[:-1]
        return flag[1:] not in self.use if flag[0] == "!" else flag in self.use

    def _word(self, word: str) -> str:
        """An atom with its USE dependencies (PMS §8.3.4) decided."""
        if "[" not in word:
            return word
        match = _USE_DEPENDENCIES.fullmatch(word)
        if match is None:
            raise InvalidDependency(f"{word[:100]!r} is no word of a dependency")
        package, flags, rest = match.groups()
        decided = [self._flag(flag) for flag in flags.split(",")]
        remaining = ",".join(flag for flag in decided if flag)
        return package + (f"[{remaining}]" if remaining else "") + rest

    def _flag(self, text: str) -> str:
        """One USE dependency: `[flag?]` may demand something, `[flag=]` always does; empty for nothing."""
        match = _USE_DEPENDENCY.fullmatch(text)
        if match is None or (match[1] == "!" and not match[4]) or (match[1] == "-" and match[4]):
            raise InvalidDependency(f"{text[:100]!r} is no USE dependency")
        prefix, flag, default, operator = match[1], match[2], match[3] or "", match[4]
        if not operator:
            return text
        is_met = (flag in self.use) != (prefix == "!")  # `flag?`, `flag=`: enabled; `!flag?`, `!flag=`: not
        if operator == "?":
            demanded = f"{'-' if prefix else ''}{flag}{default}"
            return demanded if is_met else ""
        return f"{'' if is_met else '-'}{flag}{default}"


def to_text(nodes: Nodes) -> str:
    """`nodes` as Portage writes them."""
    return " ".join(_texts(nodes))


def _texts(nodes: Nodes) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        else:
            yield from (node.kind, "(") if node.kind else ("(",)
            yield from _texts(node.members)
            yield ")"


def words(nodes: Nodes) -> Iterator[str]:
    """All words in `nodes`, also those in groups, in their order."""
    for node in nodes:
        if isinstance(node, str):
            yield node
        else:
            yield from words(node.members)


def with_words(nodes: Nodes, change: Callable[[str], str]) -> Nodes:
    """`nodes` with `change` applied to each word."""
    return tuple(
        change(node) if isinstance(node, str) else Group(node.kind, with_words(node.members, change))
        for node in nodes
    )
