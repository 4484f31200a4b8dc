"""The catalogue's entries, compiled: a kind of notification, and the rule by which a message asks for one."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ledger.values import Category, Channel, DoubtPolicy, Fallback, FrequencyCap, Lane, Personal, Wanted
from templates.envelope import Envelope, Fault, read_time
from templates.expressions import Expression
from templates.shapes import Record, Shape

LONGEST = timedelta(weeks=8)


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of notification with all that its declaration resolves to; `references` are (name, name in the data)."""

    type: str
    category: Category
    lane: Lane
    doubt: DoubtPolicy
    channels: tuple[Channel, ...]
    fallback: Fallback | None
    consent: str | None
    frequency_cap: FrequencyCap | None
    quiet_hours: bool
    sms_segments: int
    expires_after: timedelta
    template: str
    template_version: str
    retention: str
    data: Record
    references: tuple[tuple[str, str], ...]
    catalogue: str

    @property
    def every_channel(self) -> tuple[Channel, ...]:
        """Its channels, and the one that it falls back to."""
        return self.channels if self.fallback is None else (*self.channels, self.fallback.channel)

    def fallback_on(self, channels: Collection[Channel]) -> Fallback | None:
        """Return what it falls back to, where that channel is served."""
        return self.fallback if self.fallback is not None and self.fallback.channel in channels else None

    def wanted(
        self,
        channel: Channel,
        *,
        recipient: str | None,
        personal: Personal,
        locale: str | None,
        default_locale: str,
        send_at: datetime | None = None,
        expires_at: datetime | None = None,
        fallback: Fallback | None = None,
    ) -> Wanted:
        """Return one notification of this kind; the default locale stands in where nobody names one."""
        data = personal.data
        return Wanted(
            type=self.type,
            channel=channel,
            category=self.category,
            lane=self.lane,
            recipient=recipient,
            personal=personal,
            locale=(locale or default_locale).replace("_", "-"),
            locale_assumed=locale is None,
            template=self.template,
            template_version=self.template_version,
            catalogue=self.catalogue,
            doubt=self.doubt,
            expires_after=self.expires_after,
            references={name: data[source] for name, source in self.references if source in data},
            send_at=send_at,
            expires_at=expires_at,
            # Where nobody knows how to reach the person there, there is nothing to fall back to.
            fallback=fallback if personal.fallback_address or recipient else None,
            consent=self.consent,
            frequency_cap=self.frequency_cap,
            quiet_hours=self.quiet_hours,
            retention=self.retention,
        )


class Field(msgspec.Struct, frozen=True):
    """A value of a message: where it stands and what it must look like."""

    expression: Expression
    shape: Shape

    def read(self, scope: dict[str, Any], item: str, faults: list[Fault]) -> Any:
        """Return the value; None where it is absent or at fault. `item` is the path of the list's element."""
        value = self.expression.read(scope)
        if value is not None:
            return self.shape.read(value, self.expression.where(item), faults)
        if not self.expression.optional:
            faults.append(Fault(self.expression.where(item), self.expression.expected()))
        return None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How a message asks for one kind of notification: for one person, or for each element of a list."""

    kind: Kind
    locale_default: str
    for_each: Expression | None
    recipient: Field | None
    name: Field | None
    locale: Field | None
    to: dict[Channel, Field]
    when: dict[Channel, Expression]
    data: tuple[tuple[str, Field], ...]
    send_at: Field | None
    expires_at: Field | None
    expires_in: Field | None
    expires_from_timestamp: bool

    def wanted(self, envelope: Envelope, *, channels: Collection[Channel], faults: list[Fault]) -> list[Wanted]:
        """Return what the message asks for, one per channel and person, in the message's order."""
        served = [channel for channel in self.kind.channels if channel in channels]
        fallback = self.kind.fallback_on(channels)
        found: dict[tuple[Channel, str], Wanted] = {}
        for scope, item in self._scopes(envelope.payload, faults):
            for wanted in self._one(
                scope, item, served=served, fallback=fallback, timestamp=envelope.timestamp, faults=faults
            ):
                person = wanted.recipient or (wanted.personal.address or "").casefold()
                found.setdefault((wanted.channel, person), wanted)
        return list(found.values())

    def _scopes(self, payload: dict[str, Any], faults: list[Fault]) -> Iterator[tuple[dict[str, Any], str]]:
        if self.for_each is None:
            yield {"payload": payload}, ""
            return
        elements, where = self.for_each.read({"payload": payload}), self.for_each.where("")
        if not isinstance(elements, list):
            faults.append(Fault(where, self.for_each.expected() if elements is None else "must be a list"))
            return
        for index, element in enumerate(elements):
            yield {"payload": payload, "item": element}, f"{where}[{index}]"

    def _one(
        self,
        scope: dict[str, Any],
        item: str,
        *,
        served: list[Channel],
        fallback: Fallback | None,
        timestamp: datetime,
        faults: list[Fault],
    ) -> Iterator[Wanted]:
        recipient = _read(self.recipient, scope, item, faults)
        name = _read(self.name, scope, item, faults)
        locale = _read(self.locale, scope, item, faults)
        read = ((key, field.read(scope, item, faults)) for key, field in self.data)
        data = {key: value for key, value in read if value is not None}
        send_at = self._send_at(scope, item, timestamp=timestamp, faults=faults)
        begins = max(send_at or timestamp, timestamp)
        expires_at = self._expires_at(scope, item, begins=begins, faults=faults)
        elsewhere = _read(self.to.get(fallback.channel), scope, item, faults) if fallback else None
        for channel in served:
            if channel in self.when and self.when[channel].read(scope) is None:
                continue
            address = _read(self.to.get(channel), scope, item, faults)
            yield self.kind.wanted(
                channel,
                recipient=recipient,
                personal=Personal(address, name, data, fallback_address=elsewhere),
                locale=locale,
                default_locale=self.locale_default,
                send_at=send_at,
                expires_at=expires_at,
                fallback=fallback,
            )

    def _send_at(
        self, scope: dict[str, Any], item: str, *, timestamp: datetime, faults: list[Fault]
    ) -> datetime | None:
        moment = read_time(_read(self.send_at, scope, item, faults))
        if self.send_at is not None and moment is not None and moment > timestamp + LONGEST:
            faults.append(Fault(self.send_at.expression.where(item), "must be at most 8 weeks ahead"))
        return moment

    def _expires_at(
        self, scope: dict[str, Any], item: str, *, begins: datetime, faults: list[Fault]
    ) -> datetime | None:
        """Return when it ends, where the message says so; `begins` is when it may be sent, or was asked for."""
        if self.expires_at is not None:
            moment = read_time(self.expires_at.read(scope, item, faults))
            return moment and min(moment, begins + LONGEST)
        if self.expires_in is not None:
            seconds = self.expires_in.read(scope, item, faults)
            return seconds and begins + timedelta(seconds=seconds)
        return begins + self.kind.expires_after if self.expires_from_timestamp else None


def _read(field: Field | None, scope: dict[str, Any], item: str, faults: list[Fault]) -> Any:
    return field.read(scope, item, faults) if field is not None else None
