"""Status messages on a real broker: what a listener gets, and what becomes of them when something goes wrong.

Long, because each fault needs its own place on the wire and all share one relay, one listener and one proxy.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid5

import msgspec
import psycopg
import pytest
import yaml
from aio_pika import DeliveryMode
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from handlers.metrics import Metrics
from handlers.publish import OUTBOX, UNROUTED, Publish
from handlers.recipients import tell
from handlers.status_messages import StatusMessages, Told, message_id
from handlers.wording import Wording
from ledger import notification as n
from ledger import template
from ledger.follower import Follower, Parked, caught_up, parked, position
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.preferences import Choice, ConsentNews, PreferenceNews, QuietHours
from ledger.recipient import ContactNews, Field
from ledger.signals import Signals
from ledger.status import Status
from ledger.store import Encoded, connect
from ledger.template import Template, TemplateFact
from ledger.values import Accepted, Category, Channel, Fallback, InDoubt, Outcome, Refused, ReportKind
from ops.gauges import Gauges
from projections.notification_log import NotificationLog
from templates.files import MESSAGES
from tests.acceptance.audit import count
from tests.acceptance.wires import through
from tests.docs.pages import DOCS
from tests.integration.ledger import lives
from tests.integration.ledger.parts import new_id, set_aside_in, stored
from tests.support.json_schema import faults
from tests.support.listener import bind, listening, out_of_order, versions
from tests.support.postgres import Database
from tests.support.proxy import Towards, forwarding
from tests.support.rabbitmq import Broker
from tests.support.service import until

SOON = timedelta(seconds=60)
QUEUE = "a-service"
TAKEN = Accepted("ses-1")
ARRIVED: Sequence[Outcome | ReportKind] = (TAKEN, ReportKind.DELIVERED)
EVERY_REPORT = [kind for kind in ReportKind if kind is not ReportKind.DISPATCHED]
# The topic of each fact that is told, and what its message says.
TOLD = {
    "dispatched": ("NotificationSent", "dispatched"),
    "failed": ("NotificationFailed", "failed"),
    "expired": ("NotificationFailed", "expired"),
    "suppressed": ("NotificationSuppressed", "suppressed"),
    "cancelled": ("NotificationSuppressed", "cancelled"),
    "attempt_in_doubt": ("NotificationDeliveryUpdate", "in_doubt"),
    **{kind.value: ("NotificationDeliveryUpdate", kind.value) for kind in EVERY_REPORT},
}
OF_THIS_DATABASE = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
WAITING = f"SELECT count(*) {OF_THIS_DATABASE} AND pid IN (SELECT pid FROM pg_locks WHERE NOT granted)"
ASKING = f"SELECT count(*) {OF_THIS_DATABASE} AND query LIKE '%lease_until < now()%' AND state = 'idle'"
IN_TRANSACTION = f"SELECT count(*) {OF_THIS_DATABASE} AND state LIKE 'idle in transaction%'"
# Class and method of the frames basic.publish and basic.ack (AMQP 0-9-1, 1.8.3).
CUT_AT_PUBLISH = (b"\x00\x3c\x00\x28", Towards.SERVER)
CUT_AT_CONFIRM = (b"\x00\x3c\x00\x50", Towards.CLIENT)
# And of queue.declare-ok.
DECLARED = b"\x00\x32\x00\x0b"
DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "reference" / "asyncapi.yaml").read_text("utf-8"))
MESSAGE = DOCUMENT["components"]["messages"]["statusMessage"]["payload"]


class Relay:
    """A relay of this process, and what it counts."""

    def __init__(self, url: str, ledger: Ledger, *, database: Database, **chosen: Any) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.publish = Publish(url, ledger.store, self.metrics)
        self._follower = Follower(
            database.url, self.publish, Signals(database.url), **{"pace": timedelta(), "batch": 50, **chosen}
        )

    def published(self, result: str) -> int:
        """Count the messages, of whatever type, of which this came."""
        (family,) = self.metrics.published.collect()
        return int(
            sum(
                sample.value
                for sample in family.samples
                if sample.labels.get("result") == result and sample.name.endswith("_total")
            )
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Relay"]:
        self._follower.start()
        try:
            yield self
        finally:
            await self._follower.stop()
            await self.publish.aclose()


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    async with await connect(database.url) as connection:
        yield connection


@pytest.fixture
def relay(database: Database, ledger: Ledger, broker: Broker) -> Relay:
    return Relay(broker.url, ledger, database=database)


async def published_all(connection: AsyncConnection[Any], ledger: Ledger) -> bool:
    return await caught_up(connection, OUTBOX, await ledger.store.head(), timeout=SOON)


async def told_by_the_log(connection: AsyncConnection[Any]) -> list[tuple[str, str, str, int, int]]:
    """What must be told, read off the log: (messageId, messageType, event, version, position)."""
    query = "SELECT originator_id, originator_version, topic, notification_id FROM ledger.stored_events ORDER BY 4"
    rows = await (await connection.execute(query)).fetchall()
    return [
        (str(uuid5(stream, f"status/{version}")), *TOLD[word], version, at)
        for stream, version, topic, at in rows
        for word in [topic.removeprefix("notification.")]
        if word in TOLD
    ]


async def led(ledger: Ledger, *lived: Sequence[Outcome | ReportKind]) -> None:
    for steps in lived:
        await lives.live(ledger, steps)


async def suppressed(ledger: Ledger) -> None:
    stream = await lives.begin(ledger)

    def refuse(state: n.State, origin: Origin) -> n.Facts:
        return n.suppress(state, ("no_consent", "policy-1", {"address_hash": "ab" * 16}), origin)

    await lives.decide(ledger, stream, refuse)


async def expired(ledger: Ledger) -> None:
    stream = await lives.begin(ledger)

    def late(state: n.State, origin: Origin) -> n.Facts:
        after = msgspec.structs.replace(origin, now=state.requested.expires_at)
        return n.overdue(state, after)

    await lives.decide(ledger, stream, late)


async def cancelled(ledger: Ledger, stream: UUID) -> None:
    await lives.decide(ledger, stream, lambda state, at: n.cancel(state, "she has called", at))


async def test_i14_i18_a_listener_gets_exactly_what_the_document_says_in_the_order_of_the_log(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    await led(ledger, [TAKEN, *EVERY_REPORT], [InDoubt("read_timeout"), TAKEN], [Refused("MessageRejected")])
    await suppressed(ledger)
    await expired(ledger)
    await cancelled(ledger, await lives.begin(ledger))
    expected = await told_by_the_log(connection)
    assert {event for _, _, event, _, _ in expected} == {event for _, event in TOLD.values()}
    async with relay.running(), listening(broker.url, QUEUE) as listener:
        await until(lambda: len(listener.heard) >= len(expected), "every message")
        assert await published_all(connection, ledger)
    heard = sorted(listener.heard, key=lambda one: one.told["position"])
    assert [
        (one.id, one.body["messageType"], one.told["event"], one.told["version"], one.told["position"]) for one in heard
    ] == expected
    assert out_of_order(listener.heard) == []
    for one in heard:
        assert list(faults(one.body, MESSAGE, DOCUMENT)) == [], one.body
        assert one.routing_key == ".".join((one.body["messageType"], one.told["channel"], one.told["category"]))
        assert one.properties["message_id"] == one.id
        assert one.properties["type"] == one.body["messageType"]
        assert one.properties["delivery_mode"] == DeliveryMode.PERSISTENT
        assert b"ada@" not in one.raw
        assert "Ada" not in str(one.body)
        assert "ab" * 16 not in str(one.body)
    reasons = {one.told["event"]: one.told["reason"] for one in heard if one.told["reason"]}
    assert reasons == {
        "suppressed": "no_consent",
        "expired": "expired",
        "cancelled": "cancelled",
        "failed": "refused: MessageRejected",
        "in_doubt": "read_timeout",
    }


async def test_that_a_fallback_is_called_off_is_an_update_of_what_was_sent(ledger: Ledger):
    stream = await lives.begin(ledger, fallback=Fallback(Channel.SMS, timedelta(minutes=15)))
    attempt = await lives.start(ledger, stream)
    await lives.settle(ledger, stream, attempt, TAKEN)
    await cancelled(ledger, stream)
    page = await StatusMessages(ledger.store).after(0, limit=10)
    told = [(one.message_type, one.payload) for one in page.messages if isinstance(one.payload, Told)]
    assert [(message_type, payload.event, payload.status) for message_type, payload in told] == [
        ("NotificationSent", "dispatched", Status.DISPATCHED),
        ("NotificationDeliveryUpdate", "cancelled", Status.DISPATCHED),
    ]


async def test_what_a_receipt_showed_to_be_sent_before_the_reply_came_is_told_once(ledger: Ledger):
    stream = await lives.begin(ledger)
    attempt = await lives.start(ledger, stream)
    await lives.report(ledger, stream, attempt, ReportKind.OPENED)
    await lives.settle(ledger, stream, attempt, Accepted("the provider's own name"))
    facts = await ledger.store.load([stream])
    assert [row.topic for row in facts].count("notification.dispatched") == 2
    page = await StatusMessages(ledger.store).after(0, limit=10)
    told = [(one.message_type, one.payload.event) for one in page.messages if isinstance(one.payload, Told)]
    assert told == [("NotificationSent", "dispatched"), ("NotificationDeliveryUpdate", "opened")]
    # The reply came later: who reads from there on is not told again either.
    assert (await StatusMessages(ledger.store).after(page.next - 1, limit=10)).messages == []


async def test_a_message_says_how_its_notification_stood_then_and_where_it_came_from(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    stream = await lives.begin(ledger, user_id="u-7", message_id="m-7", correlation_id="c-7")
    attempt = await lives.start(ledger, stream)
    await lives.settle(ledger, stream, attempt, TAKEN)
    for kind in (ReportKind.OPENED, ReportKind.DELIVERED):
        await lives.report(ledger, stream, attempt, kind)
    async with relay.running(), listening(broker.url, QUEUE) as listener:
        await until(lambda: len(listener.heard) == 3, "every message")
    sent, opened, delivered = (one.told for one in listener.heard)
    assert [one["status"] for one in (sent, opened, delivered)] == ["dispatched", "opened", "opened"]
    for one in listener.heard:
        assert one.body["correlationId"] == "c-7"
        assert one.body["sourceService"] == one.body["source"] == "notification-ledger"
        assert one.told["userId"] == "u-7"
        assert one.told["origin"]["messageId"] == "m-7"
        assert (one.told["provider"], one.told["attempt"]) == ("ses", str(attempt))


async def test_i14_i18_what_a_person_allows_is_told_in_order_and_names_nobody_but_their_id(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE, key="CommunicationPreferenceUpdated.#")
    said_at = await ledger.store.now()
    agreed = ConsentNews(purpose="offers", granted=True, wording="2031-05", where="checkout", at=said_at)
    everything = PreferenceNews(
        user_id="u-7",
        said_at=said_at,
        choices=(Choice(Category.MARKETING, Channel.SMS, enabled=False),),
        consents=(agreed,),
        quiet=QuietHours(time(22), time(7, 30)),
    )
    await tell(ledger, ContactNews("u-7", said_at, {Field.EMAIL: "ada@example.com"}), by="test")
    for news in (everything, PreferenceNews(user_id="u-7", said_at=said_at, quiet=None)):
        await tell(ledger, news, by="test")
    async with relay.running(), listening(broker.url, QUEUE) as listener:
        await until(lambda: len(listener.heard) == 4, "every message")
        assert await published_all(connection, ledger)
    stream = (await ledger.recipient("u-7")).stream
    assert [one.id for one in listener.heard] == [str(message_id(stream, version)) for version in (2, 3, 4, 5)]
    for one in listener.heard:
        assert list(faults(one.body, MESSAGE, DOCUMENT)) == [], one.body
        assert one.routing_key == f"CommunicationPreferenceUpdated.{one.told['event']}"
        assert one.told["userId"] == "u-7"
        assert b"ada@" not in one.raw
    choices, consent, hours, cleared = (one.told for one in listener.heard)
    assert choices["preferences"] == [{"category": "marketing", "channel": "sms", "enabled": False}]
    assert [told["purpose"] for told in consent["consents"]] == ["offers"]
    assert datetime.fromisoformat(consent["occurredAt"]) == said_at
    assert [told["quietHours"] for told in (hours, cleared)] == [{"from": "22:00", "to": "07:30"}, None]


async def test_i14_what_a_template_says_is_told_when_that_changes_and_by_nothing_else(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE, key="NotificationTemplateUpdated.#")
    wording = Wording(ledger, {"order_shipped"}, MESSAGES)
    shipped = wording.shipped("order_shipped")

    def said(state: Template, now: datetime) -> Sequence[TemplateFact]:
        origin = Origin(now=now, cause="command:1", by="test")
        match state.version:
            case 0:
                return template.draft(state, "d1", origin)
            case 1:
                return template.publish(state, "d1", "v1", origin, replaces=shipped, reason="kinder")
            case _:
                return template.roll_back(state, shipped, origin, replaces="v1", reason="too kind")

    for _ in range(3):
        await wording.change("order_shipped", said)
    async with relay.running(), listening(broker.url, QUEUE) as listener:
        await until(lambda: len(listener.heard) == 2, "both messages")
        assert await published_all(connection, ledger)
    stream = wording.known["order_shipped"].stream
    assert [one.id for one in listener.heard] == [str(message_id(stream, version)) for version in (2, 3)]
    for one in listener.heard:
        assert list(faults(one.body, MESSAGE, DOCUMENT)) == [], one.body
        assert one.routing_key == f"NotificationTemplateUpdated.{one.told['event']}"
    published, back = (one.told for one in listener.heard)
    assert (published["templateVersion"], published["replaces"], published["reason"]) == ("v1", shipped, "kinder")
    assert (back["templateVersion"], back["replaces"], back["reason"]) == (shipped, "v1", "too kind")


async def test_i14_what_nobody_listens_to_is_kept_and_counted_and_holds_nothing_up(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    await led(ledger, *[ARRIVED] * 5)
    watching = asyncio.create_task(relay.publish.watch_unrouted())
    async with relay.running():
        assert await published_all(connection, ledger)
        await until(lambda: relay.registry.get_sample_value("notification_outbox_unrouted") == 10, "the gauge")
    watching.cancel()
    await asyncio.wait([watching])
    assert await broker.ready(UNROUTED) == 10
    assert relay.published("confirmed") == 10


async def test_i14_a_message_that_reaches_no_queue_at_all_does_not_count_as_published(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    async with relay.running():
        await led(ledger, [TAKEN])
        assert await published_all(connection, ledger)
        broker.request("DELETE", f"queues/{quote(broker.vhost, safe='')}/{UNROUTED}")
        await led(ledger, [TAKEN])
        assert await published_all(connection, ledger)
    assert relay.published("returned") == 1
    assert relay.published("confirmed") == 2
    async with listening(broker.url, UNROUTED) as listener:
        await until(lambda: len(listener.heard) == 1, "the message that came back")
    assert listener.heard[0].id == (await told_by_the_log(connection))[-1][0]


async def test_i14_no_later_message_of_a_notification_overtakes_one_that_was_refused(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    full = {"x_max_length": 0, "x_overflow": "reject-publish"}
    await bind(broker.url, "full", key="NotificationSent.#", **full)
    await led(ledger, [TAKEN, ReportKind.DELIVERED, ReportKind.OPENED], [TAKEN, ReportKind.DELIVERED])
    async with relay.running(), listening(broker.url, QUEUE) as listener:
        await until(lambda: relay.published("refused") >= 4, "refusals")
        assert {one.told["event"] for one in listener.heard} <= {"dispatched"}
        assert await position(connection, OUTBOX) < min(at for *_, at in await told_by_the_log(connection))
        broker.request("DELETE", f"queues/{quote(broker.vhost, safe='')}/full")
        assert await published_all(connection, ledger)
        await until(lambda: len(listener.ids) == 5, "every message")
    assert out_of_order(listener.heard) == []
    assert len({one.raw for one in listener.heard}) == 5, "what comes again must be the same to the byte"


async def test_i14_what_was_confirmed_beside_a_refused_message_is_not_published_again(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    await bind(broker.url, "full", key="NotificationFailed.#", x_max_length=0, x_overflow="reject-publish")
    await led(ledger, [Refused("MessageRejected")], *[[TAKEN]] * 5)
    async with relay.running(), listening(broker.url, QUEUE) as listener:
        await until(lambda: relay.published("refused") >= 3, "refusals")
        broker.request("DELETE", f"queues/{quote(broker.vhost, safe='')}/full")
        assert await published_all(connection, ledger)
        await until(lambda: len(listener.ids) == 6, "every message")
    came = Counter(one.body["messageType"] for one in listener.heard)
    assert came["NotificationSent"] == 5
    assert came["NotificationFailed"] > 1


async def test_i14_connections_cut_amid_messages_and_confirms_lose_nothing_and_turn_no_order_round(
    ledger: Ledger, broker: Broker, database: Database, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    address = urlsplit(broker.url)
    async with forwarding(address.hostname or "", address.port or 5672) as proxy:
        relay = Relay(through(proxy, broker.url), ledger, database=database, batch=20)
        async with relay.running(), listening(broker.url, QUEUE) as listener:
            for pattern, towards in (CUT_AT_PUBLISH, CUT_AT_CONFIRM) * 3:
                cut = proxy.trap(pattern, towards=towards, nth=2, forward=False)
                await led(ledger, *[[*ARRIVED, ReportKind.OPENED]] * 4)
                await asyncio.wait_for(cut.wait(), SOON.total_seconds())
            assert await published_all(connection, ledger)
            expected = {one for one, *_ in await told_by_the_log(connection)}
            await until(lambda: listener.ids == expected, "every message")
    assert out_of_order(listener.heard) == []


async def test_i13_a_broker_that_answers_nothing_holds_neither_the_lease_nor_the_database_and_all_goes_on_after(
    ledger: Ledger, broker: Broker, database: Database, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    address = urlsplit(broker.url)
    async with forwarding(address.hostname or "", address.port or 5672) as proxy:
        lease = timedelta(seconds=2)
        relay = Relay(through(proxy, broker.url), ledger, database=database, lease=lease)
        async with relay.running(), listening(broker.url, QUEUE) as listener:
            await led(ledger, [TAKEN])
            assert await published_all(connection, ledger)
            proxy.stall()
            await led(ledger, [TAKEN, ReportKind.DELIVERED])
            await until(lambda: relay.published("unconfirmed") >= 1, "the end of its patience")
            assert count(database.superuser_url, IN_TRANSACTION) == 0
            proxy.resume()
            assert await published_all(connection, ledger)
            await until(lambda: len(listener.ids) == 3, "every message")
    assert out_of_order(listener.heard) == []


async def test_i14_a_broker_that_cannot_confirm_parks_no_notification(
    ledger: Ledger, broker: Broker, database: Database, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    await led(ledger, *[ARRIVED] * 3)
    address = urlsplit(broker.url)
    async with forwarding(address.hostname or "", address.port or 5672) as proxy, listening(broker.url, QUEUE) as heard:
        relay = Relay(through(proxy, broker.url), ledger, database=database)
        with proxy.swapped(b"publisher_confirms", b"publisher_promises"), capture_logs() as logs:
            async with relay.running():
                why = {"error": "BrokerUnfitError", "reason": "the broker confirms no messages"}
                interrupted = {"event": "publishing_interrupted", "log_level": "warning", **why}
                await until(lambda: logs.count(interrupted) >= 2, "a second try")
        assert await parked(connection, OUTBOX) == []
        assert await position(connection, OUTBOX) < min(at for *_, at in await told_by_the_log(connection))
        async with Relay(broker.url, ledger, database=database).running():
            assert await published_all(connection, ledger)
        await until(lambda: len(heard.ids) == 6, "every message")
    assert await parked(connection, OUTBOX) == []


@pytest.mark.parametrize("nth", [pytest.param(1, id="as it is declared"), pytest.param(2, id="as it is asked for")])
async def test_a_queue_that_answers_nothing_does_not_stop_the_measuring(broker: Broker, relay: Relay, nth: int):
    address = urlsplit(broker.url)
    async with forwarding(address.hostname or "", address.port or 5672) as proxy:
        unanswered = proxy.trap(DECLARED, towards=Towards.CLIENT, nth=nth, forward=False, act=lambda: None)
        relay.publish.use_url(through(proxy, broker.url))
        watching = asyncio.create_task(relay.publish.watch_unrouted())
        relay.metrics.unrouted.set(-1)
        await asyncio.wait_for(unanswered.wait(), SOON.total_seconds())
        await until(lambda: relay.registry.get_sample_value("notification_outbox_unrouted") == 0, "the gauge")
        watching.cancel()
        await asyncio.wait([watching])
    assert watching.cancelled()


async def test_a_broker_that_answers_nothing_lets_the_measuring_be_stopped(broker: Broker, relay: Relay):
    address = urlsplit(broker.url)
    async with forwarding(address.hostname or "", address.port or 5672) as proxy:
        relay.metrics.unrouted.set(-1)
        relay.publish.use_url(through(proxy, broker.url))
        watching = asyncio.create_task(relay.publish.watch_unrouted())
        await until(lambda: relay.registry.get_sample_value("notification_outbox_unrouted") == 0, "the gauge")
        proxy.stall()
        watching.cancel()
        await asyncio.wait([watching])
    assert watching.cancelled()


async def test_i14_two_relays_at_once_publish_each_message_once(
    ledger: Ledger, broker: Broker, database: Database, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    one, other = (Relay(broker.url, ledger, database=database, batch=10) for _ in range(2))
    async with one.running(), other.running(), listening(broker.url, QUEUE) as listener:
        for _ in range(10):
            await led(ledger, *[ARRIVED] * 3)
        assert await published_all(connection, ledger)
        expected = [one for one, *_ in await told_by_the_log(connection)]
        await until(lambda: len(listener.heard) >= len(expected), "every message")
    assert Counter(one.id for one in listener.heard) == Counter(expected)
    assert 0 in {one.published("confirmed"), other.published("confirmed")}


async def test_i14_a_relay_that_lost_its_lease_publishes_nothing_of_the_batch_in_its_hand(
    ledger: Ledger, broker: Broker, database: Database, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    # So long a lease is not renewed meanwhile: at its fence stands the relay with its batch.
    relay = Relay(broker.url, ledger, database=database, lease=timedelta(minutes=5))
    async with (
        relay.running(),
        await psycopg.AsyncConnection.connect(database.superuser_url, autocommit=True) as superuser,
    ):
        await led(ledger, [TAKEN])
        assert await published_all(connection, ledger)
        async with superuser.transaction():
            # Another holds the place, and has not yet committed, when this one comes with what it has read.
            await superuser.execute("UPDATE ledger.follower SET owner = gen_random_uuid(), lease_until = 'infinity'")
            await led(ledger, [TAKEN])
            await until(lambda: count(database.superuser_url, WAITING) > 0, "the relay at its fence")
        await until(lambda: count(database.superuser_url, ASKING) > 0, "the relay without a lease")
        assert relay.published("confirmed") == 1
        await superuser.execute("UPDATE ledger.follower SET lease_until = '-infinity'")
        assert await published_all(connection, ledger)
    assert relay.published("confirmed") == 2


async def test_i14_what_is_published_again_from_the_start_keeps_its_ids(
    ledger: Ledger, broker: Broker, database: Database, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    await led(ledger, *[ARRIVED] * 4)
    async with listening(broker.url, QUEUE) as listener:
        for _ in range(2):
            async with Relay(broker.url, ledger, database=database).running():
                assert await published_all(connection, ledger)
            await connection.execute("UPDATE ledger.follower SET position = 0")
        await until(lambda: len(listener.heard) == 16, "every message twice")
    assert set(Counter(one.raw for one in listener.heard).values()) == {2}


async def test_a_notification_that_cannot_be_told_is_parked_and_no_other(
    ledger: Ledger, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    await bind(broker.url, QUEUE)
    await led(ledger, [TAKEN])
    # Without a first fact there is nothing that a message could say.
    poisoned = new_id()
    state = b'{"recorded_at":"2026-01-01T00:00:00Z","cause":"clock","by":"test"}'
    assert await ledger.store.append([Encoded(facts=[(poisoned, 1, "notification.expired", state)])]) == {}
    unread = new_id()
    assert await ledger.store.append([Encoded(facts=[*stored(unread, 1)])]) == {}
    await led(ledger, [TAKEN, ReportKind.DELIVERED])
    async with relay.running(), listening(broker.url, QUEUE) as listener:
        assert await published_all(connection, ledger)
        await until(lambda: len(listener.heard) == 3, "every other message")
    left_out: list[Parked] = await parked(connection, OUTBOX)
    assert [(one.stream, one.reason) for one in left_out] == [
        (poisoned, "notification.expired ValueError"),
        (unread, "notification.expired ValidationError"),
    ]
    assert {poisoned, unread} & set(versions(listener.heard)) == set()


async def test_how_far_the_outbox_is_behind_is_known_without_a_relay(
    ledger: Ledger, database: Database, broker: Broker, relay: Relay, connection: AsyncConnection[Any]
):
    async with relay.running():
        await led(ledger, [TAKEN])
        assert await published_all(connection, ledger)
    await led(ledger, [TAKEN], [TAKEN])
    registry = CollectorRegistry()
    gauges = Gauges(registry, ledger, set_aside_in(ledger.store), NotificationLog())
    await gauges.refresh()
    behind = await ledger.store.head() - await position(connection, OUTBOX)
    assert behind == 8
    assert registry.get_sample_value("notification_outbox_depth") == behind
    age = registry.get_sample_value("notification_outbox_age_seconds")
    assert age is not None
    assert 0 < age < 60


def test_the_ids_are_frozen():
    """Consumers recognise what they have by it: another derivation would repeat everything under new names."""
    stream = UUID("019ab5c0-0000-7000-8000-000000000001")
    assert str(message_id(stream, 5)) == "5676dd0b-9f3d-5753-9017-7222920e03f4"
