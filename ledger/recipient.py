"""What is known of a person: how to reach them, and what they allow. A stream for each, its whole life."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from ledger import preferences
from ledger.decision import NewFact
from ledger.keys import Identity
from ledger.notification import Fact, Origin
from ledger.preferences import PreferenceFact, PreferenceNews, Preferences
from ledger.values import Channel, Personal, Redacted

# ---------------------------------------------------------------------------------------------------------------
# Facts. They are storage, as those of a notification are. `recipient` names the person's data key (`user:<id>`), under
# which the addresses are sealed; `said_at` is the time of the message that says so, not of its arrival.
# ---------------------------------------------------------------------------------------------------------------


class Field(StrEnum):
    """What a message may say of a person; each is known for itself."""

    EMAIL = "email"
    PHONE = "phone"
    NAME = "name"
    LOCALE = "locale"
    TIME_ZONE = "time_zone"


class Platform(StrEnum):
    """What a device runs."""

    ANDROID = "android"
    IOS = "ios"
    WEB = "web"


class DropReason(StrEnum):
    """Why a device is used no more: the provider does not know it, somebody took it off, newer ones took its place."""

    UNREGISTERED = "unregistered"
    REMOVED = "removed"
    DISPLACED = "displaced"


class Contact(msgspec.Struct, frozen=True, tag="contact"):
    """What of a person's contact is personal: sealed in storage."""

    email: str | None = None
    phone: str | None = None
    name: str | None = None


class ContactChanged(Fact, frozen=True, kw_only=True):
    """How to reach a person, as of `said_at`. It speaks of `fields` alone; one of them without a value was cleared."""

    recipient: str
    said_at: datetime
    fields: tuple[Field, ...]
    email_hash: str | None = None
    phone_hash: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    personal: Contact | Redacted | bytes | None = None


class DeviceRegistered(Fact, frozen=True, kw_only=True):
    """An app of this person can be pushed to; sealed is the installation id that the provider knows it by."""

    recipient: str
    said_at: datetime
    address_hash: str
    platform: Platform
    personal: Personal | Redacted | bytes


class DeviceDropped(Fact, frozen=True, kw_only=True):
    """A device is used no more."""

    address_hash: str
    reason: DropReason


class Erased(Fact, frozen=True, kw_only=True):
    """The person is to be forgotten: with this fact their data key is destroyed, and all that was sealed under it."""

    recipient: str
    reason: str


RecipientFact = ContactChanged | DeviceRegistered | DeviceDropped | PreferenceFact | Erased
Facts = tuple[RecipientFact, ...]

# ---------------------------------------------------------------------------------------------------------------
# State
# ---------------------------------------------------------------------------------------------------------------

DEVICES_AT_MOST = 20
# An app registers at each start. That it still does is worth a fact now and then: devices go by their last one.
STILL_THERE = timedelta(days=30)
_PERSONAL = frozenset(Contact.__struct_fields__)
# What is being stored while its person is erased may come behind the erasure, sealed under the key that it destroyed.
# For so long after it, that is why something cannot be read; later the key has been lost.
_UNDER_WAY = timedelta(minutes=1)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A registered device; `address` is its installation id, None where nobody can read it."""

    address: str | None
    address_hash: str
    platform: Platform
    said_at: datetime


class Address(msgspec.Struct, frozen=True):
    """An address of a person, and the keyed hash that stands for it."""

    address: str
    address_hash: str


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one person; at version 0 there is nothing. `devices` stand in the order of their registration.

    `said_at` is when each field was last spoken of, `dropped` when a device was dropped. `erased_at` is when the person
    was erased last, by the fact of version `erased_version`: nothing that was asked for before it is sent.
    """

    stream: UUID
    recipient: str
    version: int = 0
    changed_at: datetime | None = None
    contact: Contact = Contact()
    email_hash: str | None = None
    phone_hash: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    said_at: Mapping[Field, datetime] = {}
    devices: tuple[Device, ...] = ()
    dropped: Mapping[str, datetime] = {}
    allows: Preferences = Preferences()
    erased_at: datetime | None = None
    erased_version: int = 0

    def addresses(self, channel: Channel) -> tuple[Address, ...]:
        """Return where a channel reaches the person; of several devices, the one that registered last goes first."""
        known: list[tuple[str | None, str | None]]
        match channel:
            case Channel.EMAIL:
                known = [(self.contact.email, self.email_hash)]
            case Channel.SMS:
                known = [(self.contact.phone, self.phone_hash)]
            case Channel.PUSH:
                known = [(device.address, device.address_hash) for device in reversed(self.devices)]
        return tuple(Address(address, its_hash) for address, its_hash in known if address and its_hash)

    def was_erased_since(self, asked_at: datetime, *, is_readable: bool) -> bool:
        """Whether the person was to be forgotten with what was asked for at that time, by what can still be read."""
        if self.erased_at is None:
            return False
        return asked_at <= (self.erased_at if is_readable else self.erased_at + _UNDER_WAY)

    def next(self, facts: Facts) -> tuple[NewFact, ...]:
        """Number the facts that follow."""
        return tuple(NewFact(self.stream, self.version + 1 + place, fact) for place, fact in enumerate(facts))


