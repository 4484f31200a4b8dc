"""Data made up from declared shapes, to try a template with: what is there says which name it stands for."""

import re
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from templates.shapes import MAX_LINE, MAX_LINK, MAX_LIST, MAX_TEXT, Listing, Record, Shape, joined, scalar_name

NAME = "Ada"
_VALUES: Mapping[str, Any] = MappingProxyType(
    {
        "integer": 3,
        "number": 2,
        "amount": "1234.50",
        "currency": "GBP",
        "date": "2031-05-04",
        "time": "2031-05-04T21:30:00Z",
        "flag": True,
        "email": "ada@shop.example",
        "phone": "+442071838750",
        "fid": "cQ7hV9k2",
        "locale": "en-GB",
        "time_zone": "Europe/London",
    }
)
_LONGEST = {"id": MAX_LINE, "line": MAX_LINE, "text": MAX_TEXT}
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def sample(record: Record, *, elements: int = 2, without: Collection[str] = ()) -> dict[str, Any]:
    """Return data of a declared shape; lists have so many elements, and what `without` names by its path is absent."""
    return _record(record, "", elements=elements, without=without, longest=False)


def variants(record: Record) -> Iterator[dict[str, Any]]:
    """Return the data that a template must cope with: all there, lists empty, each thing that may be absent absent."""
    optional = list(_optional(record, ""))
    yield sample(record)
    yield sample(record, elements=0)
    yield sample(record, elements=1, without=optional)
    yield from (sample(record, without=[path]) for path in optional)


def largest(record: Record) -> dict[str, Any]:
    """Return the most that anybody may give: each list and each text as long as it may be."""
    return _record(record, "", elements=MAX_LIST, without=(), longest=True)


def _record(record: Record, path: str, *, elements: int, without: Collection[str], longest: bool) -> dict[str, Any]:
    return {
        name: _value(shape, joined(path, name), elements=elements, without=without, longest=longest)
        for name, shape, _ in record.members
        if joined(path, name) not in without
    }


def _value(shape: Shape, path: str, *, elements: int, without: Collection[str], longest: bool) -> Any:
    if isinstance(shape, Record):
        return _record(shape, path, elements=elements, without=without, longest=longest)
    if isinstance(shape, Listing):
        element = _value(shape.element, path, elements=elements, without=without, longest=longest)
        return [element] * elements
    return _scalar(scalar_name(shape), path, longest=longest)


def _scalar(kind: str, path: str, *, longest: bool) -> Any:
    words = [word.lower() for word in _WORDS.findall(path.rpartition(".")[2])] or ["it"]
    if kind == "link":
        link = f"https://shop.example/{'-'.join(words)}"
        return link.ljust(MAX_LINK, "x") if longest else link
    if kind in _LONGEST:
        text = f"{'-'.join(words).upper()}-1" if kind == "id" else " ".join(words).capitalize()
        return text.ljust(_LONGEST[kind], "x") if longest else text
    return _VALUES[kind]


def _optional(shape: Shape, path: str) -> Iterator[str]:
    if isinstance(shape, Listing):
        yield from _optional(shape.element, path)
    elif isinstance(shape, Record):
        for name, member, required in shape.members:
            if not required:
                yield joined(path, name)
            yield from _optional(member, joined(path, name))
