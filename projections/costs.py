"""costs: what a day's attempts are estimated to cost, by channel, provider, country and kind; table, fold and question.

An attempt counts on the day (UTC) that it began, as for the caps of that day. For one that the provider has certainly
not taken nothing is paid: it is an attempt without units and without an amount. A doubt is paid: it may have been sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql

from ledger import arrays
from ledger.ids import week_of
from ledger.mapping import Recorded
from ledger.notification import AttemptFailed, AttemptStarted
from ledger.status import Evidence
from projections import grouping
from projections.lives import Life, News, lives, news_of

# With the week of its notifications: what is counted of an archived week can be told from what can be counted anew.
# An empty text stands for none.
_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS costs_v1 (
    day timestamptz NOT NULL,
    week text NOT NULL,
    channel text NOT NULL,
    provider text NOT NULL,
    country text NOT NULL,
    type text NOT NULL,
    category text NOT NULL,
    currency text NOT NULL,
    attempts bigint NOT NULL,
    not_taken bigint NOT NULL,
    units bigint NOT NULL,
    amount numeric NOT NULL,
    PRIMARY KEY (day, type, channel, provider, country, category, currency, week)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE OR REPLACE VIEW costs AS SELECT * FROM costs_v1;
"""
# Of these streams, those with an attempt that was not taken: a report may say that it was, after all.
_WITH_FAILURES = """
SELECT DISTINCT e.originator_id FROM unnest(%b) AS news (stream)
JOIN ledger.stored_events e ON e.originator_id = news.stream AND e.topic = 'notification.attempt_failed'
"""
_ADD = """
INSERT INTO costs_v1 AS c
    (day, week, channel, provider, country, type, category, currency, attempts, not_taken, units, amount)
SELECT * FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
ON CONFLICT (day, type, channel, provider, country, category, currency, week) DO UPDATE SET
    attempts = c.attempts + excluded.attempts, not_taken = c.not_taken + excluded.not_taken,
    units = c.units + excluded.units, amount = c.amount + excluded.amount
"""
_KEEP = "INSERT INTO costs_v1 SELECT * FROM views.costs_v1 WHERE week = %b"
_TYPES = (arrays.Times, *[arrays.Texts] * 7, *[arrays.Bigints] * 3, arrays.Numerics)
_PRICED = frozenset({AttemptStarted, AttemptFailed})

# The day, and the texts of its row in their order.
Cell = tuple[datetime, *tuple[str, ...]]


# ---------------------------------------------------------------------------------------------------------------
# The fold
# ---------------------------------------------------------------------------------------------------------------


class Costs:
    """The view (ledger.follower.View)."""

    name = "costs"
    version = 1

    async def create(self, connection: AsyncConnection[Any]) -> None:
        """Make the table unless it is there."""
        await connection.execute(_CREATE_TABLE, prepare=False)

    async def fold(self, connection: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        """Bring the sums up to date; BrokenStreamError when a notification's facts do not follow each other."""
        spent = Spent()
        for life, news in await lives(connection, await _priced(connection, news_of(facts))):
            spent.add(life, -1)
            for fact in news:
                life.take(fact)
            spent.add(life, 1)
        if rows := [(*cell, *sums) for cell, sums in spent.sums.items() if any(sums)]:
            columns = zip(_TYPES, zip(*rows, strict=True), strict=True)
            await connection.execute(_ADD, [column(values) for column, values in columns])

    async def keep(self, connection: AsyncConnection[Any], since: datetime, until: datetime) -> None:  # noqa: ARG002 - a week is known by its beginning
        """Copy the sums of a week's notifications from the table that serves (ledger.rebuilding.Lasting)."""
        await connection.execute(_KEEP, (f"{since:%Gw%V}",), binary=True)


async def _priced(connection: AsyncConnection[Any], news: Mapping[UUID, News]) -> dict[UUID, News]:
    """Return those of which the cost may have changed: most reports change none, and nothing is read again for them."""
    others = [stream for stream, its in news.items() if _PRICED.isdisjoint(map(type, its.facts))]
    if not others:
        return dict(news)
    found = await connection.execute(_WITH_FAILURES, (arrays.Uuids(others),), binary=True)
    without = set(others) - {stream for (stream,) in await found.fetchall()}
    return {stream: its for stream, its in news.items() if stream not in without}


class Spent:
    """Attempts, those of them that were not taken, and the units and amounts of the others, by cell."""

    def __init__(self) -> None:
        self.sums: defaultdict[Cell, list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal(0)])

    def add(self, life: Life, times: int) -> None:
        """Count the attempts of a notification: once, or (-1) take them back."""
        for attempt in life.attempts.values():
            asked, cost = life.request, attempt.cost
            day = attempt.started_at.replace(hour=0, minute=0, second=0, microsecond=0)
            sums = self.sums[
                day,
                week_of(life.stream),
                asked.channel.value,
                attempt.provider,
                (cost and cost.country) or "",
                asked.type,
                asked.category.value,
                cost.currency if cost else "",
            ]
            sums[0] += times
            if attempt.evidence is Evidence.REFUSED:
                sums[1] += times
            elif cost is not None:
                sums[2] += cost.units * times
                sums[3] += cost.amount * times


