"""delivery_statistics: how many notifications of an hour became what, and how late; its tables, fold and question."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql

from ledger import arrays
from ledger import notification as n
from ledger.ids import made_at
from ledger.mapping import Recorded
from projections import grouping
from projections.durations import bucket_of, middle_of
from projections.lives import Life, lives, news_of

# A cell is an hour with what its notifications have in common; its id is a digest of that, so that what is counted of
# it is found by one narrow key. An empty text stands for none.
_CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS delivery_statistics_v1 (
    cell uuid PRIMARY KEY,
    hour timestamptz NOT NULL,
    channel text NOT NULL,
    type text NOT NULL,
    category text NOT NULL,
    template text NOT NULL,
    template_version text NOT NULL,
    provider text NOT NULL,
    status text NOT NULL,
    reason text NOT NULL,
    notifications bigint NOT NULL,
    attempted bigint NOT NULL,
    doubted bigint NOT NULL,
    dispatched bigint NOT NULL,
    delivered bigint NOT NULL,
    bounced bigint NOT NULL,
    opened bigint NOT NULL,
    clicked bigint NOT NULL,
    complained bigint NOT NULL,
    attempts bigint NOT NULL,
    opens bigint NOT NULL,
    clicks bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX IF NOT EXISTS delivery_statistics_v1_hour ON delivery_statistics_v1 (hour);
-- How many notifications of a cell took how long, by bucket (projections/durations.py).
CREATE TABLE IF NOT EXISTS delivery_statistics_latency_v1 (
    cell uuid NOT NULL,
    measure text NOT NULL,
    bucket integer NOT NULL,
    notifications bigint NOT NULL,
    PRIMARY KEY (cell, measure, bucket)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE OR REPLACE VIEW delivery_statistics AS SELECT * FROM delivery_statistics_v1;
CREATE OR REPLACE VIEW delivery_statistics_latency AS SELECT * FROM delivery_statistics_latency_v1;
"""


# ---------------------------------------------------------------------------------------------------------------
# The fold
# ---------------------------------------------------------------------------------------------------------------

TO_PROVIDER, TO_RECIPIENT = "to_provider", "to_recipient"
_TEXTS = ("channel", "type", "category", "template", "template_version", "provider", "status", "reason")
_SUMS = (
    "notifications",
    "attempted",
    "doubted",
    "dispatched",
    "delivered",
    "bounced",
    "opened",
    "clicked",
    "complained",
    "attempts",
    "opens",
    "clicks",
)
# The hour, and the texts in their order.
Cell = tuple[datetime, *tuple[str, ...]]


