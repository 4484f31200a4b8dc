import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import uuid4

import msgspec
import pytest

from ledger.values import Accepted, InDoubt, Outcome, Postponed
from providers.contract import Provider
from tests.integration.providers.stub import (
    Conduct,
    Exchange,
    Stub,
    answers,
    drips,
    http,
    never_answers,
    resets,
    stub,
    then_closes,
)
from tests.integration.providers.vendors import DEADLINE, VENDORS, Vendor

SLACK = timedelta(seconds=30)
GARBAGE = [
    pytest.param(vendor, reply, id=f"{vendor.name}-{number}")
    for vendor in VENDORS
    for number, reply in enumerate(vendor.garbage)
]
BROKEN = [
    pytest.param(vendor, conduct, id=f"{vendor.name}-{name}")
    for vendor in VENDORS
    for name, conduct in [
        ("reset", resets),
        ("never-answered", never_answers),
        *((f"torn-{number}", then_closes(reply)) for number, reply in enumerate(vendor.torn)),
    ]
]
every_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
every_vendor_over_http = pytest.mark.parametrize(
    "vendor", [vendor for vendor in VENDORS if vendor.throttled], ids=lambda vendor: vendor.name
)


@asynccontextmanager
async def opened(
    vendor: Vendor, endpoint: str, *, max_connections: int = 8, hurried: bool = False
) -> AsyncIterator[Provider]:
    provider = await vendor.open(endpoint, max_connections=max_connections, hurried=hurried)
    try:
        yield provider
    finally:
        await provider.aclose()


async def outcome_at(server: Stub, vendor: Vendor, *, hurried: bool = False) -> Outcome:
    async with opened(vendor, vendor.endpoint(server.port), hurried=hurried) as provider:
        return await provider.send(vendor.sending)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose listener accepts nobody and has no room for another to wait: the next connection hangs."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@every_vendor
async def test_a_message_that_is_taken_is_accepted_under_the_vendors_name(vendor: Vendor):
    async with stub(answers(vendor.accepted), vendor.speaker) as server:
        assert await outcome_at(server, vendor) == Accepted(vendor.reference(vendor.sending))
    assert len(server.heads) == 1


@every_vendor
async def test_i05_each_request_carries_the_ids_of_its_notification_and_attempt(vendor: Vendor):
    async with stub(answers(vendor.accepted), vendor.speaker) as server:
        await outcome_at(server, vendor)
    for value in (vendor.sending.notification, vendor.sending.attempt):
        assert str(value).encode() in server.bodies[0]


@every_vendor
async def test_i06_many_calls_at_once_are_as_many_requests(vendor: Vendor):
    attempts = [uuid4() for _ in range(100)]
    async with (
        stub(answers(vendor.accepted), vendor.speaker) as server,
        opened(vendor, vendor.endpoint(server.port)) as provider,
    ):
        sendings = [msgspec.structs.replace(vendor.sending, attempt=attempt) for attempt in attempts]
        outcomes = await asyncio.gather(*(provider.send(sending) for sending in sendings))
    assert outcomes == [Accepted(vendor.reference(sending)) for sending in sendings]
    assert len(server.bodies) == 100
    assert all(sum(str(attempt).encode() in body for body in server.bodies) == 1 for attempt in attempts)
    assert server.connections <= 8


@pytest.mark.parametrize(("vendor", "reply"), GARBAGE)
async def test_i06_a_success_that_cannot_be_read_is_in_doubt(vendor: Vendor, reply: bytes):
    async with stub(then_closes(reply), vendor.speaker) as server:
        assert isinstance(await outcome_at(server, vendor), InDoubt)
    assert len(server.heads) == 1


@every_vendor
async def test_each_code_has_its_outcome(vendor: Vendor):
    outcomes = {}
    async with (
        stub(answers(vendor.accepted), vendor.speaker) as server,
        opened(vendor, vendor.endpoint(server.port)) as provider,
    ):
        for name, answer, _ in vendor.codes:
            server.conduct = answers(answer.reply)
            server.early = {answer.to: answer.reply} if answer.to else {}
            before = len(server.heads)
            outcomes[name] = await provider.send(vendor.sending)
            assert len(server.heads) - before == (answer.to not in {"CONNECT", "EHLO"}), name
    assert outcomes == {name: outcome for name, _, outcome in vendor.codes}


@every_vendor_over_http
async def test_a_throttled_message_waits_as_long_as_the_vendor_asks(vendor: Vendor):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert vendor.throttled
    waits = {"7": (7, 7), later: (80, 90), "99999999999999999999": (86400, 86400), "-1": None, "soon": None}
    for value, expected in waits.items():
        async with stub(answers(vendor.throttled({"Retry_After": value})), vendor.speaker) as server:
            outcome = await outcome_at(server, vendor)
        assert isinstance(outcome, Postponed)
        assert not outcome.ours
        if expected is None:
            assert outcome.retry_after is None
        else:
            assert outcome.retry_after is not None
            assert expected[0] <= outcome.retry_after.total_seconds() <= expected[1]


@every_vendor_over_http
async def test_a_redirect_is_not_followed(vendor: Vendor):
    async with stub(answers(vendor.accepted), vendor.speaker) as elsewhere:
        async with stub(answers(http(307, b"", Location=f"{elsewhere.url}/again"))) as server:
            assert isinstance(await outcome_at(server, vendor), Postponed)
        assert len(server.heads) == 1
        assert elsewhere.connections == 0


