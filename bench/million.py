"""Views that hold a million notifications: a few thousand were really led, the others are copied from their rows."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from uuid import UUID, uuid4

import msgspec
import psycopg

from handlers.suppressions import list_by_hand
from ledger import notification as n
from ledger.decision import Decision, Intake, NewFact, SaidContent
from ledger.follower import Follower, caught_up, prepare
from ledger.ids import notification_id
from ledger.keys import Identity, KeyEncryption, Keys
from ledger.ledger import Ledger, Loaded
from ledger.signals import Signals
from ledger.store import Store, connect, make_pool
from ledger.suppression import Grounds, Reason
from ledger.values import (
    Accepted,
    Category,
    Channel,
    Content,
    Cost,
    DoubtPolicy,
    InDoubt,
    Lane,
    Mail,
    Outcome,
    Personal,
    PushMessage,
    Refused,
    Report,
    ReportKind,
    TextMessage,
    Wanted,
)
from projections.views import all_views
from tests.support.postgres import IDENTITY_KEY, KEY_ENCRYPTION_KEY, Database


class Person(msgspec.Struct, frozen=True):
    """Whom a caller may ask for: `share` of all notifications are theirs, and each carries the order and the ids."""

    user_id: str
    email: str
    phone: str
    order: str
    correlation_id: str
    share: float


# Of the ones who are told much and little, some were really led; everybody else has a handful of copies.
MANY = Person("u-many", "many@example.com", "+442071838750", "o-many", "c-many", 0.1)
FEW = Person("u-few", "few@example.com", "+442071838751", "o-few", "c-few", 0.00005)
# Copies lie before what was led, over so many days: within the weeks that a fresh database has.
DAYS = 30
_LED_AT_MOST = 3_000
_AT_ONCE = 100
_LISTED = 60


class Shape(msgspec.Struct, frozen=True):
    """A kind of notification and what becomes of it; of a thousand, so many are like it."""

    type: str
    channel: Channel
    category: Category
    steps: tuple[str, ...]
    weight: float


_SENT = ("attempt", "accepted")
_THERE = (*_SENT, "delivered")
_PROVIDERS = {Channel.EMAIL: "ses", Channel.SMS: "twilio", Channel.PUSH: "fcm"}
_PRICE = Decimal("0.0001")
_SAID: dict[Channel, Content] = {
    Channel.EMAIL: Mail(
        sender="Shop <shop@shop.example>",
        subject="Your order is on its way",
        html=f"<h1>Your order</h1>{'<p>It has left our warehouse and is on its way to you.</p>' * 50}",
        text="It has left our warehouse and is on its way to you.\n" * 50,
    ),
    Channel.SMS: TextMessage(sender="Shop", text="Your order is on its way."),
    Channel.PUSH: PushMessage(title="Your order", body="It is on its way."),
}
SHAPES = (
    Shape("order_shipped", Channel.EMAIL, Category.TRANSACTIONAL, _THERE, 300),
    Shape("order_shipped", Channel.EMAIL, Category.TRANSACTIONAL, (*_THERE, "opened"), 100),
    Shape("order_shipped", Channel.EMAIL, Category.TRANSACTIONAL, (*_THERE, "opened", "clicked"), 50),
    Shape("order_shipped", Channel.EMAIL, Category.TRANSACTIONAL, (*_SENT, "bounced"), 20),
    Shape("order_shipped", Channel.EMAIL, Category.TRANSACTIONAL, ("suppress",), 10),
    Shape("order_shipped", Channel.SMS, Category.TRANSACTIONAL, _THERE, 150),
    Shape("order_shipped", Channel.SMS, Category.TRANSACTIONAL, _SENT, 50),
    Shape("order_shipped", Channel.SMS, Category.TRANSACTIONAL, ("attempt", "refused"), 10),
    Shape("order_shipped", Channel.SMS, Category.TRANSACTIONAL, ("suppress",), 10),
    Shape("order_confirmed", Channel.EMAIL, Category.TRANSACTIONAL, _THERE, 100),
    Shape("order_confirmed", Channel.PUSH, Category.TRANSACTIONAL, (*_SENT, "opened"), 47),
    Shape("two_factor_code", Channel.SMS, Category.SECURITY, _THERE, 80),
    Shape("password_reset", Channel.EMAIL, Category.SECURITY, _SENT, 50),
    Shape("back_in_stock", Channel.EMAIL, Category.MARKETING, (*_SENT, "complained"), 10),
    Shape("back_in_stock", Channel.EMAIL, Category.MARKETING, ("cancel",), 10),
    Shape("low_stock", Channel.EMAIL, Category.OPERATIONAL, ("attempt", "in_doubt"), 1.9),
    Shape("account_locked", Channel.EMAIL, Category.SECURITY, (), 1),
    Shape("account_locked", Channel.EMAIL, Category.SECURITY, (*_THERE, "opened"), 0.1),
)

# What differs from copy to copy; the rest is that of the row of its shape.
_COPIES = """
CREATE TEMPORARY TABLE copies (
    shape integer, notification uuid, at timestamptz, user_id text, address_hash text, message_id text,
    correlation_id text, reference text, "order" text, template_version text
)
"""
_COPY = "COPY copies FROM STDIN"
_SHAPES = """
CREATE TEMPORARY TABLE shapes AS
SELECT shape, l.* FROM unnest(%(shapes)s::integer[], %(streams)s::uuid[]) AS s (shape, notification)
JOIN views.notification_log_v4 l USING (notification)
"""
_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'views'::regnamespace AND relkind = 'r'"
_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = 'views.notification_log_v4'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = 'views.notification_log_v4'::regclass AND NOT indisprimary
"""
_ROWS = """
INSERT INTO views.notification_log_v4 ({columns})
SELECT {values} FROM copies c JOIN shapes s USING (shape) ORDER BY c.notification
"""
_COPIED = {
    "notification": "c.notification",
    "created_at": "c.at",
    "user_id": "c.user_id",
    "address_hash": "c.address_hash",
    "message_id": "c.message_id",
    "correlation_id": "c.correlation_id",
    "references": "jsonb_build_object('order', c.\"order\")",
    "expires_at": "c.at + (s.expires_at - s.created_at)",
    "changed_at": "c.at + (s.changed_at - s.created_at)",
    "dispatched_at": "c.at + (s.dispatched_at - s.created_at)",
    "delivered_at": "c.at + (s.delivered_at - s.created_at)",
    "first_opened_at": "c.at + (s.first_opened_at - s.created_at)",
    "first_clicked_at": "c.at + (s.first_clicked_at - s.created_at)",
    "provider_message_id": "CASE WHEN s.provider_message_id IS NOT NULL THEN c.reference END",
    "template_version": "c.template_version",
}
_BESIDE = (
    "INSERT INTO views.notification_log_address_v4 SELECT address_hash, notification FROM copies ORDER BY 1, 2",
    """
    INSERT INTO views.notification_log_business_reference_v4 (name, value, notification)
    SELECT 'order', "order", notification FROM copies ORDER BY 2, 3
    """,
    """
    INSERT INTO views.notification_log_reference_v4
    SELECT c.reference, c.notification FROM copies c JOIN shapes s USING (shape)
    WHERE s.provider_message_id IS NOT NULL ORDER BY 1, 2
    """,
    """
    INSERT INTO views.notification_log_status_v4
    SELECT s.status, c.notification FROM copies c JOIN shapes s USING (shape) ORDER BY 1, 2
    """,
    """
    INSERT INTO views.delivery_statistics_v1
    SELECT md5(concat_ws('/', date_trunc('hour', c.at), shape, c.template_version))::uuid, date_trunc('hour', c.at),
           channel, type, category, template, c.template_version, coalesce(provider, ''), status, coalesce(reason, ''),
           count(*), count(*) FILTER (WHERE attempts > 0), 0, count(dispatched_at), count(delivered_at),
           count(*) FILTER (WHERE status = 'bounced'), count(first_opened_at), count(first_clicked_at),
           count(*) FILTER (WHERE status = 'complained'), sum(attempts), sum(opens), sum(clicks)
    FROM copies c JOIN shapes s USING (shape)
    GROUP BY shape, date_trunc('hour', c.at), channel, type, category, template, c.template_version, provider, status,
             reason
    """,
    """
    INSERT INTO views.delivery_statistics_latency_v1
    SELECT cell, measure, bucket, dispatched FROM views.delivery_statistics_v1,
           (VALUES ('to_provider', 40), ('to_recipient', 90)) AS m (measure, bucket)
    WHERE dispatched > 0 AND (measure = 'to_provider' OR delivered > 0) ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO views.costs_v1
        (day, week, channel, provider, country, type, category, currency, attempts, not_taken, units, amount)
    SELECT date_trunc('day', c.at, 'UTC') AS day, to_char(c.at AT TIME ZONE 'UTC', 'IYYY"w"IW'), channel, provider,
           CASE channel WHEN 'sms' THEN 'GB' ELSE '' END, type, category, 'USD', sum(attempts),
           count(*) FILTER (WHERE status = 'failed'), sum(attempts), 0.0001 * sum(attempts)
    FROM copies c JOIN shapes s USING (shape) WHERE attempts > 0
    GROUP BY 1, 2, channel, provider, type, category ON CONFLICT DO NOTHING
    """,
)


