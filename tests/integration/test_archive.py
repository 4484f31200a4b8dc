"""Old weeks leave the database for the archive: nothing is lost on the way, and what is there still answers."""

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
import zstandard
from prometheus_client import CollectorRegistry

from handlers.archive import Archiving
from handlers.metrics import Metrics
from ledger import chain, old_weeks
from ledger.archive import Archive, Manifest
from ledger.errors import ArchiveUnavailableError, KeptError, UnavailableError
from ledger.keys import KeyEncryption
from ledger.ledger import Ledger
from ledger.store import Encoded, Row, Store, connect
from ops.jobs import archiving_of
from ops.migrations import migrate
from ops.settings import load
from ops.verify import Checked, _chain, verify
from providers.directory import Directory
from tests.integration import old_weeks as long_ago
from tests.integration.ledger.parts import Connection, value
from tests.integration.old_weeks import ids, weeks_ago
from tests.integration.projections.lives import Life, write
from tests.support import service as processes
from tests.support.archiver import FACTS_OF_PART
from tests.support.postgres import INSTALLATION, KEY_ENCRYPTION_KEY, Database

OLD = weeks_ago(20)
WEEK, YOUNG = f"{OLD:%Gw%V}", f"{weeks_ago(3):%Gw%V}"
LIVES = 40
TABLE = f"ledger.stored_events_{WEEK}"


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """A service with a week that nothing keeps in its database: `lives` are what it holds."""

    archiving: Archiving
    archive: Archive
    store: Store
    ledger: Ledger
    database: Database
    lives: list[Life]
    folder: Path

    async def facts(self) -> dict[UUID, list[tuple[Any, ...]]]:
        return {stream: facts(await self.archive.facts(stream)) for stream in ids(self.lives)}

    async def in_database(self) -> bool:
        return await self.store.load(ids(self.lives)) != []

    async def kept_by(self, week: str = WEEK) -> list[str]:
        return next(reasons for one, reasons in [each async for each in self.archiving.plan()] if one.name == week)

    async def copied(self, week: str = WEEK) -> Manifest:
        return await self.archiving._copy(await old_weeks.stands(self.store, week))

    async def faults(self) -> dict[str, list[dict[str, Any]]]:
        checked = await verify(self.store, self.archive, told=lambda _: None)
        return {check.name: check.faults for check in checked if check.faults}


@pytest.fixture
async def old(ledger: Ledger, database: Database, tmp_path: Path) -> Old:
    """The whole lives of a week that nothing keeps, beside some of this week."""
    long_ago.make_weeks(database)
    lives = await long_ago.lived(ledger, OLD, LIVES)
    await long_ago.lived(ledger, weeks_ago(0), 3)
    await long_ago.folded(ledger, database)
    long_ago.drop_contents(database, WEEK)
    archive = Archive(ledger.store, Directory(tmp_path))
    return Old(
        archiving=archiving_of(load({}, dotenv=None), ledger.store, archive, Metrics(CollectorRegistry())),
        archive=archive,
        store=ledger.store,
        ledger=ledger,
        database=database,
        lives=lives,
        folder=tmp_path,
    )


def facts(found: list[Row]) -> list[tuple[Any, ...]]:
    return [(row.stream, row.version, row.topic, row.state, row.position) for row in found]


async def test_i10_a_week_that_nothing_keeps_leaves_the_database_and_each_of_its_facts_is_read_as_it_was(
    old: Old, application: Connection
):
    before = await old.facts()
    (manifest,) = await old.archiving.archive()
    assert (manifest.week, manifest.facts) == (WEEK, sum(len(life.facts) for life in old.lives))
    assert not await old.in_database()
    assert await old.facts() == before
    assert await old.archive.facts(Life(OLD).stream) == []
    assert await value(application, "SELECT to_regclass(%s)", TABLE) is None
    for table in ("log", "log_status", "log_reference", "log_address"):
        assert await value(application, f"SELECT count(DISTINCT notification) FROM views.notification_{table}") == 3
    assert await old.faults() == {}
    assert await old.archiving.archive() == []
    # The chains of the other weeks go on where they were.
    await long_ago.lived(old.ledger, weeks_ago(0), 1)
    await chain.extend(old.store)
    assert await old.faults() == {}


