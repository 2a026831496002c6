# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of this repository, and what Python modules among them import."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dev.places import ROOT


@cache
def committed() -> tuple[Path, ...]:
    """Every file that is, or would be, committed."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    paths = (ROOT / name.decode() for name in names.split(b"\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import statement's target, as a dotted name; `at_top`: done when the module is imported."""

    importer: str
    imported: str
    line: int
    at_top: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    """The dotted name of a Python file in the repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules(package: str) -> dict[str, Path]:
    """Dotted name → file, of all modules of a package."""
    return {module_name(path): path for path in sorted((ROOT / package).rglob("*.py"))}


def imports(package: str) -> Iterator[Import]:
    """Every import within `package`, type-checking ones too: an arrow is an arrow."""
    for importer, path in modules(package).items():
        yield from _imports_of(importer, ast.parse(path.read_text()))


def _imports_of(importer: str, tree: ast.AST, *, at_top: bool = True) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        for imported in _targets(node):
            assert isinstance(node, ast.Import | ast.ImportFrom)
            yield Import(importer=importer, imported=imported, line=node.lineno, at_top=at_top)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _imports_of(importer, node, at_top=at_top and not inside)


def _targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports are not used here"
        return [_module_of(f"{node.module}.{alias.name}") for alias in node.names]
    return []


def _module_of(name: str) -> str:
    """`name` where that is a module of ours, else what it is in (`from x import y` may mean either)."""
    path = ROOT.joinpath(*name.split("."))
    if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
        return name
    return name.rpartition(".")[0]
