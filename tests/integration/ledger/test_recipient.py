import asyncio
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from handlers.metrics import Metrics
from handlers.receive import Receive
from handlers.recipients import tell as commanded
from ledger import notification as n
from ledger.decision import Decision, Guard
from ledger.errors import Refusal, RefusedError
from ledger.ledger import Ledger, Loaded
from ledger.notification import Intent, Origin
from ledger.recipient import (
    Address,
    ContactNews,
    DeviceNews,
    DropReason,
    Field,
    Platform,
    Recipient,
    drop_device,
    learn,
    stream_of,
)
from ledger.values import Accepted, Channel, Personal, Report, ReportKind
from tests.integration.ledger.parts import (
    IDENTITY,
    Connection,
    begun,
    new_id,
    now,
    rows,
    running_ledger,
    set_aside_in,
    value,
)
from tests.support.listed import listed_for
from tests.support.postgres import Database

ADA, EVA = "ada@example.com", "eva@example.com"
STORED = "SELECT topic, convert_from(state, 'UTF8') FROM ledger.stored_events ORDER BY notification_id"
KEYS = "SELECT count(*) FROM ledger.recipient_key"


async def tell(
    ledger: Ledger, user: str = "u-1", *, said_at: datetime | None = None, **values: str | None
) -> Recipient:
    news = ContactNews(user, said_at or now(), {Field(name): value for name, value in values.items()})

    def decide(known: Recipient, at: datetime) -> Decision:
        facts = learn(known, news, Origin(now=at, cause="test", by="test"), IDENTITY)
        return Decision(facts=known.next(facts))

    return await ledger.change_recipient(user, decide)


async def register(ledger: Ledger, fid: str, user: str = "u-1") -> Recipient:
    news = DeviceNews(user, now(), fid, Platform.IOS)

    def decide(known: Recipient, at: datetime) -> Decision:
        return Decision(facts=known.next(learn(known, news, Origin(now=at, cause="test", by="test"), IDENTITY)))

    return await ledger.change_recipient(user, decide)


async def test_fifty_who_change_one_person_at_once_in_ten_processes_all_have_their_turn(
    database: Database, application: Connection
):
    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(running_ledger(database.url)) for _ in range(10)]
        changes = (ContactNews("u-1", now(), {Field.LOCALE: f"en-{one}"}) for one in range(50))
        await asyncio.gather(*(commanded(ledgers[number % 10], each, by="test") for number, each in enumerate(changes)))
    assert await value(application, "SELECT max(originator_version) FROM ledger.stored_events") == 50


async def requested(ledger: Ledger, user: str = "u-1", *, address: str | None = None, **changes: object) -> Loaded:
    stream = new_id()
    address_hash = None if address is None else IDENTITY.address_hash(address)
    await ledger.append(
        begun(
            stream,
            recipient=f"user:{user}",
            user_id=user,
            address_hash=address_hash,
            personal=Personal(address),
            **changes,
        )
    )
    return await loaded(ledger, stream)


async def loaded(ledger: Ledger, stream: UUID) -> Loaded:
    found = await ledger.load(stream)
    assert found is not None
    return found


async def start(ledger: Ledger, known: Loaded, attempt: UUID) -> Loaded:
    """Store an intent as delivery does: for the person as they were read, guarded by what was read."""
    person = known.person

    def decide(current: Loaded, at: datetime) -> Decision | None:
        if current.person != person:
            return None
        intent = Intent(
            attempt=attempt,
            provider="ses",
            address_hash=person.address_hash or "",
            digest=b"digest",
            template_version="v1",
            locale="en",
            deadline_at=at + timedelta(minutes=1),
            address=person.address,
        )
        facts = n.start_attempt(current.state, intent, Origin(now=at, cause="agenda", by="deliver"))
        guard = Guard(current.recipient.stream, current.recipient.version)
        return Decision(facts=current.next(facts), guards=(guard,))

    after = await ledger.change(known.stream, decide, known=known)
    assert after is not None
    return after


