import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from handlers.metrics import Metrics
from handlers.receive import Receive
from ledger import notification as n
from ledger.decision import Decision, Guard
from ledger.ledger import Ledger, Loaded
from ledger.notification import Intent, Origin
from ledger.suppression import Reason
from ledger.values import Accepted, Channel, Report, ReportKind
from tests.integration.ledger.parts import Connection, begun, new_id, rows, set_aside_in
from tests.support.listed import listed_for

ADDRESS, ANOTHER = "ab" * 16, "cd" * 16
LISTED = """
SELECT originator_version FROM ledger.stored_events WHERE topic = 'suppression.listed'
"""
BY_POSITION = """
SELECT topic, convert_from(state, 'UTF8')::json ->> 'address_hash' FROM ledger.stored_events ORDER BY notification_id
"""


@pytest.fixture
def receive(ledger: Ledger) -> Receive:
    return Receive(ledger, set_aside_in(ledger.store), Metrics(CollectorRegistry()))


async def requested(ledger: Ledger, address_hash: str | None = ADDRESS, channel: Channel = Channel.EMAIL) -> Loaded:
    stream = new_id()
    await ledger.append(begun(stream, address_hash=address_hash, channel=channel))
    return await loaded(ledger, stream)


async def loaded(ledger: Ledger, stream: UUID) -> Loaded:
    found = await ledger.load(stream)
    assert found is not None
    return found


async def start(ledger: Ledger, known: Loaded, attempt: UUID) -> Loaded:
    """Store an intent as delivery does: by what it has read, guarded by it."""

    def decide(current: Loaded, now: datetime) -> Decision | None:
        assert current.suppression is not None
        if listed_for(current):
            return None
        intent = Intent(
            attempt=attempt,
            provider="ses",
            address_hash=current.suppression.address_hash,
            digest=b"digest",
            template_version="v1",
            locale="en",
            deadline_at=now + timedelta(minutes=1),
        )
        facts = n.start_attempt(current.state, intent, Origin(now=now, cause="agenda", by="deliver"))
        guard = Guard(current.suppression.stream, current.suppression.version)
        return Decision(facts=current.next(facts), guards=(guard,))

    after = await ledger.change(known.stream, decide, known=known)
    assert after is not None
    return after


async def sent(ledger: Ledger, address_hash: str = ADDRESS) -> tuple[UUID, UUID]:
    attempt = uuid4()
    after = await start(ledger, await requested(ledger, address_hash), attempt)

    def decide(current: Loaded, now: datetime) -> Decision:
        origin = Origin(now=now, cause="agenda", by="deliver")
        return Decision(
            facts=current.next(n.settle(current.state, attempt, Accepted(attempt.hex), origin, retry_at=now))
        )

    await ledger.change(after.stream, decide, known=after)
    return after.stream, attempt


def bounce(notification: UUID, attempt: UUID, kind: ReportKind = ReportKind.BOUNCED) -> Report:
    return Report(
        provider="ses",
        reference=attempt.hex,
        kind=kind,
        key=f"{kind}:{attempt}",
        notification=notification,
        attempt=attempt,
        suppresses=True,
    )


async def test_i07_a_suppression_that_commits_after_we_read_refuses_the_intent(ledger: Ledger, receive: Receive):
    notification, attempt = await sent(ledger)
    waiting = await requested(ledger)
    await receive.reports([bounce(notification, attempt)])
    after = await start(ledger, waiting, uuid4())
    assert after.state.attempts == ()
    assert listed_for(after) is not None


async def test_i07_of_an_intent_and_a_suppression_at_the_same_moment_none_comes_behind_the_other_unseen(
    ledger: Ledger, receive: Receive, application: Connection
):
    for _ in range(20):
        address = uuid4().hex
        notification, attempt = await sent(ledger, address)
        waiting = [await requested(ledger, address) for _ in range(4)]
        await asyncio.gather(
            *(start(ledger, one, uuid4()) for one in waiting[:2]),
            receive.reports([bounce(notification, attempt)]),
            *(start(ledger, one, uuid4()) for one in waiting[2:]),
        )
    listed: set[str] = set()
    for topic, address_hash in await rows(application, BY_POSITION):
        if topic == "suppression.listed":
            listed.add(address_hash)
        assert topic != "notification.attempt_started" or address_hash not in listed
    assert len(listed) == 20


async def test_two_bounces_of_one_address_at_once_list_it_once(
    ledger: Ledger, receive: Receive, application: Connection
):
    bounced = [await sent(ledger) for _ in range(5)]
    await receive.reports([bounce(*one) for one in bounced])
    assert len(await rows(application, LISTED)) == 1
    assert (await loaded(ledger, bounced[-1][0])).state.attempts[0].reports


async def test_a_complaint_after_a_bounce_is_a_second_reason(ledger: Ledger, receive: Receive):
    notification, attempt = await sent(ledger)
    await receive.reports([bounce(notification, attempt)])
    await receive.reports([bounce(notification, attempt, ReportKind.COMPLAINED)])
    known = (await loaded(ledger, notification)).suppression
    assert known is not None
    assert (known.version, set(known.entries)) == (2, {(Reason.HARD_BOUNCE, None), (Reason.COMPLAINT, None)})


async def test_the_same_report_again_is_no_news(ledger: Ledger, receive: Receive, application: Connection):
    notification, attempt = await sent(ledger)
    await receive.reports([bounce(notification, attempt)] * 3)
    assert len(await rows(application, LISTED)) == 1


async def test_other_addresses_other_channels_and_those_without_an_address_are_untouched(
    ledger: Ledger, receive: Receive
):
    await receive.reports([bounce(*await sent(ledger))])
    for one in (await requested(ledger, ANOTHER), await requested(ledger, channel=Channel.SMS)):
        assert one.suppression is not None
        assert listed_for(one) is None
    assert (await requested(ledger, None)).suppression is None
