"""The archive: weeks of facts outside of the database, as compressed JSON Lines, each notification found by its id.

What lies there has its own hash for a name. So to write it twice is to write it once, two that write at the same time
do no harm, and what was read is known to be what was written.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
import zstandard

from ledger.chain import digest_of
from ledger.errors import ArchiveUnavailableError
from ledger.ids import is_standing, week_of
from ledger.store import Row, Store

_ARCHIVED = "SELECT manifest, now() FROM ledger.archived_week WHERE week = %(week)b"
_ALL = "SELECT week, manifest FROM ledger.archived_week ORDER BY week"


class Shelf(Protocol):
    """Where the archive lies. Both raise ArchiveUnavailableError."""

    async def put(self, name: str, body: bytes) -> None:
        """Keep bytes under a name; when it returns they are there for good, whole."""

    async def get(self, name: str) -> bytes | None:
        """Return what is kept under a name, None when nothing is."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file of facts, ordered by stream and version; `name` ends in the sha256 of its bytes."""

    name: str
    first: UUID
    last: UUID
    facts: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a week's archive consists of. `chain` is the last hash of the week's chain, in hex."""

    week: str
    release: str
    facts: int
    first_position: int
    last_position: int
    chain: str
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Where it lies."""
        return f"{self.week}/manifest-{hashlib.sha256(self.encoded).hexdigest()}.json"

    @property
    def encoded(self) -> bytes:
        """As it lies there."""
        return msgspec.json.format(msgspec.json.encode(self))


class _Line(msgspec.Struct):
    """A fact as a line of JSON; `state` is the fact itself, byte for byte as it was stored."""

    stream: UUID
    version: int
    position: int
    topic: str
    state: msgspec.Raw


def packed(week: str, facts: Sequence[Row]) -> tuple[Part, bytes]:
    """Return a part that holds these facts, and its bytes."""
    lines = (_Line(row.stream, row.version, row.position, row.topic, msgspec.Raw(row.state)) for row in facts)
    body = zstandard.ZstdCompressor(level=3).compress(b"".join(_encode(line) + b"\n" for line in lines))
    name = f"{week}/{hashlib.sha256(body).hexdigest()}.jsonl.zst"
    return Part(name=name, first=facts[0].stream, last=facts[-1].stream, facts=len(facts)), body


class Archive:
    """Reads facts wherever they are by now; without a shelf, from the database alone."""

    def __init__(self, store: Store, shelf: Shelf | None) -> None:
        self._store = store
        self._shelf = shelf

    @property
    def shelf(self) -> Shelf:
        """Where archives lie. Raises ArchiveUnavailableError when this process was not told."""
        if self._shelf is None:
            raise ArchiveUnavailableError("the archive is not known here: set ARCHIVE_URL")
        return self._shelf

    async def facts(self, notification: UUID) -> list[Row]:
        """Read all facts of a notification, in order; none when there is no such notification."""
        if is_standing(notification):
            return []
        return await self._store.load([notification]) or await self._archived(notification)

    async def weeks(self) -> dict[str, str]:
        """Return the weeks that lie in the archive alone, each with the name of its manifest."""
        async with self._store.connection() as connection:
            return dict(await (await connection.execute(_ALL)).fetchall())

    async def manifest(self, name: str) -> Manifest:
        """Read a manifest by its name. Raises ArchiveUnavailableError."""
        body = await self._read(name)
        try:
            return msgspec.json.decode(body, type=Manifest)
        except msgspec.DecodeError as exc:
            raise ArchiveUnavailableError("a manifest of the archive cannot be read") from exc

    async def digests(self, part: Part) -> dict[int, bytes]:
        """Read a part, and return the hash of each of its facts by its position. Raises ArchiveUnavailableError."""
        return await asyncio.to_thread(_digests, await self._lines(part))

    async def _lines(self, part: Part) -> list[bytes]:
        """Read a part, a line for each fact. Raises ArchiveUnavailableError when it is not what was written."""
        lines = zstandard.decompress(await self._read(part.name)).split(b"\n")[:-1]
        if len(lines) != part.facts:
            raise ArchiveUnavailableError("a part of the archive does not hold what its manifest says")
        return lines

    async def _archived(self, notification: UUID) -> list[Row]:
        given = {"week": week_of(notification)}
        async with self._store.connection() as connection:
            row = await (await connection.execute(_ARCHIVED, given, binary=True)).fetchone()
        if row is None:
            return []
        name, now = row
        parts = [one for one in (await self.manifest(name)).parts if one.first <= notification <= one.last]
        return [fact for part in parts for fact in _of(notification, await self._lines(part), now)]

    async def _read(self, name: str) -> bytes:
        body = await self.shelf.get(name)
        if body is None:
            raise ArchiveUnavailableError("something is missing in the archive: look at ARCHIVE_URL")
        if hashlib.sha256(body).hexdigest() not in name:
            raise ArchiveUnavailableError("something in the archive is not what was written")
        return body


def _of(notification: UUID, lines: Sequence[bytes], now: datetime) -> Iterator[Row]:
    beginning = b'{"stream":"%s"' % str(notification).encode()
    for line in lines:
        if line.startswith(beginning):
            fact = _decode(line)
            yield Row(fact.stream, fact.version, fact.topic, bytes(fact.state), fact.position, now)


def _digests(lines: Sequence[bytes]) -> dict[int, bytes]:
    return {
        fact.position: digest_of(
            fact.stream, fact.version, position=fact.position, topic=fact.topic, state=bytes(fact.state)
        )
        for fact in map(_decode, lines)
    }


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode
