"""The direct request for one notification (`POST /v1/notifications`): read strictly, resolved by the same catalogue."""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from ledger.values import Channel, Personal, Wanted
from templates.entries import LONGEST, Kind
from templates.envelope import Fault, hash_of, read_object, read_time, shown
from templates.shapes import compile_record, joined


class DirectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for one notification in its template's own names. Times are UTC.

    `channels` is None when the catalogue's shall be used. `body_hash` is the 32-byte SHA-256 of the canonical request.
    """

    type: str
    user_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    locale: str | None
    data: dict[str, Any]
    channels: tuple[Channel, ...] | None
    send_at: datetime | None
    expires_at: datetime | None
    body_hash: bytes

    def address(self, channel: Channel) -> str | None:
        """Return the address that the request gives for a channel."""
        return {Channel.EMAIL: self.email, Channel.SMS: self.phone}.get(channel)


_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PERSON = {"user_id?": "id", "email?": "email", "phone?": "phone", "name?": "line", "locale?": "locale"}
_RECIPIENT = compile_record(_PERSON)
_FORM = compile_record(
    {
        "type": "id",
        "recipient": _PERSON,
        "channels?": ["id"],
        "send_at?": "time",
        "expires_at?": "time",
    }
)


def examine_request(body: bytes, *, now: datetime) -> tuple[DirectRequest, list[Fault]]:
    """Read a request's body (JSON, RFC 8259) as far as it goes; what is at fault stands empty.

    `now` is the database's time. Raises MessageRejectedError only when there is no JSON object to speak of.
    """
    raw, faults = read_object(body)
    form = _FORM.read(raw, "", faults)
    person = form.get("recipient") or {}
    kind = form.get("type") or ""
    if kind and not _KIND.fullmatch(kind):
        faults.append(Fault("type", "must be a name such as order_shipped"))
        kind = ""
    recipient, data = raw.get("recipient"), raw.get("data")
    _refuse_others(raw, {*_FORM.names, "data"}, "", faults)
    _refuse_others(recipient if isinstance(recipient, dict) else {}, _RECIPIENT.names, "recipient", faults)
    if not isinstance(data, dict | None):
        faults.append(Fault("data", "must be an object"))
    send_at, expires_at = read_time(form.get("send_at")), read_time(form.get("expires_at"))
    _check_times(send_at, expires_at, now=now, faults=faults)
    channels = _channels(form.get("channels"), faults)
    request = DirectRequest(
        type=kind,
        user_id=person.get("user_id"),
        email=person.get("email"),
        phone=person.get("phone"),
        name=person.get("name") or None,
        locale=person.get("locale"),
        data=data if isinstance(data, dict) else {},
        channels=channels,
        send_at=send_at,
        expires_at=expires_at,
        body_hash=b"" if faults else hash_of("request", raw),
    )
    return request, faults


def wanted_directly(
    kind: Kind, request: DirectRequest, *, channels: Collection[Channel], locale: str, faults: list[Fault]
) -> list[Wanted]:
    """Return what a request asks for, one per channel; `locale` stands in where it names none."""
    data = kind.data.read(request.data, "data", faults)
    _refuse_others(request.data, kind.data.names, "data", faults)
    expires_at = request.expires_at
    if expires_at is None and request.send_at is not None:
        expires_at = request.send_at + kind.expires_after
    fallback = kind.fallback_on(channels)
    elsewhere = request.address(fallback.channel) if fallback else None
    return [
        kind.wanted(
            channel,
            recipient=request.user_id,
            personal=Personal(request.address(channel), request.name, data, fallback_address=elsewhere),
            locale=request.locale,
            default_locale=locale,
            send_at=request.send_at,
            expires_at=expires_at,
            fallback=fallback,
        )
        for channel in _chosen(kind, request, served=channels, faults=faults)
    ]


def _chosen(kind: Kind, request: DirectRequest, *, served: Collection[Channel], faults: list[Fault]) -> list[Channel]:
    """Return the channels asked for; else those with an address; else, for a known user, all of the kind's."""
    if request.channels is not None:
        for index, channel in enumerate(request.channels):
            _check_channel(channel, f"channels[{index}]", kind, request, served=served, faults=faults)
        return [channel for channel in dict.fromkeys(request.channels) if channel in served]
    offered = [channel for channel in kind.channels if channel in served]
    addressed = [channel for channel in offered if request.address(channel) is not None]
    if not addressed and request.user_id is None:
        faults.append(Fault("recipient", f"needs a user_id, or an address for {_or(kind.channels)}"))
    return addressed or offered


def _check_channel(
    channel: Channel, path: str, kind: Kind, request: DirectRequest, *, served: Collection[Channel], faults: list[Fault]
) -> None:
    if channel not in kind.channels:
        faults.append(Fault(path, f"must be {_or(kind.channels)}"))
    elif channel not in served:
        faults.append(Fault(path, "is not served here"))
    elif request.address(channel) is None and request.user_id is None:
        faults.append(Fault("recipient", f"needs a user_id, or an address for {channel}"))


def _channels(names: list[str | None] | None, faults: list[Fault]) -> tuple[Channel, ...] | None:
    if names is None:
        return None
    if not names:
        faults.append(Fault("channels", "must name at least one channel"))
    known = {str(channel): channel for channel in Channel}
    for index, name in enumerate(names):
        if name is not None and name not in known:
            faults.append(Fault(f"channels[{index}]", f"must be {_or(Channel)}"))
    return tuple(known[name] for name in names if name is not None and name in known)


def _check_times(send_at: datetime | None, expires_at: datetime | None, *, now: datetime, faults: list[Fault]) -> None:
    if send_at is not None and send_at > now + LONGEST:
        faults.append(Fault("send_at", "must be at most 8 weeks ahead"))
    if expires_at is None:
        return
    begins = max(now, send_at or now)
    if expires_at <= begins:
        faults.append(Fault("expires_at", "must be in the future, and after send_at"))
    elif expires_at - begins > LONGEST:
        faults.append(Fault("expires_at", "must be at most 8 weeks after now, or after send_at"))


def _refuse_others(value: Mapping[str, Any], known: Collection[str], path: str, faults: list[Fault]) -> None:
    message = f"is not known; known are {', '.join(sorted(known)) or 'none'}"
    faults.extend(Fault(joined(path, shown(name)), message) for name in value if name not in known)


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
