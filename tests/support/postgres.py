"""A fresh, migrated database for each test, copied from a template that is made once per server."""

import asyncio
import contextlib
import functools
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg
from psycopg import sql

from ledger.keys import KeyEncryption
from ops import embedded, migrations
from tests.support import memory

OWNER_PASSWORD = "test-owner"
APPLICATION_PASSWORD = "test-application"
INSTALLATION = "test"
KEY_ENCRYPTION_KEY = bytes(range(32))
IDENTITY_KEY = bytes(range(32, 64))

# A test that is about durability starts a server of its own; for all others the disk is only slow.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "600",
    "checkpoint_timeout": "30min",
    "max_wal_size": "512MB",
}


class Database(msgspec.Struct, frozen=True):
    """URLs of one test's database: as the application, as the owner, and as the superuser who may look everywhere."""

    name: str
    url: str
    owner_url: str
    superuser_url: str


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Yield the superuser's URL of the test server: the one in TEST_DATABASE_URL, or one started for the while."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="notification-ledger-tests-", dir=memory.folder()) as folder:
        server = embedded.start(Path(folder), settings=FAST)
        try:
            yield server.superuser_url
        finally:
            server.stop()


def template(superuser_url: str) -> str:
    """Return the name of the migrated template database; its partitions are those of this week."""
    return _made(superuser_url, f"template_{_digest_of_migrations()}_{datetime.now(UTC):%Gw%V}")


@functools.cache
def _made(superuser_url: str, name: str) -> str:
    """Make the template unless it is there; workers wait for each other."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('test template'))")
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            _make_template(connection, superuser_url, name=name)
    return name


def _make_template(connection: psycopg.Connection, superuser_url: str, *, name: str) -> None:
    embedded.prepare(superuser_url, owner=OWNER_PASSWORD, application=APPLICATION_PASSWORD)
    part = sql.Identifier(f"{name}_part")
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(part))
    connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(part, sql.Identifier(embedded.OWNER)))
    owner_url = _url(superuser_url, database=f"{name}_part", role=embedded.OWNER, password=OWNER_PASSWORD)
    migrate = migrations.migrate(
        owner_url,
        application_role=embedded.APPLICATION,
        installation=INSTALLATION,
        keys=KeyEncryption([KEY_ENCRYPTION_KEY]),
        identity_key=IDENTITY_KEY,
    )
    asyncio.run(migrate)
    connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(part, sql.Identifier(name)))


@contextlib.contextmanager
def fresh_database(superuser_url: str, template_name: str) -> Iterator[Database]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(
            # The default writes each page of the 600 relations to the log as well: half of the time.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template_name), sql.Identifier(embedded.OWNER)
            )
        )
    try:
        yield Database(
            name=name,
            url=_url(superuser_url, database=name, role=embedded.APPLICATION, password=APPLICATION_PASSWORD),
            owner_url=_url(superuser_url, database=name, role=embedded.OWNER, password=OWNER_PASSWORD),
            superuser_url=urlunsplit(urlsplit(superuser_url)._replace(path=f"/{name}")),
        )
    finally:
        with psycopg.connect(superuser_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _url(superuser_url: str, *, database: str, role: str, password: str) -> str:
    parts = urlsplit(superuser_url)
    return urlunsplit(
        parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port or 5432}", path=f"/{database}")
    )


@functools.cache
def _digest_of_migrations() -> str:
    folder = Path(migrations.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".py", ".sql"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
