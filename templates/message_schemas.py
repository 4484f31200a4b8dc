"""The JSON Schema (2020-12) of each message type: what the catalogue reads of it, as far as a schema can say it.

Whatever the service takes fits the schema. The reverse does not hold: that an address can exist, or that a time lies
within 90 days, no schema says.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ledger.values import Channel
from templates import people
from templates.catalogue import Catalogue
from templates.entries import Field, Rule
from templates.expressions import Expression
from templates.shapes import SCALARS, schema_of

Schema = Mapping[str, Any]
_ANYTHING: Schema = {}
# What a payload may say where it says nothing.
_NOTHING: Schema = {"enum": [None, ""]}
_ID = SCALARS["id"].schema


def message_schemas(catalogue: Catalogue, *, channels: Collection[Channel]) -> dict[str, Schema]:
    """Return the schemas of all messages by their type with its version; only served channels need their addresses."""
    payloads = {key: _payload(rules, channels=channels) for key, rules in catalogue.rules.items()}
    return {named(*key): _message(*key, payload) for key, payload in sorted({**people.PAYLOADS, **payloads}.items())}


def named(message_type: str, version: int) -> str:
    """Return a type as schemas are named by it: with its version."""
    return f"{message_type}.v{version}"


def _message(message_type: str, version: int, payload: Schema) -> Schema:
    name = named(message_type, version)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "type": "object",
        "properties": {
            "messageId": _ID,
            "messageType": {"enum": [name, message_type] if version == 1 else [name]},
            "timestamp": SCALARS["time"].schema,
            "correlationId": _or_null(_ID),
            "partitionKey": _or_null(_ID),
            "payload": _all([{"type": "object"}, payload]),
        },
        "required": ["messageId", "messageType", "timestamp", "payload"],
        "anyOf": [
            {"properties": {"sourceService": _ID}, "required": ["sourceService"]},
            {"properties": {"sourceService": {"type": "null"}, "source": _ID}, "required": ["source"]},
        ],
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _payload(rules: Sequence[Rule], *, channels: Collection[Channel]) -> Schema:
    return _all(_of_rule(rule, channels=channels) for rule in rules)


def _of_rule(rule: Rule, *, channels: Collection[Channel]) -> Schema:
    said = list(_said(rule, channels=channels))
    if rule.for_each is None:
        return _all(schema for root, schema in said if root == "payload")
    element = _all(schema for root, schema in said if root == "item")
    beside = _all(schema for root, schema in said if root == "payload")
    listed = _required(rule.for_each, {"type": "array", "items": element} if element else {"type": "array"})
    if not beside:
        return listed
    # Where nobody is to be told, nothing else is read.
    return _all([listed, {"anyOf": [_required(rule.for_each, {"type": "array", "maxItems": 0}), beside]}])


def _said(rule: Rule, *, channels: Collection[Channel]) -> Iterator[tuple[str, Schema]]:
    """Return what a rule asks of a message, each with the root that it is asked of: the payload, or a list's item."""
    fields = [rule.recipient, rule.name, rule.locale, rule.send_at, rule.expires_at, rule.expires_in]
    for field in (*fields, *(field for _, field in rule.data)):
        yield from _field(field)
    fallback = rule.kind.fallback_on(channels)
    if fallback is not None:
        yield from _field(rule.to.get(fallback.channel))
    for channel in rule.kind.channels:
        if channel in channels:
            yield from _field(rule.to.get(channel), when=rule.when.get(channel))


def _field(field: Field | None, *, when: Expression | None = None) -> Iterator[tuple[str, Schema]]:
    """Return what is asked of a field; one that hangs on the presence of another is not asked for without that."""
    if field is None:
        return
    roots = {path[0] for path in (*field.expression.paths, *(when.paths if when else ()))}
    if len(roots) > 1:
        return
    schema = schema_of(field.shape)
    stated = _optional if field.expression.optional else _required
    if when is None:
        yield roots.pop(), stated(field.expression, schema)
    elif when.paths == field.expression.paths:
        yield roots.pop(), _optional(field.expression, schema)
    else:
        yield roots.pop(), {"anyOf": [_absent(when), stated(field.expression, schema)]}


def _required(expression: Expression, schema: Schema) -> Schema:
    """Say that the first path that is present holds what fits a schema, and that one is."""
    return _any(_firsts(expression, schema))


def _optional(expression: Expression, schema: Schema) -> Schema:
    """Say the same of what may be absent."""
    if len(expression.paths) == 1:
        said: Schema = {"anyOf": [schema, _NOTHING]}
        for key in reversed(expression.paths[0][1:]):
            said = {"properties": {key: said}}
        return said
    return _any([*_firsts(expression, schema), _absent(expression)])


def _firsts(expression: Expression, schema: Schema) -> Iterator[Schema]:
    for place, path in enumerate(expression.paths):
        before = Expression(expression.paths[:place], optional=False)
        yield _all([_absent(before) if place else _ANYTHING, _there(path[1:], _present(schema))])


def _absent(expression: Expression) -> Schema:
    return _all({"not": _there(path[1:], {"not": _NOTHING})} for path in expression.paths)


def _there(keys: Sequence[str], schema: Schema) -> Schema:
    """Say that something stands there and fits a schema."""
    for key in reversed(keys):
        schema = {"type": "object", "properties": {key: schema}, "required": [key]}
    return schema


def _present(schema: Schema) -> Schema:
    """Say that a value fits a schema and counts as one: the empty string does not."""
    if not schema:
        return {"not": _NOTHING}
    if schema.get("type") != "string":
        return schema
    return {**schema, "minLength": max(1, schema.get("minLength", 0))}


def _any(schemas: Iterable[Schema]) -> Schema:
    alternatives = list(schemas)
    return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}


def _all(schemas: Iterable[Schema]) -> Schema:
    """Say what all say; what is asked of objects is put together member by member."""
    properties: dict[str, Schema] = {}
    required: dict[str, None] = {}
    others: list[Schema] = []
    is_object = False
    for part in (part for schema in schemas for part in _parts(schema)):
        if _is_of_objects(part):
            is_object = is_object or "type" in part
            required |= dict.fromkeys(part.get("required", ()))
            for name, member in part.get("properties", {}).items():
                properties[name] = _all([properties.get(name, _ANYTHING), member])
        elif part not in others:
            others.append(part)
    said: dict[str, Any] = {"type": "object"} if is_object else {}
    said |= {"properties": properties} if properties else {}
    said |= {"required": list(required)} if required else {}
    if not said and len(others) == 1:
        return others[0]
    return {**said, "allOf": others} if others else said


def _parts(schema: Schema) -> Iterator[Schema]:
    """Return what must all hold."""
    yield {name: said for name, said in schema.items() if name != "allOf"}
    for part in schema.get("allOf", ()):
        yield from _parts(part)


def _is_of_objects(schema: Schema) -> bool:
    return schema.keys() <= {"type", "properties", "required"} and schema.get("type", "object") == "object"
