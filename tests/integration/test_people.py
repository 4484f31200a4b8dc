"""Messages about people: taken in as all others are, once and only once, in whatever order they come."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from handlers.intake import Conflicting, Result, TakeIn, TakenIn
from ledger.keys import KeyEncryption
from ledger.ledger import Ledger
from ledger.values import Channel
from templates.catalogue import load
from templates.envelope import MessageRejectedError
from tests.integration.ledger.parts import Connection, rows, value

FACTS = "SELECT topic FROM ledger.stored_events ORDER BY notification_id"
CAUSES = "SELECT convert_from(state, 'UTF8')::json ->> 'cause' FROM ledger.stored_events"
INTAKE = "SELECT encode(key, 'hex'), notifications::text FROM ledger.intake"
ADA, EVA = "ada@example.com", "eva@example.com"


@pytest.fixture
def taking(ledger: Ledger) -> TakeIn:
    return TakeIn(ledger, load(), channels=set(Channel))


def about(message_type: str = "UserContactChangedEvent", *, ago: float = 0, **payload: Any) -> dict[str, Any]:
    return {
        "messageId": str(uuid4()),
        "messageType": message_type,
        "timestamp": (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(),
        "sourceService": "UserService",
        "payload": {"userId": "u-1", **payload},
    }


async def take(taking: TakeIn, *messages: dict[str, Any]) -> Sequence[Result]:
    return await taking.messages([msgspec.json.encode(one) for one in messages], by="ingest")


async def test_a_contact_and_a_device_are_facts_that_trace_to_their_messages(
    taking: TakeIn, ledger: Ledger, application: Connection
):
    results = await take(
        taking,
        about(emailAddress=ADA, timeZone="Europe/London"),
        about("DeviceRegisteredEvent", fid="fid-1", platform="android"),
    )
    assert results == [
        TakenIn("UserContactChangedEvent", (), repeated=False),
        TakenIn("DeviceRegisteredEvent", (), repeated=False),
    ]
    known = await ledger.recipient("u-1")
    assert (known.contact.email, known.time_zone, len(known.devices)) == (ADA, "Europe/London", 1)
    keys = {key for key, _ in await rows(application, INTAKE)}
    assert {cause.removeprefix("intake:") for (cause,) in await rows(application, CAUSES)} == keys
    assert await value(application, "SELECT count(*) FROM ledger.agenda") == 0


async def test_i02_a_message_that_comes_again_is_taken_in_once_under_any_concurrency(
    taking: TakeIn, application: Connection
):
    one = about(emailAddress=ADA)
    stamped = [{**one, "timestamp": datetime.now(UTC).isoformat()} for _ in range(20)]
    results = await asyncio.gather(*(take(taking, again) for again in stamped))
    repeated = [result.repeated for (result,) in results if isinstance(result, TakenIn)]
    assert sorted(repeated) == [False] + [True] * 19
    assert await rows(application, FACTS) == [("recipient.contact_changed",)]
    assert [notifications for _, notifications in await rows(application, INTAKE)] == ["{}"]


async def test_i03_the_same_message_with_other_content_is_a_conflict(taking: TakeIn, ledger: Ledger):
    one = about(emailAddress=ADA)
    await take(taking, one)
    (result,) = await take(taking, {**one, "payload": {**one["payload"], "emailAddress": EVA}})
    assert isinstance(result, Conflicting)
    assert (await ledger.recipient("u-1")).contact.email == ADA


async def test_i02_a_message_that_is_no_news_is_taken_in_all_the_same(taking: TakeIn, application: Connection):
    await take(taking, about(emailAddress=ADA))
    late = about(emailAddress=EVA, ago=60)
    (result,) = await take(taking, late)
    assert result == TakenIn("UserContactChangedEvent", (), repeated=False)
    (again,) = await take(taking, late)
    assert result != again == TakenIn("UserContactChangedEvent", (), repeated=True)
    assert len(await rows(application, FACTS)) == 1
    assert len(await rows(application, INTAKE)) == 2


async def test_what_was_said_last_holds_whichever_message_comes_last(taking: TakeIn, ledger: Ledger):
    said = [about(emailAddress=f"{second}@example.com", ago=second) for second in (3, 1, 40, 2, 17)]
    for one in said:
        await take(taking, one)
    assert (await ledger.recipient("u-1")).contact.email == "1@example.com"


async def test_a_batch_about_one_person_is_heard_whole(taking: TakeIn, ledger: Ledger):
    said = [about("DeviceRegisteredEvent", fid=f"fid-{number}", platform="web") for number in range(20)]
    changes = [about(emailAddress=f"{second}@example.com", ago=second) for second in range(1, 21)]
    results = await take(taking, *said, *changes)
    assert all(isinstance(result, TakenIn) for result in results)
    known = await ledger.recipient("u-1")
    assert (known.contact.email, len(known.devices)) == ("1@example.com", 20)


async def test_i15_a_message_about_a_person_whose_key_does_not_open_takes_no_other_with_it(
    taking: TakeIn, ledger: Ledger, application: Connection
):
    """Else whoever takes in would insist on it, and all messages behind it would wait for one person's key."""
    other = KeyEncryption([b"k" * 32]).wrap("user:u-1", b"d" * 32)
    await application.execute("INSERT INTO ledger.recipient_key (recipient, wrapped) VALUES ('user:u-1', %s)", (other,))
    locked, after = about(emailAddress=ADA), about(emailAddress=EVA, userId="u-2")
    refused, taken = await take(taking, locked, after)
    assert isinstance(refused, MessageRejectedError)
    assert (refused.reason, refused.message_id) == ("key_unavailable", locked["messageId"])
    assert ADA not in str(refused)
    assert isinstance(taken, TakenIn)
    assert (await ledger.recipient("u-2")).contact.email == EVA
    await application.execute("DELETE FROM ledger.recipient_key WHERE recipient = 'user:u-1'")
    (replayed,) = await take(taking, locked)
    assert isinstance(replayed, TakenIn)


async def test_a_message_that_names_nobody_is_rejected_with_every_fault(taking: TakeIn, application: Connection):
    (result,) = await take(taking, about(userId=None, emailAddress="ada", timeZone="Europe"))
    assert isinstance(result, MessageRejectedError)
    assert {fault.path for fault in result.faults} == {"payload.userId", "payload.emailAddress", "payload.timeZone"}
    assert await rows(application, FACTS) == []
