"""Secrets that change under traffic: nothing fails, nothing is sent twice, and what is faulty changes nothing."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import psycopg
import pytest
from psycopg import sql

from handlers.intake import TakenIn
from ledger.status import Status
from ops import embedded
from ops.settings import load
from ops.wiring import parts
from providers.fakes.ses import FakeSes
from providers.fakes.twilio import ACCOUNT, FakeTwilio
from tests.acceptance.audit import Audit, count, unfinished
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message, shipped
from tests.support import ports
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import SHARED, Process, reached, until

RELOADS, FAILURES = "notification_settings_reloads_total", "notification_settings_reload_failures_total"
# Long enough for each secret to change, short enough to end with the test.
PAUSE = 0.05
NOTHING = sql.SQL("")


class Secret:
    """A secret in a file. `values` are all that it has ever held: none of them may stand in a log."""

    def __init__(self, path: Path, first: str) -> None:
        self.path = path
        self.values = [first]
        path.write_text(first)

    def becomes(self, value: str) -> None:
        self.values.append(value)
        beside = self.path.with_suffix(".new")
        beside.write_text(value)
        beside.replace(self.path)


class Role:
    """A login with the application's rights, whose password is this test's to change."""

    def __init__(self, database: Database) -> None:
        self._superuser_url = database.superuser_url
        self._url = database.url
        self.name = f"rotated_{secrets.token_hex(6)}"
        self.password = ""
        self._execute("CREATE ROLE {} LOGIN IN ROLE {}", sql.Identifier(embedded.APPLICATION))
        self._execute("ALTER ROLE {} SET role = {}", sql.Identifier(embedded.APPLICATION))

    def has_password(self) -> str:
        """Give it a new password and return its URL."""
        self.password = secrets.token_hex(12)
        self._execute("ALTER ROLE {} PASSWORD {}", sql.Literal(self.password))
        return self._url.replace(self._url.split("//")[1].split("@")[0], f"{self.name}:{self.password}")

    def end_sessions(self) -> None:
        self._execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {2}")

    def drop(self) -> None:
        self.end_sessions()
        self._execute("DROP ROLE {}")

    def _execute(self, statement: str, argument: sql.Composable = NOTHING) -> None:
        with psycopg.connect(self._superuser_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(self.name), argument, sql.Literal(self.name)))


def aws(key: str) -> str:
    return f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secrets.token_hex(16)}\n"


@pytest.fixture
async def ses() -> AsyncIterator[FakeSes]:
    fake = await FakeSes.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def twilio() -> AsyncIterator[FakeTwilio]:
    fake = await FakeTwilio.start(auth_token=secrets.token_hex(16))
    yield fake
    await fake.stop()


@pytest.fixture
def role(database: Database) -> Iterator[Role]:
    role = Role(database)
    yield role
    role.drop()


@asynccontextmanager
async def traffic(url: str) -> AsyncIterator[list[str]]:
    """Take in a mail and an SMS each moment while the block runs; yields the ids of the messages."""
    sent: list[str] = []
    done = asyncio.Event()

    async def keep_on() -> None:
        async with parts(load({**SHARED, "DATABASE_URL": url, "CHANNELS": "email,sms"}, dotenv=None)) as given:
            while not done.is_set():
                some = [*shipped(1), message("TwoFactorAuthCodeEvent", phoneNumber="+447700900123")]
                results = await given.take_in.messages([msgspec.json.encode(one) for one in some], by="test")
                assert all(isinstance(result, TakenIn) for result in results)
                sent.extend(one["messageId"] for one in some)
                await asyncio.sleep(PAUSE)

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_on())
        try:
            yield sent
        finally:
            done.set()


async def test_i06_every_secret_can_be_rotated_under_traffic_and_a_faulty_one_changes_nothing(
    database: Database, ses: FakeSes, twilio: FakeTwilio, role: Role, tmp_path: Path
):
    port = ports.free()
    token = Secret(tmp_path / "token", twilio.auth_token)
    keys = Secret(tmp_path / "aws", aws("AKIAFIRST"))
    login = Secret(tmp_path / "database", role.has_password())
    wrapping = Secret(tmp_path / "wrapping", SHARED["KEY_ENCRYPTION_KEY"])
    ses.access_keys = {"AKIAFIRST"}
    settings = {
        "DATABASE_URL_FILE": str(login.path),
        "KEY_ENCRYPTION_KEY_FILE": str(wrapping.path),
        "TWILIO_AUTH_TOKEN_FILE": str(token.path),
        "AWS_SHARED_CREDENTIALS_FILE": str(keys.path),
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "SES_ENDPOINT_URL": ses.url,
        "TWILIO_BASE_URL": twilio.url,
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "SMS_SENDER": "+15005550006",
        "CHANNELS": "email,sms",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "PORT": str(port),
        "JWT_ISSUER": "test",
        "JWT_AUDIENCE": "test",
        "JWT_JWKS_URL": (tmp_path / "jwks.json").as_uri(),
    }
    async with processes.running(tmp_path, **settings) as service:
        async with traffic(database.url) as sent:
            both = await asyncio.gather(service.start("deliver"), service.start("api"))
            await reached(lambda: min(len(ses.requests), len(twilio.requests)), 5, "mails and SMS")

            # As the page says: what is new is given first, beside what is old; then the old one ends.
            old, new, wrap = (
                twilio.auth_token,
                secrets.token_hex(16),
                base64.b64encode(secrets.token_bytes(32)).decode(),
            )
            twilio.secondary_token = new
            ses.access_keys |= {"AKIASECOND"}
            token.becomes(f"{new},{old}")
            keys.becomes(aws("AKIASECOND"))
            wrapping.becomes(f"{wrapping.values[0]},{wrap}")
            await renewed(both, "TWILIO_AUTH_TOKEN", "AWS_SHARED_CREDENTIALS_FILE", "KEY_ENCRYPTION_KEY")
            await what_was_under_way_ended(database)
            twilio.auth_token, twilio.secondary_token = new, None
            ses.access_keys = {"AKIASECOND"}
            await twilio.called_back()
            token.becomes(new)
            login.becomes(role.has_password())
            await renewed(both, "DATABASE_URL")

            token.becomes(" ")
            wrapping.becomes(wrap)
            await counted(both, FAILURES, "TWILIO_AUTH_TOKEN", "KEY_ENCRYPTION_KEY")
            most = len(sent)
            await until(lambda: len(ses.requests) + len(twilio.requests) > most, "what was sent since")
        await until(lambda: unfinished(database.url) == 0, "the end of all that is due")
        await twilio.called_back()
        # Now that nothing is under way, every session must be opened anew.
        role.end_sessions()
        (last,) = shipped(1)
        await take_in(database.url, [last])
        await until(lambda: unfinished(database.url) == 0, "the end of the last one")
        await service.stop_all()
        logs = service.logs()
    audit = Audit(database.url, [*ses.requests, *twilio.requests])
    assert audit.violations() == []
    assert {*audit.message_ids()} == {*sent, last["messageId"]}
    assert len(ses.requests) + len(twilio.requests) == len(audit.states)
    failed = [audit.told(stream) for stream in audit.states if "attempt_failed" in audit.history(stream)]
    assert failed == [], failed[0]
    assert {*audit.statuses()} == {Status.DISPATCHED, Status.DELIVERED}
    assert [value for secret in (token, keys, login, wrapping) for value in parts_of(secret) if value in logs] == []


async def what_was_under_way_ended(database: Database) -> None:
    """Wait for the end of the requests that the old secrets may still have gone with."""
    head = count(database.url, "SELECT max(notification_id) FROM ledger.stored_events")
    left = f"""
        SELECT count(*) FROM ledger.stored_events a
        WHERE topic = 'notification.attempt_started' AND notification_id <= {head} AND NOT EXISTS (
            SELECT FROM ledger.stored_events e
            WHERE e.originator_id = a.originator_id AND e.topic = 'notification.dispatched'
        )
    """
    await until(lambda: count(database.url, left) == 0, "the end of what was under way")


async def renewed(roles: Sequence[Process], *settings: str) -> None:
    await counted(roles, RELOADS, *settings)


async def counted(roles: Sequence[Process], metric: str, *settings: str) -> None:
    """Wait until each process has counted each of these settings."""
    for process in roles:
        for setting in settings:
            await reached(partial(_read, process, metric, setting), 1, f"{metric} of {setting}")


def _read(process: Process, metric: str, setting: str) -> int:
    return int(process.metric(metric, setting=setting))


def parts_of(secret: Secret) -> list[str]:
    """The words of a secret that are secret themselves."""
    words = (
        word for value in secret.values for line in value.split("\n") for word in line.split("=", 1)[-1].split(",")
    )
    return [word.strip().split("@")[0].rpartition(":")[2] for word in words if len(word.strip()) >= 16]
