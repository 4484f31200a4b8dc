import asyncio
from datetime import timedelta

from ledger.status import Status
from providers.fakes.ses import Behaviour, FakeSes
from tests.acceptance.audit import all_sent_once, at_the_end, count, taken_in
from tests.acceptance.traffic import publish, shipped
from tests.support import ports
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker
from tests.support.service import Service, reached, until

OPEN = "SELECT count(*) FROM ledger.provider_limit WHERE tripped"
WORKERS = 3
RATE = 100
# A block is 100 ms of the rate, and so is the burst.
BLOCK = RATE // 10
NO_KEYS = Behaviour(status=403, code="ExpiredTokenException", message="The security token has expired.")


async def backlog(service: Service, database: Database, broker: Broker, amount: int) -> list[dict[str, object]]:
    """Have so many messages taken in, and nothing delivered."""
    messages = shipped(amount)
    ingest = await service.start("ingest")
    await publish(broker.url, messages)
    await reached(lambda: taken_in(database.url), amount, "messages")
    await ingest.stop()
    return messages


async def test_i20_three_processes_keep_one_rate(service: Service, database: Database, broker: Broker, fake: FakeSes):
    messages = await backlog(service, database, broker, 600)
    await asyncio.gather(*(service.start("deliver", SES_RATE=str(RATE)) for _ in range(WORKERS)))
    await all_sent_once(database.url, fake, messages)
    first, *_ = times = sorted(request.at for request in fake.requests)
    for number, time in enumerate(times):
        # A second of the machine's own delay is allowed for: without a rate, all of it takes less than half the time.
        allowed = RATE * ((time - first).total_seconds() + 1) + BLOCK + WORKERS * BLOCK
        assert number < allowed, f"call {number} came after {time - first}"
    await service.stop_all()


async def test_i13_a_provider_that_refuses_connections_is_called_now_and_then_and_gets_all_once_it_is_back(
    service: Service, database: Database, broker: Broker
):
    messages, port = await backlog(service, database, broker, 300), ports.free()
    url = f"http://127.0.0.1:{port}"
    await asyncio.gather(*(service.start("deliver", SES_ENDPOINT_URL=url) for _ in range(2)))
    await until(lambda: count(database.url, OPEN) == 1, "the breaker to open")
    fake = await FakeSes.start(port=port)
    try:
        await all_sent_once(database.url, fake, messages)
    finally:
        await fake.stop()
    assert count(database.url, OPEN) == 0
    await service.stop_all()


async def test_expired_credentials_fail_nothing_and_all_goes_out_after_the_mend(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    fake.behaviour = NO_KEYS
    messages = await backlog(service, database, broker, 100)
    deliver = await service.start("deliver")
    await until(lambda: count(database.url, OPEN) == 1, "the breaker to open")
    faults = {"provider": "ses", "code": "ExpiredTokenException"}
    await until(lambda: deliver.metric("notification_provider_faults_total", **faults) > 0, "the alarm")
    fake.behaviour = None
    audit = await at_the_end(database.url, fake, messages, within=timedelta(minutes=2))
    assert audit.statuses() == {Status.DISPATCHED: len(messages)}
    assert audit.doubts() == []
    await service.stop_all()
