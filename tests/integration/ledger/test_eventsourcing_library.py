"""Our tables are the eventsourcing library's: its own recorder, repository and application read them."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from eventsourcing.application import Application, Repository
from eventsourcing.persistence import EventStore, Mapper
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from ledger import notification as n
from ledger.ledger import Ledger, Loaded
from ledger.mapping import FactMapper, Recorded, of_notification
from ledger.values import Accepted, InDoubt, Outcome, ReportKind
from tests.integration.ledger.lives import live
from tests.integration.ledger.parts import Connection, log
from tests.support.postgres import Database

ONE_DATABASE = True

LIVES: list[list[Outcome | ReportKind]] = [
    [],
    [Accepted("ref-1"), ReportKind.DELIVERED, ReportKind.OPENED],
    [InDoubt("reset"), ReportKind.BOUNCED],
]


def project(state: n.State | None, events: Iterable[Any]) -> n.State | None:
    for recorded in cast("Iterable[Recorded]", events):
        state = n.evolve(state, of_notification(recorded.fact))
    return state


def fetched(repository: Any, stream: UUID) -> n.State:
    """What the library's repository makes of a stream; its types want an aggregate of its own kind."""
    state: n.State = repository.get(stream, projector_func=project)
    return state


def _parts(database: Database) -> dict[str, Any]:
    parts = urlsplit(database.url)
    return {
        "dbname": parts.path[1:],
        "host": parts.hostname or "",
        "port": str(parts.port),
        "user": parts.username or "",
        "password": parts.password or "",
    }


@contextmanager
def recorder_of(database: Database) -> Iterator[PostgresApplicationRecorder]:
    with PostgresDatastore(**_parts(database), schema="ledger") as datastore:
        yield PostgresApplicationRecorder(datastore, events_table_name="stored_events")


async def _lived(ledger: Ledger) -> list[Loaded]:
    return [await live(ledger, steps) for steps in LIVES]


async def test_its_repository_folds_our_streams_to_the_same_states(ledger: Ledger, database: Database):
    lived = await _lived(ledger)
    assert lived[0].key is not None
    keys = {"user:u-1": lived[0].key}

    def read() -> list[n.State]:
        with recorder_of(database) as recorder:
            repository = Repository[UUID](EventStore(FactMapper(keys=keys), recorder))
            return [fetched(repository, one.stream) for one in lived]

    assert await asyncio.to_thread(read) == [one.state for one in lived]


async def test_its_recorder_reads_the_log_in_our_order(ledger: Ledger, database: Database, application: Connection):
    await _lived(ledger)

    def read() -> list[tuple[Any, int, int]]:
        with recorder_of(database) as recorder:
            found = recorder.select_notifications(start=1, limit=1_000)
            assert recorder.max_notification_id() == found[-1].id
            return [(row.originator_id, row.originator_version, row.id) for row in found]

    found = await asyncio.to_thread(read)
    assert [(stream, version) for stream, version, _ in found] == await log(application)
    assert [position for _, _, position in found] == [
        row.position for row in await ledger.store.read(after=0, limit=99)
    ]


class Stored(Application[UUID]):
    """An application of the library on our tables; it creates nothing."""

    name = "stored"

    def construct_mapper(self) -> Mapper[UUID]:
        return FactMapper()


async def test_an_application_of_the_library_opens_our_tables_as_they_are(ledger: Ledger, database: Database):
    lived = await _lived(ledger)
    env = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "CREATE_TABLE": "n",
        "POSTGRES_SCHEMA": "ledger",
        **{f"POSTGRES_{name.upper()}": value for name, value in _parts(database).items()},
    }

    def read() -> list[tuple[int, str]]:
        with Stored(env) as application:
            states = [fetched(application.repository, one.stream) for one in lived]
            return [(state.version, state.status.value) for state in states]

    assert await asyncio.to_thread(read) == [(one.state.version, one.state.status.value) for one in lived]
