"""JSON Schema as far as our documents use it: enough to say whether a message is what they describe."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

Schema = Mapping[str, Any]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "object": (dict,),
    "array": (list,),
    "boolean": (bool,),
    "null": (type(None),),
}
_FORMATS: Mapping[str, Callable[[str], object]] = {"uuid": UUID, "date-time": datetime.fromisoformat}
KNOWN = {
    *(
        "$ref",
        "anyOf",
        "allOf",
        "enum",
        "type",
        "format",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "discriminator",
    ),
    *("title", "description"),
}


def faults(value: Any, schema: Schema, document: Schema, at: str = "$") -> Iterator[str]:
    """Say where a value is not as the schema has it; a name that the schema does not know is a fault too."""
    assert set(schema) <= KNOWN, f"{at}: this reader does not know {set(schema) - KNOWN}"
    if "$ref" in schema:
        yield from faults(value, _referred(schema["$ref"], document), document, at)
    if "anyOf" in schema and all(any(faults(value, one, document, at)) for one in schema["anyOf"]):
        yield f"{at}: fits none of the alternatives"
    for one in schema.get("allOf", ()):
        yield from faults(value, one, document, at)
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of the words"
    if "type" in schema and not isinstance(value, _TYPES[schema["type"]]):
        yield f"{at}: is not of type {schema['type']}"
    elif "format" in schema:
        yield from _of_format(value, schema["format"], at)
    elif isinstance(value, dict):
        yield from _inside(value, schema, document, at)
    elif isinstance(value, list) and "items" in schema:
        for place, one in enumerate(value):
            yield from faults(one, schema["items"], document, f"{at}[{place}]")


def _referred(reference: str, document: Schema) -> Schema:
    place: Any = document
    for step in reference.removeprefix("#/").split("/"):
        place = place[step]
    found: Schema = place
    return found


def _of_format(value: str, name: str, at: str) -> Iterator[str]:
    try:
        _FORMATS[name](value)
    except ValueError:
        yield f"{at}: is no {name}"


def _inside(value: dict[str, Any], schema: Schema, document: Schema, at: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    yield from (f"{at}.{name}: is missing" for name in schema.get("required", ()) if name not in value)
    if "type" not in schema:
        return
    for name, inner in value.items():
        described = properties.get(name, schema.get("additionalProperties"))
        if described is None:
            yield f"{at}.{name}: is not described"
        else:
            yield from faults(inner, described, document, f"{at}.{name}")
