"""Personal data in stored bytes: unreadable, bound to their place, gone with their key."""

from uuid import UUID

import msgspec
import pytest

from ledger import notification as n
from ledger.errors import KeyUnavailableError
from ledger.keys import DataKey
from ledger.mapping import TOPICS, FactMapper, unseal
from ledger.values import REDACTED, Personal
from tests.unit.ledger.facts import KEY, PERSON, STREAM
from tests.unit.ledger.samples import DIGEST, FIRST, at, origin, requested

OTHER_STREAM = UUID("019e0000-0000-7000-8000-00000000000f")
TOPIC = "notification.requested"
OTHER_KEY = bytes(range(1, 33))


def stored(*, stream: UUID = STREAM, version: int = 1, topic: str = TOPIC) -> n.Requested:
    """A request as it is read back, still sealed, that was written at this place of the log."""
    mapper = FactMapper({**TOPICS, topic: n.Requested})
    _, state = mapper.encode(stream, version, requested(personal=PERSON), key=DataKey(KEY))
    fact = FactMapper().decode(TOPIC, state)
    assert isinstance(fact, n.Requested)
    return fact


def test_what_was_sealed_opens_at_its_place_with_its_key():
    assert unseal(stored(), STREAM, topic=TOPIC, key=DataKey(KEY)).personal == PERSON


@pytest.mark.parametrize("place", [{"stream": OTHER_STREAM}, {"version": 2}, {"topic": "notification.requested:9"}])
def test_what_was_sealed_at_another_place_does_not_open(place: dict[str, object]):
    moved = stored(**place)  # type: ignore[arg-type]  # one of the arguments above
    assert unseal(moved, STREAM, topic=TOPIC, key=DataKey(KEY)).personal == REDACTED


def test_i19_under_a_new_key_what_was_sealed_before_the_erasure_reads_as_redacted():
    assert unseal(stored(), STREAM, topic=TOPIC, key=DataKey(OTHER_KEY)).personal == REDACTED


def test_i19_without_its_key_it_reads_as_redacted_and_the_rest_stands():
    fact = unseal(stored(), STREAM, topic=TOPIC, key=None)
    assert fact == requested(personal=REDACTED)


def test_what_is_open_or_redacted_already_stays_so():
    for fact in (requested(), requested(personal=REDACTED)):
        assert unseal(fact, STREAM, topic=TOPIC, key=None) == fact


def test_i18_nothing_personal_can_be_read_in_the_stored_bytes():
    person = Personal("löwe+tag@example.com", "Grace Hopper", {"street": "Elm Street 7", "totals": [4711.25]})
    _, state = FactMapper().encode(STREAM, 1, requested(personal=person), key=DataKey(KEY))
    fields = msgspec.json.decode(state)
    sealed = msgspec.convert(fields["personal"], bytes)
    for word in ("löwe", "example.com", "Grace", "Hopper", "Elm", "4711", "street"):
        for form in (word.encode(), word.encode("utf-16-le"), msgspec.json.encode(word)[1:-1]):
            assert form not in state
            assert form not in sealed


def test_the_same_person_is_sealed_differently_each_time():
    assert stored().personal != stored().personal


def test_a_changed_or_shortened_seal_does_not_open():
    sealed = stored().personal
    assert isinstance(sealed, bytes)
    for broken in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:-1], sealed[:4], b""):
        assert unseal(requested(personal=broken), STREAM, topic=TOPIC, key=DataKey(KEY)).personal == REDACTED


def test_a_person_is_not_stored_without_a_key():
    with pytest.raises(KeyUnavailableError):
        FactMapper().encode(STREAM, 1, requested(), key=None)


def test_an_address_that_was_read_for_an_attempt_is_sealed_in_it_and_opens_at_its_place():
    started = n.AttemptStarted(
        **origin().stamp(),
        attempt=FIRST,
        provider="ses",
        address_hash="ab" * 16,
        digest=DIGEST,
        deadline_at=at(10),
        because="first",
        recipient="user:u-1",
        personal=Personal("ada@example.com"),
    )
    topic, state = FactMapper().encode(STREAM, 3, started, key=DataKey(KEY))
    assert b"ada" not in state
    read = FactMapper().decode(topic, state)
    assert unseal(read, STREAM, version=3, topic=topic, key=DataKey(KEY)) == started
    assert unseal(read, STREAM, version=3, topic=topic, key=None) == msgspec.structs.replace(started, personal=REDACTED)
