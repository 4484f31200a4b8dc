"""The service under measurement: its real roles as processes on a database of their own, and what it says."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence

import httpx
import msgspec
import psycopg

from bench import mails, processes
from bench.lab import Lab
from bench.processes import MeasurementError
from ops.secrets import AUDIENCE, ISSUER, secrets_in
from tests.support import ports
from tests.support.postgres import Database
from tests.support.service import SHARED

TOPIC = "arn:aws:sns:eu-west-1:000000000000:bench"
# One word for each process: the roles that share it. While messages come in, publisher and broker need a core; after
# that both cores can deliver.
LAYOUT = os.environ.get("WORKERS") or "ingest+project deliver deliver"

_HEAD = "SELECT coalesce(max(notification_id), 0) FROM ledger.stored_events"
_FOLDED = """
SELECT coalesce(min(position), 0) FROM ledger.follower WHERE name <> 'rebuild' AND right(name, 5) <> '_anew'
"""
_TOPICS = "SELECT topic, count(*) FROM ledger.stored_events WHERE notification_id > %s GROUP BY topic"
# The first six bytes of a notification's id are the milliseconds of its request.
_WAITING = """
SELECT count(*), coalesce(extract(epoch FROM now()) - min(
    ('x0000' || left(replace(notification::text, '-', ''), 12))::bit(64)::bigint / 1000.0), 0)
FROM ledger.agenda
"""
_DEVICES = "SELECT count(*) FROM ledger.stored_events WHERE topic = 'recipient.device_registered'"
_CARRIED = """
SELECT convert_from(state, 'UTF8')::jsonb ->> 'provider', count(*) FROM ledger.stored_events
WHERE notification_id > %s AND topic = 'notification.dispatched' GROUP BY 1
"""
_DISPATCHED = "SELECT count(*) FROM views.notification_log WHERE position > %s AND status = 'dispatched'"
_MESSAGES = "SELECT message_id, notification::text FROM views.notification_log WHERE message_id = ANY(%s)"
_REFERENCES = """
SELECT reference, notification::text, attempt::text FROM ledger.provider_reference ORDER BY recorded_at DESC LIMIT %s
"""


class Reference(msgspec.Struct, frozen=True):
    """An attempt that the provider took, and its name for it."""

    reference: str
    notification: str
    attempt: str


class Service:
    """One database and the processes that work on it; `token` carries every scope."""

    def __init__(self, lab: Lab, database: Database, connection: psycopg.Connection) -> None:
        self.lab = lab
        self.database = database
        self._connection = connection
        secrets = secrets_in(lab.folder)
        self.token = secrets.token(subject="bench", now=time.time())
        self._keys = lab.folder / "jwks.json"
        self._keys.write_bytes(msgspec.json.encode(secrets.public_keys()))

    @contextlib.contextmanager
    def workers(self, layout: str = LAYOUT, **settings: str) -> Iterator[None]:
        """Run ingest, deliver and project while the block runs."""
        with contextlib.ExitStack() as stack:
            for roles in layout.split():
                stack.enter_context(self.process(roles.split("+"), AMQP_URL=self.lab.amqp_url, **settings))
            yield

    @contextlib.contextmanager
    def api(self, **settings: str) -> Iterator[int]:
        """Run the HTTP API while the block runs; yields its port."""
        port = ports.free()
        with self.process(["api"], PORT=str(port), **settings):
            yield port

    @contextlib.contextmanager
    def process(self, roles: Sequence[str], **settings: str) -> Iterator[int]:
        """Run some roles in one process while the block runs; yields its pid."""
        ops_port = ports.free()
        environment = {**self.settings(), **settings, "OPS_PORT": str(ops_port)}
        with processes.running("-m", "bench.worker", *roles, log=self.lab.log, environment=environment) as process:
            processes.until(lambda: _lives(ops_port) or process.poll() is not None, f"the roles {roles}")
            if process.poll() is not None:
                raise MeasurementError(f"{roles} did not start: {self.lab.log.read_text()[-2000:]}")
            yield process.pid
            self.lab.resident.append(processes.resident_megabytes(process.pid))

    def settings(self) -> dict[str, str]:
        """Return the settings of every process of it."""
        return {
            **SHARED,
            "DATABASE_URL": self.database.url,
            "SES_ENDPOINT_URL": self.lab.stub.url,
            "SES_CERTIFICATE_ORIGIN": self.lab.stub.url,
            "SES_TOPIC_ARNS": TOPIC,
            "CATALOGUE": str(mails.CATALOGUE),
            "TEMPLATES": str(self.lab.templates),
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "JWT_JWKS_URL": self._keys.absolute().as_uri(),
            "LOG_LEVEL": "warning",
        }

    def head(self) -> int:
        """Return the last position of the log."""
        return self._one(_HEAD)

    def folded(self) -> int:
        """Return the last position that every view has folded."""
        return self._one(_FOLDED)

    def dispatched(self, *, after: int) -> int:
        """Count the notifications that the list shows as dispatched by facts behind a position."""
        return self._one(_DISPATCHED, after)

    def facts(self, *, after: int) -> dict[str, int]:
        """Count the facts behind a position by topic."""
        return dict(self._connection.execute(_TOPICS, (after,)).fetchall())

    def notifications(self, messages: Sequence[str]) -> dict[str, str]:
        """Return the notification of each message."""
        return dict(self._connection.execute(_MESSAGES, (list(messages),)).fetchall())

    def waiting(self) -> tuple[int, float]:
        """Return how many notifications are on the agenda, and how many seconds old the oldest of them is."""
        row = self._connection.execute(_WAITING).fetchone()
        return (int(row[0]), float(row[1])) if row else (0, 0.0)

    def carried(self, *, after: int) -> dict[str, int]:
        """Count what providers have taken by facts behind a position, by provider."""
        return dict(self._connection.execute(_CARRIED, (after,)).fetchall())

    def devices(self) -> int:
        """Count the devices that were registered."""
        return self._one(_DEVICES)

    def references(self, count: int) -> list[Reference]:
        """Return attempts that the provider took, the latest first."""
        return [Reference(*row) for row in self._connection.execute(_REFERENCES, (count,)).fetchall()]

    def _one(self, statement: str, *given: int) -> int:
        row = self._connection.execute(statement, given or None).fetchone()
        return int(row[0]) if row else 0


@contextlib.contextmanager
def service(lab: Lab) -> Iterator[Service]:
    """Yield a service on a fresh database."""
    with lab.database() as database, psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield Service(lab, database, connection)


def _lives(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/liveness").is_success
    except httpx.TransportError:
        return False
