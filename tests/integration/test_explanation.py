"""Why something was not sent, asked of the service: the answer goes back to the very report that caused it."""

from datetime import timedelta
from uuid import UUID

from prometheus_client import CollectorRegistry

from handlers.explanation import explained
from handlers.metrics import Metrics
from handlers.receive import Receive
from handlers.waiting import Reach
from ledger.archive import Archive
from ledger.explaining import Explanation
from ledger.ledger import Ledger
from ledger.status import Status
from ledger.values import Channel, Lane, Report, ReportKind
from providers.fakes.ses import FakeSes
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message
from tests.integration.ledger.parts import Connection, new_id, rows, set_aside_in
from tests.integration.test_pauses import STREAMS, deliverer, handle, read
from tests.support.postgres import Database

ADDRESS = "ada@sandbox.example"


async def nothing_stands_in_the_way(_channel: Channel, _lane: Lane) -> Reach:
    return Reach(shut=False, shut_for=timedelta(), spent=False)


async def explain(ledger: Ledger, stream: UUID) -> Explanation:
    told = await explained(ledger, Archive(ledger.store, None), nothing_stands_in_the_way, stream)
    assert told is not None
    return told


async def test_a_suppressed_notification_names_the_bounce_that_caused_it_by_stream_and_version(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    await take_in(database.url, [message("OrderShippedEvent", userEmail=ADDRESS) for _ in range(2)])
    first, second = [stream for (stream,) in await rows(application, STREAMS)]
    assert (await explain(ledger, second)).answer == "It waits for its turn."
    async with deliverer(ledger, fake) as deliver:
        await handle(deliver, await read(ledger, first))
        (attempt,) = (await read(ledger, first)).state.attempts
        bounce = Report(
            provider="ses",
            reference=attempt.reference or "",
            kind=ReportKind.BOUNCED,
            key="bounce",
            notification=first,
            attempt=attempt.id,
            suppresses=True,
            evidence={"diagnostic": "550"},
        )
        await Receive(ledger, set_aside_in(ledger.store), Metrics(CollectorRegistry())).reports([bounce])
        await handle(deliver, await read(ledger, second))
    told = await explain(ledger, second)
    assert told.status is Status.SUPPRESSED
    assert told.answer.startswith("It was not sent: the address has been on the suppression list since ")
    (one,) = told.decisions
    assert one.rule == "suppressed_address"
    entry, report = one.evidence
    suppression = (await read(ledger, second)).suppression
    assert suppression is not None
    assert (entry.stream, entry.version, entry.topic) == (suppression.stream, 1, "suppression.listed")
    assert (report.stream, report.topic) == (first, "notification.bounced")
    assert report.version == (await read(ledger, first)).state.version
    assert report.says.endswith("diagnostic 550.")
    assert ADDRESS not in repr(told)


async def test_why_she_got_it_has_one_answer_too_with_the_versions_that_the_rules_saw(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    contact = {**message("UserRegisteredEvent"), "messageType": "UserContactChangedEvent"}
    await take_in(database.url, [{**contact, "payload": {"userId": "ada", "emailAddress": ADDRESS}}])
    await take_in(database.url, [message("OrderShippedEvent", userId="ada", userEmail=None)])
    ((stream,),) = await rows(application, STREAMS)
    async with deliverer(ledger, fake) as deliver:
        await handle(deliver, await read(ledger, stream))
    told = await explain(ledger, stream)
    assert told.answer.startswith("It was sent: a provider has taken it")
    assert "to the address that the person is known by" in told.answer
    (one,) = told.decisions
    assert (one.inputs["recipient_version"], one.inputs["suppression_version"]) == ("1", "0")
    assert one.policy


async def test_a_notification_that_is_not_there_has_no_explanation(ledger: Ledger):
    told = await explained(ledger, Archive(ledger.store, None), nothing_stands_in_the_way, new_id())
    assert told is None
