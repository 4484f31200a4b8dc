"""The hash chain: facts are sealed a little after they were stored, and later compared with what was sealed.

The database seals (`ledger.extend_chain`), for the application may not say what a hash is. This side reads what is
stored and computes the same by itself.
"""

import hashlib
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from ledger.ids import ids_of
from ledger.store import Store

_EXTEND = "SELECT ledger.extend_chain()"
# Every week that has facts or links, and whether its facts are in the database.
_WEEKS = r"""
SELECT week, bool_or(here) FROM (
    SELECT substring(inhrelid::regclass::text FROM '_([^_]+)$') AS week, true AS here FROM pg_inherits
    WHERE inhparent = 'ledger.stored_events'::regclass
    UNION ALL
    SELECT DISTINCT week, false FROM ledger.chain
) AS weeks GROUP BY week ORDER BY week
"""
_LINKS = "SELECT last, facts, hash FROM ledger.chain WHERE week = %(week)b ORDER BY last"
_INDEX = "SELECT index FROM ledger.chain WHERE week = %(week)b AND last = %(last)b"
# Up to where everything is sealed, and how much is stored behind it.
_END = """
SELECT coalesce(max(last), 0), (
    SELECT count(*) FROM ledger.stored_events
    WHERE notification_id > (SELECT coalesce(max(last), 0) FROM ledger.chain)
) FROM ledger.chain
"""
_FACTS = """
SELECT notification_id, originator_id, originator_version, topic, state FROM ledger.stored_events
WHERE originator_id BETWEEN %b AND %b AND notification_id <= %b
ORDER BY notification_id, originator_id, originator_version
"""
_PAGE = 1_000
# An entry of a link's index: where the fact stands, and the beginning of its hash.
_STREAM, _VERSION, _POSITION, _ENTRY = 16, 24, 32, 40


class Fault(msgspec.Struct, frozen=True):
    """Where a week is not what was sealed, the first place of a link. `what` is altered, missing or added.

    Without a stream it cannot be told which fact it is: one of those that the link up to `position` covers.
    """

    week: str
    what: str
    position: int
    stream: UUID | None = None
    version: int | None = None


class Link(msgspec.Struct, frozen=True):
    """A link as it is stored: it covers the facts of its week up to the position `last`."""

    last: int
    facts: int
    hash: bytes


class End(msgspec.Struct, frozen=True):
    """Up to which position everything is sealed, and how many facts were stored since."""

    position: int
    unsealed: int


class _Place(msgspec.Struct, frozen=True, order=True):
    """Where a fact stands."""

    position: int
    stream: UUID
    version: int


_Hashed = tuple[_Place, bytes]


async def extend(store: Store) -> None:
    """Seal every fact that is stored by now."""
    async with store.connection() as connection:
        while (await (await connection.execute(_EXTEND)).fetchall())[0][0]:
            pass


async def end(connection: AsyncConnection[Any]) -> End:
    """Say how far the chain reaches."""
    ((position, unsealed),) = await (await connection.execute(_END)).fetchall()
    return End(position, unsealed)


async def weeks(connection: AsyncConnection[Any]) -> dict[str, bool]:
    """Return every week that has facts or links, and whether its facts are in the database."""
    return dict(await (await connection.execute(_WEEKS)).fetchall())


async def links(connection: AsyncConnection[Any], week: str) -> list[Link]:
    """Return the chain of a week."""
    return [Link(*row) for row in await (await connection.execute(_LINKS, {"week": week}, binary=True)).fetchall()]


async def faults(
    connection: AsyncConnection[Any], week: str, *, upto: int, seen: Callable[[int], None] = lambda _: None
) -> AsyncGenerator[Fault, None]:
    """Compare the facts of a week, up to a position where everything is sealed, with its chain.

    Yields the first fault of each link; a link is judged by the hash that is stored for the one before it. Holds the
    facts of one link at a time. `seen` is told how many facts were looked at.
    """
    previous = b""
    # What is sealed while we read is left for another time, as are its facts.
    sealed = [link for link in await links(connection, week) if link.last <= upto]
    async with aclosing(_hashed(connection, week, upto)) as rows:
        async for link, facts in _by_link(rows, sealed):
            if link is None:
                yield _fault(week, "added", facts[0][0])
                return
            if _hash_of_link(previous, (digest for _, digest in facts)) != link.hash:
                yield await _first_fault(connection, week, link, facts)
            previous = link.hash
            seen(len(facts))