async def test_what_was_told_is_read_again_and_nothing_of_it_lies_there_in_clear(
    ledger: Ledger, application: Connection
):
    await tell(ledger, email=ADA, phone="+442071838750", name="Ada", locale="de", time_zone="Europe/Berlin")
    await register(ledger, "fid-1")
    known = await ledger.recipient("u-1")
    assert known.addresses(Channel.EMAIL) == (Address(ADA, IDENTITY.address_hash(ADA)),)
    assert (known.contact.name, known.locale, known.time_zone, known.version) == ("Ada", "de", "Europe/Berlin", 2)
    assert [device.address for device in known.devices] == ["fid-1"]
    stored = await rows(application, STORED)
    assert [topic for topic, _ in stored] == ["recipient.contact_changed", "recipient.device_registered"]
    assert not any(word in state for _, state in stored for word in (ADA, "2071838750", "Ada", "fid-1"))


async def test_a_person_nobody_has_spoken_of_has_no_key_either(ledger: Ledger, application: Connection):
    assert (await ledger.recipient("nobody")).version == 0
    assert await value(application, KEYS) == 0


async def test_any_unicode_may_be_a_user(ledger: Ledger):
    for user in ("张伟/1", "a b", "%2F", "🎉"):
        await tell(ledger, user, email=ADA)
        assert (await ledger.recipient(user)).version == 1


async def test_a_message_without_an_address_goes_where_the_person_is_known_to_be(ledger: Ledger):
    await tell(ledger, email=ADA, name="Ada", locale="de")
    one = await requested(ledger, locale_assumed=True)
    person = one.person
    assert (person.address, person.address_hash, person.found) == (ADA, IDENTITY.address_hash(ADA), True)
    assert (person.name, person.locale) == ("Ada", "de")
    assert one.suppression is not None
    assert one.suppression.address_hash == IDENTITY.address_hash(ADA)


async def test_what_the_message_says_goes_before_what_is_known(ledger: Ledger):
    await tell(ledger, email=ADA, locale="de")
    given = await requested(ledger, address=EVA, locale="fr")
    assert (given.person.address, given.person.found, given.person.locale) == (EVA, False, "fr")
    without_language = await requested(ledger, address=EVA, locale="en", locale_assumed=True)
    assert (without_language.person.address, without_language.person.locale) == (EVA, "de")


async def test_a_channel_that_nothing_is_known_of_has_no_address(ledger: Ledger):
    await tell(ledger, email=ADA)
    for channel in (Channel.SMS, Channel.PUSH):
        one = await requested(ledger, channel=channel)
        assert (one.person.address, one.suppression) == (None, None)


async def test_a_push_goes_to_the_device_that_registered_last(ledger: Ledger):
    await register(ledger, "fid-1")
    await register(ledger, "fid-2")
    one = await requested(ledger, channel=Channel.PUSH)
    assert (one.person.address, one.person.address_hash) == ("fid-2", IDENTITY.device_hash("fid-2"))


async def test_the_address_that_was_read_stands_sealed_and_hashed_in_the_attempt(
    ledger: Ledger, application: Connection
):
    await tell(ledger, email=ADA)
    after = await start(ledger, await requested(ledger), attempt := uuid4())
    started = after.state.attempt(attempt)
    assert started is not None
    assert started.address_hash == IDENTITY.address_hash(ADA)
    (state,) = [state for topic, state in await rows(application, STORED) if topic == "notification.attempt_started"]
    assert '"recipient":"user:u-1"' in state
    assert '"personal":"' in state
    assert ADA not in state


async def test_i07_a_contact_that_changes_after_we_read_refuses_the_intent(ledger: Ledger):
    await tell(ledger, email=ADA)
    waiting = await requested(ledger)
    await tell(ledger, email=EVA)
    after = await start(ledger, waiting, uuid4())
    assert after.state.attempts == ()
    assert after.person.address == EVA


async def test_i07_an_address_that_becomes_known_after_we_read_refuses_what_was_decided_without_it(ledger: Ledger):
    waiting = await requested(ledger)
    assert waiting.recipient.version == 0
    await tell(ledger, email=ADA)
    with pytest.raises(RefusedError) as caught:
        await ledger.append(Decision(guards=(Guard(waiting.recipient.stream, 0),)))
    assert caught.value.reason is Refusal.GUARD


async def test_i07_what_was_told_beside_the_address_does_not_hold_a_send_up(ledger: Ledger):
    await tell(ledger, email=ADA)
    waiting = await requested(ledger)
    await register(ledger, "fid-1")
    after = await start(ledger, waiting, attempt := uuid4())
    assert after.state.attempt(attempt) is not None


