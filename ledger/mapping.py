"""Facts to stored bytes and back: stable topics, upcasters, and the sealing of personal data."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_args
from uuid import UUID

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent

from ledger import bulk, operations, preferences, suppression, template
from ledger import notification as n
from ledger import recipient as r
from ledger.errors import KeyUnavailableError, UnknownTopicError
from ledger.keys import DataKey, Keyring
from ledger.values import REDACTED, Personal, Redacted

# Topics are storage: they never change. A breaking change is a new topic (`notification.requested:2`) with an
# upcaster from the old one, and a golden file of the old bytes stays in the tests for ever.
TOPICS: dict[str, type[n.Fact]] = {
    "notification.requested": n.Requested,
    "notification.suppressed": n.Suppressed,
    "notification.deferred": n.Deferred,
    "notification.rendered": n.Rendered,
    "notification.render_failed": n.RenderFailed,
    "notification.attempt_started": n.AttemptStarted,
    "notification.device_skipped": n.DeviceSkipped,
    "notification.dispatched": n.Dispatched,
    "notification.attempt_failed": n.AttemptFailed,
    "notification.attempt_in_doubt": n.AttemptInDoubt,
    "notification.released": n.Released,
    "notification.failed": n.Failed,
    "notification.expired": n.Expired,
    "notification.cancelled": n.Cancelled,
    "notification.inquired": n.Inquired,
    "notification.fell_back": n.FellBack,
    "notification.fallback_dropped": n.FallbackDropped,
    "notification.sent_again": n.SentAgain,
    "notification.delayed": n.Delayed,
    "notification.delivered": n.Delivered,
    "notification.bounced": n.Bounced,
    "notification.rejected": n.Rejected,
    "notification.complained": n.Complained,
    "notification.opened": n.Opened,
    "notification.clicked": n.Clicked,
    "notification.unsubscribed": n.Unsubscribed,
    "suppression.listed": suppression.Listed,
    "suppression.delisted": suppression.Delisted,
    "recipient.contact_changed": r.ContactChanged,
    "recipient.device_registered": r.DeviceRegistered,
    "recipient.device_dropped": r.DeviceDropped,
    "recipient.preferences_changed": preferences.PreferencesChanged,
    "recipient.consent_changed": preferences.ConsentChanged,
    "recipient.quiet_hours_changed": preferences.QuietHoursChanged,
    "recipient.erased": r.Erased,
    "operations.paused": operations.Paused,
    "operations.resumed": operations.Resumed,
    "template.drafted": template.Drafted,
    "template.published": template.Published,
    "template.rolled_back": template.RolledBack,
    "bulk.begun": bulk.Begun,
    "bulk.stopped": bulk.Stopped,
    "bulk.ended": bulk.Ended,
}

StoredFact = (
    n.NotificationFact
    | suppression.SuppressionFact
    | r.RecipientFact
    | operations.OperationsFact
    | template.TemplateFact
    | bulk.BulkFact
)
F = TypeVar("F", bound=n.Fact)
_OPEN = frozenset({Personal, r.Contact})
_OF_NOTIFICATIONS = frozenset(get_args(n.NotificationFact))

# Old topic -> (the topic that took its place, how its fields become the new ones).
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[str, tuple[str, Upcaster]] = {}


class Recorded(msgspec.Struct, frozen=True):
    """A fact where it stands in the log; the first two names are the eventsourcing library's."""

    originator_id: UUID
    originator_version: int
    topic: str
    fact: StoredFact
    position: int | None = None


