"""What a value must look like to be said: the catalogue's scalar types, lists and records."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from templates.addresses import FID_PATTERN, MAX_EMAIL, PHONE_PATTERN, is_email, is_fid, is_phone, read_phone
from templates.envelope import MAX_IDENTIFIER, MAX_TIME, TIME_PATTERN, Fault, is_identifier, read_time

MAX_TEXT = 2000
MAX_LINE = 200
# A mail that lists more is read by nobody, and takes the process longer to render than others may wait.
MAX_LIST = 200
MAX_LINK = 2000
LARGEST_NUMBER = 10**15  # beyond, a float that became JSON no longer returns to the cent

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_BREAK = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,4}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,6})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The database also lies there with leap seconds (right/) and without (posix/), which no calendar of people counts.
_TIME_ZONE = re.compile(r"(?!posix/|right/)[A-Za-z][A-Za-z0-9_+-]{0,30}(?:/[A-Za-z0-9_+-]{1,30}){0,2}")
# Written so that readers of JSON Schema understand it, too: they know no flags.
_LINK = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://[^\s@/?#<>\"'`{}|\\^]+(?:[/?#]\S*)?")


def is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and _CONTROL.search(value) is None


def is_line(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_LINE and _BREAK.search(value) is None


def is_integer(value: object) -> bool:
    return type(value) is int and abs(value) < LARGEST_NUMBER


def is_number(value: object) -> bool:
    return type(value) in {int, float} and abs(value) < LARGEST_NUMBER  # type: ignore[arg-type]


def is_amount(value: object) -> bool:
    return is_number(value) or (isinstance(value, str) and _DECIMAL.fullmatch(value) is not None)


def is_currency(value: object) -> bool:
    """ISO 4217 alphabetic code, by its form."""
    return isinstance(value, str) and _CURRENCY.fullmatch(value) is not None


def is_date(value: object) -> bool:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def is_time(value: object) -> bool:
    return read_time(value) is not None


def is_link(value: object) -> bool:
    """Tell whether a value is an absolute http(s) URL without user-info; `javascript:` and its kin are not."""
    return (
        isinstance(value, str) and len(value) <= MAX_LINK and value.isprintable() and _LINK.fullmatch(value) is not None
    )


def is_flag(value: object) -> bool:
    return isinstance(value, bool)


def is_locale(value: object) -> bool:
    """Tell whether a value has the form of a language tag (BCP 47); an underscore may stand for the hyphen."""
    return isinstance(value, str) and _LOCALE.fullmatch(value) is not None


def is_time_zone(value: object) -> bool:
    """Tell whether a value names a time zone of the IANA database."""
    if not isinstance(value, str) or not _TIME_ZONE.fullmatch(value):
        return False
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as Europe
        return False
    return True


def decimal_of(value: float | str) -> Decimal:
    """Return an amount that `is_amount` passed. Raises ValueError for anything else."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise ValueError("not an amount")
    return amount


class Scalar(msgspec.Struct, frozen=True):
    """One value of a named type, taken as it is; where there is a `form`, as that returns it (None: it is none).

    `schema` is what JSON Schema can say of it: whatever is taken fits it.
    """

    check: Callable[[object], bool]
    expected: str
    form: Callable[[object], Any] | None = None
    schema: Mapping[str, Any] = {}

    def read(self, value: Any, path: str, faults: list[Fault]) -> Any:
        if self.form is not None:
            value = self.form(value)
        if value is not None and (self.form is not None or self.check(value)):
            return value
        faults.append(Fault(path, self.expected))
        return None


def _string(pattern: str = "", **keywords: Any) -> dict[str, Any]:
    return {"type": "string"} | ({"pattern": f"^(?:{pattern})$"} if pattern else {}) | keywords


_FINITE = {"exclusiveMinimum": -LARGEST_NUMBER, "exclusiveMaximum": LARGEST_NUMBER}
_A_NUMBER = {"type": "number", **_FINITE}
_ON_ONE_LINE = r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*"

