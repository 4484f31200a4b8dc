"""All that a database holds, as somebody would read it who has every key that is in it."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import psycopg
import zstandard
from psycopg import sql

from ledger.errors import KeyUnavailableError
from ledger.keys import DataKey, KeyEncryption
from ledger.mapping import content_bound_to
from tests.support.postgres import KEY_ENCRYPTION_KEY

# As Postgres writes them within a row.
BYTES = re.compile(r"\\\\x((?:[0-9a-f]{2})*)")
TABLES = """
SELECT relnamespace::regnamespace::text, relname FROM pg_class
WHERE relnamespace IN ('ledger'::regnamespace, 'views'::regnamespace) AND relkind = 'r' ORDER BY 1, 2
"""
FACTS = "SELECT originator_id, originator_version, topic, state FROM ledger.stored_events"
LISTED = (
    "SELECT notification, sealed_version, sealed_topic, sealed FROM views.notification_log WHERE sealed IS NOT NULL"
)
CONTENT = "SELECT notification, digest, body FROM ledger.content"
LETTERS = "SELECT key, body FROM ledger.dead_letter"
REPORTS = "SELECT convert_to(key, 'UTF8'), body FROM ledger.unmatched_report"
KEYS = """
SELECT recipient, wrapped FROM ledger.recipient_key
UNION ALL SELECT 'week:' || week, wrapped FROM ledger.week_key
"""


def everything(url: str) -> str:
    """Return all rows of all tables, and in clear whatever any stored key opens."""
    with psycopg.connect(url) as connection:
        return "\n".join([*_raw(connection), *_opened(connection)])


def _raw(connection: psycopg.Connection) -> Iterator[str]:
    for schema, table in connection.execute(TABLES).fetchall():
        for (row,) in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))):
            yield BYTES.sub(lambda found: bytes.fromhex(found[1]).decode("latin-1"), row)


def _opened(connection: psycopg.Connection) -> Iterator[str]:
    encryption = KeyEncryption([KEY_ENCRYPTION_KEY])
    keys = [DataKey(encryption.unwrap(name, wrapped)) for name, wrapped in connection.execute(KEYS).fetchall()]
    for sealed, bound_to in _sealed(connection):
        for key in keys:
            with suppress(KeyUnavailableError):
                yield _plain(key.open(sealed, bound_to=bound_to))


def _sealed(connection: psycopg.Connection) -> Iterator[tuple[bytes, bytes]]:
    for stream, version, topic, state in connection.execute(FACTS).fetchall():
        fields: dict[str, Any] = msgspec.json.decode(state)
        if "personal" in fields:
            yield msgspec.convert(fields["personal"], bytes), stream.bytes + version.to_bytes(8) + topic.encode()
    for stream, version, topic, sealed in connection.execute(LISTED).fetchall():
        yield sealed, stream.bytes + version.to_bytes(8) + topic.encode()
    for stream, digest, body in connection.execute(CONTENT).fetchall():
        yield body, content_bound_to(stream, digest)
    for key, body in (*connection.execute(LETTERS).fetchall(), *connection.execute(REPORTS).fetchall()):
        yield body, key


def _plain(opened: bytes) -> str:
    with suppress(zstandard.ZstdError):
        opened = zstandard.decompress(opened)
    return opened.decode(errors="replace")