def stream_of(identity: Identity, user_id: str) -> UUID:
    """Return the id of a person's stream: derived, so that a guard can name it before it is there."""
    return identity.standing_stream("recipient", user_id)


def nobody(identity: Identity, user_id: str) -> Recipient:
    """Return a person of whom nothing is known."""
    return nobody_named(identity, identity.recipient(user_id, None))


def nobody_named(identity: Identity, recipient: str) -> Recipient:
    """Return a person of whom nothing is known, by the name of their data key: a user, or whoever has an address."""
    kind, _, name = recipient.partition(":")
    is_user = kind == "user"
    stream = stream_of(identity, name) if is_user else identity.standing_stream("recipient_by_address", name)
    return Recipient(stream=stream, recipient=recipient)


def fold(state: Recipient, facts: Iterable[RecipientFact]) -> Recipient:
    """Apply facts in order; their personal data are open, or stay unknown."""
    for fact in facts:
        state = evolve(state, fact)
    return state


def evolve(state: Recipient, fact: RecipientFact) -> Recipient:
    """Return the state after one more fact."""
    changes: dict[str, object] = {"version": state.version + 1, "changed_at": fact.recorded_at}
    match fact:
        case ContactChanged():
            changes |= _contact(state, fact)
        case DeviceRegistered():
            devices = [*_without(state, fact.address_hash), _registered(fact)]
            changes["devices"] = tuple(sorted(devices, key=lambda device: device.said_at))
        case DeviceDropped():
            changes["devices"] = _without(state, fact.address_hash)
            changes["dropped"] = {**state.dropped, fact.address_hash: fact.recorded_at}
        case Erased():
            state = Recipient(stream=state.stream, recipient=state.recipient, version=state.version)
            changes |= {"erased_at": fact.recorded_at, "erased_version": state.version + 1}
        case _:
            changes["allows"] = preferences.evolve(state.allows, fact, version=state.version + 1)
    return msgspec.structs.replace(state, **changes)


def _contact(state: Recipient, fact: ContactChanged) -> dict[str, object]:
    given = fact.personal if isinstance(fact.personal, Contact) else Contact()
    personal = {name: getattr(given, name) for name in _PERSONAL.intersection(fact.fields)}
    changes: dict[str, object] = {
        "contact": msgspec.structs.replace(state.contact, **personal),
        "said_at": {**state.said_at, **dict.fromkeys(fact.fields, fact.said_at)},
    }
    plain = {
        Field.EMAIL: ("email_hash", fact.email_hash),
        Field.PHONE: ("phone_hash", fact.phone_hash),
        Field.LOCALE: ("locale", fact.locale),
        Field.TIME_ZONE: ("time_zone", fact.time_zone),
    }
    return changes | dict(plain[field] for field in fact.fields if field in plain)


def _registered(fact: DeviceRegistered) -> Device:
    return Device(
        address=fact.personal.address if isinstance(fact.personal, Personal) else None,
        address_hash=fact.address_hash,
        platform=fact.platform,
        said_at=fact.said_at,
    )


def _without(state: Recipient, address_hash: str) -> tuple[Device, ...]:
    return tuple(device for device in state.devices if device.address_hash != address_hash)


# ---------------------------------------------------------------------------------------------------------------
# Decide. Messages may come late and in any order: what was said last holds, whichever came last.
# ---------------------------------------------------------------------------------------------------------------


class ContactNews(msgspec.Struct, frozen=True):
    """What is said of a person's contact. A field that is not among the values is not spoken of; None clears it."""

    user_id: str
    said_at: datetime
    values: Mapping[Field, str | None]


