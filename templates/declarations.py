"""The catalogue as it is written: the form of its YAML, read with every fault and its line."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml

from ledger.values import Category, Channel, DoubtPolicy, Lane, Retention

S = TypeVar("S")
T = TypeVar("T")
Where = tuple[str | int, ...]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]

_DURATION = re.compile(r"([1-9][0-9]{0,4})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MESSAGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}(?:\.v[1-9][0-9]{0,3})?")


class CatalogueError(Exception):
    """The catalogue cannot be used: nothing starts with it. Each fault names line, place and what was expected."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Fallback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The channel to try when the others have not delivered in time."""

    channel: Channel
    after: str


class FrequencyCap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many notifications of the category a person may get in a window of time."""

    most: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    window: str


class NotificationDeclaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A kind of notification. `data` gives the names its template knows and their shapes (`?` = may be absent)."""

    category: Category
    lane: Lane
    doubt: DoubtPolicy
    channels: Annotated[list[Channel], msgspec.Meta(min_length=1)]
    expires_after: str = "3d"
    template: Name | None = None
    retention: Retention | None = None
    fallback: Fallback | None = None
    consent: Name | None = None
    frequency_cap: FrequencyCap | None = None
    quiet_hours: bool = False
    sms_segments: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    data: dict[str, Any] = {}
    references: dict[Name, str] = {}


class RuleDeclaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A notification that a message asks for. Data that are not listed are read from `payload` by their own name."""

    notification: str
    for_each: str | None = None
    recipient: str | None = None
    name: str | None = None
    locale: str | None = None
    to: dict[Channel, str] = {}
    when: dict[Channel, str] = {}
    data: dict[str, str] = {}
    send_at: str | None = None
    expires_at: str | None = None
    expires_in: str | None = None
    expires_from: Literal["intake", "timestamp"] = "intake"


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """The whole catalogue as written; `declared` also names the notifications whose form is at fault."""

    sender: str
    locale: str
    declared: frozenset[str]
    notifications: dict[str, NotificationDeclaration]
    messages: dict[str, dict[str, RuleDeclaration]]


class Checker:
    """Collects what is wrong with a catalogue, each fault by its place."""

    def __init__(self, lines: dict[Where, int]) -> None:
        self._lines = lines
        self._faults: list[tuple[int, str]] = []

    def fault(self, where: Where, message: str) -> None:
        """Record a fault of a place."""
        place = ".".join(map(str, where)).replace(".[", "[")
        self._faults.append((self._line(where), f"{place}: {message}" if place else message))

    def attempt(self, where: Where, make: Callable[[S], T], source: S) -> T | None:
        """Return what is made of a source; a ValueError becomes a fault and None."""
        try:
            return make(source)
        except ValueError as error:
            self.fault(where, str(error))
            return None

    def done(self) -> None:
        """Raise CatalogueError when anything was wrong."""
        if self._faults:
            raise CatalogueError([f"line {line}: {message}" for line, message in sorted(self._faults)])

    def _line(self, where: Where) -> int:
        for length in range(len(where), -1, -1):
            if where[:length] in self._lines:
                return self._lines[where[:length]]
        return 1


def read_document(path: Path) -> tuple[Document, Checker]:
    """Read a catalogue; what is wrong with its form is in the checker. Raises CatalogueError when it is no mapping."""
    raw, checker = _read_yaml(path)
    for name in raw.keys() - {"sender", "locale", "notifications", "messages"}:
        checker.fault((name,), "is not a part of a catalogue")
    written = _mapping(raw, "notifications", checker)
    notifications = {
        name: declared
        for name, value in written.items()
        if (declared := _convert(value, NotificationDeclaration, ("notifications", name), checker))
    }
    messages = {name: dict(_rules(name, rules, checker)) for name, rules in _mapping(raw, "messages", checker).items()}
    document = Document(
        declared=frozenset(written),
        sender=_convert(raw.get("sender"), str, ("sender",), checker) or "",
        locale=_convert(raw.get("locale"), str, ("locale",), checker) or "",
        notifications=notifications,
        messages=messages,
    )
    return document, checker


def duration(text: str) -> timedelta:
    """Read `30m`, `72h` or `3d`, at most 8 weeks. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    length = match and timedelta(**{_UNITS[match[2]]: int(match[1])})
    if not length or length > timedelta(weeks=8):
        raise ValueError(f"{text!r} is not a duration such as 30m, 72h or 3d, of at most 8 weeks")
    return length


def spelled(length: timedelta) -> str:
    """Return a duration as it is written, in the largest unit that it is a multiple of."""
    units = {unit: timedelta(**{name: 1}) for unit, name in reversed(_UNITS.items())}
    return next((f"{length // size}{unit}" for unit, size in units.items() if not length % size), f"{length}")


def _read_yaml(path: Path) -> tuple[dict[str, Any], Checker]:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CatalogueError([f"cannot be read: {error}"]) from error
    if not isinstance(raw, dict):
        raise CatalogueError(["line 1: a catalogue is a YAML mapping"])
    lines: dict[Where, int] = {}
    checker = Checker(lines)
    for where in _places(node, (), lines):
        checker.fault(where, "is written twice")
    return raw, checker


def _places(node: Any, where: Where, lines: dict[Where, int]) -> Iterator[Where]:
    """Note the line of every place; yield those that stand twice, of which YAML would keep the last in silence."""
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*where, str(key.value))
            if place in lines:
                yield place
            lines[place] = key.start_mark.line + 1
            yield from _places(value, place, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _places(value, (*where, f"[{index}]"), lines)


def _mapping(raw: dict[str, Any], name: str, checker: Checker) -> dict[str, Any]:
    value = raw.get(name)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        checker.fault((name,), "must be a mapping of names")
        return {}
    return value


def _rules(name: str, value: object, checker: Checker) -> Iterator[tuple[str, RuleDeclaration]]:
    if not _MESSAGE.fullmatch(name):
        checker.fault(("messages", name), "is not a message type")
    if not isinstance(value, list) or not value:
        checker.fault(("messages", name), "must be a list of notifications")
        return
    for index, rule in enumerate(value):
        declared = _convert(rule, RuleDeclaration, ("messages", name, f"[{index}]"), checker)
        if declared is not None:
            yield f"[{index}]", declared


def _convert(value: object, kind: type[T], where: Where, checker: Checker) -> T | None:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        checker.fault(where, str(error))
        return None
