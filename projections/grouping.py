"""The SQL that asks for what is counted: sums by some columns, of the rows of a stretch of time."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from psycopg import sql
from psycopg.adapt import PyFormat

Name = TypeVar("Name", bound=StrEnum)


def placeholder(name: str) -> sql.Placeholder:
    """Compose a value that is given under a name."""
    return sql.Placeholder(name, PyFormat.BINARY)


def conditions(time: str, only: Iterable[StrEnum]) -> sql.Composed:
    """Compose what must hold: `time` is in the range that `values` gives, and each of `only` is what it says."""
    since, until = placeholder("since"), placeholder("until")
    return sql.SQL(" AND ").join(
        [
            sql.SQL("{0} >= {1} AND {0} < {2}").format(sql.Identifier(time), since, until),
            *(sql.SQL("{} = {}").format(sql.Identifier(name), placeholder(f"only_{name}")) for name in only),
        ]
    )


def values(since: object, until: object, only: Mapping[Name, str]) -> dict[str, Any] | None:
    """Return the values for the conditions; None where one is a text that no column can hold."""
    if not all(_storable(value) for value in only.values()):
        return None
    return {"since": since, "until": until, **{f"only_{name}": value for name, value in only.items()}}


def each(parts: Iterable[sql.Composable]) -> sql.Composed:
    """Compose columns, each followed by a comma: more stand behind them."""
    return sql.Composed([part + sql.SQL(",") for part in parts])


def grouped(count: int) -> sql.Composable:
    """Compose the grouping by the first columns of the answer, and their order."""
    if not count:
        return sql.SQL("HAVING count(*) > 0")
    numbers = sql.SQL(", ").join(sql.SQL(str(number)) for number in range(1, count + 1))
    return sql.SQL("GROUP BY {0} ORDER BY {0}").format(numbers)


def _storable(value: str) -> bool:
    """Whether a column can hold it: a text with NUL or a lone surrogate equals nothing that is stored."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
