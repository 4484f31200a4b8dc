"""Stored bytes: frozen topics and fields, old bytes, upcasting, unknown topics, the library's own mapper."""

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import StoredEvent

from ledger import notification as n
from ledger.errors import KeyUnavailableError, UnknownTopicError
from ledger.keys import DataKey
from ledger.mapping import TOPICS, UPCASTERS, FactMapper, Recorded, StoredFact, of_notification, open_in, unseal
from ledger.values import REDACTED
from tests.unit.ledger.facts import FACTS, KEY, PERSON, STREAM

GOLDEN = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "golden").glob("*.json"))}
EVERY_FACT = {"recorded_at", "cause", "by"}


def required(fact: type[n.Fact]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(fact) if field.required}


def decoded(topic: str, state: bytes) -> StoredFact:
    return unseal(FactMapper().decode(topic, state), STREAM, topic=topic, key=DataKey(KEY))


def test_no_topic_disappears_and_each_has_a_golden_file():
    assert set(GOLDEN) == set(TOPICS) | set(UPCASTERS)


def test_each_topic_is_a_fact_of_its_own():
    assert len(set(TOPICS.values())) == len(TOPICS)


@pytest.mark.parametrize("topic", GOLDEN)
def test_old_bytes_are_read_as_the_fact_that_was_written(topic: str):
    assert decoded(topic, GOLDEN[topic]) == FACTS[topic]


@pytest.mark.parametrize("topic", GOLDEN)
def test_a_fact_is_written_with_the_names_that_it_always_had(topic: str):
    _, state = FactMapper().encode(STREAM, 1, FACTS[topic], key=DataKey(KEY))
    written, old = msgspec.json.decode(state), msgspec.json.decode(GOLDEN[topic])
    assert set(written) == set(old)
    assert {**written, "personal": None} == {**old, "personal": None}


@pytest.mark.parametrize("topic", GOLDEN)
def test_a_field_is_only_added_with_a_default(topic: str):
    fields = msgspec.json.decode(GOLDEN[topic])
    fact = type(FACTS[topic])
    assert EVERY_FACT <= required(fact) <= set(fields)
    sparse = msgspec.json.encode({name: value for name, value in fields.items() if name in required(fact)})
    assert isinstance(FactMapper().decode(topic, sparse), fact)


@pytest.mark.parametrize("topic", GOLDEN)
def test_a_field_of_a_newer_release_is_passed_over(topic: str):
    newer = msgspec.json.encode({**msgspec.json.decode(GOLDEN[topic]), "of_a_newer_release": [1]})
    assert decoded(topic, newer) == FACTS[topic]


def test_an_unknown_topic_is_named():
    with pytest.raises(UnknownTopicError, match=r"notification\.teleported") as caught:
        FactMapper().decode("notification.teleported", b"{}")
    assert caught.value.topic == "notification.teleported"


# -- upcasting: a topic that was never stored, made up to show the way of one that will be --------------------------


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    fields["template"] = fields.pop("form")
    return fields


def _with_locale(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "locale": fields.get("locale", "en")}


OLD = {
    "notification.worded": ("notification.worded:2", _renamed),
    "notification.worded:2": ("notification.rendered", _with_locale),
}


@pytest.mark.parametrize(("topic", "name"), [("notification.worded", "form"), ("notification.worded:2", "template")])
def test_an_old_topic_is_read_as_the_one_that_took_its_place(topic: str, name: str):
    fields = msgspec.json.decode(GOLDEN["notification.rendered"])
    del fields["locale"]
    fields[name] = fields.pop("template")
    mapper = FactMapper(upcasters=OLD)
    assert mapper.decode(topic, msgspec.json.encode(fields)) == FACTS["notification.rendered"]


def test_personal_data_open_beside_the_topic_that_they_were_stored_under_however_they_are_read():
    """A request of tomorrow's topic, and one of today's that tomorrow reads as that."""
    today, tomorrow = "notification.requested", "notification.requested:2"
    mapper = FactMapper(
        {tomorrow: n.Requested}, upcasters={today: (tomorrow, lambda fields: fields)}, keys={"user:u-1": DataKey(KEY)}
    )
    topic, state = mapper.encode(STREAM, 1, FACTS[today], key=DataKey(KEY))
    assert topic == tomorrow
    for stored in (StoredEvent(STREAM, 1, tomorrow, state), StoredEvent(STREAM, 1, today, GOLDEN[today])):
        assert cast("Recorded", mapper.to_domain_event(stored)).fact == FACTS[today]


def test_an_old_topic_is_never_written_again():
    assert FactMapper(upcasters=OLD).topic(FACTS["notification.rendered"]) == "notification.rendered"


# -- the mapper as the library uses it -------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if open_in(FACTS[topic]) is None])
def test_the_library_stores_and_reads_the_same_bytes(topic: str):
    mapper = FactMapper()
    recorded = Recorded(STREAM, 3, topic, FACTS[topic])
    stored = mapper.to_stored_event(cast("DomainEventProtocol[Any]", recorded))
    assert (stored.topic, stored.state) == (topic, GOLDEN[topic])
    assert mapper.to_domain_event(stored) == recorded


def test_the_library_opens_what_it_has_keys_for():
    stored = _stored_request()
    opened = cast("Recorded", FactMapper(keys={"user:u-1": DataKey(KEY)}).to_domain_event(stored)).fact
    redacted = cast("Recorded", FactMapper(keys={}).to_domain_event(stored)).fact
    sealed = cast("Recorded", FactMapper().to_domain_event(stored)).fact
    assert isinstance(opened, n.Requested)
    assert isinstance(redacted, n.Requested)
    assert isinstance(sealed, n.Requested)
    assert (opened.personal, redacted.personal) == (PERSON, REDACTED)
    assert isinstance(sealed.personal, bytes)


def test_the_library_stores_nothing_personal_without_its_key():
    recorded = Recorded(STREAM, 1, "notification.requested", FACTS["notification.requested"])
    with pytest.raises(KeyUnavailableError):
        FactMapper().to_stored_event(cast("DomainEventProtocol[Any]", recorded))


def _stored_request() -> Any:
    sealed = FactMapper().decode("notification.requested", GOLDEN["notification.requested"])
    recorded = Recorded(STREAM, 1, "notification.requested", sealed)
    return FactMapper().to_stored_event(cast("DomainEventProtocol[Any]", recorded))


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if open_in(FACTS[topic]) is not None])
def test_the_library_opens_the_personal_data_of_every_fact_that_has_some_wherever_it_stands(topic: str):
    mapper = FactMapper(keys={"user:u-1": DataKey(KEY)})
    stored = StoredEvent(STREAM, 7, *mapper.encode(STREAM, 7, FACTS[topic], key=DataKey(KEY)))
    assert cast("Recorded", mapper.to_domain_event(stored)).fact == FACTS[topic]


def test_a_fact_of_another_kind_of_stream_is_none_of_a_notification():
    assert of_notification(FACTS["notification.expired"]) == FACTS["notification.expired"]
    for topic in ("suppression.listed", "recipient.device_dropped"):
        with pytest.raises(ValueError, match="another kind"):
            of_notification(FACTS[topic])