async def test_an_archived_fact_is_a_line_of_json_with_the_bytes_that_were_stored(old: Old):
    state = (await old.archive.facts(old.lives[0].stream))[0].state
    (manifest,) = await old.archiving.archive()
    told = json.loads((old.folder / manifest.name).read_bytes())
    assert {*told} == {"week", "release", "facts", "first_position", "last_position", "chain", "parts"}
    lines = zstandard.decompress((old.folder / manifest.parts[0].name).read_bytes()).splitlines()
    assert state in lines[0]
    first = json.loads(lines[0])
    assert (first["stream"], first["version"], first["topic"]) == (
        str(old.lives[0].stream),
        1,
        "notification.requested",
    )


async def test_what_keeps_a_week_is_named_and_the_database_refuses_for_the_same_reason(
    old: Old, application: Connection
):
    manifest = await old.copied()

    async def keeps(reason: str, refusal: str) -> None:
        assert await old.kept_by() == [reason]
        assert await old.archiving.archive() == []
        with pytest.raises(KeptError, match=refusal):
            await old_weeks.drop_week(old.store, manifest)

    due = "INSERT INTO ledger.agenda VALUES (%s, 'email', 'normal', 'infinity', 1)"
    await application.execute(due, (old.lives[0].stream,))
    await keeps("1 of its notifications are still due", "still due")
    await application.execute("DELETE FROM ledger.agenda")

    long_ago.make_weeks(old.database)
    await keeps("content is still kept (marketing, security, standard)", "still kept")
    long_ago.drop_contents(old.database, WEEK)

    await application.execute("INSERT INTO ledger.follower (name, version, position) VALUES ('other', 1, 3)")
    await keeps("a reader of the log has not come so far", "has not come so far")
    await application.execute("DELETE FROM ledger.follower WHERE name = 'other'")

    # A report that comes late, after the copy was made.
    await write(old.store, old.lives[0].live("clicked").encoded(len(old.lives[0].facts) - 1))
    await long_ago.folded(old.ledger, old.database)
    await keeps("its newest facts are not sealed", "not of the facts that are stored")
    await chain.extend(old.store)
    with pytest.raises(KeptError, match="not of the facts that are stored"):
        await old_weeks.drop_week(old.store, manifest)
    assert [one.facts for one in await old.archiving.archive()] == [manifest.facts + 1]


async def test_the_database_drops_no_week_that_is_young_unknown_or_not_a_week(old: Old):
    await long_ago.lived(old.ledger, weeks_ago(3), 2)
    await long_ago.folded(old.ledger, old.database)
    long_ago.drop_contents(old.database, YOUNG)
    assert await old.kept_by(YOUNG) == ["it is not over for 91 days"]
    young = await old.copied(YOUNG)
    with pytest.raises(KeptError, match="not over for 91 days"):
        await old_weeks.drop_week(old.store, young)
    for name in ("standing", "2001w01", "2026w99", "x; DROP TABLE ledger.chain"):
        unknown = Manifest(week=name, release="", facts=0, first_position=0, last_position=0, chain="", parts=())
        with pytest.raises(KeptError, match="no such week"):
            await old_weeks.drop_week(old.store, unknown)


async def test_i10_a_week_that_is_not_what_was_sealed_does_not_go_into_the_archive_and_keeps_no_other(old: Old):
    younger = await long_ago.lived(old.ledger, weeks_ago(16), 2)
    await long_ago.folded(old.ledger, old.database)
    long_ago.drop_contents(old.database, f"{weeks_ago(16):%Gw%V}")
    with psycopg.connect(old.database.superuser_url, autocommit=True) as connection:
        altered = f"UPDATE {TABLE} SET state = %s WHERE originator_id = %s AND originator_version = 2"
        connection.execute(altered, (b"{}", old.lives[7].stream))
    with pytest.raises(KeptError, match="not those that were sealed"):
        await old.archiving.archive()
    assert await old.in_database()
    assert await old.store.load(ids(younger)) == []


@pytest.mark.parametrize("change", [(b"opened", b"0pened"), (b'"position":1', b'"position":9')])
async def test_i10_verify_compares_each_archived_fact_with_what_was_sealed_whoever_wrote_the_archive(
    old: Old, change: tuple[bytes, bytes]
):
    """Who may write the archive, and the row that names the manifest, leaves files that are whole."""
    (manifest,) = await old.archiving.archive()
    assert await old.faults() == {}
    part, *others = manifest.parts
    body = zstandard.decompress((old.folder / part.name).read_bytes()).replace(*change, 1)
    other = zstandard.compress(body)
    forged = msgspec.structs.replace(part, name=f"{WEEK}/{hashlib.sha256(other).hexdigest()}.jsonl.zst")
    told = msgspec.structs.replace(manifest, parts=(forged, *others))
    await Directory(old.folder).put(forged.name, other)
    await Directory(old.folder).put(told.name, told.encoded)
    with psycopg.connect(old.database.superuser_url, autocommit=True) as connection:
        connection.execute("UPDATE ledger.archived_week SET manifest = %s", (told.name,))
    assert (await old.faults())["archive"] == [
        {"week": WEEK, "name": told.name, "what": "not of the facts that were sealed"}
    ]


