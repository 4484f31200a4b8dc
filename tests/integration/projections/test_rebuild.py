from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from ledger.follower import prepare
from ledger.ledger import Ledger
from projections import notification_log_upkeep as upkeep
from projections.notification_log import NotificationLog
from tests.docs.pages import DOCS, blocks
from tests.integration import old_weeks as long_ago
from tests.integration.ledger.parts import rows, value
from tests.support.postgres import Database

(REBUILD,) = (block.text for block in blocks(DOCS / "how-to" / "rebuild.md") if block.words == ("sql",))
SHOWN = "SELECT notification, status, version, cost FROM views.notification_log ORDER BY notification"
ADDRESSED = "SELECT * FROM views.notification_log_address ORDER BY 1, 2"
OLD_ONES = "SELECT count(*) FROM pg_class WHERE relnamespace = 'views'::regnamespace AND relname ~ '_v3$'"


async def test_i12_lists_are_made_anew_as_the_page_says_and_shown_as_they_were_until_then(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    await long_ago.lived(ledger, long_ago.weeks_ago(0), 5)
    await long_ago.folded(ledger, database)
    right, addressed = await rows(connection, SHOWN), await rows(connection, ADDRESSED)
    assert len(right) == len(addressed) == 5
    for _ in range(2):
        await connection.execute("UPDATE views.notification_log SET status = 'wrong'")
        wrong = await rows(connection, SHOWN)
        await connection.execute(REBUILD.encode(), prepare=False)
        await prepare(connection, NotificationLog())
        assert await rows(connection, SHOWN) == wrong
        assert await rows(connection, ADDRESSED) == addressed
        await long_ago.folded(ledger, database)
        assert await rows(connection, SHOWN) == right
        assert await rows(connection, ADDRESSED) == addressed
        await upkeep.drop_old_versions(connection)
        assert await value(connection, OLD_ONES) == 0


async def test_a_second_rebuild_before_the_old_tables_are_gone_changes_nothing(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    await long_ago.lived(ledger, long_ago.weeks_ago(0), 1)
    await connection.execute(REBUILD.encode(), prepare=False)
    await long_ago.folded(ledger, database)
    right = await rows(connection, SHOWN)
    with pytest.raises(psycopg.errors.DuplicateTable):
        await connection.execute(REBUILD.encode(), prepare=False)
    await connection.rollback()
    assert await rows(connection, SHOWN) == right
    assert await value(connection, "SELECT count(*) FROM ledger.follower WHERE name = 'notification_log'") == 1
