"""Many are sent again, and the process that does so is killed half way: another goes on, and each is sent once."""

from collections import Counter
from pathlib import Path
from uuid import UUID

from handlers.bulk import Found, Progress
from ledger.bulk import Action
from ledger.values import Channel
from ops.settings import load
from ops.wiring import bulk_of, parts
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import Audit, count
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import shipped
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import SHARED, until

MANY = 120
HANDLED = "SELECT coalesce(sum(handled), 0) FROM ledger.bulk_action"
OPEN = "SELECT count(*) FROM ledger.bulk_action WHERE ended_at IS NULL"


async def _begun(database: Database, streams: list[UUID]) -> UUID:
    async with parts(load({**SHARED, "DATABASE_URL": database.url}, dotenv=None)) as given:
        bulk = bulk_of(given)
        found = [Found(stream, "dispatched", "order_shipped", Channel.EMAIL) for stream in streams]
        plan = await bulk.show(Action.RESEND, found, {"type": "order_shipped"}, by="test")
        return (await bulk.begin(plan.id, by="test", reason="the mails were empty")).id


async def _progress(database: Database, action: UUID) -> Progress:
    async with parts(load({**SHARED, "DATABASE_URL": database.url}, dotenv=None)) as given:
        return await bulk_of(given).progress(action)


async def test_i06_a_bulk_resend_that_is_killed_half_way_is_gone_on_with_and_sends_each_once(
    database: Database, fake: FakeSes, tmp_path: Path
):
    async with processes.running(tmp_path, DATABASE_URL=database.url, SES_ENDPOINT_URL=fake.url) as service:
        await take_in(database.url, shipped(MANY))
        await service.start("deliver")
        await until(lambda: len(fake.requests) == MANY, "the mails")
        streams = [UUID(request.tags["notification"]) for request in fake.requests]
        action = await _begun(database, streams)
        killed = await service.start("maintain")
        await until(lambda: count(database.url, HANDLED) > 0, "its beginning")
        killed.kill()
        assert count(database.url, HANDLED) < MANY, "it was killed too late to tell anything"
        await service.start("maintain")
        await until(lambda: count(database.url, OPEN) == 0, "its end")
        await until(lambda: len(fake.requests) == 2 * MANY, "the mails once more")
        ended = await _progress(database, action)
        assert (ended.done, ended.refused, ended.left) == (MANY, {}, 0)
        sent = Counter(request.tags["notification"] for request in fake.requests)
        assert (len(sent), max(sent.values())) == (2 * MANY, 1)
        assert Audit(database.url, fake.requests).violations() == []
        await service.stop_all()
