"""What is said of a person races with what is sent to them: judged by the positions in the log alone (promise I7)."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import pytest

from handlers.by_hand import TooLateError, cancel
from handlers.deliver import Deliver
from handlers.recipients import tell
from handlers.suppressions import list_by_hand, unsubscribe
from ledger.ledger import Ledger
from ledger.preferences import Choice, PreferenceNews
from ledger.status import Status
from ledger.suppression import Grounds, Reason
from ledger.unsubscribing import Unsubscribing
from ledger.values import Category, Channel, Personal
from providers.fakes.ses import FakeSes
from tests.integration.ledger.parts import IDENTITY, Connection, begun, new_id, rows, running_ledger
from tests.integration.test_policy import SAID, deliverer, handled
from tests.support.postgres import Database
from tests.support.races import Race

# TEST_RACES=1000 for a release.
RACES = int(os.environ.get("TEST_RACES", "50"))
_AT_ONCE = 4

# Who says it, to a person or of a notification; in a process of its own, with a ledger of its own.
Say = Callable[[Ledger, UUID, str], Awaitable[object]]


def address_of(user: str) -> str:
    return f"{user}@sandbox.example"


async def suppress(ledger: Ledger, _stream: UUID, user: str) -> None:
    await list_by_hand(ledger, Channel.EMAIL, address_of(user), Grounds(reason=Reason.MANUAL, note="a race"), by="test")


async def by_link(ledger: Ledger, _stream: UUID, user: str) -> None:
    said = Unsubscribing(
        notification=new_id(),
        attempt=UUID(int=7),
        channel=Channel.EMAIL,
        address_hash=IDENTITY.address_hash(address_of(user)),
        category=Category.TRANSACTIONAL,
    )
    await unsubscribe(ledger, said)


async def call_off(ledger: Ledger, stream: UUID, _user: str) -> None:
    try:
        await cancel(ledger, stream, by="test", reason="a race")
    except TooLateError:
        return


async def opt_out(ledger: Ledger, _stream: UUID, user: str) -> None:
    unwanted = (Choice(Category.TRANSACTIONAL, Channel.EMAIL, enabled=False),)
    await tell(ledger, PreferenceNews(user_id=user, said_at=datetime.now(UTC), choices=unwanted), by="test")


class Word(NamedTuple):
    """What is said against a notification, the fact that says it, and how what has not begun ends by it."""

    say: Say
    topic: str
    ended: Status


WORDS = {
    "suppress": Word(suppress, "suppression.listed", Status.SUPPRESSED),
    "unsubscribe": Word(by_link, "suppression.listed", Status.SUPPRESSED),
    "opt out": Word(opt_out, "recipient.preferences_changed", Status.SUPPRESSED),
    "cancel": Word(call_off, "notification.cancelled", Status.CANCELLED),
}


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
async def test_i07_no_attempt_has_a_position_after_what_forbids_it(
    ledger: Ledger, fake: FakeSes, database: Database, application: Connection, word: Word
):
    statuses: dict[UUID, Status] = {}
    said_in: dict[UUID, UUID] = {}
    race = Race()

    async def run(deliver: Deliver, other: Ledger, number: int) -> None:
        stream, user = new_id(), f"u-{number}"
        said_in[stream] = stream if word.say is call_off else _said_in(user, word.say)
        hashed = IDENTITY.address_hash(address_of(user))
        person = Personal(address_of(user), "Ada", SAID)
        await ledger.append(begun(stream, recipient=f"user:{user}", user_id=user, address_hash=hashed, personal=person))
        after = await race.run(handled(deliver, ledger, stream), word.say(other, stream, user))
        race.tell(one_was_first=bool(after.state.attempts))
        statuses[stream] = (await handled(deliver, ledger, stream)).state.status

    async with deliverer(ledger, fake) as deliver, running_ledger(database.url) as other:
        for begin in range(0, RACES, _AT_ONCE):
            numbers = range(begin, min(begin + _AT_ONCE, RACES))
            await asyncio.gather(*(run(deliver, other, number) for number in numbers))
    started = await _positions(application, "notification.attempt_started")
    said = await _positions(application, word.topic)
    for stream, status in statuses.items():
        if stream in started:
            assert said_in[stream] not in said or started[stream] < said[said_in[stream]]
        else:
            assert said_in[stream] in said
            assert status is word.ended
    assert 0 < len(started) < RACES, "nothing has raced"


def _said_in(user: str, say: Say) -> UUID:
    """Name the stream that the word against it stands in."""
    if say in {suppress, by_link}:
        return IDENTITY.standing_stream("suppression", f"email:{IDENTITY.address_hash(address_of(user))}")
    return IDENTITY.standing_stream("recipient", user)


async def _positions(application: Connection, topic: str) -> dict[UUID, int]:
    query = "SELECT originator_id, notification_id FROM ledger.stored_events WHERE topic = %s"
    return dict(await rows(application, query, topic))