async def test_i07_no_attempt_has_a_position_after_the_change_of_the_address_that_it_goes_to(
    ledger: Ledger, application: Connection
):
    for number in range(20):
        user = f"u-{number}"
        await tell(ledger, user, email=ADA)
        waiting = [await requested(ledger, user) for _ in range(4)]
        await asyncio.gather(
            *(start(ledger, one, uuid4()) for one in waiting[:2]),
            tell(ledger, user, email=EVA),
            *(start(ledger, one, uuid4()) for one in waiting[2:]),
        )
    changed: dict[str, int] = {}
    for topic, state in await rows(application, STORED):
        user = state.partition('"recipient":"')[2].partition('"')[0]
        if topic == "recipient.contact_changed":
            changed[user] = changed.get(user, 0) + 1
        if topic == "notification.attempt_started":
            assert IDENTITY.address_hash(ADA if changed[user] == 1 else EVA) in state
    assert set(changed.values()) == {2}


async def test_those_who_tell_of_one_person_at_once_are_all_heard(ledger: Ledger):
    await asyncio.gather(*(register(ledger, f"fid-{number}") for number in range(15)))
    assert {device.address for device in (await ledger.recipient("u-1")).devices} == {f"fid-{n}" for n in range(15)}


async def test_a_bounce_lists_the_address_that_was_written_to_wherever_the_person_is_by_now(ledger: Ledger):
    await tell(ledger, email=ADA)
    after = await start(ledger, await requested(ledger), attempt := uuid4())

    def settled(current: Loaded, at: datetime) -> Decision:
        origin = Origin(now=at, cause="agenda", by="deliver")
        facts = n.settle(current.state, attempt, Accepted("ref-1"), origin, retry_at=at)
        return Decision(facts=current.next(facts))

    await ledger.change(after.stream, settled, known=after)
    await tell(ledger, email=EVA)
    bounce = Report(
        provider="ses",
        reference="ref-1",
        kind=ReportKind.BOUNCED,
        key="bounce",
        notification=after.stream,
        attempt=attempt,
        suppresses=True,
    )
    await Receive(ledger, set_aside_in(ledger.store), Metrics(CollectorRegistry())).reports([bounce])
    to_eva = await requested(ledger)
    assert to_eva.suppression is not None
    assert listed_for(to_eva) is None
    await tell(ledger, email=ADA)
    to_ada = await requested(ledger)
    assert listed_for(to_ada) is not None


async def test_a_device_is_dropped_in_the_decision_of_the_notification_that_found_it_gone(ledger: Ledger):
    await register(ledger, "fid-1")
    one = await requested(ledger, channel=Channel.PUSH)

    def decide(current: Loaded, at: datetime) -> Decision:
        origin = Origin(now=at, cause="agenda", by="fcm")
        gone = drop_device(current.recipient, IDENTITY.device_hash("fid-1"), DropReason.UNREGISTERED, origin)
        failed = (n.Failed(**origin.stamp(), reason="refused: unregistered"),)
        return Decision(facts=(*current.next(failed), *current.recipient.next(gone)))

    await ledger.change(one.stream, decide, known=one)
    known = await ledger.recipient("u-1")
    assert (known.devices, known.version) == ((), 2)
    assert known.stream == stream_of(IDENTITY, "u-1")
    assert (await requested(ledger, channel=Channel.PUSH)).person.address is None


async def test_i25_a_person_of_whom_a_newer_release_wrote_holds_up_only_their_own(
    ledger: Ledger, database: object, owner: Connection
):
    await tell(ledger, email=ADA)
    await tell(ledger, "u-2", email=EVA)
    one, other = await requested(ledger), await requested(ledger, "u-2")
    await owner.execute(
        "UPDATE ledger.stored_events SET topic = 'recipient.teleported' WHERE originator_id = %s",
        (stream_of(IDENTITY, "u-1"),),
    )
    found = await ledger.load_many([one.stream, other.stream])
    assert type(found[one.stream]).__name__ == "UnknownTopicError"
    assert isinstance(found[other.stream], Loaded)


async def test_a_standing_stream_is_no_notification(ledger: Ledger):
    await tell(ledger, email=ADA)
    assert await ledger.load(stream_of(IDENTITY, "u-1")) is None
