"""kill -9 at each await of the delivery of one item: no request without a committed intent, no attempt with two."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from ledger.status import Status
from ledger.values import Channel
from providers.fakes.ses import Behaviour, FakeSes
from providers.fakes.twilio import ACCOUNT, TOKEN, FakeTwilio
from tests.acceptance.audit import Audit, count, unfinished
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message, shipped
from tests.acceptance.wires import through
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.proxy import Towards, forwarding
from tests.support.service import WORKER, reached, until

# Short enough to wait for, and long enough for one item on a busy machine.
DELIVER = ("deliver", "--lease", "6", "--deadline", "1")


@asynccontextmanager
async def ses() -> AsyncIterator[FakeSes]:
    fake = await FakeSes.start()
    try:
        yield fake
    finally:
        await fake.stop()


@asynccontextmanager
async def twilio() -> AsyncIterator[FakeTwilio]:
    fake = await FakeTwilio.start()
    try:
        yield fake
    finally:
        await fake.stop()


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A provider: its fake, the setting that leads to it, and its words on the wire."""

    channel: Channel
    fake: Callable[[], AbstractAsyncContextManager[FakeSes | FakeTwilio]]
    url: str
    settings: Mapping[str, str]
    middle: bytes
    taken: bytes


VENDORS = {
    "ses": Vendor(
        channel=Channel.EMAIL,
        fake=ses,
        url="SES_ENDPOINT_URL",
        settings={},
        middle=b'"Subject"',
        taken=b"HTTP/1.1 200",
    ),
    "twilio": Vendor(
        channel=Channel.SMS,
        fake=twilio,
        url="TWILIO_BASE_URL",
        settings={
            "SMS_SENDER": "+15005550006",
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            # Nobody listens there: what is sent and what is known are the worker's alone.
            "PUBLIC_URL": "http://127.0.0.1:9",
        },
        middle=b"&Body=",
        taken=b"HTTP/1.1 201",
    ),
}


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Where the process dies: what is on the wire then, and whether the other side still gets it.

    A `pattern` that is a name is the vendor's own word.
    """

    wire: str
    pattern: bytes | str
    towards: Towards
    nth: int = 1
    forward: bool = False
    requests: int
    doubted: bool


# `reasons` is a column of the answer to an append: the first answers the intent, the second the outcome.
POINTS = {
    "before the intent leaves": Point(
        wire="database", pattern=b"notification.attempt_started", towards=Towards.SERVER, requests=1, doubted=False
    ),
    "after the intent was committed": Point(
        wire="database", pattern=b"reasons", towards=Towards.CLIENT, requests=0, doubted=True
    ),
    "before the first byte to the provider": Point(
        wire="provider", pattern=b"POST ", towards=Towards.SERVER, requests=0, doubted=True
    ),
    "in the middle of the request": Point(
        wire="provider", pattern="middle", towards=Towards.SERVER, forward=True, requests=0, doubted=True
    ),
    "after the last byte": Point(wire="provider", pattern="taken", towards=Towards.CLIENT, requests=1, doubted=True),
    "after the reply was read": Point(
        wire="database", pattern=b"notification.dispatched", towards=Towards.SERVER, requests=1, doubted=True
    ),
    "after the outcome was committed": Point(
        wire="database", pattern=b"reasons", towards=Towards.CLIENT, nth=2, requests=1, doubted=False
    ),
}


@pytest.mark.parametrize("where", POINTS)
@pytest.mark.parametrize("by", VENDORS)
async def test_i05_i06_a_process_that_dies_at_any_await_leaves_a_committed_intent_or_a_recorded_doubt(
    by: str, where: str, database: Database, tmp_path: Path
):
    vendor, point = VENDORS[by], POINTS[where]
    await take_in(database.url, shipped(1), CHANNELS=vendor.channel)
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(vendor.fake())
        wires = {
            "database": await stack.enter_async_context(forwarding("127.0.0.1", urlsplit(database.url).port or 0)),
            "provider": await stack.enter_async_context(forwarding("127.0.0.1", urlsplit(fake.url).port or 0)),
        }
        settings = {"DATABASE_URL": database.url, vendor.url: fake.url, "CHANNELS": vendor.channel, **vendor.settings}
        service = await stack.enter_async_context(processes.running(tmp_path, **settings))
        fired = wires[point.wire].trap(
            getattr(vendor, point.pattern) if isinstance(point.pattern, str) else point.pattern,
            towards=point.towards,
            nth=point.nth,
            forward=point.forward,
            act=service.kill_all,
        )
        doomed = service.launch(
            *DELIVER,
            program=WORKER,
            DATABASE_URL=through(wires["database"], database.url),
            **{vendor.url: through(wires["provider"], fake.url)},
        )
        assert await doomed.ended() == -9
        assert fired.is_set()
        await service.start(*DELIVER, program=WORKER)
        await until(lambda: unfinished(database.url) == 0, "the end of all that is due")
        await service.processes[-1].stop()
    audit = Audit(database.url, fake.requests)
    assert audit.violations() == []
    assert len(fake.requests) == point.requests
    assert audit.statuses() == {Status.IN_DOUBT if point.doubted else Status.DISPATCHED: 1}


async def test_i06_a_doubt_that_no_report_settles_is_sent_again_or_dropped_as_its_policy_says(
    database: Database, fake: FakeSes, tmp_path: Path
):
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(welcome_dropped(shipped_catalogue()))
    fake.behaviour = Behaviour(status=0)
    again, dropped = message("PasswordResetRequestedEvent"), message("UserRegisteredEvent")
    await take_in(database.url, [again, dropped], CATALOGUE=str(catalogue))
    settings = {"DATABASE_URL": database.url, "SES_ENDPOINT_URL": fake.url}
    async with processes.running(tmp_path, **settings) as service:
        doomed = service.launch(*DELIVER, program=WORKER)
        await reached(lambda: len(fake.requests), 2, "requests")
        doomed.kill()
        fake.behaviour = None
        await service.start(*DELIVER, program=WORKER)
        await until(lambda: count(database.url, "SELECT count(*) FROM ledger.agenda") == 0, "the end of all")
        await service.stop_all()
    audit = Audit(database.url, fake.requests)
    assert audit.violations() == []
    begin = ["requested", "rendered", "attempt_started", "attempt_in_doubt"]
    histories = {audit.states[stream].requested.message_id: audit.history(stream) for stream in audit.streams}
    assert histories == {
        again["messageId"]: [*begin, "attempt_started", "dispatched"],
        dropped["messageId"]: [*begin, "failed"],
    }
    assert len(fake.requests) == 3


def shipped_catalogue() -> str:
    return resources.files("templates").joinpath("catalogue.yaml").read_text("utf-8")


def welcome_dropped(catalogue: str) -> str:
    """The catalogue with a welcome that is not sent again, and whose doubts last as short as a code's."""
    old = "  welcome:\n    category: transactional\n    lane: normal\n    doubt: resend\n"
    assert old in catalogue
    return catalogue.replace(old, old.replace("transactional", "security").replace("resend", "drop"))
