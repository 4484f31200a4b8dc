"""How fast facts are appended: alone, in batches, by many callers, and where a commit is slow."""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import cycle
from uuid import UUID

import psycopg
import uvloop

from bench import facts
from bench.lab import Lab
from bench.processes import MeasurementError
from bench.rivals import Rival, copy
from bench.table import Row
from ledger.decision import Decision
from ledger.errors import Refusal
from ledger.keys import Identity, KeyEncryption, Keys
from ledger.ledger import Ledger
from ledger.signals import Signals
from ledger.store import Encoded, Store, make_pool
from tests.support.postgres import IDENTITY_KEY, KEY_ENCRYPTION_KEY, Database

BATCH = 200
CALLERS = 100
WRITERS = 8
# Ours and theirs take turns, so that a busy moment of the machine hits both.
ROUNDS = 3
GUARDED = 2_000
# Facts of one round, ours and theirs: each takes about a second.
FACTS = {1: (1_500, 600), 20: (15_000, 4_000), 200: (40_000, 10_000)}
CALLERS_FACTS = (10_000, 800)
SLOW_FACTS = (24_000, 12_000)
# commit_delay is in microseconds (Postgres manual, "Write Ahead Log"); 0 siblings = each commit waits.
SLOW = "ALTER DATABASE {name} SET commit_delay = 5000; ALTER DATABASE {name} SET commit_siblings = 0"

Timed = Callable[[], float]


def measure(lab: Lab, wanted: Collection[str]) -> Iterator[Row]:
    """Measure the rows that are wanted of this module's."""
    for size in FACTS:
        if f"append_{size}" in wanted:
            yield _batches(lab, size)
    if "append_200_of_copy" in wanted:
        yield _of_copy(lab)
    if "append_100_callers" in wanted:
        yield _callers(lab)
    if "append_slow_commit" in wanted:
        yield _slow_commit(lab)


def fsync(lab: Lab, wanted: Collection[str]) -> Iterator[Row]:
    """Measure how long it takes to have 8 kB on the disk that the database is on: the median."""
    if "fsync" not in wanted:
        return
    path, page, taken = lab.folder / "fsync", os.urandom(8192), []
    with path.open("wb", buffering=0) as file:
        for _ in range(lab.count(1_000)):
            file.write(page)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    yield Row("fsync", statistics.median(taken) * 1e6, "µs")


def _batches(lab: Lab, size: int) -> Row:
    ours, theirs = map(lab.count, FACTS[size])
    with lab.database() as database, _rival(database) as rival:
        return _compared(
            f"append_{size}",
            lambda: _appended(database, ours // size * size, size=size),
            lambda: _timed(rival.save(size, theirs), theirs // size * size),
        )


def _of_copy(lab: Lab) -> Row:
    count = lab.count(FACTS[BATCH][0]) // BATCH * BATCH
    shares = []
    with lab.database() as database, psycopg.connect(database.superuser_url, autocommit=True) as connection:
        for _ in range(ROUNDS):
            decisions = facts.encoded(count, [UUID(int=0)])
            copied = _timed(copy(connection, _cut(decisions, BATCH)), count)
            shares.append(_appended(database, count, size=BATCH) / copied)
    return Row("append_200_of_copy", statistics.median(shares), "of a raw COPY")


def _callers(lab: Lab) -> Row:
    ours, theirs = map(lab.count, CALLERS_FACTS)
    with lab.database() as database, _rival(database) as rival:
        return _compared(
            "append_100_callers",
            lambda: uvloop.run(_by_callers(database, facts.requested(ours))),
            lambda: _timed(rival.save_in_threads(CALLERS, 1, theirs), theirs),
        )


def _slow_commit(lab: Lab) -> Row:
    ours, theirs = map(lab.count, SLOW_FACTS)
    with lab.database() as database:
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            for statement in SLOW.format(name=database.name).split(";"):
                connection.execute(statement.encode())
        with _rival(database) as rival:
            return _compared(
                "append_slow_commit",
                lambda: _appended(database, ours // BATCH * BATCH, size=BATCH, writers=WRITERS),
                lambda: _timed(rival.save_in_threads(WRITERS, BATCH, theirs), theirs // BATCH * BATCH),
            )


def _compared(name: str, ours: Timed, theirs: Timed) -> Row:
    """Measure both in turn and take the medians."""
    pairs = [(ours(), theirs()) for _ in range(ROUNDS)]
    return Row(name, statistics.median(p[0] for p in pairs), "facts/s", statistics.median(p[1] for p in pairs))


def _timed(work: Callable[[], None], count: int) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


@contextmanager
def _rival(database: Database) -> Iterator[Rival]:
    rival = Rival(database.owner_url)
    try:
        yield rival
    finally:
        rival.close()


def _appended(database: Database, count: int, *, size: int, writers: int = 1) -> float:
    """Return how many facts a second so many writers append together, each on a connection of its own."""
    return uvloop.run(_by_stores(database, count, size=size, writers=writers))


async def _by_stores(database: Database, count: int, *, size: int, writers: int) -> float:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(_store(database)) for _ in range(writers)]
        begun = facts.standing(GUARDED)
        for store, batch in zip(cycle(stores), _cut(begun, BATCH), strict=False):
            _all_stored(await store.append(batch))
        guarded = [stream for decision in begun for stream, *_ in decision.facts]
        batches = iter(_cut(facts.encoded(count, guarded), size))
        began = time.perf_counter()
        await asyncio.gather(*(_append_all(store, batches) for store in stores))
        return count / (time.perf_counter() - began)


async def _append_all(store: Store, batches: Iterator[Sequence[Encoded]]) -> None:
    for batch in batches:
        _all_stored(await store.append(batch))


def _all_stored(refused: Mapping[int, Refusal]) -> None:
    if refused:
        raise MeasurementError(f"the ledger refused {len(refused)} decisions")


async def _by_callers(database: Database, decisions: Sequence[Decision]) -> float:
    """Return how many decisions a second so many callers get stored, each waiting for its own before the next."""
    signals = Signals(database.url)
    async with _store(database) as store:
        ledger = Ledger(store, Keys(KeyEncryption([KEY_ENCRYPTION_KEY])), Identity(IDENTITY_KEY), signals)
        signals.start()
        await ledger.start()
        waiting = iter(decisions)
        began = time.perf_counter()
        await asyncio.gather(*(_call(ledger, waiting) for _ in range(CALLERS)))
        took = time.perf_counter() - began
        await ledger.stop()
        await signals.stop()
    return len(decisions) / took


async def _call(ledger: Ledger, decisions: Iterator[Decision]) -> None:
    for decision in decisions:
        await ledger.append(decision)


@asynccontextmanager
async def _store(database: Database) -> AsyncIterator[Store]:
    async with make_pool(database.url, size=2) as pool:
        store = Store(database.url, pool)
        # Connected, and its statement planned, before anything is timed.
        _all_stored(await store.append(facts.standing(1)))
        try:
            yield store
        finally:
            await store.aclose()


def _cut(decisions: Sequence[Encoded], size: int) -> list[Sequence[Encoded]]:
    return [decisions[start : start + size] for start in range(0, len(decisions), size)]
