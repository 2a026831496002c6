# SPDX-License-Identifier: GPL-2.0-or-later
"""What engines calculate under other names, or to numbers of another kind: here all of them do it alike.

`larger` and `smaller` of two values; and a sum of whole numbers is one, where PostgreSQL makes a decimal
fraction of it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import ReturnTypeFromArgs
from sqlalchemy.sql.functions import sum as total

__all__ = ["larger", "smaller"]


class larger(ReturnTypeFromArgs[Any]):
    """The larger of two values, neither of which is null."""

    inherit_cache = True


class smaller(ReturnTypeFromArgs[Any]):
    """The smaller of two values, neither of which is null."""

    inherit_cache = True


_NAMES: Final = {larger: ("max", "greatest"), smaller: ("min", "least")}
"""Of SQLite's function, and of PostgreSQL's."""


@compiles(larger)
@compiles(smaller)
def _compared(function: Any, compiler: Any, **options: Any) -> str:
    name = _NAMES[type(function)][compiler.dialect.name == "postgresql"]
    return f"{name}{compiler.function_argspec(function, **options)}"


@compiles(total, "postgresql")
def _summed(function: Any, compiler: Any, **options: Any) -> str:
    text: str = compiler.visit_function(function, **options)
    return f"CAST({text} AS BIGINT)" if isinstance(function.type, Integer) else text
