"""What is asked for later: nobody is asked before its time, and then at once."""

from datetime import timedelta

import msgspec

from handlers.intake import TakeIn, TakenIn
from ledger.ledger import Ledger
from ledger.status import Status
from ledger.values import Channel
from providers.fakes.ses import FakeSes
from templates.catalogue import load
from tests.integration.ledger.parts import now
from tests.integration.test_pauses import delivering, read
from tests.support.service import until


async def test_a_request_for_later_is_sent_at_its_time_and_not_before(ledger: Ledger, fake: FakeSes):
    send_at = now() + timedelta(seconds=2)
    wanted = {"type": "welcome", "recipient": {"email": "ada@sandbox.example"}, "send_at": send_at.isoformat()}
    take_in = TakeIn(ledger, load(), channels={Channel.EMAIL})
    taken = await take_in.request(msgspec.json.encode(wanted), caller="tester", idempotency_key=None)
    assert isinstance(taken, TakenIn)
    (stream,) = taken.notifications
    async with delivering(ledger, fake):
        await until(lambda: len(fake.requests) == 1, "the mail")
    state = (await read(ledger, stream)).state
    assert state.status is Status.DISPATCHED
    assert state.attempts[0].started_at >= send_at
    assert state.requested.expires_at == send_at + timedelta(days=3)
