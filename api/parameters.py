"""Query parameters, read strictly: every fault at once, unknown names refused, no value repeated."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl

from litestar.types import Scope

from api.problems import malformed
from templates.envelope import Fault, is_identifier, read_time, shown

_TIME = "must be an ISO 8601 time with an offset, such as 2026-11-20T09:00:00Z (in a URL, + is written %2B)"
_WHOLE = re.compile(r"[0-9]{1,18}")
_Word = TypeVar("_Word", bound=StrEnum)


class Parameters:
    """Values by name; each reader returns None where nothing was given, and notes what is wrong."""

    def __init__(self, given: Mapping[str, str], *, known: Collection[str], faults: list[Fault] | None = None) -> None:
        self._given = given
        self._faults = list(faults or ())
        unknown = (name for name in given if name not in known)
        expected = f"is not known; known are {', '.join(sorted(known))}" if known else "is not known; none is taken"
        self._faults += [Fault(shown(name), expected) for name in unknown]

    @classmethod
    def of_query(cls, scope: Scope, *, known: Collection[str]) -> "Parameters":
        """Read the query of a request; each name stands in it at most once."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        names = [name for name, _ in pairs]
        twice = [Fault(shown(name), "must be given once") for name in dict.fromkeys(names) if names.count(name) > 1]
        return cls(dict(pairs), known=known, faults=twice)

    def text(self, name: str) -> str | None:
        """Return a short printable text."""
        value = self._given.get(name)
        if value is None or is_identifier(value):
            return value
        self.refuse(name, "must be 1 to 200 printable characters")
        return None

    def word(self, name: str, words: type[_Word]) -> _Word | None:
        """Return one of a fixed list of words."""
        value = self._given.get(name)
        if value is None or value in set(words):
            return None if value is None else words(value)
        self.refuse(name, f"must be {' or '.join(words)}")
        return None

    def flag(self, name: str) -> bool | None:
        """Return true or false."""
        value = self._given.get(name)
        if value not in {None, "true", "false"}:
            self.refuse(name, "must be true or false")
        return None if value is None else value == "true"

    def time(self, name: str) -> datetime | None:
        """Return a time in UTC."""
        value = self._given.get(name)
        # Python's own reader passes over a NUL before the offset.
        moment = read_time(value) if value is not None and value.isprintable() else None
        if value is not None and moment is None:
            self.refuse(name, _TIME)
        return moment

    def whole(self, name: str, *, least: int, most: int) -> int | None:
        """Return a whole number within borders."""
        value = self._given.get(name)
        if value is None:
            return None
        if _WHOLE.fullmatch(value) and least <= int(value) <= most:
            return int(value)
        self.refuse(name, f"must be a whole number from {least} to {most}")
        return None

    def refuse(self, name: str, message: str) -> None:
        """Note a fault."""
        self._faults.append(Fault(name, message))

    def done(self) -> None:
        """Raise the problem that names every fault, unless there is none."""
        if self._faults:
            raise malformed(*self._faults)
