"""The sandbox: the whole service in one process, on an embedded Postgres, with providers that are servers of ours."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import uvloop

from ledger.keys import KeyEncryption
from ops import embedded
from ops.errors import OperationError
from ops.logs import configure
from ops.migrations import migrate
from ops.process import stop_on_signals, working
from ops.secrets import AUDIENCE, ISSUER, Secrets, secrets_in
from ops.settings import Settings, load
from providers.fakes.fcm import FakeFcm
from providers.fakes.ses import FakeSes
from providers.fakes.smtp import FakeSmtp
from providers.fakes.twilio import ACCOUNT, TOKEN, FakeTwilio

HOST = "127.0.0.1"
TOPIC = "arn:aws:sns:eu-west-1:000000000000:notification-ledger-sandbox"
_FCM_KEY = "fcm.json"
_MAGIC = ("success", "bounce", "soft-bounce", "complaint", "throttled", "refused")
# Taken and delivered, taken and not delivered, refused: the magic numbers of the fake.
_NUMBERS = ("+15005550001", "+15005550003", "+15005550002")


def run(*, data: Path, port: int, demo: int) -> None:
    """Run the sandbox until Ctrl-C or SIGTERM. `demo` is how many demo messages it opens with."""
    configure(os.environ.get("LOG_LEVEL", "warning"))
    data.mkdir(parents=True, exist_ok=True)
    secrets = secrets_in(data)
    try:
        server = embedded.start(data / "postgres")
    except embedded.PostgresStartError as exc:
        raise OperationError(str(exc)) from exc
    try:
        uvloop.run(_run(server, secrets, data=data, port=port, demo=demo))
    finally:
        server.stop()


async def _run(server: embedded.Server, secrets: Secrets, *, data: Path, port: int, demo: int) -> None:
    stopping = stop_on_signals()
    (data / "jwks.json").write_bytes(msgspec.json.encode(secrets.public_keys()))
    fake = await _start_fake(port, data)
    relay = await _start_relay(port, fake)
    twilio = await _start_twilio(port, data)
    phones = await _start_phones(port, data)
    urls = {"SES_ENDPOINT_URL": fake.url, "SES_CERTIFICATE_ORIGIN": fake.url, "SMTP_URL": relay.url}
    urls |= {"TWILIO_BASE_URL": twilio.url, "FCM_BASE_URL": phones.url}
    settings = _settings(server, secrets, urls, port=port, data=data)
    try:
        await migrate(
            server.migration_database_url,
            application_role=settings.application_role,
            installation=settings.installation,
            keys=KeyEncryption(settings.encryption_keys()),
        )
        roles = ["api", "deliver", "project", "maintain", *(["ingest"] if settings.amqp_url else [])]
        async with working(settings, roles, failed=stopping.set, offered=partial(_token, secrets)) as running:
            token = _token(secrets)
            _announce(port, token, inbox=fake.url, sms=twilio.url, phones=phones.url)
            await _post_demo(f"http://{HOST}:{port}", token, demo)
            await stopping.wait()
        if running.failed:
            raise OperationError("a role ended by itself; the log says why")
    finally:
        await phones.stop()
        await twilio.stop()
        await relay.stop()
        await fake.stop()


def _token(secrets: Secrets) -> str:
    return secrets.token(subject="sandbox", now=time.time())


async def _start_fake(port: int, data: Path) -> FakeSes:
    callback_url = f"http://{HOST}:{port}/callbacks/ses"
    with _taken(port + 1):
        return await FakeSes.start(HOST, port + 1, callback_url=callback_url, topic=TOPIC, log=data / "ses.jsonl")


async def _start_relay(port: int, ses: FakeSes) -> FakeSmtp:
    """Start the relay that mail takes when SES is shut; both have one inbox."""
    with _taken(port + 3):
        return await FakeSmtp.start(HOST, port + 3, log=ses.log)


async def _start_twilio(port: int, data: Path) -> FakeTwilio:
    inbound_url = f"http://{HOST}:{port}/callbacks/twilio/inbound"
    with _taken(port + 4):
        return await FakeTwilio.start(HOST, port + 4, inbound_url=inbound_url, log=data / "twilio.jsonl")


async def _start_phones(port: int, data: Path) -> FakeFcm:
    """Start the provider of pushes with the phones behind it; the key of its account lies in DATA/fcm.json."""
    with _taken(port + 5):
        fake = await FakeFcm.start(HOST, port + 5, service_url=f"http://{HOST}:{port}", log=data / "fcm.jsonl")
    key = data / _FCM_KEY
    key.touch(mode=0o600)
    key.write_text(fake.credentials)
    return fake


@contextlib.contextmanager
def _taken(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OperationError(f"port {port} on {HOST} cannot be used: {exc.strerror}") from exc


def _settings(
    server: embedded.Server, secrets: Secrets, providers: Mapping[str, str], *, port: int, data: Path
) -> Settings:
    """Fill in what a sandbox knows by itself; what stands in the environment (AMQP_URL, …) is taken from there.

    The same settings are left in DATA/settings.env, for the commands that look into a running sandbox.
    """
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "sandbox")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "sandbox")
    given = {
        "DATABASE_URL": server.database_url,
        "KEY_ENCRYPTION_KEY": secrets.key_encryption_key,
        "INSTALLATION": "sandbox",
        "RECIPIENT_ALLOW_LIST": "*",
        "TEST_RECIPIENTS": "*",
        "AWS_REGION": "eu-west-1",
        "SES_TOPIC_ARNS": TOPIC,
        "CHANNELS": "email,sms,push",
        "SMS_SENDER": "+15005550006",
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "PUBLIC_URL": f"http://{HOST}:{port}",
        "FCM_CREDENTIALS_FILE": str((data / _FCM_KEY).absolute()),
        **providers,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_JWKS_URL": (data / "jwks.json").absolute().as_uri(),
        "PORT": str(port),
        "OPS_PORT": str(port + 2),
        "HOST": HOST,
    }
    kept = data / "settings.env"
    kept.touch(mode=0o600)
    kept.write_text("".join(f"{name}='{value}'\n" for name, value in given.items()))
    return load({**os.environ, **given}, dotenv=None)


def _announce(port: int, token: str, *, inbox: str, sms: str, phones: str) -> None:
    sys.stdout.write(f"token {token}\n")
    sys.stdout.write(f"inbox {inbox}/inbox\nsms {sms}/inbox\nphones {phones}/inbox\n")
    sys.stdout.write(f"console http://{HOST}:{port}/console/\nready http://{HOST}:{port}\n")
    sys.stdout.flush()


async def _post_demo(url: str, token: str, count: int) -> None:
    """Post sample messages as if they had just happened, about the people first; every one has an id of its own."""
    samples = msgspec.json.decode(resources.files("ops").joinpath("samples.json").read_bytes())
    people, messages = samples["people"] if count else [], samples["messages"]
    turns = [(messages[number % len(messages)], number // len(messages)) for number in range(count)]
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for sample, turn in [*((one, 0) for one in people), *turns]:
            message = _now(sample, turn)
            async with session.post(f"{url}/v1/messages", data=msgspec.json.encode(message)) as reply:
                await reply.read()


def _now(sample: dict[str, Any], turn: int) -> dict[str, Any]:
    """Return a sample as news; each turn of all samples goes to addresses that show another path."""
    message_id = str(uuid4())
    payload = {key: _magic(key, value, turn, message_id[:8]) for key, value in sample["payload"].items()}
    return {**sample, "messageId": message_id, "timestamp": datetime.now(UTC).isoformat(), "payload": payload}


def _magic(key: str, value: Any, turn: int, tag: str) -> Any:
    """Return a value of a payload; each mail has an address of its own (`tag`), for one that bounces is suppressed."""
    match key:
        case "emailAddress" | "userEmail":
            return f"{_MAGIC[turn % len(_MAGIC)]}+{str(value).partition('@')[0]}-{tag}@sandbox.example"
        case "phoneNumber" | "userPhoneNumber":
            return _NUMBERS[turn % len(_NUMBERS)]
        case _:
            return value
