"""Messages about people: what they say of a person, read by the same shapes. They ask for no notification."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ledger.recipient import ContactNews, DeviceNews, Field, News, Platform
from templates.envelope import Envelope, Fault
from templates.preferences import Names, read_preferences, schemas_in
from templates.shapes import SCALARS, Scalar, joined

_SHAPES: Mapping[Field, Scalar] = {
    Field.EMAIL: SCALARS["email"],
    Field.PHONE: SCALARS["phone"],
    Field.NAME: SCALARS["line"],
    Field.LOCALE: SCALARS["locale"],
    Field.TIME_ZONE: SCALARS["time_zone"],
}
# What a payload calls each field.
_IN_PAYLOADS: Mapping[Field, str] = {
    Field.EMAIL: "emailAddress",
    Field.PHONE: "phoneNumber",
    Field.NAME: "firstName",
    Field.LOCALE: "locale",
    Field.TIME_ZONE: "timeZone",
}
_PREFERENCES = Names(choices="preferences", consents="consents", quiet_hours="quietHours")
_ID, _FID = SCALARS["id"], SCALARS["fid"]
_PLATFORM = Scalar(
    lambda value: isinstance(value, str) and value in set(Platform),
    f"must be {' or '.join(Platform)}",
    schema={"enum": [platform.value for platform in Platform]},
)


def read(envelope: Envelope, faults: list[Fault]) -> News | None:
    """Return what a message says of a person; None for a message that is about none, or at fault."""
    reader = MESSAGES.get((envelope.message_type, envelope.version))
    return reader(envelope, faults) if reader is not None else None


def read_contact(
    values: Mapping[str, Any],
    user_id: str,
    said_at: datetime,
    faults: list[Fault],
    *,
    names: Mapping[Field, str],
    path: str = "",
) -> ContactNews:
    """Read the fields of a contact that are there: null (or "") clears one, and what is absent is not spoken of."""
    said: dict[Field, str | None] = {}
    for field, name in names.items():
        if name in values:
            value, place = values[name], joined(path, name)
            said[field] = None if value is None or value == "" else _SHAPES[field].read(value, place, faults)
    locale = said.get(Field.LOCALE)
    if locale is not None:
        said[Field.LOCALE] = locale.replace("_", "-")
    return ContactNews(user_id, said_at, said)


def read_device(
    values: Mapping[str, Any], user_id: str, said_at: datetime, faults: list[Fault], *, path: str = ""
) -> DeviceNews | None:
    """Read the registration of a device; None when it is at fault."""
    address = _required(values, "fid", _FID, path, faults)
    platform = _required(values, "platform", _PLATFORM, path, faults)
    return DeviceNews(user_id, said_at, address, Platform(platform)) if address and platform else None


def _contact_changed(envelope: Envelope, faults: list[Fault]) -> News | None:
    payload, user_id = envelope.payload, _user_in(envelope, faults)
    news = read_contact(payload, user_id or "", envelope.timestamp, faults, names=_IN_PAYLOADS, path="payload")
    return news if user_id else None


def _device_registered(envelope: Envelope, faults: list[Fault]) -> News | None:
    user_id = _user_in(envelope, faults)
    news = read_device(envelope.payload, user_id or "", envelope.timestamp, faults, path="payload")
    return news if user_id else None


def _preferences_changed(envelope: Envelope, faults: list[Fault]) -> News | None:
    user_id, said_at, source = _user_in(envelope, faults), envelope.timestamp, envelope.source
    payload, names = envelope.payload, _PREFERENCES
    news = read_preferences(payload, user_id or "", said_at, faults, names=names, where=source, path="payload")
    return news if user_id else None


def _user_in(envelope: Envelope, faults: list[Fault]) -> str | None:
    return _required(envelope.payload, "userId", _ID, "payload", faults)


def _required(values: Mapping[str, Any], name: str, shape: Scalar, path: str, faults: list[Fault]) -> str | None:
    value = values.get(name)
    if value is None or value == "":
        faults.append(Fault(joined(path, name), "is required"))
        return None
    read: str | None = shape.read(value, joined(path, name), faults)
    return read


# (message type, version) -> how its payload is read.
MESSAGES: Mapping[tuple[str, int], Callable[[Envelope, list[Fault]], News | None]] = {
    ("UserContactChangedEvent", 1): _contact_changed,
    ("DeviceRegisteredEvent", 1): _device_registered,
    ("UserPreferencesChangedEvent", 1): _preferences_changed,
}
TYPES = frozenset(message_type for message_type, _ in MESSAGES)


def _payload(*required: str, **members: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"properties": {"userId": _ID.schema, **members}, "required": ["userId", *required]}


_CONTACT = {name: {"anyOf": [_SHAPES[field].schema, {"enum": [None, ""]}]} for field, name in _IN_PAYLOADS.items()}
# What JSON Schema (2020-12) can say of each payload.
PAYLOADS: Mapping[tuple[str, int], Mapping[str, Any]] = {
    ("UserContactChangedEvent", 1): _payload(**_CONTACT),
    ("DeviceRegisteredEvent", 1): _payload("fid", "platform", fid=_FID.schema, platform=_PLATFORM.schema),
    ("UserPreferencesChangedEvent", 1): _payload(**schemas_in(_PREFERENCES)),
}
