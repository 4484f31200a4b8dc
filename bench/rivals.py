"""What the ledger is measured against: the eventsourcing library's own application, and a raw COPY of the same rows."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from ledger.store import Encoded

_TABLES = """
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS bench.facts (LIKE ledger.stored_events INCLUDING ALL EXCLUDING IDENTITY);
CREATE TABLE IF NOT EXISTS bench.agenda (LIKE ledger.agenda INCLUDING ALL);
"""
_COPY_FACTS = """
COPY bench.facts (originator_id, originator_version, topic, state) FROM STDIN (FORMAT BINARY)
"""
_COPY_AGENDA = """
COPY bench.agenda (notification, channel, lane, due_at, version) FROM STDIN (FORMAT BINARY)
"""


class Notified(Aggregate):
    """An aggregate whose one event is about as large as our facts."""

    @event("Requested")
    def __init__(self, text: str) -> None:
        self.text = text


class Rival:
    """The library's application on Postgres, with its defaults."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._application: Application[UUID] = Application(
            env={
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": parts.path.lstrip("/"),
                "POSTGRES_HOST": parts.hostname or "",
                "POSTGRES_PORT": str(parts.port),
                "POSTGRES_USER": parts.username or "",
                "POSTGRES_PASSWORD": parts.password or "",
            }
        )

    def save(self, size: int, count: int) -> Callable[[], None]:
        """Return the work of saving `count` new aggregates, `size` at a time."""
        batches = [[Notified(_TEXT) for _ in range(size)] for _ in range(count // size)]

        def work() -> None:
            for batch in batches:
                self._application.save(*batch)

        return work

    def save_in_threads(self, threads: int, size: int, count: int) -> Callable[[], None]:
        """Return the work of saving `count` new aggregates from so many threads at a time, `size` by each call."""
        batches = [[Notified(_TEXT) for _ in range(size)] for _ in range(count // size)]

        def work() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda batch: self._application.save(*batch), batches))

        return work

    def close(self) -> None:
        self._application.close()


def copy(connection: psycopg.Connection, batches: Sequence[Sequence[Encoded]]) -> Callable[[], None]:
    """Return the work of copying the facts and agenda rows of each batch into bare tables, a commit for each batch."""
    facts = [[fact for decision in batch for fact in decision.facts] for batch in batches]
    agenda = [
        [
            (row.notification, row.due.channel.value, row.due.lane.value, row.due.at, row.version)
            for decision in batch
            for row in decision.agenda
            if row.due
        ]
        for batch in batches
    ]
    connection.execute(_TABLES)

    def work() -> None:
        for facts_of_batch, agenda_of_batch in zip(facts, agenda, strict=True):
            with connection.transaction():
                _copy_rows(connection, _COPY_FACTS, ("uuid", "int8", "text", "bytea"), facts_of_batch)
                columns = ("uuid", "text", "text", "timestamptz", "int8")
                _copy_rows(connection, _COPY_AGENDA, columns, agenda_of_batch)

    return work


def _copy_rows(
    connection: psycopg.Connection, statement: str, types: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    with connection.cursor().copy(statement) as copying:
        copying.set_types(types)
        for row in rows:
            copying.write_row(row)


# With what the library writes around it, an event has about 300 bytes.
_TEXT = "x" * 180
