"""What a message or a request says of what a person allows, read with every fault named."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from enum import StrEnum
from typing import Any

import msgspec

from ledger.preferences import Choice, ConsentNews, PreferenceNews, QuietHours
from ledger.values import Category, Channel
from templates.envelope import AHEAD, Fault, read_time
from templates.shapes import SCALARS, Listing, Record, Scalar, Shape, joined, schema_of

_TIME_OF_DAY = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")


class Names(msgspec.Struct, frozen=True):
    """What a body calls its parts."""

    choices: str
    consents: str
    quiet_hours: str


def _word(words: type[StrEnum]) -> Scalar:
    return Scalar(
        lambda value: isinstance(value, str) and value in set(words),
        f"must be {' or '.join(words)}",
        schema={"enum": [word.value for word in words]},
    )


def _is_time_of_day(value: object) -> bool:
    return isinstance(value, str) and _TIME_OF_DAY.fullmatch(value) is not None


def _list_of(*members: tuple[str, Shape, bool]) -> Listing:
    return Listing(_record(*members))


def _record(*members: tuple[str, Shape, bool]) -> Record:
    return Record(members, frozenset(name for name, _, _ in members))


_ID, _FLAG = SCALARS["id"], SCALARS["flag"]
_TIME = SCALARS["time"]
_MOMENT = Scalar(_TIME.check, _TIME.expected, read_time, schema=_TIME.schema)
_CLOCK = Scalar(
    _is_time_of_day,
    "must be a time of day such as 22:00",
    schema={"type": "string", "pattern": f"^(?:{_TIME_OF_DAY.pattern})$"},
)
_CHOICE = ("category", "channel")
_CHOICES = _list_of(("category", _word(Category), True), ("channel", _word(Channel), True), ("enabled", _FLAG, True))
_CONSENT = (("purpose", _ID, True), ("granted", _FLAG, True), ("wording", _ID, False), ("where", _ID, False))
_CONSENTS = _list_of(*_CONSENT, ("at", _MOMENT, False))
_DATED_CONSENTS = _list_of(*_CONSENT, ("at", _MOMENT, True))
# A consent that is granted names its wording.
_PROVEN = {
    "anyOf": [
        {"properties": {"granted": {"enum": [False]}}},
        {"properties": {"wording": _ID.schema}, "required": ["wording"]},
    ]
}
_QUIET_HOURS = _record(("from", _CLOCK, True), ("to", _CLOCK, True))


def read_preferences(
    values: Mapping[str, Any],
    user_id: str,
    said_at: datetime,
    faults: list[Fault],
    *,
    names: Names,
    where: str,
    path: str = "",
    dated: bool = True,
) -> PreferenceNews | None:
    """Read what is said of choices, consents and quiet hours; None when it is at fault.

    Quiet hours that are null are cleared, and what is absent is not spoken of. `where` = where consent is given, unless
    it says so itself; `dated` = each says when.
    """
    known_faults = len(faults)
    choices = _listed(_CHOICES, values, names.choices, path, faults)
    _refuse_repeats(choices, _CHOICE, joined(path, names.choices), faults)
    consents = _listed(_DATED_CONSENTS if dated else _CONSENTS, values, names.consents, path, faults)
    _refuse_repeats(consents, ("purpose",), joined(path, names.consents), faults)
    _refuse_unproven(consents, joined(path, names.consents), said_at + AHEAD, faults)
    quiet: QuietHours | msgspec.UnsetType | None = msgspec.UNSET
    if names.quiet_hours in values:
        quiet = _quiet_hours(values[names.quiet_hours], joined(path, names.quiet_hours), faults)
    if len(faults) > known_faults:
        return None
    return PreferenceNews(
        user_id=user_id,
        said_at=said_at,
        choices=msgspec.convert(choices, tuple[Choice, ...]),
        consents=msgspec.convert([{"where": where, **consent} for consent in consents], tuple[ConsentNews, ...]),
        quiet=quiet,
    )


def schemas_in(names: Names) -> dict[str, Any]:
    """Return what JSON Schema can say of the parts of a body in which consents are dated."""
    consents = schema_of(_DATED_CONSENTS)
    said = {
        names.choices: schema_of(_CHOICES),
        names.consents: {**consents, "items": {**consents["items"], **_PROVEN}},
        names.quiet_hours: schema_of(_QUIET_HOURS),
    }
    return {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in said.items()}


def _listed(
    shape: Listing, values: Mapping[str, Any], name: str, path: str, faults: list[Fault]
) -> Sequence[Mapping[str, Any]]:
    value = values.get(name)
    read = [] if value is None else shape.read(value, joined(path, name), faults)
    return [entry or {} for entry in read or ()]


def _refuse_repeats(entries: Sequence[Mapping[str, Any]], names: Sequence[str], path: str, faults: list[Fault]) -> None:
    """Of two entries about the same nobody can say which is meant."""
    seen = set()
    for index, entry in enumerate(entries):
        about = tuple(entry.get(name) for name in names)
        if about in seen:
            faults.append(Fault(f"{path}[{index}]", f"repeats the {' and '.join(names)} of another"))
        elif None not in about:
            seen.add(about)


def _refuse_unproven(consents: Sequence[Mapping[str, Any]], path: str, latest: datetime, faults: list[Fault]) -> None:
    for index, consent in enumerate(consents):
        if consent.get("granted") and "wording" not in consent:
            faults.append(Fault(f"{path}[{index}].wording", "is required where consent is granted"))
        if (consent.get("at") or latest) > latest:
            faults.append(Fault(f"{path}[{index}].at", "must be at most 1 hour ahead"))


def _quiet_hours(value: Any, path: str, faults: list[Fault]) -> QuietHours | None:
    if value is None:
        return None
    hours = _QUIET_HOURS.read(value, path, faults) or {}
    start, end = hours.get("from"), hours.get("to")
    if start is None or end is None:
        return None
    if start == end:
        faults.append(Fault(path, "must end at another time than they begin"))
    return QuietHours(time.fromisoformat(start), time.fromisoformat(end))
