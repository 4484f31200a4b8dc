"""A week of notifications goes to the archive and leaves the database while others are sent."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psycopg

from bench import facts, mails, processes
from bench.delivering import deliver
from bench.lab import Lab
from bench.processes import MeasurementError
from bench.service import Service
from bench.table import Row
from ledger import chain
from ledger import notification as n
from ledger.ids import begins_at, notification_id, week_of
from ledger.mapping import FactMapper
from ledger.store import Encoded, Store, make_pool
from ledger.values import Accepted, Report, ReportKind

ARCHIVED, AT_ONCE = 200_000, 200
# Notifications of one measurement beside it, and without.
SENT = 3_000
WEEKS_AGO = 20
_PARENTS = ("stored_events", "content_standard", "content_security", "content_marketing")
_CLASSES = ("standard", "security", "marketing")


def measure(lab: Lab, service: Service) -> Iterator[Row]:
    """Yield notifications/s while a week of 200,000 is archived, beside those without; then one of them is asked for.

    Raises MeasurementError when the archival ended before a measurement beside it, or its history does not answer.
    """
    monday = begins_at(week_of(notification_id(datetime.now(UTC)))) - timedelta(weeks=WEEKS_AGO)
    place = {"ARCHIVE_URL": (lab.folder / "archive").absolute().as_uri()}
    with service.workers():
        streams = _prepared(service, monday, lab.count(ARCHIVED))
        alone = deliver(service, mails.SMALL, lab.count(SENT)).rate
        beside = _beside(lab, service, week_of(streams[0]), place)
        yield Row("archive_beside_traffic", beside, "notifications/s", alone)
    with service.api(**place) as port:
        for stream in (streams[0], streams[-1]):
            _ask(service, port, stream)


def _beside(lab: Lab, service: Service, week: str, place: dict[str, str]) -> float:
    command = ("-m", "ops.cli", "archive", "--week", week)
    with processes.running(*command, log=lab.log, environment={**service.settings(), **place}) as archiving:
        processes.until(lambda: any(Path(lab.folder / "archive").rglob("*.zst")), "the first file of the archive")
        sent, took = 0, 0.0
        while archiving.poll() is None:
            run = deliver(service, mails.SMALL, lab.count(SENT))
            sent, took = sent + lab.count(SENT), took + lab.count(SENT) / run.rate
        if archiving.returncode or not sent:
            raise MeasurementError(f"the archival ended with {archiving.returncode}: {lab.log.read_text()[-2000:]}")
    return sent / took


def _ask(service: Service, port: int, stream: UUID) -> None:
    url = f"http://127.0.0.1:{port}/v1/notifications/{stream}/history"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {service.token}"})
    if answer.status_code != httpx.codes.OK or len(answer.json()["facts"]) != len(life()):
        raise MeasurementError(f"the history of an archived notification was answered by {answer.status_code}")


def _prepared(service: Service, monday: datetime, count: int) -> list[UUID]:
    """Have so many whole lives in a week of long ago, sealed, folded, and without content; returns their ids."""
    with psycopg.connect(service.database.owner_url, autocommit=True) as owner:
        for parent in _PARENTS:
            owner.execute("SELECT ledger.make_weeks_of(%s, %s, 0)", (parent, WEEKS_AGO))
    streams = [notification_id(monday + timedelta(milliseconds=number)) for number in range(count)]
    asyncio.run(_append(service.database.url, streams))
    processes.until(lambda: service.folded() >= service.head(), "the week in the views", patience=600)
    with psycopg.connect(service.database.url, autocommit=True) as application:
        for retention in _CLASSES:
            application.execute("SELECT ledger.drop_content(%s, %s)", (retention, week_of(streams[0])))
    return streams


async def _append(url: str, streams: list[UUID]) -> None:
    facts_of_one = life()
    async with make_pool(url, size=2) as pool:
        store = Store(url, pool)
        for start in range(0, len(streams), AT_ONCE):
            await store.append([_encoded(stream, facts_of_one) for stream in streams[start : start + AT_ONCE]])
        await store.aclose()
        await chain.extend(store)


def _encoded(stream: UUID, life: list[tuple[str, bytes]]) -> Encoded:
    return Encoded(facts=[(stream, version, *fact) for version, fact in enumerate(life, start=1)])


def life() -> list[tuple[str, bytes]]:
    """Return the facts of a mail that was delivered, as they are stored."""
    now, attempt = datetime.now(UTC), uuid4()
    origin = n.Origin(now=now, cause="clock", by="bench")
    intent = n.Intent(
        attempt=attempt,
        provider="ses",
        address_hash="a" * 32,
        digest=bytes(32),
        template_version="1",
        locale="en",
        deadline_at=now + timedelta(seconds=8),
    )
    report = Report(provider="ses", reference="r", kind=ReportKind.DELIVERED, key="k", occurred_at=now)
    told: list[n.NotificationFact] = [facts.request(now, expires_at=now + timedelta(days=1))]
    steps: list[Callable[[n.State], n.Facts]] = [
        lambda state: n.start_attempt(state, intent, origin),
        lambda state: n.settle(state, attempt, Accepted("r"), origin, retry_at=now),
        lambda state: n.report(state, attempt, report, origin),
    ]
    for decide in steps:
        state = n.fold(told)
        told += decide(state) if state else ()
    mapper = FactMapper()
    return [mapper.encode(UUID(int=0), version, fact) for version, fact in enumerate(told, start=1)]