class FactMapper(Mapper[UUID]):
    """Encodes and decodes facts. A keyring opens what is sealed for its people; without one it stays sealed bytes."""

    def __init__(
        self,
        topics: Mapping[str, type[n.Fact]] = TOPICS,
        upcasters: Mapping[str, tuple[str, Upcaster]] = UPCASTERS,
        keys: Keyring | None = None,
    ) -> None:
        super().__init__(JSONTranscoder())
        self._topic_of = {fact: topic for topic, fact in topics.items()}
        self._decoders = {topic: msgspec.json.Decoder(fact) for topic, fact in topics.items()}
        self._types = dict(topics)
        self._upcasters = upcasters
        self._keys = keys

    def topic(self, fact: n.Fact) -> str:
        """Return the topic that a fact is stored under."""
        return self._topic_of[type(fact)]

    def encode(self, stream: UUID, version: int, fact: n.Fact, *, key: DataKey | None = None) -> tuple[str, bytes]:
        """Return the topic and the bytes to store; personal data are sealed under the person's key."""
        topic = self._topic_of[type(fact)]
        personal = open_in(fact)
        if personal is not None:
            if key is None:
                raise KeyUnavailableError("a fact with personal data was to be stored without its person's key")
            sealed = key.seal(_encode(personal), bound_to=_bound_to(stream, version, topic))
            fact = msgspec.structs.replace(fact, personal=sealed)
        return topic, _encode(fact)

    def decode(self, topic: str, state: bytes) -> StoredFact:
        """Return the fact with its personal data still sealed; UnknownTopicError for a newer release's."""
        if topic in self._upcasters:
            return self._upcast(topic, msgspec.json.decode(state))
        decoder = self._decoders.get(topic)
        if decoder is None:
            raise UnknownTopicError(topic)
        return cast("StoredFact", decoder.decode(state))

    def _upcast(self, topic: str, fields: dict[str, Any]) -> StoredFact:
        while topic in self._upcasters:
            topic, change = self._upcasters[topic]
            fields = change(fields)
        return cast("StoredFact", msgspec.convert(fields, self._types[topic], strict=False))

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """Encode for the eventsourcing library."""
        recorded = cast("Recorded", domain_event)
        topic, state = self.encode(recorded.originator_id, recorded.originator_version, recorded.fact)
        return StoredEvent(recorded.originator_id, recorded.originator_version, topic, state)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """Decode for the eventsourcing library."""
        stream = cast("UUID", stored_event.originator_id)
        topic, version = stored_event.topic, stored_event.originator_version
        fact = self.decode(topic, stored_event.state)
        if self._keys is not None:
            fact = unseal(fact, stream, version=version, topic=topic, key=self._keys.get(key_of(fact) or ""))
        recorded = Recorded(stream, version, topic, fact)
        return cast("DomainEventProtocol[UUID]", recorded)


def of_notification(fact: StoredFact) -> n.NotificationFact:
    """Return a fact that was read from a notification's stream as what it must be. Raises ValueError for another."""
    if type(fact) not in _OF_NOTIFICATIONS:
        raise ValueError("a fact of another kind of stream")
    return cast("n.NotificationFact", fact)


def key_of(fact: n.Fact) -> str | None:
    """Name the data key that the personal data of a fact are sealed under; None where it holds none."""
    return getattr(fact, "recipient", None)


def open_in(fact: n.Fact) -> Personal | r.Contact | None:
    """Return the personal data of a fact that are not sealed yet; None where it holds none."""
    personal = getattr(fact, "personal", None)
    return personal if type(personal) in _OPEN else None


def unseal(fact: F, stream: UUID, *, version: int = 1, topic: str, key: DataKey | None) -> F:
    """Open the personal data of a fact; what the key of its person does not open reads as redacted: the person was
    erased since, and has a new key, or none.

    `topic` is the one that the fact was stored under, whatever it was read as: the seal is bound to it.
    """
    sealed = getattr(fact, "personal", None)
    if not isinstance(sealed, bytes):
        return fact
    return msgspec.structs.replace(fact, personal=_opened(sealed, stream, version=version, topic=topic, key=key))


def open_personal(sealed: bytes, stream: UUID, *, version: int, topic: str, key: DataKey | None) -> Personal | Redacted:
    """Open a sealed field that stood in the fact of this stream, version and topic; redacted as `unseal` says."""
    personal = _opened(sealed, stream, version=version, topic=topic, key=key)
    return personal if isinstance(personal, Personal) else REDACTED


def _opened(
    sealed: bytes, stream: UUID, *, version: int, topic: str, key: DataKey | None
) -> Personal | r.Contact | Redacted:
    if key is None:
        return REDACTED
    try:
        return _decode_personal(key.open(sealed, bound_to=_bound_to(stream, version, topic)))
    except KeyUnavailableError:
        return REDACTED


def content_bound_to(notification: UUID, digest: bytes) -> bytes:
    """Return what a sealed content is bound to."""
    return notification.bytes + digest


def _bound_to(stream: UUID, version: int, topic: str) -> bytes:
    return stream.bytes + version.to_bytes(8) + topic.encode()


_encode = msgspec.json.Encoder().encode
_decode_personal: Callable[[bytes], Personal | r.Contact] = msgspec.json.Decoder(Personal | r.Contact).decode
