"""`verify`: whatever was changed behind the service's back is named, and nothing is said of what is as it was."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from ledger import agenda_audit, chain
from ledger.archive import Archive
from ledger.decision import Decision
from ledger.ids import notification_id, week_of
from ledger.ledger import Ledger
from ledger.store import Store
from ledger.values import Accepted, InDoubt, Outcome, Postponed, ReportKind
from ops.verify import Checked, verify
from projections.views import all_views
from tests.integration.ledger import lives
from tests.integration.ledger.parts import Connection, begun, now, rows, standing, stated, value
from tests.integration.old_weeks import folded
from tests.support import service as processes
from tests.support.postgres import Database

SOON = timedelta(seconds=60)
STEPS: tuple[list[Outcome | ReportKind], ...] = (
    [Accepted("ref"), ReportKind.DELIVERED],
    [Postponed("busy")],
    [InDoubt("reset")],
    [Accepted("ref"), ReportKind.BOUNCED],
    [],
)
TWO_WEEKS_AGO = now() - timedelta(weeks=2)
FACT = "FROM ledger.stored_events WHERE notification_id = %s"


@pytest.fixture
def superuser(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def streams(ledger: Ledger, database: Database) -> list[UUID]:
    """Notifications of many kinds of lives, in two weeks, sealed in several links, and folded to rows."""
    found = []
    for number in range(12):
        found.append((await lives.live(ledger, STEPS[number % len(STEPS)])).stream)
        if number % 5 == 0:
            await chain.extend(ledger.store)
            await ledger.append(begun(notification_id(TWO_WEEKS_AGO), at=TWO_WEEKS_AGO))
            await ledger.append(Decision(facts=(stated(standing()),)))
    await chain.extend(ledger.store)
    await folded(ledger, database)
    return found


async def _checked(store: Store) -> dict[str, Checked]:
    return {check.name: check for check in await verify(store, Archive(store, None), told=lambda _: None)}


async def _faults(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {name: check.faults for name, check in (await _checked(store)).items() if not check.is_right}


async def test_i10_i11_what_nobody_has_touched_is_right_and_every_fact_is_looked_at(
    ledger: Ledger, streams: list[UUID], application: Connection
):
    await lives.begin(ledger)
    checked = await _checked(ledger.store)
    assert {name: check.faults for name, check in checked.items() if check.faults} == {}
    facts = await value(application, "SELECT count(*) FROM ledger.stored_events")
    assert (checked["chain"].looked_at, checked["chain"].unsealed) == (facts - 1, 1)
    assert checked["agenda"].looked_at == checked["notification_log"].looked_at == len(streams) + 4
    assert sorted(checked["chain"].heads) == sorted([f"{now():%Gw%V}", f"{TWO_WEEKS_AGO:%Gw%V}", "standing"])


async def test_i10_one_byte_of_a_stored_fact_that_is_altered_is_named_and_every_week_stands_for_itself(
    ledger: Ledger, streams: list[UUID], superuser: psycopg.Connection
):
    query = "SELECT notification_id, originator_id, originator_version FROM ledger.stored_events ORDER BY 1"
    facts = superuser.execute(query).fetchall()
    for position, stream, version in (facts[0], facts[len(facts) // 2], facts[-1]):
        for flipped in (0, 1):
            # The second turn turns it back.
            change = "SET state = set_byte(state, 20, get_byte(state, 20) # 1)"
            superuser.execute(f"UPDATE ledger.stored_events {change} WHERE notification_id = %s", (position,))
            named = {
                "week": week_of(stream),
                "what": "altered",
                "position": position,
                "stream": stream,
                "version": version,
            }
            assert (await _checked(ledger.store))["chain"].faults == [named][flipped:]


async def test_i10_a_fact_that_was_deleted_added_or_moved_is_named(
    ledger: Ledger, streams: list[UUID], superuser: psycopg.Connection
):
    ((position,),) = superuser.execute(
        "SELECT notification_id FROM ledger.stored_events WHERE originator_id = %s AND originator_version = 2",
        (streams[5],),
    ).fetchall()
    place = {"week": f"{now():%Gw%V}", "position": position, "stream": streams[5], "version": 2}

    async def found() -> list[dict[str, Any]]:
        return (await _checked(ledger.store))["chain"].faults

    superuser.execute(f"CREATE TABLE public.kept AS SELECT * {FACT}", (position,))
    superuser.execute(f"DELETE {FACT}", (position,))
    assert await found() == [{**place, "what": "missing"}]
    superuser.execute("INSERT INTO ledger.stored_events SELECT * FROM public.kept")
    assert await found() == []

    superuser.execute("UPDATE public.kept SET originator_version = 99")
    superuser.execute("INSERT INTO ledger.stored_events SELECT * FROM public.kept")
    assert await found() == [{**place, "version": 99, "what": "added"}]
    superuser.execute("DELETE FROM ledger.stored_events WHERE originator_version = 99")

    # Behind the last link of its week, where other weeks have sealed facts: nothing may have come there.
    superuser.execute("UPDATE public.kept SET originator_id = %s", (notification_id(TWO_WEEKS_AGO),))
    superuser.execute(
        "UPDATE public.kept SET notification_id = (SELECT max(last) FROM ledger.chain WHERE week = %s) + 1",
        (f"{TWO_WEEKS_AGO:%Gw%V}",),
    )
    superuser.execute("INSERT INTO ledger.stored_events SELECT * FROM public.kept")
    ((fault,),) = [await found()]
    assert (fault["what"], fault["week"], fault["version"]) == ("added", f"{TWO_WEEKS_AGO:%Gw%V}", 99)


async def test_i10_a_link_that_was_changed_and_a_week_that_is_gone_are_named(
    ledger: Ledger, streams: list[UUID], superuser: psycopg.Connection
):
    week = f"{TWO_WEEKS_AGO:%Gw%V}"
    links = superuser.execute("SELECT last FROM ledger.chain WHERE week = %s ORDER BY last", (week,)).fetchall()
    (first,), (second,), (last,) = links
    superuser.execute("UPDATE ledger.chain SET hash = sha256('another') WHERE week = %s AND last = %s", (week, first))
    # The link itself, and the one that rests on it.
    named = [{"week": week, "what": "altered", "position": position} for position in (first, second)]
    assert (await _checked(ledger.store))["chain"].faults == named
    superuser.execute(f"DROP TABLE ledger.stored_events_{week}")
    assert (await _checked(ledger.store))["chain"].faults == [{"week": week, "what": "missing", "position": last}]


async def test_i10_what_is_sealed_while_a_week_is_read_is_no_fault(ledger: Ledger, application: Connection):
    await lives.begin(ledger)
    await chain.extend(ledger.store)
    end = await chain.end(application)
    await lives.begin(ledger)
    await chain.extend(ledger.store)
    assert [fault async for fault in chain.faults(application, f"{now():%Gw%V}", upto=end.position)] == []


async def test_i10_two_that_seal_at_once_seal_each_fact_once(ledger: Ledger, application: Connection):
    for _ in range(5):
        await asyncio.gather(lives.begin(ledger), *(chain.extend(ledger.store) for _ in range(4)))
    await chain.extend(ledger.store)
    assert await value(application, "SELECT sum(facts) FROM ledger.chain") == 5
    assert not await _faults(ledger.store)


async def test_i11_a_row_of_the_agenda_that_was_deleted_altered_or_made_up_is_named_and_set_right(
    ledger: Ledger, streams: list[UUID], application: Connection
):
    query = "SELECT notification, channel, lane, due_at, version FROM ledger.agenda ORDER BY notification"
    before = await rows(application, query)
    one, two, *_ = [row[0] for row in before]
    ended = next(stream for stream in streams if stream not in {row[0] for row in before})
    nobody = notification_id(now())
    await application.execute("DELETE FROM ledger.agenda WHERE notification = %s", (one,))
    await application.execute("UPDATE ledger.agenda SET due_at = now() WHERE notification = %s", (two,))
    for stream in (ended, nobody):
        await application.execute("INSERT INTO ledger.agenda VALUES (%s, 'email', 'normal', now(), 1)", (stream,))
    found = (await _faults(ledger.store))["agenda"]
    named = {fault["notification"]: fault["what"] for fault in found}
    assert named == {one: "missing", two: "wrong", ended: "needless", nobody: "needless"}
    assert await agenda_audit.rebuild(ledger.store) == 4
    assert await rows(application, query) == before
    assert not await _faults(ledger.store)


async def test_i11_the_agenda_is_made_anew_while_notifications_move_on(
    ledger: Ledger, streams: list[UUID], application: Connection
):
    await application.execute("DELETE FROM ledger.agenda")

    async def moving() -> None:
        for stream in streams:
            await lives.start(ledger, stream)

    await asyncio.gather(moving(), agenda_audit.rebuild(ledger.store))
    assert [found async for found in agenda_audit.differing(ledger.store)] == []


async def test_i11_the_command_sets_the_agenda_right_says_what_was_not_and_changes_nothing_in_a_dry_run(
    streams: list[UUID], application: Connection, superuser: psycopg.Connection, database: Database, tmp_path: Path
):
    query = "SELECT notification, channel, lane, due_at, version FROM ledger.agenda ORDER BY notification"
    before = await rows(application, query)
    lost, late, *_ = [row[0] for row in before]
    await application.execute("DELETE FROM ledger.agenda WHERE notification = %s", (lost,))
    await application.execute("UPDATE ledger.agenda SET due_at = now() WHERE notification = %s", (late,))
    altered = await rows(application, query)
    async with processes.running(tmp_path, DATABASE_URL=database.url) as service:

        async def said(*arguments: str) -> tuple[int, str]:
            process = service.launch("rebuild", "agenda", *arguments, program=processes.CLI)
            return await process.ended(), process.log()

        differing = f"agenda: 1 missing, 1 wrong ({len(streams) + 3} notifications)\n"
        assert await said("--dry-run") == (0, differing)
        assert await rows(application, query) == altered
        assert await said() == (0, differing)
        assert await rows(application, query) == before
        unreadable = "UPDATE ledger.stored_events SET topic = 'notification.invented' WHERE originator_id = %s"
        superuser.execute(unreadable, (lost,))
        await application.execute("DELETE FROM ledger.agenda")
        code, told = await said("--json")
        assert (code, json.loads(told)["unreadable"]) == (1, 1)
    assert await rows(application, query) == [row for row in before if row[0] != lost]


async def test_i11_a_row_of_the_list_that_was_altered_deleted_or_made_up_is_named(
    ledger: Ledger, streams: list[UUID], application: Connection
):
    one, two, three, four = streams[:4]
    table = "views.notification_log_v4"
    await application.execute(f"UPDATE {table} SET opens = opens + 1, cost = '[1]' WHERE notification = %s", (one,))
    await application.execute(f"DELETE FROM {table} WHERE notification = %s", (two,))
    await application.execute(
        f"UPDATE {table} SET notification = %s WHERE notification = %s", (notification_id(now()), three)
    )
    await application.execute(
        "UPDATE views.notification_log_status_v4 SET status = 'opened' WHERE notification = %s", (four,)
    )
    found = (await _faults(ledger.store))["notification_log"]
    named = {fault["notification"]: (fault["what"], fault.get("columns")) for fault in found}
    assert {stream: named.get(stream) for stream in streams[:4]} == {
        one: ("wrong", ("cost", "opens")),
        two: ("missing", None),
        three: ("missing", None),
        four: ("wrong", ("status",)),
    }
    assert [what for stream, what in named.items() if stream not in streams] == [("needless", None)]


async def test_what_is_not_right_ends_the_command_with_1_and_is_told_in_json(
    ledger: Ledger, streams: list[UUID], superuser: psycopg.Connection, database: Database, tmp_path: Path
):
    async with processes.running(tmp_path, DATABASE_URL=database.url) as service:
        process = service.launch("verify", program=processes.CLI)
        assert await process.ended() == 0
        assert "chain: ok (" in process.log()
        superuser.execute(
            "UPDATE ledger.stored_events SET state = state || ' ' WHERE originator_id = %s", (streams[3],)
        )
        process = service.launch("verify", "--json", program=processes.CLI)
        assert await process.ended() == 1
        said = process.log()
    checks = json.loads(said[said.index("[") :])
    assert [(check["name"], check["found"]) for check in checks] == [
        ("chain", 1),
        ("agenda", 0),
        *((view.name, 0) for view in all_views()),
        ("archive", 0),
    ]
    assert checks[0]["faults"][0]["stream"] == str(streams[3])
