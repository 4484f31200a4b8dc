"""Binary Postgres arrays of one fixed element type, and rows of such elements.

psycopg picks the integer type of a list by its values, so each batch would be another statement to prepare; and it
encodes element by element. Here a column of a batch is encoded at once, always with the same type. Small numbers and
words (indexes, versions, topics, lanes) repeat, so their encodings are remembered.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar
from uuid import UUID

from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format
from psycopg.types.numeric import DecimalBinaryDumper

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NULL = b"\xff\xff\xff\xff"


_pack_length = struct.Struct("!i").pack
_pack_int = struct.Struct("!ii").pack
_pack_bigint = struct.Struct("!iq").pack


class Column:
    """Values of one type, as Postgres reads them; None is NULL. The subclasses name the type."""

    array_oid: ClassVar[int]
    element_oid: ClassVar[int]

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def encode(self) -> bytes:
        """Return the array in Postgres' binary format (src/backend/utils/adt/arrayfuncs.c, array_recv)."""
        if not self._values:
            return struct.pack("!iii", 0, 0, self.element_oid)
        element = self.element
        elements = [_NULL if value is None else element(value) for value in self._values]
        header = struct.pack("!iiiii", 1, int(_NULL in elements), self.element_oid, len(elements), 1)
        return header + b"".join(elements)

    @staticmethod
    def element(value: Any) -> bytes:
        """Return one element with its length before it."""
        raise TypeError(f"{type(value).__name__}: a column is one of the subclasses")


class Integers(Column):
    """`integer[]`."""

    array_oid, element_oid = 1007, 23

    @staticmethod
    @lru_cache(maxsize=1024)
    def element(value: int) -> bytes:
        return _pack_int(4, value)


class Bigints(Column):
    """`bigint[]`."""

    array_oid, element_oid = 1016, 20

    @staticmethod
    @lru_cache(maxsize=1024)
    def element(value: int) -> bytes:
        return _pack_bigint(8, value)


class Uuids(Column):
    """`uuid[]`."""

    array_oid, element_oid = 2951, 2950

    @staticmethod
    def element(value: UUID) -> bytes:
        return b"\x00\x00\x00\x10" + value.bytes


class Texts(Column):
    """`text[]`."""

    array_oid, element_oid = 1009, 25

    @staticmethod
    @lru_cache(maxsize=1024)
    def element(value: str) -> bytes:
        data = value.encode()
        return _pack_length(len(data)) + data


class Jsonbs(Column):
    """`jsonb[]`, each value given as text."""

    array_oid, element_oid = 3807, 3802

    @staticmethod
    @lru_cache(maxsize=1024)
    def element(value: str) -> bytes:
        data = value.encode()
        return _pack_length(1 + len(data)) + b"\x01" + data


class Bytes(Column):
    """`bytea[]`."""

    array_oid, element_oid = 1001, 17

    @staticmethod
    def element(value: bytes) -> bytes:
        return _pack_length(len(value)) + value


class Times(Column):
    """`timestamptz[]`."""

    array_oid, element_oid = 1185, 1184

    @staticmethod
    def element(value: datetime) -> bytes:
        return _pack_bigint(8, (value - _EPOCH) // _MICROSECOND)


class Numerics(Column):
    """`numeric[]`."""

    array_oid, element_oid = 1231, 1700

    @staticmethod
    def element(value: Decimal) -> bytes:
        data = bytes(DecimalBinaryDumper(Decimal).dump(value) or b"")
        return _pack_length(len(data)) + data


def copied(types: Sequence[type[Column]], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return rows as COPY reads them in its binary format (https://www.postgresql.org/docs/current/sql-copy.html)."""
    elements = [column.element for column in types]
    width = struct.pack("!h", len(elements))
    parts = [b"PGCOPY\n\xff\r\n\0", bytes(8)]
    for row in rows:
        parts.append(width)
        parts += [_NULL if value is None else element(value) for element, value in zip(elements, row, strict=True)]
    parts.append(b"\xff\xff")
    return b"".join(parts)


def register(adapters: AdaptersMap) -> None:
    """Teach a connection to send columns."""
    for column in (Integers, Bigints, Uuids, Texts, Jsonbs, Bytes, Times, Numerics):
        adapters.register_dumper(column, _dumper(column))


def _dumper(column: type[Column]) -> type[Dumper]:
    class ColumnDumper(Dumper):
        oid = column.array_oid
        format = Format.BINARY

        def dump(self, obj: Column) -> bytes:
            return obj.encode()

    return ColumnDumper
