"""kill -9 at each await of a push to two devices: what is left is done, nothing that was done is done again."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from ledger.status import Evidence
from providers.fakes.fcm import FakeFcm
from tests.acceptance.audit import Audit, count
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message
from tests.acceptance.wires import through
from tests.integration.ledger.parts import running_ledger
from tests.support import service as processes
from tests.support.devices import register
from tests.support.postgres import Database
from tests.support.proxy import Towards, forwarding
from tests.support.service import WORKER, until

DELIVER = ("deliver", "--lease", "6", "--deadline", "1")
DISPATCHED, IN_DOUBT = Evidence.DISPATCHED, Evidence.IN_DOUBT
# What can be due now: all but what waits for a doubt to be settled.
DUE = "SELECT count(*) FROM ledger.agenda WHERE due_at <= now() + interval '1 minute'"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Where the process dies, at the n-th time that this passes; which devices the provider knows the push of then, and
    what is known of the attempts at the end.
    """

    wire: str
    pattern: bytes
    towards: Towards
    nth: int = 1
    forward: bool = False
    asked: tuple[str, ...]
    known: tuple[Evidence, ...]


BOTH = ("phone", "tablet")
# `reasons` is a column of the answer to an append: intent, outcome, intent, outcome.
POINTS = {
    "before the first intent leaves": Point(
        wire="database",
        pattern=b"notification.attempt_started",
        towards=Towards.SERVER,
        asked=BOTH,
        known=(DISPATCHED, DISPATCHED),
    ),
    "after the first intent was committed": Point(
        wire="database", pattern=b"reasons", towards=Towards.CLIENT, asked=("tablet",), known=(IN_DOUBT, DISPATCHED)
    ),
    "before the first byte to the first device": Point(
        wire="provider", pattern=b"POST ", towards=Towards.SERVER, asked=("tablet",), known=(IN_DOUBT, DISPATCHED)
    ),
    "in the middle of the first request": Point(
        wire="provider",
        pattern=b'"fid"',
        towards=Towards.SERVER,
        forward=True,
        asked=("tablet",),
        known=(IN_DOUBT, DISPATCHED),
    ),
    "after the last byte to the first device": Point(
        wire="provider", pattern=b"HTTP/1.1 200", towards=Towards.CLIENT, asked=BOTH, known=(IN_DOUBT, DISPATCHED)
    ),
    "after the reply of the first was read": Point(
        wire="database",
        pattern=b"notification.dispatched",
        towards=Towards.SERVER,
        asked=BOTH,
        known=(IN_DOUBT, DISPATCHED),
    ),
    "between the devices": Point(
        wire="database",
        pattern=b"reasons",
        towards=Towards.CLIENT,
        nth=2,
        asked=BOTH,
        known=(DISPATCHED, DISPATCHED),
    ),
    "after the second intent was committed": Point(
        wire="database",
        pattern=b"reasons",
        towards=Towards.CLIENT,
        nth=3,
        asked=("phone",),
        known=(DISPATCHED, IN_DOUBT),
    ),
    "in the middle of the second request": Point(
        wire="provider",
        pattern=b'"fid"',
        towards=Towards.SERVER,
        nth=2,
        forward=True,
        asked=("phone",),
        known=(DISPATCHED, IN_DOUBT),
    ),
    "after the last byte to the second device": Point(
        wire="provider",
        pattern=b"HTTP/1.1 200",
        towards=Towards.CLIENT,
        nth=2,
        asked=BOTH,
        known=(DISPATCHED, IN_DOUBT),
    ),
    "after the last outcome was committed": Point(
        wire="database",
        pattern=b"reasons",
        towards=Towards.CLIENT,
        nth=4,
        asked=BOTH,
        known=(DISPATCHED, DISPATCHED),
    ),
}


@pytest.fixture
async def phones() -> AsyncIterator[FakeFcm]:
    fake = await FakeFcm.start()
    yield fake
    await fake.stop()


@pytest.mark.parametrize("where", POINTS)
async def test_i05_i06_a_process_that_dies_at_any_await_of_a_push_leaves_the_rest_to_the_next(
    where: str, database: Database, phones: FakeFcm, tmp_path: Path
):
    point = POINTS[where]
    async with running_ledger(database.url) as ledger:
        await register(ledger, "u-1", "tablet", "phone")
    await take_in(database.url, [message("OrderShippedEvent", userId="u-1")], CHANNELS="push")
    async with AsyncExitStack() as stack:
        wires = {
            "database": await stack.enter_async_context(forwarding("127.0.0.1", urlsplit(database.url).port or 0)),
            "provider": await stack.enter_async_context(forwarding("127.0.0.1", urlsplit(phones.url).port or 0)),
        }
        settings = {
            "DATABASE_URL": database.url,
            "CHANNELS": "push",
            "FCM_BASE_URL": phones.url,
            "FCM_CREDENTIALS": phones.credentials,
        }
        service = await stack.enter_async_context(processes.running(tmp_path, **settings))
        fired = wires[point.wire].trap(
            point.pattern, towards=point.towards, nth=point.nth, forward=point.forward, act=service.kill_all
        )
        doomed = service.launch(
            *DELIVER,
            program=WORKER,
            DATABASE_URL=through(wires["database"], database.url),
            FCM_BASE_URL=through(wires["provider"], phones.url),
        )
        assert await doomed.ended() == -9
        assert fired.is_set()
        await service.start(*DELIVER, program=WORKER)
        await until(lambda: count(database.url, DUE) == 0, "the end of all that is due")
        await service.processes[-1].stop()
    audit = Audit(database.url, phones.requests)
    assert audit.violations() == []
    assert tuple(push.fid for push in phones.requests) == point.asked
    (state,) = audit.states.values()
    assert tuple(attempt.evidence for attempt in state.attempts) == point.known