class Comparison:
    """Compares facts that come in any order with the chain of their week.

    A link is judged by the hash that is stored for the one before it, as soon as all of its facts are there: of those
    that were recorded in the order of their streams, few are held at a time.
    """

    def __init__(self, chain: Sequence[Link]) -> None:
        self._chain = chain
        self._open: dict[int, dict[int, bytes]] = {number: {} for number in range(len(chain))}
        self._has_more = False

    def add(self, digests: Mapping[int, bytes]) -> None:
        """Take the hashes of some more facts (see `digest_of`) by their positions."""
        for position, digest in digests.items():
            number = bisect_left(self._chain, position, key=lambda link: link.last)
            facts = self._open.get(number)
            if facts is None:
                self._has_more = True
                continue
            facts[position] = digest
            if len(facts) == self._chain[number].facts and self._is_sealed(number, facts):
                del self._open[number]

    @property
    def is_equal(self) -> bool:
        """Whether what came is what was sealed, no fact less and none more."""
        return not self._open and not self._has_more

    def _is_sealed(self, number: int, facts: Mapping[int, bytes]) -> bool:
        previous = self._chain[number - 1].hash if number else b""
        return _hash_of_link(previous, (facts[position] for position in sorted(facts))) == self._chain[number].hash


async def _hashed(connection: AsyncConnection[Any], week: str, upto: int) -> AsyncGenerator[_Hashed, None]:
    async with connection.transaction(), connection.cursor("chain", binary=True) as cursor:
        cursor.itersize = _PAGE
        await cursor.execute(_FACTS, (*ids_of(week), upto))
        async for position, stream, version, topic, state in cursor:
            place = _Place(position, stream, version)
            yield place, digest_of(place.stream, version, position=position, topic=topic, state=state)


async def _by_link(
    rows: AsyncIterator[_Hashed], chain: Sequence[Link]
) -> AsyncIterator[tuple[Link | None, list[_Hashed]]]:
    """Give each link the facts up to its last; without a link, the first fact that lies behind them all."""
    ahead = list(reversed(chain))
    facts: list[_Hashed] = []
    async for row in rows:
        while ahead and row[0].position > ahead[-1].last:
            yield ahead.pop(), facts
            facts = []
        facts.append(row)
        if not ahead:
            yield None, facts
            return
    while ahead:
        yield ahead.pop(), facts
        facts = []


async def _first_fault(connection: AsyncConnection[Any], week: str, link: Link, facts: Sequence[_Hashed]) -> Fault:
    given = {"week": week, "last": link.last}
    ((index,),) = await (await connection.execute(_INDEX, given, binary=True)).fetchall()
    was, now = dict(_entries(index or b"")), {place: digest[:8] for place, digest in facts}
    for place in sorted({*was, *now}):
        if place not in now:
            return _fault(week, "missing", place)
        if place not in was:
            return _fault(week, "added", place)
        if was[place] != now[place]:
            return _fault(week, "altered", place)
    # The link itself was changed, or the one before it.
    return Fault(week, "altered", link.last)


def _entries(index: bytes) -> list[_Hashed]:
    entries = (index[start : start + _ENTRY] for start in range(0, len(index), _ENTRY))
    return [(_place(entry), entry[_POSITION:]) for entry in entries]


def _place(entry: bytes) -> _Place:
    position, version = entry[_VERSION:_POSITION], entry[_STREAM:_VERSION]
    return _Place(int.from_bytes(position), UUID(bytes=entry[:_STREAM]), int.from_bytes(version))


def _fault(week: str, what: str, place: _Place) -> Fault:
    return Fault(week, what, place.position, place.stream, place.version)


def _hash_of_link(previous: bytes, digests: Iterable[bytes]) -> bytes:
    return hashlib.sha256(previous + b"".join(digests)).digest()


def digest_of(stream: UUID, version: int, *, position: int, topic: str, state: bytes) -> bytes:
    """Return the hash of one fact, as the database computes it when it seals."""
    named = topic.encode()
    place = stream.bytes + version.to_bytes(8) + position.to_bytes(8)
    return hashlib.sha256(place + len(named).to_bytes(4) + named + state).digest()
