"""Two providers of one channel: what must not wait takes the second when the first is shut, and never both unseen."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from ledger.status import Status
from providers.fakes.ses import FakeSes
from providers.fakes.smtp import FakeSmtp
from tests.acceptance.audit import Audit, at_the_end, count, unfinished
from tests.acceptance.taking import take_in
from tests.acceptance.test_provider_faults import OPEN
from tests.acceptance.traffic import message, publish, shipped
from tests.acceptance.wires import through
from tests.support import service as processes
from tests.support.ports import free
from tests.support.postgres import Database
from tests.support.proxy import Towards, forwarding
from tests.support.rabbitmq import Broker
from tests.support.service import WORKER, Service, reached, until

DELIVER = ("deliver", "--lease", "8", "--deadline", "2")
OVER_THE_RELAY = ["requested", "rendered", "attempt_started", "attempt_failed", "attempt_started", "dispatched"]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Where the process dies: what is on the wire then, and never arrives."""

    wire: str
    pattern: bytes
    towards: Towards
    nth: int = 1
    mails: int
    status: Status


# Of the answers to an append the first belongs to the intent for SES, the second to its refusal, the third to the
# intent for the relay, the fourth to its outcome.
POINTS = {
    "before the intent leaves": Point(
        wire="database",
        pattern=b"notification.attempt_started",
        towards=Towards.SERVER,
        nth=2,
        mails=1,
        status=Status.DISPATCHED,
    ),
    "after the intent was committed": Point(
        wire="database", pattern=b"reasons", towards=Towards.CLIENT, nth=3, mails=0, status=Status.IN_DOUBT
    ),
    "before the mail begins": Point(
        wire="relay", pattern=b"MAIL FROM", towards=Towards.SERVER, mails=0, status=Status.IN_DOUBT
    ),
    "before the final dot arrives": Point(
        wire="relay", pattern=b"--\r\n", towards=Towards.SERVER, mails=0, status=Status.IN_DOUBT
    ),
    "after the final dot": Point(
        wire="relay", pattern=b"250 2.0.0 Ok: queued", towards=Towards.CLIENT, mails=1, status=Status.IN_DOUBT
    ),
    "after the reply was read": Point(
        wire="database",
        pattern=b"notification.dispatched",
        towards=Towards.SERVER,
        mails=1,
        status=Status.IN_DOUBT,
    ),
    "after the outcome was committed": Point(
        wire="database", pattern=b"reasons", towards=Towards.CLIENT, nth=4, mails=1, status=Status.DISPATCHED
    ),
}


@pytest.fixture
async def relay() -> AsyncIterator[FakeSmtp]:
    relay = await FakeSmtp.start()
    yield relay
    await relay.stop()


def nobody() -> str:
    """An endpoint that refuses connections."""
    return f"http://127.0.0.1:{free()}"


def a_code() -> dict[str, object]:
    """A message that makes one urgent mail."""
    return message("PasswordResetRequestedEvent")


async def test_while_ses_is_away_urgent_mail_goes_over_the_relay_and_the_rest_waits_for_it(
    service: Service, database: Database, broker: Broker, relay: FakeSmtp
):
    rest, urgent, port = shipped(100), [a_code() for _ in range(50)], free()
    url = f"http://127.0.0.1:{port}"
    roles = ("ingest", "deliver", "deliver")
    await asyncio.gather(*(service.start(role, SES_ENDPOINT_URL=url, SMTP_URL=relay.url) for role in roles))
    await publish(broker.url, rest[:50])
    await until(lambda: count(database.url, OPEN) == 1, "the breaker to open")
    await asyncio.gather(publish(broker.url, urgent, exchange="user.events"), publish(broker.url, rest[50:]))
    await reached(lambda: len(relay.requests), len(urgent), "mails over the relay")
    assert count(database.url, OPEN) == 1
    ses = await FakeSes.start(port=port)
    try:
        audit = await at_the_end(database.url, ses, [*rest, *urgent], requests=relay.requests)
    finally:
        await ses.stop()
    assert audit.statuses() == {Status.DISPATCHED: 150}
    assert audit.doubts() == []
    kinds = {str(stream): state.requested.type for stream, state in audit.states.items()}
    assert {kinds[mail.tags["notification"]] for mail in relay.requests} == {"password_reset"}
    assert Counter(kinds[mail.tags["notification"]] for mail in ses.requests)["order_shipped"] == len(rest)
    await service.stop_all()


@pytest.mark.parametrize("where", POINTS)
async def test_i05_i06_a_process_that_dies_at_any_await_of_the_second_provider_leaves_a_committed_intent_or_a_doubt(
    where: str, database: Database, relay: FakeSmtp, tmp_path: Path
):
    point = POINTS[where]
    await take_in(database.url, [a_code()])
    async with AsyncExitStack() as stack:
        wires = {
            "database": await stack.enter_async_context(forwarding("127.0.0.1", urlsplit(database.url).port or 0)),
            "relay": await stack.enter_async_context(forwarding("127.0.0.1", relay.port)),
        }
        settings = {"DATABASE_URL": database.url, "SES_ENDPOINT_URL": nobody(), "SMTP_URL": relay.url}
        service = await stack.enter_async_context(processes.running(tmp_path, **settings))

        # It stalls there at once, so that what comes behind (the final dot) is not let through in the meantime.
        stalled = wires[point.wire].stall_at(point.pattern, towards=point.towards, nth=point.nth)
        doomed = service.launch(
            *DELIVER,
            program=WORKER,
            DATABASE_URL=through(wires["database"], database.url),
            SMTP_URL=through(wires["relay"], relay.url),
        )
        await until(stalled.is_set, "the point")
        service.kill_all()
        wires[point.wire].cut()
        assert await doomed.ended() == -9
        await service.start(*DELIVER, program=WORKER)
        await until(lambda: unfinished(database.url) == 0, "the end of all that is due")
        await service.processes[-1].stop()
    audit = Audit(database.url, relay.requests)
    assert audit.violations() == []
    assert sum(mail.accepted for mail in relay.requests) == point.mails
    assert audit.statuses() == {point.status: 1}


async def test_the_history_says_that_another_provider_took_over(database: Database, relay: FakeSmtp, tmp_path: Path):
    await take_in(database.url, [a_code()])
    settings = {"DATABASE_URL": database.url, "SES_ENDPOINT_URL": nobody(), "SMTP_URL": relay.url}
    async with processes.running(tmp_path, **settings) as service:
        deliver = await service.start("deliver")
        await until(lambda: unfinished(database.url) == 0, "the end of all that is due")
        assert deliver.metric("notification_dispatch_failovers_total", channel="email", provider="smtp") == 1
        await service.stop_all()
    audit = Audit(database.url, relay.requests)
    assert audit.violations() == []
    (stream,) = audit.streams
    assert audit.history(stream) == OVER_THE_RELAY
    first, second = audit.states[stream].attempts
    assert (first.provider, second.provider) == ("ses", "smtp")
