"""Load, decide, append, and decide again when the world has moved on."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from psycopg import AsyncConnection

from ledger import notification as n
from ledger.decision import Decision, Guard, Intake, NewFact, SaidContent
from ledger.errors import KeyUnavailableError, Refusal, RefusedError, UnknownTopicError
from ledger.keys import KeyEncryption
from ledger.ledger import Ledger, Loaded
from ledger.store import Encoded
from ledger.values import REDACTED, Accepted, InDoubt, Mail, Personal, ReportKind
from tests.integration.ledger import lives
from tests.integration.ledger.parts import Connection, agenda_row, begun, log, new_id, request, rows, standing, stored
from tests.support.postgres import Database

ONE_DATABASE = True

WORDS = Mail(sender="shop@example.com", subject="Your order", html="<p>ö</p>" * 500, text="ö")


async def test_what_was_appended_is_loaded_with_its_person_readable(ledger: Ledger):
    person = Personal("ada@example.com", "Ada", {"order": "A-17 ö 😀 \x00"})
    stream = await lives.begin(ledger, personal=person)
    loaded = await ledger.load(stream)
    assert loaded is not None
    assert loaded.state.requested.personal == person
    assert loaded.state.version == 1
    assert await ledger.load(new_id()) is None


async def test_what_is_loaded_knows_the_time_of_the_database(ledger: Ledger):
    loaded = await ledger.load(await lives.begin(ledger))
    assert loaded is not None
    assert loaded.state.requested.recorded_at < loaded.now() <= await ledger.store.now()


async def test_i18_nothing_personal_lies_in_the_database_in_clear(ledger: Ledger, application: Connection):
    await lives.begin(ledger, personal=Personal("ada@example.com", "Ada Lovelace"))
    ((state,),) = await rows(application, "SELECT state FROM ledger.stored_events")
    assert b"ada@" not in state
    assert b"Lovelace" not in state


async def test_i19_without_the_persons_key_it_reads_as_redacted_and_the_rest_stands(
    ledger: Ledger, application: Connection
):
    gone, other = await lives.begin(ledger, recipient="user:gone"), await lives.begin(ledger)
    await application.execute("DELETE FROM ledger.recipient_key WHERE recipient = 'user:gone'")
    found = await ledger.load_many([gone, other])
    erased, intact = found[gone], found[other]
    assert isinstance(erased, Loaded)
    assert isinstance(intact, Loaded)
    assert (erased.state.requested.personal, erased.key) == (REDACTED, None)
    assert isinstance(intact.state.requested.personal, Personal)


async def test_one_person_has_one_key_for_all_that_waits_together(ledger: Ledger, application: Connection):
    await asyncio.gather(*(lives.begin(ledger, recipient=f"user:{number % 3}") for number in range(30)))
    assert len(await rows(application, "SELECT * FROM ledger.recipient_key")) == 3


async def test_loads_that_are_asked_for_at_the_same_moment_share_a_query(ledger: Ledger):
    streams = [await lives.begin(ledger) for _ in range(5)]
    asked_before = ledger.store._pool.get_stats()["requests_num"]
    loaded = await asyncio.gather(*(ledger.load(stream) for stream in streams * 20))
    assert [one.stream for one in loaded if one] == streams * 20
    # One for the facts, one for the keys, one for what is known of the addresses.
    assert ledger.store._pool.get_stats()["requests_num"] - asked_before == 3


async def _break_topic(ledger: Ledger, stream: UUID) -> None:
    await ledger.store.append([Encoded(facts=[(stream, 2, "notification.teleported", b"{}")])])


async def _break_fields(ledger: Ledger, stream: UUID) -> None:
    await ledger.store.append([Encoded(facts=[(stream, 2, "notification.dispatched", b"{}")])])


async def _break_bytes(ledger: Ledger, stream: UUID) -> None:
    await ledger.store.append([Encoded(facts=[(stream, 2, "notification.expired", b"\xff{")])])


async def _break_key(ledger: Ledger, stream: UUID) -> None:
    lost = KeyEncryption([b"x" * 32]).wrap("user:broken", b"k" * 32)
    async with ledger.store.connection() as connection:
        await connection.execute(
            "UPDATE ledger.recipient_key SET wrapped = %s WHERE recipient = 'user:broken'", (lost,)
        )


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (_break_topic, UnknownTopicError),
        (_break_fields, msgspec.ValidationError),
        (_break_bytes, msgspec.DecodeError),
        (_break_key, KeyUnavailableError),
    ],
)
async def test_a_stream_that_cannot_be_read_spoils_no_other(
    ledger: Ledger, break_it: Callable[[Ledger, UUID], Any], error: type[Exception]
):
    healthy = [await lives.begin(ledger, recipient=f"user:{number}") for number in range(5)]
    broken = await lives.begin(ledger, recipient="user:broken")
    await break_it(ledger, broken)
    found = await asyncio.gather(*(ledger.load(stream) for stream in [*healthy, broken]), return_exceptions=True)
    assert [one.stream for one in found if isinstance(one, Loaded)] == healthy
    assert isinstance(found[-1], error)


async def test_a_stream_that_does_not_begin_with_a_request_is_its_own_error(ledger: Ledger):
    stream = new_id()
    await ledger.store.append([Encoded(facts=[(stream, 1, "notification.expired", _expired())])])
    with pytest.raises(ValueError, match="requested"):
        await ledger.load(stream)


def _expired() -> bytes:
    return b'{"recorded_at":"2031-05-04T12:00:00Z","cause":"clock","by":"test"}'


def _failing(loaded: Loaded, now: datetime) -> Decision:
    fact = n.Failed(recorded_at=now, cause="test", by="test", reason=f"seen at {loaded.state.version}")
    return Decision(facts=loaded.next((fact,)))


async def test_a_change_that_was_overtaken_is_decided_again_on_newer_facts(ledger: Ledger):
    stream = await lives.begin(ledger)
    changed = await asyncio.gather(*(ledger.change(stream, _failing) for _ in range(3)))
    assert sorted(one.state.version for one in changed if one) == [2, 3, 4]
    loaded = await ledger.load(stream)
    assert loaded is not None
    assert (loaded.state.version, loaded.state.reason) == (4, "seen at 3")


async def test_a_change_on_what_was_known_before_is_decided_again(ledger: Ledger):
    stream = await lives.begin(ledger)
    known = await ledger.load(stream)
    await ledger.change(stream, _failing)
    changed = await ledger.change(stream, _failing, known=known)
    assert changed is not None
    assert changed.state.reason == "seen at 2"


async def test_a_change_is_decided_at_most_twenty_times(ledger: Ledger):
    stream, suppression = await lives.begin(ledger), standing()
    await ledger.store.append([Encoded(facts=stored(suppression))])
    seen: list[int] = []

    def decide(loaded: Loaded, now: datetime) -> Decision:
        seen.append(loaded.state.version)
        return msgspec.structs.replace(_failing(loaded, now), guards=(Guard(suppression, 0),))

    with pytest.raises(RefusedError) as caught:
        await ledger.change(stream, decide)
    assert (seen, caught.value.reason) == ([1] * 20, Refusal.GUARD)


async def test_a_change_that_was_taken_in_before_is_not_decided_again(ledger: Ledger):
    stream, seen = await lives.begin(ledger), []

    def decide(loaded: Loaded, now: datetime) -> Decision:
        seen.append(loaded.state.version)
        return msgspec.structs.replace(_failing(loaded, now), intake=Intake(b"command", b"body"))

    await ledger.change(stream, decide)
    with pytest.raises(RefusedError) as caught:
        await ledger.change(stream, decide)
    assert (seen, caught.value.reason) == ([1, 2], Refusal.TAKEN_IN)


async def test_a_change_of_nothing_stores_nothing(ledger: Ledger, application: Connection):
    stream = await lives.begin(ledger)
    unchanged = await ledger.change(stream, lambda _loaded, _now: None)
    assert unchanged is not None
    assert unchanged.state.version == 1
    assert await ledger.change(new_id(), _failing) is None
    assert await log(application) == [(stream, 1)]


async def test_i11_settling_without_a_fact_frees_the_row_and_leaves_it_as_it_is(
    ledger: Ledger, application: Connection
):
    stream, owner = await lives.begin(ledger), uuid4()
    await application.execute("UPDATE ledger.agenda SET owner = %s, claims = 1, lease_until = 'infinity'", (owner,))
    await lives.decide(ledger, stream, lambda _state, _origin: (), settles=owner)
    query = "SELECT version, owner, claims, lease_until = '-infinity' FROM ledger.agenda"
    assert await rows(application, query) == [(1, None, 0, True)]


async def test_i11_settling_by_facts_that_are_old_by_now_does_not_bring_a_row_back(
    ledger: Ledger, application: Connection
):
    stream = await lives.begin(ledger)
    known = await ledger.load(stream)
    attempt = await lives.start(ledger, stream)
    await lives.settle(ledger, stream, attempt, Accepted("ref-1"))
    assert await rows(application, "SELECT * FROM ledger.agenda") == []
    after = await lives.decide(ledger, stream, lambda _state, _origin: (), settles=uuid4(), known=known)
    assert after.state.version == 4
    assert await rows(application, "SELECT * FROM ledger.agenda") == []


async def test_i11_settling_and_reporting_at_the_same_moment_do_not_meet_in_a_row(
    ledger: Ledger, application: Connection
):
    stream = await lives.begin(ledger)
    attempt = await lives.start(ledger, stream)
    await asyncio.gather(
        lives.decide(ledger, stream, lambda _state, _origin: (), settles=uuid4()),
        lives.report(ledger, stream, attempt, ReportKind.DELAYED),
        lives.decide(ledger, stream, lambda _state, _origin: (), settles=uuid4()),
        lives.settle(ledger, stream, attempt, InDoubt("reset")),
    )
    assert await rows(application, "SELECT * FROM ledger.agenda") == []


async def test_a_reference_is_kept_for_each_dispatch(ledger: Ledger, application: Connection):
    stream = await lives.begin(ledger)
    attempt = await lives.start(ledger, stream)
    await lives.settle(ledger, stream, attempt, Accepted("ses-1"))
    query = "SELECT provider, reference, notification, attempt FROM ledger.provider_reference"
    assert await rows(application, query) == [("ses", "ses-1", stream, attempt)]


async def _say(ledger: Ledger, stream: UUID) -> Loaded:
    def decide(loaded: Loaded, now: datetime) -> Decision:
        assert loaded.key is not None
        rendered = n.Rendered(
            recorded_at=now,
            cause="test",
            by="test",
            digest=WORDS.digest(),
            template="order_shipped",
            template_version="v1",
            locale="en",
        )
        said = SaidContent("standard", stream, WORDS.digest(), msgspec.json.encode(WORDS), loaded.key)
        return Decision(facts=loaded.next((rendered,)), contents=(said,))

    said = await ledger.change(stream, decide)
    assert said is not None
    return said


async def test_i26_what_was_said_is_read_back_word_for_word(ledger: Ledger, application: Connection):
    said = await _say(ledger, await lives.begin(ledger))
    assert await ledger.content(said) == WORDS
    ((body,),) = await rows(application, "SELECT body FROM ledger.content")
    assert len(body) < len(WORDS.html) / 4
    assert b"shop@" not in body


async def test_i19_what_was_said_cannot_be_read_once_the_persons_key_is_destroyed(
    ledger: Ledger, application: Connection
):
    said = await _say(ledger, await lives.begin(ledger))
    await application.execute("DELETE FROM ledger.recipient_key")
    erased = await ledger.load(said.stream)
    assert erased is not None
    assert await ledger.content(erased) is None


async def test_what_was_never_said_or_is_kept_no_longer_is_not_there(ledger: Ledger, owner: AsyncConnection[Any]):
    stream = await lives.begin(ledger)
    before = await ledger.load(stream)
    assert before is not None
    assert await ledger.content(before) is None
    said = await _say(ledger, stream)
    await owner.execute("TRUNCATE ledger.content")
    assert await ledger.content(said) is None


async def test_a_decision_may_begin_one_notification_beside_changing_another(ledger: Ledger, application: Connection):
    stream, resent = await lives.begin(ledger), new_id()

    def decide(loaded: Loaded, now: datetime) -> Decision:
        return Decision(facts=(NewFact(resent, 1, request(at=now)),), guards=(Guard(loaded.stream, 1),))

    await ledger.change(stream, decide)
    assert await log(application) == [(stream, 1), (resent, 1)]
    query = "SELECT notification FROM ledger.agenda ORDER BY due_at"
    assert await rows(application, query) == [(stream,), (resent,)]


async def test_callers_do_not_invent_what_is_due(ledger: Ledger, application: Connection):
    decision = begun()
    stream = decision.facts[0].stream
    await ledger.append(msgspec.structs.replace(decision, agenda=(agenda_row(new_id(), 9, due=-60),)))
    assert await rows(application, "SELECT notification, version FROM ledger.agenda") == [(stream, 1)]


async def test_an_empty_database_has_a_head_of_zero(ledger: Ledger, database: Database):
    assert await ledger.store.head() == 0
    await lives.begin(ledger)
    assert await ledger.store.head() > 0