@pytest.fixture
def archivist(database: Database) -> Iterator[str]:
    """A login that may do nothing until `migrate` is told of it."""
    role = f"archivist_{uuid4().hex}"
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'third'")
        yield role
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


async def test_i10_where_another_login_drops_weeks_the_applications_own_drops_none(
    old: Old, archivist: str, application: Connection
):
    before = await old.facts()
    await migrate(
        old.database.owner_url,
        application_role="ledger_app",
        archive_role=archivist,
        installation=INSTALLATION,
        keys=KeyEncryption([KEY_ENCRYPTION_KEY]),
    )
    with pytest.raises(KeptError, match="only that of ARCHIVE_DATABASE_URL may"):
        await old.archiving.archive()
    assert await old.in_database()
    url = urlsplit(old.database.url)
    login = url._replace(netloc=f"{archivist}:third@{url.hostname}:{url.port}").geturl()
    settings = load({"ARCHIVE_DATABASE_URL": login}, dotenv=None)
    archiving = archiving_of(settings, old.store, old.archive, Metrics(CollectorRegistry()))
    # A reader of the table keeps it waiting a moment, as it keeps the application.
    await application.execute("BEGIN")
    await application.execute("SELECT FROM ledger.stored_events LIMIT 1")
    with pytest.raises(UnavailableError):
        await old_weeks.drop_week(old.store, await old.copied(), lend=archiving._lend)
    await application.execute("ROLLBACK")
    assert [manifest.week for manifest in await archiving.archive()] == [WEEK]
    assert await old.facts() == before
    async with await connect(login) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("SELECT FROM ledger.stored_events")


async def test_verify_calls_nothing_missing_that_went_to_the_archive_while_it_was_at_another_week(old: Old):
    gone = f"{weeks_ago(21):%Gw%V}"
    await long_ago.lived(old.ledger, weeks_ago(21), 2)
    await long_ago.folded(old.ledger, old.database)
    with psycopg.connect(old.database.superuser_url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE ledger.stored_events_{gone}")
    named = []
    async for fault in _chain(old.store, old.archive, Checked("chain", "facts"), lambda _: None):
        named.append((fault["week"], fault["what"]))
        await old.archiving.archive(only=WEEK)
    assert named == [(gone, "missing")]
    assert not await old.in_database()


class Forgetful(Directory):
    """A place that loses the end of each file."""

    async def put(self, name: str, body: bytes) -> None:
        await super().put(name, body[:-1])


async def test_i10_nothing_is_dropped_when_the_archive_does_not_give_back_what_was_written(old: Old):
    lossy = Archive(old.store, Forgetful(old.folder))
    archiving = archiving_of(load({}, dotenv=None), old.store, lossy, Metrics(CollectorRegistry()))
    with pytest.raises(ArchiveUnavailableError, match="not what was written"):
        await archiving.archive()
    assert await old.in_database()


async def test_an_archive_that_is_damaged_answers_nothing_wrong_and_verify_names_the_file(old: Old):
    (manifest,) = await old.archiving.archive()
    file = old.folder / manifest.parts[0].name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArchiveUnavailableError, match="not what was written"):
        await old.archive.facts(old.lives[0].stream)
    (fault,) = (await old.faults())["archive"]
    assert (fault["week"], fault["name"]) == (WEEK, manifest.parts[0].name)
    file.unlink()
    with pytest.raises(ArchiveUnavailableError, match="missing"):
        await old.archive.facts(old.lives[0].stream)
    (old.folder / manifest.name).unlink()
    assert [fault["name"] for fault in (await old.faults())["archive"]] == [manifest.name]
    with pytest.raises(ArchiveUnavailableError, match="ARCHIVE_URL"):
        await Archive(old.store, None).facts(old.lives[0].stream)


async def test_a_week_that_somebody_reads_is_dropped_when_they_have_ended_and_keeps_nobody_waiting_until_then(
    old: Old, application: Connection
):
    async def append() -> None:
        for _ in range(20):
            await asyncio.wait_for(write(old.store, Life(weeks_ago(0)).encoded()), timeout=5)
        await application.execute("ROLLBACK")

    await application.execute("BEGIN")
    await application.execute("SELECT FROM ledger.stored_events LIMIT 1")
    with pytest.raises(UnavailableError):
        await old_weeks.drop_week(old.store, await old.copied())
    archived, _ = await asyncio.gather(old.archiving.archive(), append())
    assert [manifest.week for manifest in archived] == [WEEK]


