from pathlib import Path

import psycopg

from tests.acceptance.audit import count
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import until

WEEKS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'ledger.stored_events'::regclass"
LATEST = r"""
SELECT max(inhrelid::regclass::text) FROM pg_inherits
WHERE inhparent = 'ledger.stored_events'::regclass AND inhrelid::regclass::text ~ '\d{4}w\d\d$'
"""


async def test_weeks_that_are_missing_are_made_when_the_clock_starts_and_not_an_hour_later(
    database: Database, tmp_path: Path
):
    complete = count(database.url, WEEKS)
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        ((latest,),) = connection.execute(LATEST).fetchall()
        connection.execute(f"DROP TABLE {latest}".encode())
    async with processes.running(tmp_path, DATABASE_URL=database.url) as service:
        await service.start("maintain")
        await until(lambda: count(database.url, WEEKS) == complete, "the week")
        await service.stop_all()