# ---------------------------------------------------------------------------------------------------------------
# The question
# ---------------------------------------------------------------------------------------------------------------

# So many sums are answered at most.
MOST = 10_000


class By(StrEnum):
    """What attempts are told apart by; all but the day can be filtered by, too."""

    DAY = "day"
    CHANNEL = "channel"
    PROVIDER = "provider"
    COUNTRY = "country"
    TYPE = "type"
    CATEGORY = "category"
    CURRENCY = "currency"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempts: begun on a day (UTC) that begins at `since` or later and before `until`, and what they are.

    `only` knows every name of By but the day. Currencies are always told apart, whether `by` names them or not.
    """

    since: datetime
    until: datetime
    by: tuple[By, ...] = ()
    only: Mapping[By, str] = {}


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """What attempts that have something in common cost; `day` is None when not asked for.

    `names` says what they have in common, by the words of By, None = there is none (a mail goes to no country).
    `currency` is None for attempts without an estimate. `not_taken` are those of the `attempts` that cost nothing, for
    the provider has certainly not taken them; `units` (segments of an SMS, else one each) and `amount` are of the rest.
    """

    day: datetime | None
    names: dict[str, str | None]
    currency: str | None
    attempts: int
    not_taken: int
    units: int
    amount: Decimal


class TooManySumsError(ValueError):
    """The answer would have more than MOST sums."""


_SUMS = sql.SQL("""
SELECT {by} sum(attempts)::bigint, sum(not_taken)::bigint, sum(units)::bigint, sum(amount)
FROM views.costs WHERE {conditions} {grouped} LIMIT {limit}
""")


async def costs(connection: AsyncConnection[Any], asked: Asked) -> list[Sum]:
    """Return what the attempts cost, a sum for each combination that there is, in the order of `by`.

    Raises TooManySumsError.
    """
    values = grouping.values(asked.since, asked.until, asked.only)
    if values is None:
        return []
    by = [name for name in asked.by if name is not By.CURRENCY] + [By.CURRENCY]
    query = _SUMS.format(
        by=grouping.each(sql.Identifier(name.value) for name in by),
        conditions=grouping.conditions("day", asked.only),
        grouped=grouping.grouped(len(by)),
        limit=grouping.placeholder("limit"),
    )
    found = await connection.execute(query, {**values, "limit": MOST + 1}, prepare=False, binary=True)
    rows = await found.fetchall()
    if len(rows) > MOST:
        raise TooManySumsError
    return [_sum(dict(zip(by, row[: len(by)], strict=True)), row[len(by) :]) for row in rows]


def _sum(key: Mapping[By, Any], sums: Iterable[Any]) -> Sum:
    attempts, not_taken, units, amount = sums
    names = {name.value: value or None for name, value in key.items() if name not in {By.DAY, By.CURRENCY}}
    return Sum(
        day=key.get(By.DAY),
        names=names,
        currency=key[By.CURRENCY] or None,
        attempts=attempts,
        not_taken=not_taken,
        units=units,
        amount=amount,
    )