class DeliveryStatistics:
    """The view (ledger.follower.View)."""

    name = "delivery_statistics"
    version = 1

    async def create(self, connection: AsyncConnection[Any]) -> None:
        """Make the tables unless they are there."""
        await connection.execute(_CREATE_TABLES, prepare=False)

    async def fold(self, connection: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        """Bring the counts up to date; BrokenStreamError when a notification's facts do not follow each other."""
        changes = Counted()
        for life, news in await lives(connection, news_of(facts)):
            if life.requested is not None:
                changes.add(life, -1)
            for fact in news:
                life.take(fact)
            changes.add(life, 1)
        await _write(connection, changes)

    async def keep(self, connection: AsyncConnection[Any], since: datetime, until: datetime) -> None:
        """Copy the counts of some hours from the tables that serve (ledger.rebuilding.Lasting)."""
        for statement in (_KEEP, _KEEP_LATENCIES):
            await connection.execute(statement, (since, until), binary=True)


class Counted:
    """Numbers of notifications: sums by cell, and how many took how long, by cell, measure and bucket."""

    def __init__(self) -> None:
        self.sums: defaultdict[Cell, list[int]] = defaultdict(lambda: [0] * len(_SUMS))
        self.latencies: defaultdict[tuple[Cell, str, int], int] = defaultdict(int)

    def add(self, life: Life, times: int) -> None:
        """Count a notification as it stands: once, or (-1) take it back."""
        cell = _cell(life)
        sums = self.sums[cell]
        for index, number in enumerate(_numbers(life)):
            sums[index] += number * times
        for measure, took in _durations(life):
            self.latencies[cell, measure, bucket_of(took)] += times


def _cell(life: Life) -> Cell:
    asked = life.request
    hour = made_at(life.stream).replace(minute=0, second=0, microsecond=0)
    return (
        hour,
        asked.channel.value,
        asked.type,
        asked.category.value,
        asked.template,
        asked.template_version,
        life.provider,
        life.status.value,
        life.reason or "",
    )


def _numbers(life: Life) -> tuple[int, ...]:
    """Return the numbers of one notification, in the order of _SUMS."""
    told = life.told
    return (
        1,
        n.AttemptStarted in told,
        n.AttemptInDoubt in told,
        n.Dispatched in told,
        n.Delivered in told,
        n.Bounced in told or n.Rejected in told,
        n.Opened in told,
        n.Clicked in told,
        n.Complained in told,
        len(life.attempts),
        life.opens,
        life.clicks,
    )


def _durations(life: Life) -> Iterable[tuple[str, timedelta]]:
    """Yield what can be measured."""
    if life.started_at is not None:
        asked = life.request
        yield TO_PROVIDER, life.started_at - max(asked.recorded_at, asked.send_at or asked.recorded_at)
    if n.Delivered in life.told:
        times = [(one.delivered_at, one.dispatched_at) for one in life.attempts.values()]
        arrived = [(delivered, taken) for delivered, taken in times if delivered and taken]
        if arrived:
            delivered, taken = min(arrived)
            yield TO_RECIPIENT, delivered - taken


# ---------------------------------------------------------------------------------------------------------------
# Writing: sums are added to what is there, and what comes to nothing goes
# ---------------------------------------------------------------------------------------------------------------

_ADD = sql.SQL("""
INSERT INTO delivery_statistics_v1 AS s (cell, hour, {texts}, {sums})
SELECT * FROM unnest({given}) ON CONFLICT (cell) DO UPDATE SET {added}
""").format(
    texts=sql.SQL(", ").join(map(sql.Identifier, _TEXTS)),
    sums=sql.SQL(", ").join(map(sql.Identifier, _SUMS)),
    given=sql.SQL(", ").join(sql.SQL("%b") for _ in range(2 + len(_TEXTS) + len(_SUMS))),
    added=sql.SQL(", ").join(sql.SQL("{0} = s.{0} + excluded.{0}").format(sql.Identifier(name)) for name in _SUMS),
)
_ADD_LATENCIES = """
INSERT INTO delivery_statistics_latency_v1 AS l (cell, measure, bucket, notifications)
SELECT * FROM unnest(%b, %b, %b, %b)
ON CONFLICT (cell, measure, bucket) DO UPDATE SET notifications = l.notifications + excluded.notifications
"""
_EMPTY = "DELETE FROM delivery_statistics_v1 WHERE cell = ANY(%b) AND notifications = 0"
_EMPTY_LATENCIES = """
DELETE FROM delivery_statistics_latency_v1 l USING unnest(%b, %b, %b) AS less (cell, measure, bucket)
WHERE l.cell = less.cell AND l.measure = less.measure AND l.bucket = less.bucket AND l.notifications = 0
"""
_KEEP = "INSERT INTO delivery_statistics_v1 SELECT * FROM views.delivery_statistics_v1 WHERE hour >= %b AND hour < %b"
_KEEP_LATENCIES = """
INSERT INTO delivery_statistics_latency_v1 SELECT l.* FROM views.delivery_statistics_latency_v1 l
JOIN views.delivery_statistics_v1 s USING (cell) WHERE s.hour >= %b AND s.hour < %b
"""
_TYPES = (arrays.Uuids, arrays.Times, *[arrays.Texts] * len(_TEXTS), *[arrays.Bigints] * len(_SUMS))
_LATENCY_TYPES = (arrays.Uuids, arrays.Texts, arrays.Integers, arrays.Bigints)


async def _write(connection: AsyncConnection[Any], changes: Counted) -> None:
    sums = {cell: numbers for cell, numbers in changes.sums.items() if any(numbers)}
    latencies = {key: number for key, number in changes.latencies.items() if number}
    ids = {cell: _id_of(cell) for cell in {*sums, *(cell for cell, _, _ in latencies)}}
    if rows := [(ids[cell], *cell, *numbers) for cell, numbers in sums.items()]:
        await connection.execute(_ADD, _columns(rows, _TYPES))
    if less := [ids[cell] for cell, numbers in sums.items() if numbers[0] < 0]:
        await connection.execute(_EMPTY, (arrays.Uuids(less),))
    if rows := [(ids[cell], measure, bucket, number) for (cell, measure, bucket), number in latencies.items()]:
        await connection.execute(_ADD_LATENCIES, _columns(rows, _LATENCY_TYPES))
    if rows := [(ids[cell], measure, bucket) for (cell, measure, bucket), number in latencies.items() if number < 0]:
        await connection.execute(_EMPTY_LATENCIES, _columns(rows, _LATENCY_TYPES[:3]))


def _id_of(cell: Cell) -> UUID:
    digest = hashlib.blake2b("\0".join(map(str, cell)).encode(), digest_size=16)
    return UUID(bytes=digest.digest())


def _columns(rows: Sequence[tuple[Any, ...]], types: Sequence[type[arrays.Column]]) -> list[arrays.Column]:
    return [column(values) for column, values in zip(types, zip(*rows, strict=True), strict=True)]


# ---------------------------------------------------------------------------------------------------------------
# The question
# ---------------------------------------------------------------------------------------------------------------

# So many buckets are answered at most.
MOST = 10_000


class By(StrEnum):
    """What notifications are told apart by; all but the times can be filtered by, too."""

    HOUR = "hour"
    DAY = "day"
    CHANNEL = "channel"
    TYPE = "type"
    CATEGORY = "category"
    TEMPLATE = "template"
    TEMPLATE_VERSION = "template_version"
    PROVIDER = "provider"
    STATUS = "status"
    REASON = "reason"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which notifications: requested in an hour that begins at `since` or later and before `until`, and what they are.

    `only` knows every name of By but hour and day. `by` may be empty: then there is one bucket, of all.
    """

    since: datetime
    until: datetime
    by: tuple[By, ...] = ()
    only: Mapping[By, str] = {}


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long it took for so many notifications: half of them, 90 and 99 of 100 no longer than this, within 5 %."""

    notifications: int
    p50: timedelta
    p90: timedelta
    p99: timedelta


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What became of notifications that have something in common; `at` is their hour or day, None when not asked for.

    `names` says what they have in common, by the words of By, None = there is none (no provider was called yet).

    How they stand now, each in one of these: `under_way`, `in_doubt`, `suppressed`, `failed`, `expired`, `cancelled`,
    or (the rest of `requested`) sent. What has happened to them ever, each in any number of these: `attempted`,
    `doubted`, `dispatched`, `delivered`, `bounced`, `opened`, `clicked`, `complained`. `attempts`, `opens` and `clicks`
    count those themselves; of each attempt's opens and clicks the first 20 are known.

    `to_provider`: from when it was to be sent to its first attempt. `to_recipient`: from when a provider took it to its
    delivery. None where there is none to measure.
    """

    at: datetime | None
    names: dict[str, str | None]
    requested: int
    under_way: int
    in_doubt: int
    suppressed: int
    failed: int
    expired: int
    cancelled: int
    attempted: int
    doubted: int
    dispatched: int
    delivered: int
    bounced: int
    opened: int
    clicked: int
    complained: int
    attempts: int
    opens: int
    clicks: int
    to_provider: Latency | None
    to_recipient: Latency | None


class TooManyBucketsError(ValueError):
    """The answer would have more than MOST buckets."""


_COUNTS = sql.SQL("""
SELECT {by} sum(notifications)::bigint,
       coalesce(sum(notifications) FILTER (
           WHERE status IN ('requested', 'deferred', 'rendered', 'sending')), 0)::bigint,
       coalesce(sum(notifications) FILTER (WHERE status = 'in_doubt'), 0)::bigint,
       coalesce(sum(notifications) FILTER (WHERE status = 'suppressed'), 0)::bigint,
       coalesce(sum(notifications) FILTER (WHERE status = 'failed'), 0)::bigint,
       coalesce(sum(notifications) FILTER (WHERE status = 'expired'), 0)::bigint,
       coalesce(sum(notifications) FILTER (WHERE status = 'cancelled'), 0)::bigint,
       sum(attempted)::bigint, sum(doubted)::bigint, sum(dispatched)::bigint, sum(delivered)::bigint,
       sum(bounced)::bigint, sum(opened)::bigint, sum(clicked)::bigint, sum(complained)::bigint,
       sum(attempts)::bigint, sum(opens)::bigint, sum(clicks)::bigint
FROM views.delivery_statistics WHERE {conditions} {grouped} LIMIT {limit}
""")
# The smallest bucket by which so many of a hundred are reached.
_LATENCIES = sql.SQL("""
SELECT {names} measure, max(whole)::bigint, min(bucket) FILTER (WHERE reached >= 0.5 * whole),
       min(bucket) FILTER (WHERE reached >= 0.9 * whole), min(bucket) FILTER (WHERE reached >= 0.99 * whole)
FROM (
    SELECT {by} measure, bucket,
           sum(sum(l.notifications)) OVER (PARTITION BY {parts} measure ORDER BY bucket) AS reached,
           sum(sum(l.notifications)) OVER (PARTITION BY {parts} measure) AS whole
    FROM views.delivery_statistics JOIN views.delivery_statistics_latency l USING (cell)
    WHERE {conditions} GROUP BY {parts} measure, bucket
) AS cumulated GROUP BY {names} measure
""")
_TIMES = {By.HOUR: sql.SQL("hour"), By.DAY: sql.SQL("date_trunc('day', hour, 'UTC')")}
_Key = tuple[Any, ...]


async def statistics(connection: AsyncConnection[Any], asked: Asked) -> list[Bucket]:
    """Return what became of the notifications, a bucket for each combination that there is, in the order of `by`.

    Raises TooManyBucketsError.
    """
    values = grouping.values(asked.since, asked.until, asked.only)
    if values is None:
        return []
    # Planned for these very values: a day and a year are read in different ways.
    found = await connection.execute(_counts(asked), {**values, "limit": MOST + 1}, prepare=False, binary=True)
    counted = await found.fetchall()
    if len(counted) > MOST:
        raise TooManyBucketsError
    found = await connection.execute(_latencies(asked), values, prepare=False, binary=True)
    width = len(asked.by)
    measured = {(*row[:width], row[width]): _latency(*row[width + 1 :]) for row in await found.fetchall()}
    return [_bucket(asked.by, row[:width], counts=row[width:], measured=measured) for row in counted]


def _bucket(by: Sequence[By], key: _Key, *, counts: Iterable[int], measured: Mapping[_Key, Latency]) -> Bucket:
    named = dict(zip(by, key, strict=True))
    return Bucket(
        at=named.get(By.HOUR, named.get(By.DAY)),
        names={name.value: value or None for name, value in named.items() if name not in _TIMES},
        **dict(zip(_COUNTED, counts, strict=True)),
        to_provider=measured.get((*key, TO_PROVIDER)),
        to_recipient=measured.get((*key, TO_RECIPIENT)),
    )


def _latency(notifications: int, *buckets: int) -> Latency:
    p50, p90, p99 = map(middle_of, buckets)
    return Latency(notifications=notifications, p50=p50, p90=p90, p99=p99)


def _counts(asked: Asked) -> sql.Composed:
    return _COUNTS.format(
        by=grouping.each(map(_column, asked.by)),
        conditions=grouping.conditions("hour", asked.only),
        grouped=grouping.grouped(len(asked.by)),
        limit=grouping.placeholder("limit"),
    )


def _latencies(asked: Asked) -> sql.Composed:
    parts = [_column(name) for name in asked.by]
    names = [sql.Identifier(f"by_{number}") for number in range(len(parts))]
    return _LATENCIES.format(
        names=grouping.each(names),
        by=grouping.each(sql.SQL("{} AS {}").format(*pair) for pair in zip(parts, names, strict=True)),
        parts=grouping.each(parts),
        conditions=grouping.conditions("hour", asked.only),
    )


def _column(name: By) -> sql.Composable:
    return _TIMES.get(name, sql.Identifier(name.value))


_COUNTED = Bucket.__struct_fields__[2:-2]