class DeviceNews(msgspec.Struct, frozen=True):
    """An app tells the installation id that the provider of pushes knows it by."""

    user_id: str
    said_at: datetime
    address: str
    platform: Platform


News = ContactNews | DeviceNews | PreferenceNews


def learn(state: Recipient, news: News, origin: Origin, identity: Identity) -> Facts:
    """Record what is news of it; nothing where it is known, or older than what is known.

    What was said of a person before they were erased is forgotten with them, whenever it comes.
    """
    if state.erased_at is not None and news.said_at < state.erased_at:
        return ()
    match news:
        case ContactNews():
            return change_contact(state, news, origin, identity)
        case DeviceNews():
            return register_device(state, news, origin, identity)
        case PreferenceNews():
            return preferences.change(state.allows, news, origin, recipient=state.recipient)


def change_contact(state: Recipient, news: ContactNews, origin: Origin, identity: Identity) -> Facts:
    """Record the fields of which nothing later is known.

    That a field is still the same is news too: a message that lay between, and comes after, must not undo it.
    """
    values = {field: value for field, value in news.values.items() if _is_news(state, field, value, news.said_at)}
    if not values:
        return ()
    email, phone = values.get(Field.EMAIL), values.get(Field.PHONE)
    contact = Contact(email=email, phone=phone, name=values.get(Field.NAME))
    changed = ContactChanged(
        **origin.stamp(),
        recipient=state.recipient,
        said_at=news.said_at,
        fields=tuple(sorted(values)),
        email_hash=identity.address_hash(email) if email else None,
        phone_hash=identity.address_hash(phone) if phone else None,
        locale=values.get(Field.LOCALE),
        time_zone=values.get(Field.TIME_ZONE),
        personal=None if contact == Contact() else contact,
    )
    return (changed,)


def _is_news(state: Recipient, field: Field, value: str | None, said_at: datetime) -> bool:
    known_at = state.said_at.get(field)
    if known_at is None or said_at > known_at:
        return True
    return said_at == known_at and value != _value(state, field)


def _value(state: Recipient, field: Field) -> str | None:
    value: str | None = getattr(state.contact if field in _PERSONAL else state, field)
    return value


def register_device(state: Recipient, news: DeviceNews, origin: Origin, identity: Identity) -> Facts:
    """Record a device that is new, was dropped before it registered again, or was not heard of for long.

    Where there are too many, those go that registered before all others; one that would go at once does not come.
    """
    address_hash = identity.device_hash(news.address)
    dropped_at = state.dropped.get(address_hash)
    if _is_there(state, news, address_hash) or (dropped_at is not None and news.said_at <= dropped_at):
        return ()
    others = _without(state, address_hash)
    displaced = others[: max(0, len(others) + 1 - DEVICES_AT_MOST)]
    if displaced and news.said_at < displaced[-1].said_at:
        return ()
    registered = DeviceRegistered(
        **origin.stamp(),
        recipient=state.recipient,
        said_at=news.said_at,
        address_hash=address_hash,
        platform=news.platform,
        personal=Personal(address=news.address),
    )
    gone = (
        DeviceDropped(**origin.stamp(), address_hash=device.address_hash, reason=DropReason.DISPLACED)
        for device in displaced
    )
    return (*gone, registered)


def _is_there(state: Recipient, news: DeviceNews, address_hash: str) -> bool:
    """Whether a device is known, and nothing later than this message says."""
    known = next((device for device in state.devices if device.address_hash == address_hash), None)
    if known is None:
        return False
    still_there = known.platform is news.platform and news.said_at < known.said_at + STILL_THERE
    return still_there or news.said_at <= known.said_at


def drop_device(state: Recipient, address_hash: str, reason: DropReason, origin: Origin) -> Facts:
    """Use a device no more; nothing where it is not registered."""
    if all(device.address_hash != address_hash for device in state.devices):
        return ()
    return (DeviceDropped(**origin.stamp(), address_hash=address_hash, reason=reason),)


def erase(state: Recipient, reason: str, origin: Origin, *, is_anything_kept: bool) -> Facts:
    """Forget a person; nothing where there is nothing of them. `is_anything_kept`: outside of their stream there is."""
    if state.version == state.erased_version and not is_anything_kept:
        return ()
    return (Erased(**origin.stamp(), recipient=state.recipient, reason=reason),)
