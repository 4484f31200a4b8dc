"""JSON Schema 2020-12, validation by the letter of its keywords: those that the schemas of messages use."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]
ANNOTATIONS = {"$schema", "title", "description", "format"}


def fits(value: Any, schema: Schema) -> bool:
    """Whether a value is what a schema says."""
    assert schema.keys() <= _KEYWORDS.keys() | ANNOTATIONS, schema.keys()
    return all(_KEYWORDS[name](value, said) for name, said in schema.items() if name in _KEYWORDS)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    # 1.0 is an integer (section 6.1.1 of the validation part).
    "integer": lambda value: _is_number(value) and value == int(value),
}


def _of(kind: Callable[[Any], bool], check: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Return a keyword that says something of one kind of value, and nothing of others."""
    return lambda value, said: not kind(value) or check(value, said)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one: to JSON, true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


_string, _object, _array = (_TYPES[name] for name in ("string", "object", "array"))
_KEYWORDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, said: _TYPES[said](value),
    "enum": lambda value, said: any(_same(value, one) for one in said),
    "anyOf": lambda value, said: any(fits(value, one) for one in said),
    "allOf": lambda value, said: all(fits(value, one) for one in said),
    "not": lambda value, said: not fits(value, said),
    "pattern": _of(_string, lambda value, said: re.search(said, value) is not None),
    "minLength": _of(_string, lambda value, said: len(value) >= said),
    "maxLength": _of(_string, lambda value, said: len(value) <= said),
    "minimum": _of(_is_number, lambda value, said: value >= said),
    "maximum": _of(_is_number, lambda value, said: value <= said),
    "exclusiveMinimum": _of(_is_number, lambda value, said: value > said),
    "exclusiveMaximum": _of(_is_number, lambda value, said: value < said),
    "maxItems": _of(_array, lambda value, said: len(value) <= said),
    "items": _of(_array, lambda value, said: all(fits(one, said) for one in value)),
    "required": _of(_object, lambda value, said: all(name in value for name in said)),
    "properties": _of(
        _object, lambda value, said: all(fits(value[name], one) for name, one in said.items() if name in value)
    ),
}
