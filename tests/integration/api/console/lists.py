"""The lists that pages are made of, brought up to date once, as `project` would."""

from datetime import timedelta

from ledger.follower import Follower, View, caught_up
from tests.integration.api.conftest import Service
from tests.support.postgres import Database

SOON = timedelta(seconds=60)


async def bring_up_to_date(service: Service, database: Database, *views: View) -> None:
    """Fold everything that has happened into these views."""
    followers = [Follower(database.url, view, service.signals) for view in views]
    for follower in followers:
        follower.start()
    head = await service.ledger.store.head()
    async with service.ledger.store.connection() as connection:
        for view in views:
            assert await caught_up(connection, view, head, timeout=SOON)
    for follower in followers:
        await follower.stop()
