import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from ledger.status import Status
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import Audit, all_sent_once, at_the_end, count, dead_letters, taken_in
from tests.acceptance.traffic import drained, message, publish, publishing, restamped, shipped
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker
from tests.support.service import WORKER, Process, Service, reached, until

# What a killed process had claimed is anybody's again when its lease ends: these tests need not wait for 60 s.
DELIVER = ("deliver", "--lease", "15", "--deadline", "5")
BOTH = ("ingest", "deliver", "--lease", "6", "--deadline", "2")
LONG = timedelta(seconds=120)
KILLER = "a word that kills"


async def test_i01_i05_i06_ten_thousand_messages_outlive_three_kills_of_ingest_and_of_deliver(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    messages = shipped(10_000)
    await asyncio.gather(
        publish(broker.url, messages),
        killed_at(lambda: service.launch("ingest"), lambda: taken_in(database.url), moments=(200, 3_000, 7_000)),
        killed_at(
            lambda: service.launch(*DELIVER, program=WORKER), lambda: len(fake.requests), moments=(300, 2_500, 6_000)
        ),
    )
    audit = await at_the_end(database.url, fake, messages, within=LONG)
    assert set(audit.statuses()) <= {Status.DISPATCHED, Status.IN_DOUBT}
    await service.stop_all()
    assert await drained(broker)


async def test_i01_i05_i06_nothing_is_lost_or_doubled_when_one_process_does_both_and_is_killed_three_times(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    messages = shipped(1_500)
    await asyncio.gather(
        publish(broker.url, messages),
        killed_at(lambda: service.launch(*BOTH, program=WORKER), lambda: len(fake.requests), moments=(1, 500, 1_000)),
    )
    audit = await at_the_end(database.url, fake, messages)
    assert set(audit.statuses()) <= {Status.DISPATCHED, Status.IN_DOUBT}
    await service.stop_all()
    assert await drained(broker)


async def test_i15_a_killer_message_is_set_aside_at_its_third_try_and_takes_no_healthy_one_with_it(
    service: Service, database: Database, broker: Broker
):
    messages = shipped(50)
    killer = message("OrderShippedEvent", firstName=KILLER)
    await publish(broker.url, [*messages[:8], killer, *messages[8:]])
    deaths = 0
    while await dies(service.launch("ingest", "--killer", KILLER, program=WORKER), database.url):
        deaths += 1
    await until(lambda: taken_in(database.url) == len(messages), "all healthy messages")
    assert deaths == 3
    assert [letter["reason"] for letter in dead_letters(database.url)] == ["killer"]
    assert Audit(database.url, []).message_ids() == {one["messageId"]: 1 for one in messages}
    await service.stop_all()
    assert await drained(broker)


async def test_i22_a_rolling_restart_under_load_loses_and_repeats_nothing_and_leaves_no_doubt(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    messages = shipped(2_000)
    running = await asyncio.gather(*(service.start(role) for role in ("ingest", "deliver")))
    async with publishing(broker.url, messages):
        for moment in (1, 500, 1_000):
            await reached(lambda: len(fake.requests), moment, "requests")
            new = await asyncio.gather(*(service.start(role) for role in ("ingest", "deliver")))
            assert [await process.stop() for process in running] == [0, 0]
            running = new
    await all_sent_once(database.url, fake, messages)
    await service.stop_all()
    assert await drained(broker)


async def test_i02_a_message_that_is_published_again_with_another_timestamp_is_one_notification(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    messages = shipped(200)
    one, other, _ = await asyncio.gather(*(service.start(role) for role in ("ingest", "ingest", "deliver")))
    again = ([restamped(one) for one in messages] for _ in range(3))
    await asyncio.gather(*(publish(broker.url, three) for three in again))
    await all_sent_once(database.url, fake, messages)

    def results(result: str) -> int:
        counter = "notification_ingestion_messages_total"
        return int(sum(role.metric(counter, type="OrderShippedEvent", result=result) for role in (one, other)))

    await reached(lambda: results("repeated"), 400, "repeated messages")
    assert (results("taken"), results("repeated")) == (200, 400)
    await service.stop_all()
    assert await drained(broker)


async def test_i03_the_same_id_with_other_content_is_a_recorded_conflict_and_nothing_is_sent(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    ingest = await service.start("ingest")
    await service.start("deliver")
    (first,) = shipped(1)
    await publish(broker.url, [first])
    await until(lambda: taken_in(database.url) == 1, "the first")
    await publish(broker.url, [restamped({**first, "payload": {**first["payload"], "shippingCarrier": "Another"}})])
    await until(lambda: dead_letters(database.url) != [], "the conflict")
    (letter,) = dead_letters(database.url)
    assert (letter["reason"], letter["message_id"]) == ("conflict", first["messageId"])
    assert count(database.url, "SELECT conflicts FROM ledger.intake") == 1
    assert ingest.metric("notification_ingestion_messages_total", type="OrderShippedEvent", result="conflict") == 1
    await all_sent_once(database.url, fake, [first])


async def killed_at(start: Callable[[], Process], measure: Callable[[], int], *, moments: Sequence[int]) -> None:
    """Run a process and kill it at each moment; the last one stays."""
    for moment in moments:
        process = start()
        await reached(measure, moment, "of what it does")
        process.kill()
    start()


async def dies(worker: Process, url: str) -> bool:
    """Wait for its end, or for a dead letter: then it lives."""
    await until(lambda: not worker.lives() or dead_letters(url) != [], "its death, or the killer's")
    return dead_letters(url) == []