async def fill(database: Database, count: int) -> list[UUID]:
    """Make `count` notifications in a fresh database that nobody else works on; returns those that were really led.

    These have their facts, words and keys, and are the newest; they are of MANY and FEW by turns. Of the others there
    are rows in the lists alone, by the ids and the time of their own and else like one that was led. Every view has
    taken in all facts.
    """
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(make_pool(database.url, size=8))
        store = Store(database.url, pool)
        stack.push_async_callback(store.aclose)
        signals = Signals(database.url)
        signals.start()
        stack.push_async_callback(signals.stop)
        ledger = Ledger(store, Keys(KeyEncryption([KEY_ENCRYPTION_KEY])), Identity(IDENTITY_KEY), signals)
        await ledger.start()
        stack.push_async_callback(ledger.stop)
        led = await _lead(ledger, min(max(len(SHAPES), count // 100), _LED_AT_MOST))
        await _list_some(ledger)
        await _fold(database, signals, await store.head())
    await asyncio.to_thread(_copy, database, led, count - len(led))
    return led


async def _lead(ledger: Ledger, count: int) -> list[UUID]:
    led: list[UUID] = []
    for start in range(0, count, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, count))
        led += await asyncio.gather(*(_led(ledger, number, SHAPES[number % len(SHAPES)]) for number in numbers))
    return led


async def _led(ledger: Ledger, number: int, shape: Shape) -> UUID:
    """Lead one notification through the ledger, as the roles do."""
    # The last ones of their shape are of the one who is told little.
    person = FEW if number < len(SHAPES) else MANY
    now = ledger.clock.now()
    stream, key = notification_id(now), ledger.identity.intake_key("message", "OrderService", f"m-led-{number}")
    origin = n.Origin(now=now, cause=f"intake:{key.hex()}", by="bench")
    address = person.email if shape.channel is Channel.EMAIL else person.phone
    source = n.Source(source="OrderService", message_id=f"m-led-{number}", correlation_id=person.correlation_id)
    (requested,) = n.request(
        _wanted(shape, person, address),
        source,
        origin,
        recipient=f"user:{person.user_id}",
        address_hash=ledger.identity.address_hash(address),
    )
    fact = NewFact(stream, 1, requested)
    await ledger.append(Decision(facts=(fact,), intake=Intake(key, sha256(key).digest())))
    for step in shape.steps:
        await ledger.change(stream, lambda loaded, at, step=step: _decided(loaded, at, step))  # type: ignore[misc]
    return stream


def _wanted(shape: Shape, person: Person, address: str) -> Wanted:
    return Wanted(
        type=shape.type,
        channel=shape.channel,
        category=shape.category,
        lane=Lane.NORMAL,
        recipient=person.user_id,
        personal=Personal(address=address, name="Ada Lovelace", data={"orderId": person.order}),
        locale="en",
        template=shape.type,
        template_version="1" * 16,
        catalogue="c" * 16,
        doubt=DoubtPolicy.HOLD,
        expires_after=timedelta(days=2),
        references={"order": person.order},
    )


def _decided(loaded: Loaded, now: datetime, step: str) -> Decision:
    state, origin = loaded.state, n.Origin(now=now, cause="bench", by="bench")
    if step == "attempt":
        return _attempted(loaded, now)
    if step == "suppress":
        return Decision(facts=loaded.next(n.suppress(state, ("suppressed_address", "1", {}), origin)))
    if step == "cancel":
        return Decision(facts=loaded.next(n.cancel(state, "it was a test", origin)))
    attempt = state.attempts[-1].id
    outcomes: dict[str, Outcome] = {
        "accepted": Accepted(f"ref-{attempt}"),
        "refused": Refused("invalid_address"),
        "in_doubt": InDoubt("timeout"),
    }
    if step in outcomes:
        return Decision(facts=loaded.next(n.settle(state, attempt, outcomes[step], origin, retry_at=now)))
    told = Report(provider="ses", reference=f"ref-{attempt}", kind=ReportKind(step), key=uuid4().hex, occurred_at=now)
    return Decision(facts=loaded.next(n.report(state, attempt, told, origin)))


def _attempted(loaded: Loaded, now: datetime) -> Decision:
    requested, said = loaded.state.requested, _SAID[loaded.state.requested.channel]
    intent = n.Intent(
        attempt=uuid4(),
        provider=_PROVIDERS[requested.channel],
        address_hash=requested.address_hash or "",
        digest=said.digest(),
        template_version=requested.template_version,
        locale="en",
        deadline_at=now + timedelta(seconds=30),
        cost=Cost(amount=_PRICE, currency="USD", units=1),
    )
    facts = n.start_attempt(loaded.state, intent, n.Origin(now=now, cause="agenda", by="bench"))
    if loaded.key is None:
        return Decision(facts=loaded.next(facts))
    content = SaidContent(requested.retention, loaded.stream, said.digest(), msgspec.json.encode(said), loaded.key)
    return Decision(facts=loaded.next(facts), contents=(content,))


async def _list_some(ledger: Ledger) -> None:
    """Have some addresses on the suppression list, that of FEW among them."""
    grounds = Grounds(reason=Reason.MANUAL, note="asked for by letter")
    for address in (FEW.email, *(f"listed-{number}@example.com" for number in range(_LISTED))):
        await list_by_hand(ledger, Channel.EMAIL, address, grounds, by="bench")


async def _fold(database: Database, signals: Signals, head: int) -> None:
    """Let every view take in the facts up to a position."""
    for view in all_views():
        follower = Follower(database.url, view, signals)
        async with await connect(database.url) as connection:
            await prepare(connection, view)
            follower.start()
            if not await caught_up(connection, view, head, timeout=timedelta(minutes=5)):
                raise TimeoutError(f"{view.name} has not caught up")
        await follower.stop()


def _copy(database: Database, led: list[UUID], count: int) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(_COPIES)
        with connection.cursor().copy(_COPY) as copy:
            for line in _lines(count, datetime.now(UTC) - timedelta(hours=1)):
                copy.write(line)
        shapes = range(len(SHAPES))
        connection.execute(_SHAPES, {"shapes": list(shapes), "streams": led[: len(SHAPES)]})
        connection.execute("ANALYZE copies, shapes")
        names = [name for (name,) in connection.execute(_COLUMNS).fetchall()]
        values = ", ".join(_COPIED.get(name, f's."{name}"') for name in names)
        columns = ", ".join(f'"{name}"' for name in names)
        # To sort a million once for each index is faster than to find each its place.
        indexes = connection.execute(_INDEXES).fetchall()
        connection.execute("SET maintenance_work_mem = '256MB'")
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}".encode())
        connection.execute(_ROWS.format(columns=columns, values=values).encode())
        for _, definition in indexes:
            connection.execute(definition.encode())
        for statement in _BESIDE:
            connection.execute(statement.encode())
        for (table,) in connection.execute(_TABLES).fetchall():
            connection.execute(f"VACUUM (ANALYZE) views.{table}".encode())


def _lines(count: int, newest: datetime) -> Iterator[str]:
    """Yield the copies as lines of COPY, the oldest first: every run the same but for the time."""
    draw, identity = random.Random(5), Identity(IDENTITY_KEY)
    weights = [shape.weight for shape in SHAPES]
    hashes = {
        (person.user_id, channel): identity.address_hash(person.email if channel is Channel.EMAIL else person.phone)
        for person in (MANY, FEW)
        for channel in Channel
    }
    first, step = newest - timedelta(days=DAYS), timedelta(days=DAYS) / max(count, 1)
    for number, shape in enumerate(draw.choices(range(len(SHAPES)), weights, k=count)):
        at = first + number * step
        stream = UUID(int=int(at.timestamp() * 1000) << 80 | 0x7000 << 64 | 2 << 62 | draw.getrandbits(62))
        lot = draw.random()
        person = MANY if lot < MANY.share else FEW if lot > 1 - FEW.share else None
        other = draw.randrange(max(1, count // 5))
        address = hashes[person.user_id, SHAPES[shape].channel] if person else f"{other:032x}"
        user, order, correlation = (
            (person.user_id, person.order, person.correlation_id)
            if person
            else (f"u-{other}", f"o-{number // 2}", f"c-{number // 3}")
        )
        version = "2" * 16 if number > count - count // 1000 else "1" * 16
        yield (
            f"{shape}\t{stream}\t{at.isoformat()}\t{user}\t{address}\tm-{number // 2}\t{correlation}\tref-{number}\t"
            f"{order}\t{version}\n"
        )