SCALARS = {
    "id": Scalar(
        is_identifier,
        f"must be a string of 1 to {MAX_IDENTIFIER} printable characters",
        schema=_string(minLength=1, maxLength=MAX_IDENTIFIER),
    ),
    "text": Scalar(
        is_text,
        f"must be a string of at most {MAX_TEXT} characters without controls",
        schema=_string(maxLength=MAX_TEXT),
    ),
    "line": Scalar(
        is_line,
        f"must be a string of at most {MAX_LINE} characters on one line",
        schema=_string(_ON_ONE_LINE, maxLength=MAX_LINE),
    ),
    "integer": Scalar(is_integer, "must be a whole number", schema={"type": "integer", **_FINITE}),
    "number": Scalar(is_number, "must be a number", schema=_A_NUMBER),
    "amount": Scalar(
        is_amount,
        "must be a number, or a decimal in a string",
        schema={"anyOf": [_A_NUMBER, _string(_DECIMAL.pattern)]},
    ),
    "currency": Scalar(is_currency, "must be an ISO 4217 code such as GBP", schema=_string(_CURRENCY.pattern)),
    "date": Scalar(is_date, "must be a date such as 2026-11-24", schema=_string(_DATE.pattern, format="date")),
    "time": Scalar(
        is_time, "must be an ISO 8601 time with an offset", schema=_string(TIME_PATTERN, maxLength=MAX_TIME)
    ),
    "link": Scalar(
        is_link,
        "must be an http or https URL",
        schema=_string(_LINK.pattern, maxLength=MAX_LINK),
    ),
    "flag": Scalar(is_flag, "must be true or false", schema={"type": "boolean"}),
    "email": Scalar(
        is_email,
        f"must be an e-mail address: one @, a domain, at most {MAX_EMAIL} characters",
        schema=_string(r"[^\s@]+@[^\s@]+", maxLength=MAX_EMAIL),
    ),
    "phone": Scalar(
        is_phone,
        "must be a phone number with its country code such as +442071838750",
        read_phone,
        schema=_string(PHONE_PATTERN),
    ),
    "fid": Scalar(
        is_fid,
        "must be a Firebase installation id: at most 64 letters, digits, - or _",
        schema=_string(FID_PATTERN),
    ),
    "locale": Scalar(is_locale, "must be a language tag such as en-GB", schema=_string(_LOCALE.pattern)),
    "time_zone": Scalar(
        is_time_zone, "must be an IANA time zone such as Europe/London", schema=_string(_TIME_ZONE.pattern)
    ),
}


class Listing(msgspec.Struct, frozen=True):
    """A list of one shape."""

    element: "Shape"

    def read(self, value: Any, path: str, faults: list[Fault]) -> Any:
        if not isinstance(value, list):
            faults.append(Fault(path, "must be a list"))
            return None
        if len(value) > MAX_LIST:
            faults.append(Fault(path, f"must have at most {MAX_LIST} elements"))
            return None
        return [self.element.read(element, f"{path}[{index}]", faults) for index, element in enumerate(value)]


class Record(msgspec.Struct, frozen=True):
    """An object; of `members` (name, shape, required) all are checked, and nothing else is taken along."""

    members: tuple[tuple[str, "Shape", bool], ...]
    names: frozenset[str]

    def read(self, value: Any, path: str, faults: list[Fault]) -> Any:
        if not isinstance(value, dict):
            faults.append(Fault(path, "must be an object"))
            return None
        taken = {}
        for name, shape, required in self.members:
            member = value.get(name)
            if member is not None:
                taken[name] = shape.read(member, joined(path, name), faults)
            elif required:
                faults.append(Fault(joined(path, name), "is required"))
        return taken


Shape = Scalar | Listing | Record


def compile_shape(spec: object) -> Shape:
    """Compile a scalar's name, a list of one shape, or a mapping of names (`?` = may be absent). Raises ValueError."""
    if isinstance(spec, str) and spec in SCALARS:
        return SCALARS[spec]
    if isinstance(spec, list) and len(spec) == 1:
        return Listing(compile_shape(spec[0]))
    if isinstance(spec, dict) and spec and all(isinstance(name, str) for name in spec):
        return compile_record(spec)
    raise ValueError(f"a shape is one of {', '.join(SCALARS)}, a list of one shape, or a mapping of names to shapes")


def compile_record(spec: dict[str, Any]) -> Record:
    """Compile a mapping of names to shapes. Raises ValueError."""
    for name in spec:
        if not name.removesuffix("?").isidentifier():
            raise ValueError(f"{name!r} is no name that a template could use")
    members = tuple(
        (name.removesuffix("?"), compile_shape(shape), not name.endswith("?")) for name, shape in spec.items()
    )
    return Record(members, frozenset(name for name, _, _ in members))


def as_written(shape: Shape) -> Any:
    """Return a shape as the catalogue writes it: what `compile_shape` makes it of."""
    match shape:
        case Record():
            return {name if required else f"{name}?": as_written(member) for name, member, required in shape.members}
        case Listing():
            return [as_written(shape.element)]
        case Scalar():
            return scalar_name(shape)


def scalar_name(shape: Scalar) -> str:
    """Return the name of one of SCALARS."""
    return next(name for name, known in SCALARS.items() if known is shape)


def joined(path: str, name: str) -> str:
    """Return the path of a member."""
    return f"{path}.{name}" if path else name


def schema_of(shape: Shape) -> Mapping[str, Any]:
    """Return what JSON Schema (2020-12) can say of a shape."""
    match shape:
        case Scalar():
            return shape.schema
        case Listing():
            return {"type": "array", "maxItems": MAX_LIST, "items": schema_of(shape.element)}
        case Record():
            members = {
                name: schema_of(member) if required else {"anyOf": [schema_of(member), {"type": "null"}]}
                for name, member, required in shape.members
            }
            due = [name for name, _, required in shape.members if required]
            return {"type": "object", "properties": members} | ({"required": due} if due else {})
