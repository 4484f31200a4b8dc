"""Weeks of long ago with everything in them, made as the service would have made them then."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

from ledger import chain
from ledger.follower import Follower, caught_up
from ledger.ids import begins_at, notification_id, week_of
from ledger.ledger import Ledger
from ledger.signals import Signals
from projections.notification_log import NotificationLog
from tests.integration.projections.lives import Life, write
from tests.support.postgres import Database

SOON = timedelta(seconds=60)
# The steps of a whole life; nothing of it is due any more.
ENDED = ("attempt", "accepted", "delivered", "opened")


def weeks_ago(count: int) -> datetime:
    """The middle of a week so long ago."""
    return begins_at(week_of(notification_id(datetime.now(UTC)))) - timedelta(weeks=count) + timedelta(days=3)


def make_weeks(database: Database, *, back: int = 30) -> None:
    """Make the partitions of weeks that the service would have made then, none of their content dropped."""
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("DELETE FROM ledger.dropped_content")
        for parent in ("stored_events", "content_standard", "content_security", "content_marketing"):
            connection.execute("SELECT ledger.make_weeks_of(%s, %s, 0)", (parent, back))


def drop_contents(database: Database, week: str) -> None:
    """Drop the content of a week, as its retention would have."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        for retention in ("standard", "security", "marketing"):
            connection.execute("SELECT ledger.drop_content(%s, %s)", (retention, week))


async def lived(ledger: Ledger, moment: datetime, count: int, *, steps: Sequence[str] = ENDED) -> list[Life]:
    """Notifications that began at a moment and lived since, sealed."""
    lives = [Life(moment + timedelta(milliseconds=number)).live(*steps) for number in range(count)]
    for start in range(0, count, 200):
        await write(ledger.store, *(life.encoded() for life in lives[start : start + 200]))
    await chain.extend(ledger.store)
    return lives


async def folded(ledger: Ledger, database: Database) -> None:
    """Let the view come as far as the log."""
    follower = Follower(database.url, NotificationLog(), Signals(database.url))
    follower.start()
    async with ledger.store.connection() as connection:
        assert await caught_up(connection, NotificationLog(), await ledger.store.head(), timeout=SOON)
    await follower.stop()


def ids(lives: Sequence[Life]) -> list[UUID]:
    return [life.stream for life in lives]
