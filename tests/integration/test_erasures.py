"""Forgetting a person: what was asked for before ends, what comes after it starts anew, and nobody else is touched."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection

from handlers.deliver import Deliver
from handlers.erasures import (
    LIST,
    Erased,
    copy_list,
    decode,
    erase_addresses,
    erase_again,
    erase_user,
    latest,
    read_list,
)
from ledger import erasure
from ledger.decision import Decision, NewFact
from ledger.erasure import Erasure
from ledger.errors import ArchiveUnavailableError, KeyMissingError
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.recipient import Erased as Erasing
from ledger.recipient import stream_of
from ledger.set_aside import Refusal
from ledger.status import Status
from ledger.values import REDACTED, Channel, Fallback, Personal
from ops.gauges import Gauges
from providers.directory import Directory
from providers.fakes.ses import FakeSes
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message
from tests.integration.ledger import lives
from tests.integration.ledger.parts import (
    IDENTITY,
    Connection,
    begun,
    new_id,
    now,
    request,
    rows,
    running_ledger,
    set_aside_in,
    value,
)
from tests.integration.test_pauses import deliverer, handle, read
from tests.support.postgres import Database
from tests.support.races import Race

RACES = int(os.environ.get("TEST_RACES", "50"))
AT_ONCE = 10
STREAMS = (
    "SELECT originator_id FROM ledger.stored_events WHERE topic = 'notification.requested' ORDER BY notification_id"
)
ERASED = "SELECT count(*) FROM ledger.stored_events WHERE topic = 'recipient.erased'"
KEYED = "SELECT recipient FROM ledger.recipient_key ORDER BY 1"
ADA, PHONE = "ada@sandbox.example", "+447400990457"
LETTER = {"by": "test", "reason": "asked by letter"}


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    async with await AsyncConnection.connect(database.owner_url, autocommit=True) as connection:
        yield connection


def shipped(user: str = "ada", address: str = ADA) -> dict[str, Any]:
    return message("OrderShippedEvent", userId=user, userEmail=address)


async def asked(database: Database, ledger: Ledger, application: Connection, *messages: dict[str, Any]) -> list[UUID]:
    await take_in(database.url, list(messages))
    return [stream for (stream,) in await rows(application, STREAMS)][-len(messages) :]


async def erase(ledger: Ledger, user: str = "ada", *addresses: str) -> Erased:
    return await erase_user(ledger, user, addresses, **LETTER)


async def ended(ledger: Ledger, stream: UUID) -> tuple[Status, str | None]:
    state = (await read(ledger, stream)).state
    return state.status, state.reason


async def test_i19_what_was_asked_for_before_is_not_sent_and_what_comes_later_is(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    (before,) = await asked(database, ledger, application, shipped())
    done = await erase(ledger)
    (after,) = await asked(database, ledger, application, shipped())
    async with deliverer(ledger, fake) as deliver:
        for stream in (before, after):
            await handle(deliver, await read(ledger, stream))
    assert (await read(ledger, before)).state.requested.personal == REDACTED
    assert await ended(ledger, before) == (Status.SUPPRESSED, "erased")
    assert await ended(ledger, after) == (Status.DISPATCHED, None)
    assert [one.tags["notification"] for one in fake.requests] == [str(after)]
    assert (done.erased_at is not None, done.addresses, done.shared) == (True, 0, 0)


async def test_i19_what_was_read_before_the_erasure_is_not_sent_after_it(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    (stream,) = await asked(database, ledger, application, shipped())
    known = await read(ledger, stream)
    await erase(ledger)
    async with deliverer(ledger, fake) as deliver:
        await handle(deliver, known)
        await handle(deliver, await read(ledger, stream))
    assert (fake.requests, await ended(ledger, stream)) == ([], (Status.SUPPRESSED, "erased"))


async def test_i19_what_is_stored_while_its_person_is_erased_is_erased_too(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    """Sealed under the key that was destroyed, and stored behind the erasure, with a time behind it."""
    async with ledger.store.connection() as connection:
        old = (await ledger._keys.ensure(connection, ["user:ada"]))["user:ada"]
    await erase(ledger)
    stream = new_id()
    late = request(recipient="user:ada", user_id="ada", at=await ledger.store.now())
    await ledger.append(Decision(facts=(NewFact(stream, 1, late, old),)))
    async with deliverer(ledger, fake) as deliver:
        await handle(deliver, await read(ledger, stream))
    assert await ended(ledger, stream) == (Status.SUPPRESSED, "erased")


async def test_a_key_that_is_lost_long_after_an_erasure_is_not_taken_for_it(
    ledger: Ledger, fake: FakeSes, application: Connection
):
    long_ago = Origin(now=now() - timedelta(minutes=5), cause="test", by="test")
    erased = Erasing(**long_ago.stamp(), recipient="user:ada", reason="asked by letter")
    await ledger.append(Decision(facts=(NewFact(stream_of(IDENTITY, "ada"), 1, erased),)))
    stream = await lives.begin(ledger, recipient="user:ada", user_id="ada")
    await application.execute("DELETE FROM ledger.recipient_key")
    async with deliverer(ledger, fake) as deliver:
        with pytest.raises(KeyMissingError):
            await handle(deliver, await read(ledger, stream))


async def test_what_a_newer_key_does_not_open_waits_unless_its_person_was_erased(
    ledger: Ledger, fake: FakeSes, application: Connection
):
    stream = await lives.begin(ledger, recipient="user:ada", user_id="ada")
    await application.execute("DELETE FROM ledger.recipient_key")
    await lives.begin(ledger, recipient="user:ada", user_id="ada")
    async with deliverer(ledger, fake) as deliver:
        with pytest.raises(KeyMissingError):
            await handle(deliver, await read(ledger, stream))


@pytest.mark.parametrize("read_first", ["read before the erasure", "read behind it"])
async def test_i19_an_erased_person_is_told_on_no_other_channel(
    ledger: Ledger, fake: FakeSes, application: Connection, read_first: str
):
    sms = Fallback(channel=Channel.SMS, after=timedelta(minutes=1))
    personal = Personal(ADA, "Ada", {}, fallback_address=PHONE)
    overdue = now() - timedelta(minutes=2)
    stream = await lives.begin(ledger, recipient="user:ada", user_id="ada", at=overdue, fallback=sms, personal=personal)
    known = await read(ledger, stream)
    await erase(ledger)
    async with deliverer(ledger, fake) as deliver:
        await handle(deliver, known if read_first == "read before the erasure" else await read(ledger, stream))
    state = (await read(ledger, stream)).state
    assert (state.fell_back_to, state.fallback_dropped) == (None, True)
    assert await rows(application, STREAMS) == [(stream,)]


async def test_i19_the_address_alone_goes_with_its_user_unless_another_user_has_it(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    eva = "eva@sandbox.example"
    users = await asked(database, ledger, application, shipped("ada", ADA), shipped("ada", eva), shipped("eva", eva))
    streams = [*users, await alone(ledger, ADA), await alone(ledger, eva)]
    done = await erase(ledger)
    assert (done.addresses, done.shared) == (1, 1)
    assert await readable(ledger, streams) == [False, False, True, False, True]
    async with deliverer(ledger, fake) as deliver:
        for stream in streams[:-1]:
            await handle(deliver, await read(ledger, stream))
    gone, sent = (Status.SUPPRESSED, "erased"), (Status.DISPATCHED, None)
    assert [await ended(ledger, stream) for stream in streams[:-1]] == [gone, gone, sent, gone]


async def alone(ledger: Ledger, address: str) -> UUID:
    """Somebody is to be told of whom only an address is known."""
    address_hash = IDENTITY.address_hash(address)
    return await lives.begin(ledger, recipient=f"address:{address_hash}", address_hash=address_hash)


async def readable(ledger: Ledger, streams: Sequence[UUID]) -> list[bool]:
    return [isinstance((await read(ledger, one)).state.requested.personal, Personal) for one in streams]


async def test_i19_somebody_who_is_known_by_an_address_alone_is_erased_by_it(
    ledger: Ledger, database: Database, application: Connection
):
    (other,) = await asked(database, ledger, application, shipped("ada", ADA))
    stream = await alone(ledger, ADA)
    done = await erase_addresses(ledger, [ADA.upper()], **LETTER)
    assert done.erased_at is not None
    assert await readable(ledger, [stream, other]) == [False, True]
    assert await erase_addresses(ledger, [ADA], **LETTER) == done
    nobody = Erased(erased_at=None, addresses=0, shared=0)
    assert await erase_addresses(ledger, ["nobody@example.com"], **LETTER) == nobody


async def test_erasing_again_is_erasing_once_until_there_is_something_new(
    ledger: Ledger, database: Database, application: Connection
):
    await asked(database, ledger, application, shipped())
    done = await asyncio.gather(*(erase(ledger) for _ in range(5)))
    assert len({one.erased_at for one in done}) == 1
    assert await value(application, ERASED) == 1
    await asked(database, ledger, application, shipped())
    again = await erase(ledger)
    assert again.erased_at != done[0].erased_at
    assert await value(application, ERASED) == 2


async def test_nobody_is_erased_who_was_never_there(ledger: Ledger, application: Connection):
    assert await erase(ledger, "nobody") == Erased(erased_at=None, addresses=0, shared=0)
    assert await ledger.store.head() == 0


async def test_a_person_whose_key_does_not_open_can_be_erased(
    ledger: Ledger, database: Database, application: Connection
):
    await asked(database, ledger, application, shipped())
    await application.execute("UPDATE ledger.recipient_key SET wrapped = '\\x00'")
    assert (await erase(ledger)).erased_at is not None
    assert await rows(application, KEYED) == []


async def test_i19_refused_messages_of_a_person_go_by_each_of_their_addresses(
    ledger: Ledger, database: Database, application: Connection
):
    await asked(database, ledger, application, shipped())
    set_aside = set_aside_in(ledger.store)
    bodies = [f"to {ADA}", '{"userId":"ada"}', "to bob@example.com", f"call {PHONE}"]
    keys = [
        await set_aside.keep(body.encode(), Refusal(reason="x"), origin="amqp", now=ledger.clock.now())
        for body in bodies
    ]
    await erase(ledger, "ada", PHONE)
    assert [await set_aside.shown(key) is not None for key in keys] == [False, False, True, False]


async def test_i07_i19_of_erasures_and_intents_at_the_same_moment_no_attempt_begins_after_an_erasure(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    people = [f"user-{number}" for number in range(RACES)]
    streams = await asked(database, ledger, application, *(shipped(user, f"{user}@sandbox.example") for user in people))
    by_stream = dict(zip(streams, people, strict=True))

    race = Race()

    async def run(deliver: Deliver, erasing: Ledger, stream: UUID) -> None:
        known = await read(ledger, stream)
        await race.run(erase(erasing, by_stream[stream]), handle(deliver, known))
        race.tell(one_was_first=not (await read(ledger, stream)).state.attempts)

    async with running_ledger(database.url) as another, deliverer(ledger, fake) as deliver:
        for first in range(0, RACES, AT_ONCE):
            await asyncio.gather(*(run(deliver, another, stream) for stream in streams[first : first + AT_ONCE]))
    sent = {UUID(one.tags["notification"]) for one in fake.requests}
    started = dict(await rows(application, "SELECT stream, position FROM ledger.facts WHERE topic LIKE '%%started'"))
    gone = await rows(
        application, "SELECT fact ->> 'recipient', position FROM ledger.facts WHERE topic LIKE '%%erased'"
    )
    erased_at = dict(gone)
    assert started.keys() == sent
    assert all(started[stream] < erased_at[f"user:{by_stream[stream]}"] for stream in started)
    # Else nothing has raced.
    assert 0 < len(started) < RACES


async def test_i19_of_erasures_and_messages_at_the_same_moment_nothing_is_left_half_erased(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    """Each notification either is gone, and ends so, or was asked for since, and is sent."""
    people = [f"user:{number}" for number in range(RACES)]

    async def race(erasing: Ledger, name: str) -> UUID:
        await ledger.append(begun(recipient=name, user_id=name[5:]))
        decision = begun(recipient=name, user_id=name[5:])
        await asyncio.gather(ledger.append(decision), erase(erasing, name[5:]))
        return decision.facts[0].stream

    async with running_ledger(database.url) as another:
        streams = [
            stream
            for first in range(0, RACES, AT_ONCE)
            for stream in await asyncio.gather(*(race(another, name) for name in people[first : first + AT_ONCE]))
        ]
    async with deliverer(ledger, fake) as deliver:
        for stream in streams:
            await handle(deliver, await read(ledger, stream))
    sent = {UUID(one.tags["notification"]) for one in fake.requests}
    for stream in streams:
        loaded = await read(ledger, stream)
        if stream in sent:
            assert isinstance(loaded.state.requested.personal, Personal)
        else:
            assert (loaded.state.status, loaded.state.reason) == (Status.SUPPRESSED, "erased")


# -- the list that outlives a restore -------------------------------------------------------------------------------


def of(*names: str, at: float = 0) -> list[Erasure]:
    return [Erasure(recipient=name, erased_at=now() + timedelta(seconds=at), reason="asked") for name in names]


async def listed(application: Connection) -> list[Erasure]:
    return await erasure.listed(application)


async def test_i19_the_list_beside_the_archive_forgets_nobody_whom_the_database_has_forgotten(
    ledger: Ledger, application: Connection, tmp_path: Path
):
    shelf = Directory(tmp_path)
    assert await read_list(shelf) == []
    await shelf.put(LIST, msgspec.json.encode(of("user:before", at=-9)))
    await lives.begin(ledger, recipient="user:ada", user_id="ada")
    await erase(ledger)
    assert (await erasure.not_copied(application))[0] == 1
    await copy_list(ledger.store, shelf)
    assert [one.recipient for one in await read_list(shelf)] == ["user:before", "user:ada"]
    assert await erasure.not_copied(application) == (0, 0.0)
    await copy_list(ledger.store, shelf)
    assert decode((tmp_path / LIST).read_bytes())[1:] == await listed(application)


async def test_a_list_that_cannot_be_read_is_not_written_over(ledger: Ledger, application: Connection, tmp_path: Path):
    (tmp_path / LIST).write_text("[{")
    await lives.begin(ledger, recipient="user:ada", user_id="ada")
    await erase(ledger)
    with pytest.raises(ArchiveUnavailableError):
        await copy_list(ledger.store, Directory(tmp_path))
    assert ((tmp_path / LIST).read_text(), (await erasure.not_copied(application))[0]) == ("[{", 1)


@pytest.mark.parametrize("has_archive", ["with an archive", "without"])
async def test_how_long_the_list_lacks_somebody_is_told_where_there_is_a_list(
    ledger: Ledger, application: Connection, owner: Connection, tmp_path: Path, has_archive: str
):
    is_kept = has_archive == "with an archive"
    registry = CollectorRegistry()
    gauges = Gauges(registry, ledger, set_aside_in(ledger.store), has_archive=is_kept)

    async def told() -> float | None:
        await gauges.refresh()
        return registry.get_sample_value("notification_erasures_not_copied_seconds")

    assert await told() == 0
    await lives.begin(ledger, recipient="user:ada", user_id="ada")
    await erase(ledger)
    await owner.execute("UPDATE ledger.erasure SET erased_at = erased_at - interval '2 hours'")
    age = await told()
    assert age is not None
    assert (age > 7_000) == is_kept
    await copy_list(ledger.store, Directory(tmp_path))
    assert await told() == 0


def test_of_each_person_the_last_erasure_is_listed():
    first, other, last = *of("user:a", "user:b"), *of("user:a", at=5)
    assert latest([last, first, other, last]) == [other, last]


async def test_i19_whom_a_restored_database_knows_again_is_erased_again_once(ledger: Ledger, application: Connection):
    await ledger.append(begun(recipient="user:ada", user_id="ada", address_hash=IDENTITY.address_hash(ADA)))
    alone = f"address:{IDENTITY.address_hash(ADA)}"
    await ledger.append(begun(recipient=alone, address_hash=IDENTITY.address_hash(ADA)))
    await ledger.append(begun(recipient="user:eva", user_id="eva"))
    erasures = of("user:ada", alone, "user:unknown", at=-60)

    async def again(*, dry_run: bool = False) -> Sequence[str]:
        return [one.recipient for one in await erase_again(ledger, erasures, now(), dry_run=dry_run)]

    assert await again(dry_run=True) == ["user:ada", alone, "user:unknown"]
    assert len(await rows(application, KEYED)) == 3
    assert await again() == ["user:ada", alone, "user:unknown"]
    assert await rows(application, KEYED) == [("user:eva",)]
    await ledger.append(begun(recipient="user:ada", user_id="ada"))
    assert await again() == ["user:unknown"]
    assert await rows(application, KEYED) == [("user:ada",), ("user:eva",)]