async def test_i10_killed_behind_any_step_nothing_is_lost_and_the_next_run_goes_on(old: Old, application: Connection):
    before = await old.facts()
    parts = -(-sum(len(life.facts) for life in old.lives) // FACTS_OF_PART)
    copied, read_back = parts + 1, 2 * (parts + 1)
    for step in (1, copied, read_back, read_back + 1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.archiver", old.database.url, str(old.folder), str(step)
        )
        assert await process.wait() == -signal.SIGKILL
        is_dropped = step > read_back
        assert await old.in_database() != is_dropped
        assert await old.facts() == before
    assert await old.faults() == {}
    assert await old.archiving.archive() == []
    assert await value(application, "SELECT count(*) FROM views.notification_log") == 3
    assert not list(old.folder.rglob(".*"))


async def test_what_was_said_goes_by_its_class_and_never_while_something_of_its_week_is_due(
    old: Old, application: Connection
):
    long_ago.make_weeks(old.database)
    moments = {
        retention: weeks_ago(count) for retention, count in (("security", 3), ("marketing", 6), ("standard", 14))
    }
    said = {retention: Life(moment).stream for retention, moment in moments.items()}
    contents = [(retention, stream, b"d", b"w") for stream in said.values() for retention in moments]
    await old.store.append([Encoded(contents=contents)])
    due = "INSERT INTO ledger.agenda VALUES (%s, 'email', 'normal', 'infinity', 1)"
    await application.execute(due, (said["marketing"],))
    await old.archiving.drop_content()

    async def kept_of(retention: str) -> list[str]:
        query = "SELECT class FROM ledger.content WHERE notification = %s ORDER BY class"
        return [name for (name,) in await (await application.execute(query, (said[retention],))).fetchall()]

    assert await kept_of("security") == ["marketing", "standard"]
    assert await kept_of("marketing") == ["marketing", "security", "standard"]
    assert await kept_of("standard") == []
    await application.execute("DELETE FROM ledger.agenda")
    await old.archiving.drop_content()
    assert await kept_of("marketing") == ["standard"]
    assert await old.store.make_weeks() == 0
    assert await old_weeks.dropped_at(old.store, "security", f"{moments['security']:%Gw%V}") is not None
    assert await old_weeks.dropped_at(old.store, "standard", f"{moments['security']:%Gw%V}") is None
    with pytest.raises(KeptError, match="not over"):
        await old_weeks.drop_content(old.store, "standard", f"{weeks_ago(0):%Gw%V}")


async def test_facts_come_in_and_histories_are_read_without_a_gap_while_a_week_is_archived(old: Old):
    before = await old.facts()
    taken: list[Life] = []
    archiving = asyncio.create_task(old.archiving.archive())

    async def appending() -> None:
        while not archiving.done():
            taken.extend(await long_ago.lived(old.ledger, weeks_ago(0), 10))

    async def reading() -> None:
        while not archiving.done():
            for stream in ids(old.lives)[::9]:
                assert facts(await old.archive.facts(stream)) == before[stream]

    await asyncio.gather(appending(), reading(), archiving)
    assert not await old.in_database()
    assert await old.facts() == before
    assert len(await old.store.load(ids(taken))) == sum(len(life.facts) for life in taken) > 0
    await chain.extend(old.store)
    assert "chain" not in await old.faults()


async def test_the_command_says_what_keeps_each_week_and_moves_what_nothing_keeps(old: Old, tmp_path: Path):
    settings = {"DATABASE_URL": old.database.url, "ARCHIVE_URL": f"file://{old.folder}/by-command"}
    async with processes.running(tmp_path, **settings) as service:
        process = service.launch("archive", "--dry-run", program=processes.CLI)
        assert await process.ended() == 0
        told = process.log().splitlines()
        assert f"{WEEK}  {6 * LIVES} facts  ready" in told
        assert any(line.startswith(f"{YOUNG}  0 facts  it is not over for 91 days") for line in told)
        process = service.launch("archive", "--week", WEEK, program=processes.CLI)
        assert await process.ended() == 0
        assert f"{WEEK}  {6 * LIVES} facts  archived as {WEEK}/manifest-" in process.log()
        process = service.launch("history", str(old.lives[0].stream), program=processes.CLI)
        assert await process.ended() == 0
        assert len(process.log().splitlines()) == len(old.lives[0].facts)