@every_vendor
async def test_a_refused_connection_is_certainly_not_sent(vendor: Vendor):
    async with stub(answers(vendor.accepted), vendor.speaker) as server:
        pass
    async with opened(vendor, vendor.endpoint(server.port)) as provider:
        assert await provider.send(vendor.sending) == Postponed("connect_failed")


@every_vendor
async def test_a_name_that_does_not_resolve_is_certainly_not_sent(vendor: Vendor):
    async with opened(vendor, vendor.endpoint(9, host="nowhere.invalid")) as provider:
        outcome = await provider.send(vendor.sending)
    assert outcome in {Postponed("name_not_resolved"), Postponed("connect_timeout")}


@every_vendor
async def test_a_server_that_speaks_no_tls_is_certainly_not_sent_to(vendor: Vendor):
    async with (
        stub(then_closes(vendor.accepted), vendor.speaker, reads_body=False) as server,
        opened(vendor, vendor.endpoint(server.port, secure=True)) as provider,
    ):
        outcome = await provider.send(vendor.sending)
    assert isinstance(outcome, Postponed)
    assert server.bodies == []


@every_vendor
async def test_a_connection_that_is_never_made_is_certainly_not_sent(vendor: Vendor):
    with full_backlog() as port:
        async with opened(vendor, vendor.endpoint(port), hurried=True) as provider:
            assert await provider.send(vendor.sending) == Postponed("connect_timeout")


@every_vendor
async def test_a_call_that_waits_in_vain_for_a_connection_is_certainly_not_sent(vendor: Vendor):
    async with (
        stub(never_answers, vendor.speaker) as server,
        opened(vendor, vendor.endpoint(server.port), max_connections=1, hurried=True) as provider,
    ):
        first = asyncio.create_task(provider.send(vendor.sending))
        await server.asked.wait()
        assert await provider.send(vendor.sending) == vendor.busy
        assert isinstance(await first, InDoubt)
    assert len(server.heads) == 1


@pytest.mark.parametrize(("vendor", "conduct"), BROKEN)
async def test_i06_a_call_that_breaks_after_its_last_byte_is_in_doubt_and_not_repeated(
    vendor: Vendor, conduct: Conduct
):
    async with stub(conduct, vendor.speaker) as server:
        assert isinstance(await outcome_at(server, vendor, hurried=conduct is never_answers), InDoubt)
        assert server.connections == 1
    assert len(server.heads) == 1


@pytest.mark.parametrize("conduct", [resets, then_closes(b"")], ids=["reset", "closed"])
@every_vendor
async def test_i06_a_call_that_breaks_after_its_first_byte_is_not_repeated(vendor: Vendor, conduct: Conduct):
    async with stub(conduct, vendor.speaker, reads_body=False) as server:
        assert isinstance(await outcome_at(server, vendor), vendor.cut_short)
        assert server.connections == 1
    assert len(server.heads) == 1


@every_vendor
async def test_i06_a_kept_connection_that_the_server_closes_does_not_repeat_the_request(vendor: Vendor):
    async def closes_on_the_second(exchange: Exchange) -> None:
        await (answers(vendor.accepted) if exchange.number == 1 else resets)(exchange)

    async with (
        stub(closes_on_the_second, vendor.speaker) as server,
        opened(vendor, vendor.endpoint(server.port)) as provider,
    ):
        assert isinstance(await provider.send(vendor.sending), Accepted)
        assert isinstance(await provider.send(vendor.sending), InDoubt)
        assert server.connections == 1
    assert len(server.heads) == 2


@every_vendor
async def test_a_reply_that_drips_in_ends_at_the_deadline_in_doubt(vendor: Vendor):
    async with (
        stub(drips(*vendor.drip), vendor.speaker) as server,
        opened(vendor, vendor.endpoint(server.port), hurried=True) as provider,
    ):
        began = asyncio.get_running_loop().time()
        assert await provider.send(vendor.sending) == InDoubt("timeout")
        took = timedelta(seconds=asyncio.get_running_loop().time() - began)
    assert DEADLINE <= took + timedelta(milliseconds=10) <= DEADLINE + SLACK
    assert len(server.heads) == 1


@every_vendor
async def test_after_any_trouble_the_next_message_goes_through(vendor: Vendor):
    async def bad_then_good(exchange: Exchange) -> None:
        await (answers(vendor.accepted) if len(server.heads) > 1 else resets)(exchange)

    async with stub(bad_then_good, vendor.speaker) as server, opened(vendor, vendor.endpoint(server.port)) as provider:
        assert isinstance(await provider.send(vendor.sending), InDoubt)
        assert await provider.send(vendor.sending) == Accepted(vendor.reference(vendor.sending))


@every_vendor
async def test_a_call_that_is_cancelled_leaves_no_connection_in_use(vendor: Vendor):
    async with (
        stub(never_answers, vendor.speaker) as server,
        opened(vendor, vendor.endpoint(server.port), max_connections=1, hurried=True) as provider,
    ):
        call = asyncio.create_task(provider.send(vendor.sending))
        await server.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert isinstance(await provider.send(vendor.sending), InDoubt)
        assert server.connections == 2
