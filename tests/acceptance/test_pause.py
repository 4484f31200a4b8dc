"""The stop button under traffic: the log tells whether anything began while it was pressed, whoever died meanwhile."""

from pathlib import Path

from providers.fakes.ses import FakeSes
from tests.acceptance.audit import Audit, count, unfinished
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import shipped
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import WORKER, Process, Service, reached, until

MAILS = 300
DELIVER = ("deliver", "--lease", "8", "--deadline", "2")
WHY = ("--channel", "email", "--reason", "a test")
PRESSED = "SELECT count(*) FROM ledger.stored_events WHERE topic = 'operations.paused'"


async def test_i07_under_traffic_nothing_begins_while_it_is_paused_whoever_is_killed(
    database: Database, fake: FakeSes, tmp_path: Path
):
    await take_in(database.url, shipped(MAILS))
    settings = {"DATABASE_URL": database.url, "SES_ENDPOINT_URL": fake.url, "SES_RATE": "40"}
    async with processes.running(tmp_path, **settings) as service:
        first, second = [await service.start(*DELIVER, program=WORKER) for _ in range(2)]
        await reached(lambda: len(fake.requests), 20, "requests")
        await press(service, "pause")
        # One dies while it is paused, and another begins: what it reads first is the pause.
        second.kill()
        await service.start(*DELIVER, program=WORKER)
        await press(service, "resume")
        await reached(lambda: len(fake.requests), 80, "requests")
        # One dies at the moment of the next pause.
        pausing = service.launch("pause", *WHY)
        await until(lambda: count(database.url, PRESSED) == 2, "the second pause")
        first.kill()
        assert await pausing.ended() == 0, pausing.log()
        await service.start(*DELIVER, program=WORKER)
        await press(service, "resume")
        await until(lambda: unfinished(database.url) == 0, "the end of all that is due")
    audit = Audit(database.url, fake.requests)
    assert audit.violations() == [], audit.violations()
    assert len(audit.states) == MAILS
    # Whoever was killed may have left a request under way.
    assert MAILS - 80 <= len(fake.requests) <= MAILS


async def press(service: Service, button: str) -> None:
    pressed: Process = service.launch(button, *WHY)
    assert await pressed.ended() == 0, pressed.log()
