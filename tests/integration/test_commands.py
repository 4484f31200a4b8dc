"""The command line as people use it: what cannot be done is one clear line, and never a trace."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psycopg
import pytest

from ledger.set_aside import Refusal
from tests.integration.api.deliveries import message
from tests.integration.ledger.parts import now, opened_store, set_aside_in
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import Service


@pytest.fixture
async def service(database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with processes.running(tmp_path, DATABASE_URL=database.url) as service:
        yield service


async def _said(service: Service, *arguments: str, **settings: str) -> tuple[int, str]:
    """The exit code of a command and all that it has written."""
    process = service.launch(*arguments, program=processes.CLI, **settings)
    return await process.ended(), process.log()


async def _kept(database: Database) -> str:
    async with opened_store(database.url) as store:
        body, refusal = msgspec.json.encode(message()), Refusal(reason="killer")
        return (await set_aside_in(store).keep(body, refusal, origin="amqp", now=now())).hex()


def _facts(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        return len(connection.execute("SELECT FROM ledger.stored_events").fetchall())


async def test_a_discarded_dead_letter_is_not_replayed_and_sends_nothing(service: Service, database: Database):
    key = await _kept(database)
    why = ("--reason", "a test")
    assert await _said(service, "dead-letters", "discard", key, *why) == (0, "discarded\n")
    code, said = await _said(service, "dead-letters", "replay", key, *why)
    assert (code, said) == (1, "Error: the dead letter was discarded before\n")
    assert _facts(database) == 0


async def test_i16_a_dead_letter_replayed_twice_makes_its_notification_once(service: Service, database: Database):
    key = await _kept(database)
    replay = ("dead-letters", "replay", key, "--reason", "a test")
    assert "result: taken" in (await _said(service, *replay))[1]
    assert "result: repeated" in (await _said(service, *replay))[1]
    assert _facts(database) == 1
    code, said = await _said(service, "dead-letters", "discard", key, "--reason", "a test")
    assert (code, said) == (1, "Error: the dead letter was replayed before\n")
