"""A backup that is older than what was sent since: restored, recovered, and nothing is sent twice without a record."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest

from ledger.notification import RESTORED, AttemptInDoubt
from ledger.status import Status
from ledger.values import Report, ReportKind
from ops import postgres_programs
from ops.settings import load
from ops.wiring import parts
from providers.fakes.ses import FakeSes
from templates.catalogue import CATALOGUE
from tests.acceptance.audit import Audit, count, unfinished
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import Message, message, shipped
from tests.acceptance.wires import through
from tests.support import service as processes
from tests.support.postgres import Database, fresh_database
from tests.support.proxy import Towards, forwarding
from tests.support.service import SHARED, Service, reached, until

IN_DOUBT = "SELECT count(*) FROM ledger.stored_events WHERE topic = 'notification.attempt_in_doubt'"
POLICIES = {"order_shipped": "drop", "order_delivered": "hold", "order_cancelled": "resend"}
EACH = 15


@pytest.fixture
def elsewhere(postgres_url: str) -> Iterator[Database]:
    """An empty database, to restore into."""
    with fresh_database(postgres_url, "template1") as fresh:
        yield fresh


@pytest.fixture
def catalogue(tmp_path: Path) -> str:
    """The shipped catalogue, with a policy of its own for each of these."""
    text = CATALOGUE.read_text("utf-8")
    for kind, policy in POLICIES.items():
        head, entry, rest = text.partition(f"\n  {kind}:\n")
        text = head + entry + rest.replace("doubt: resend", f"doubt: {policy}", 1)
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    return str(path)


def messages() -> list[Message]:
    """Mails of every policy, each to another person."""
    kinds = ("OrderShippedEvent", "OrderDeliveredEvent", "OrderCancelledEvent")
    return [
        message(kind, userId=f"{kind}-{number}", userEmail=f"{kind.lower()}-{number}@example.com")
        for number in range(EACH)
        for kind in kinds
    ]


def run(program: str, *arguments: str, url: str) -> None:
    binaries = postgres_programs.find(Path("/nonexistent"))
    subprocess.run([binaries / program, *arguments, "--dbname", url], check=True, capture_output=True)


async def said(service: Service, *arguments: str, **settings: str) -> tuple[int, str]:
    process = service.launch(*arguments, **settings)
    return await process.ended(), process.log()


async def test_i06_after_a_restore_nothing_that_was_sent_since_the_backup_is_sent_again_without_a_recorded_doubt(
    database: Database, elsewhere: Database, fake: FakeSes, catalogue: str, tmp_path: Path
):
    backup, since = tmp_path / "backup", ""
    settings = {"SES_ENDPOINT_URL": fake.url, "CATALOGUE": catalogue, "DATABASE_URL": database.url}
    await take_in(database.url, messages(), CATALOGUE=catalogue)
    async with processes.running(tmp_path, **settings) as service:
        await service.start("deliver", SES_RATE="20")
        await reached(lambda: len(fake.requests), EACH, "mails before the backup")
        since = datetime.now(UTC).isoformat(timespec="seconds")
        run("pg_dump", "--format=custom", f"--file={backup}", url=database.superuser_url)
        await reached(lambda: len(fake.requests), 3 * EACH, "all mails")
        await until(lambda: unfinished(database.url) == 0, "the end of all that is due")
        await service.stop_all()
    run("pg_restore", "--exit-on-error", str(backup), url=elsewhere.superuser_url)
    sent_before = Audit(elsewhere.url, fake.requests).statuses()[Status.DISPATCHED]
    assert EACH <= sent_before < 3 * EACH

    settings["DATABASE_URL"] = elsewhere.url
    async with processes.running(tmp_path, **settings) as service:
        await recovered(service, elsewhere, since)
        await service.start("deliver")
        (new,) = shipped(1)
        await take_in(elsewhere.url, [new], CATALOGUE=catalogue)
        await reached(lambda: len(fake.requests), 3 * EACH + 1, "the mail that is new")
        await until(lambda: unfinished(elsewhere.url) == 0, "the end of all that is due")
        code, told = await said(service, "verify")
        assert code == 0, told
        await service.stop_all()

    audit = Audit(elsewhere.url, [])
    requests = Counter(UUID(one.tags["notification"]) for one in fake.requests if one.accepted)
    assert set(requests.values()) == {1}
    doubted = {
        stream
        for stream, facts in audit.streams.items()
        if any(isinstance(one.fact, AttemptInDoubt) and one.fact.doubt == RESTORED for one in facts)
    }
    assert len(doubted) > EACH
    # What was under way at the moment of the backup is open, or in doubt because nobody has settled it.
    assert {*audit.statuses()} <= {Status.DISPATCHED, Status.SENDING, Status.IN_DOUBT}
    await settled_by_reports(elsewhere, fake, doubted)


async def recovered(service: Service, database: Database, since: str) -> None:
    """Recover by a process that is killed in the middle, and by two more, the last of which finds nothing to do."""
    recover = ("recover", "--since", since.replace("+00:00", "+0000"))
    code, told = await said(service, *recover, "--dry-run")
    assert code == 0, told
    assert count(database.url, IN_DOUBT) == 0
    parts_of = urlsplit(database.url)
    async with forwarding(parts_of.hostname or "", parts_of.port or 5432) as wire:
        stalled = wire.stall_at(b"notification.attempt_in_doubt", towards=Towards.SERVER, nth=7)
        doomed = service.launch(*recover, DATABASE_URL=through(wire, database.url))
        await until(stalled.is_set, "the middle of the recovery")
        doomed.kill()
        wire.cut()
    before = count(database.url, IN_DOUBT)
    assert before > 0
    code, told = await said(service, "deliver")
    assert (code, "a recovery has not ended" in told) == (1, True), told
    code, told = await said(service, *recover)
    assert code == 0, told
    assert count(database.url, IN_DOUBT) > before
    in_doubt = count(database.url, IN_DOUBT)
    code, told = await said(service, *recover)
    assert (code, "in doubt: 0 notifications" in told) == (0, True), told
    assert count(database.url, IN_DOUBT) == in_doubt


async def settled_by_reports(database: Database, fake: FakeSes, doubted: set[UUID]) -> None:
    """Reports of what was really sent, which name attempts that the database has lost, find what stands for them."""
    lost = [one for one in fake.requests if UUID(one.tags["notification"]) in doubted]
    reports = [
        Report(
            provider="ses",
            kind=ReportKind.DELIVERED,
            key=one.message_id,
            reference=one.message_id,
            notification=UUID(one.tags["notification"]),
            attempt=UUID(one.tags["attempt"]),
        )
        for one in lost
    ]
    async with parts(load({**SHARED, "DATABASE_URL": database.url}, dotenv=None)) as given:
        await given.receive.reports(reports)
    states = Audit(database.url, []).states
    assert lost
    assert {states[UUID(one.tags["notification"])].status for one in lost} == {Status.DELIVERED}


async def test_a_recovery_is_refused_while_a_role_runs_and_for_a_moment_to_come(
    database: Database, fake: FakeSes, tmp_path: Path
):
    async with processes.running(tmp_path, DATABASE_URL=database.url, SES_ENDPOINT_URL=fake.url) as service:
        await service.start("project")
        code, told = await said(service, "recover", "--since", "2026-01-02T03:04:05+0000")
        assert (code, "stop every role first" in told) == (1, True), told
        await service.stop_all()
        code, told = await said(service, "recover", "--since", "2199-01-02T03:04:05+0000")
        assert (code, "lies in the future" in told) == (1, True), told
    assert count(database.url, "SELECT count(*) FROM ledger.recovery") == 0


async def test_positions_that_were_given_since_the_backup_are_not_given_again(
    database: Database, fake: FakeSes, tmp_path: Path
):
    await take_in(database.url, shipped(2))
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("SELECT setval('ledger.stored_events_notification_id_seq', 1, false)")
        connection.execute("INSERT INTO ledger.follower (name, version, position) VALUES ('ahead', 1, 1000)")
    async with processes.running(tmp_path, DATABASE_URL=database.url, SES_ENDPOINT_URL=fake.url) as service:
        code, told = await said(service, "project")
        assert (code, "run `recover`" in told) == (1, True), told
        code, told = await said(service, "recover", "--since", "2026-01-02T03:04:05+0000")
        assert code == 0, told
    assert "ahead" in told
    assert (
        count(database.url, "SELECT min(notification_id) FROM ledger.stored_events WHERE topic LIKE '%doubt'") > 10**9
    )
    assert count(database.url, "SELECT position FROM ledger.follower WHERE name = 'ahead'") == 2


async def test_i04_a_copied_database_mails_nobody_until_its_owner_has_renamed_it(
    database: Database, fake: FakeSes, tmp_path: Path
):
    await take_in(database.url, shipped(1))
    settings = {"DATABASE_URL": database.url, "SES_ENDPOINT_URL": fake.url, "INSTALLATION": "staging"}
    async with processes.running(tmp_path, **settings) as service:
        code, told = await said(service, "deliver")
        assert (code, "INSTALLATION differs from the database's own" in told) == (1, True), told
        assert fake.requests == []
        with psycopg.connect(database.owner_url, autocommit=True) as connection:
            connection.execute("UPDATE ledger.installation SET name = 'staging'")
        await service.start("deliver")
        await reached(lambda: len(fake.requests), 1, "mails")
        code, told = await said(service, "deliver", INSTALLATION="test")
        assert code == 1, told
        await service.stop_all()
