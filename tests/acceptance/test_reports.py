from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import psycopg
import pytest

from ledger.status import Status
from ops.secrets import AUDIENCE, ISSUER, secrets_in
from providers.fakes.ses import TOPIC, Behaviour, FakeSes
from providers.fakes.ses_events import event
from tests.acceptance.audit import Audit, count, unfinished
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message, shipped
from tests.support import ports
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import WORKER, Service, reached, until

# The provider takes a mail and reports on it at once, and answers the request itself only then.
LATE = Behaviour(delay=timedelta(seconds=2))
# A recipient of whom the fake reports nothing by itself.
SILENT = "timeout+{}@sandbox.example"
UNMATCHED = "SELECT count(*) FROM ledger.unmatched_report"
REPORTED = """
SELECT count(*) FROM ledger.stored_events WHERE topic IN ('notification.bounced', 'notification.delivered')
"""
COMPLETE = ["requested", "rendered", "attempt_started", "dispatched", "delivered"]


@pytest.fixture
async def reporting(database: Database, fake: FakeSes, tmp_path: Path) -> AsyncIterator[Service]:
    """The API as a process, subscribed to the provider's reports."""
    secrets, keys, port = secrets_in(tmp_path), tmp_path / "jwks.json", ports.free()
    keys.write_bytes(msgspec.json.encode(secrets.public_keys()))
    settings = {
        "DATABASE_URL": database.url,
        "SES_ENDPOINT_URL": fake.url,
        "SES_TOPIC_ARNS": TOPIC,
        "SES_CERTIFICATE_ORIGIN": fake.url,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_JWKS_URL": keys.as_uri(),
        "PORT": str(port),
    }
    async with processes.running(tmp_path, **settings) as service:
        await service.start("api")
        await fake.topic.subscribe(f"http://127.0.0.1:{port}/callbacks/ses")
        yield service


async def test_i09_reports_that_come_before_the_reply_and_again_and_again_are_each_one_fact(
    reporting: Service, database: Database, fake: FakeSes
):
    fake.behaviour = LATE
    await take_in(database.url, shipped(20))
    await reporting.start("deliver")
    await reached(lambda: len(fake.requests), 20, "requests")
    for request in fake.requests * 2:
        for kind in ("Delivery", "Send"):
            fake.topic.publish(event(kind, request))
    await fake.topic.drained()
    assert Audit(database.url, fake.requests).statuses() == {Status.DELIVERED: 20}
    await reporting.stop_all()
    audit = Audit(database.url, fake.requests)
    assert audit.violations() == []
    assert {tuple(audit.history(stream)) for stream in audit.streams} == {tuple(COMPLETE)}
    assert (fake.topic.refused, count(database.url, UNMATCHED)) == (0, 0)


async def test_i09_a_report_that_matches_nothing_yet_is_kept_and_matched_when_its_notification_is_known(
    reporting: Service, database: Database, fake: FakeSes
):
    fake.behaviour = LATE
    await take_in(database.url, [message("OrderShippedEvent", userEmail=SILENT.format(1))])
    deliver = await reporting.start("deliver")
    await reached(lambda: len(fake.requests), 1, "requests")
    # A report without our own ids is matched by the provider's, which nobody knows before the reply.
    fake.topic.publish(event("Delivery", msgspec.structs.replace(fake.requests[0], tags={})))
    await fake.topic.drained()
    assert count(database.url, UNMATCHED) == 1
    await until(lambda: unfinished(database.url) == 0, "the reply")
    await deliver.stop()
    assert Audit(database.url, fake.requests).statuses() == {Status.DISPATCHED: 1}
    # It is tried again a minute after it came: this is that minute.
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("UPDATE ledger.unmatched_report SET tried_at = tried_at - interval '1 minute'")
    await reporting.start("maintain")
    await until(lambda: count(database.url, UNMATCHED) == 0, "its match")
    audit = Audit(database.url, fake.requests)
    assert audit.violations() == []
    assert [audit.history(stream) for stream in audit.streams] == [COMPLETE]


async def test_i06_a_report_settles_a_doubt_and_nothing_is_sent_again(
    reporting: Service, database: Database, fake: FakeSes
):
    fake.behaviour = Behaviour(status=0)
    await take_in(database.url, [message("PasswordResetRequestedEvent", emailAddress=SILENT.format(1))])
    await reporting.start("deliver", "--deadline", "1", program=WORKER)
    await until(lambda: unfinished(database.url) == 0, "the doubt")
    audit = Audit(database.url, fake.requests)
    assert (audit.statuses(), len(audit.agenda)) == ({Status.IN_DOUBT: 1}, 1)
    fake.topic.publish(event("Delivery", fake.requests[0]))
    await fake.topic.drained()
    audit = Audit(database.url, fake.requests)
    assert audit.violations() == []
    assert [audit.history(stream) for stream in audit.streams] == [[*COMPLETE[:3], "attempt_in_doubt", *COMPLETE[3:]]]
    assert (len(fake.requests), len(audit.agenda)) == (1, 0)


async def test_i07_after_a_hard_bounce_nothing_more_goes_to_the_address_and_all_others_get_theirs(
    reporting: Service, database: Database, fake: FakeSes
):
    gone, *others = addresses = [f"{name}@sandbox.example" for name in ("bounce", "soft-bounce", "success")]
    await take_in(database.url, [message("OrderShippedEvent", userEmail=address) for address in addresses])
    await reporting.start("deliver")
    await reached(lambda: count(database.url, REPORTED), len(addresses), "reports")
    await take_in(database.url, [message("PasswordResetRequestedEvent", emailAddress=address) for address in addresses])
    await until(lambda: unfinished(database.url) == 0, "the end of the second mails")
    await fake.topic.drained()
    audit = Audit(database.url, fake.requests)
    assert audit.violations() == []
    assert Counter(request.to for request in fake.requests) == {gone: 1, **dict.fromkeys(others, 2)}
    (suppressed,) = [stream for stream, state in audit.states.items() if state.status is Status.SUPPRESSED]
    assert audit.history(suppressed) == ["requested", "suppressed"]
    assert audit.states[suppressed].reason == "suppressed_address"
    await reporting.stop_all()
