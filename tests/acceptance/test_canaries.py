"""Nobody is named where nobody is looked for: what people and secrets are called is in every message and every setting
of this test, over every channel and every failure, and in no line, metric, header, reason or answer that is not theirs.
"""

import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import httpx
import msgspec
import psycopg
import pytest
from psycopg import sql

from handlers.publish import UNROUTED
from ops.secrets import AUDIENCE, ISSUER, Secrets, secrets_in
from providers.fakes.fcm import Behaviour as Pushed
from providers.fakes.fcm import FakeFcm
from providers.fakes.ses import TOPIC, FakeSes
from providers.fakes.ses import Behaviour as Mailed
from providers.fakes.smtp import FakeSmtp
from providers.fakes.twilio import ACCOUNT, FakeTwilio
from providers.fakes.twilio import Behaviour as Texted
from tests.acceptance.audit import dead_letters
from tests.acceptance.traffic import Message, declared, message, publish
from tests.support import ports
from tests.support import service as processes
from tests.support.postgres import APPLICATION_PASSWORD, Database
from tests.support.rabbitmq import Broker
from tests.support.service import SHARED, Process, until

NAME, WORDS, FID, NUMBER = "adacanary", "wordcanary", "fidcanary", "+447400990457"
TOKEN, BEARER = "twiliocanary", "bearercanary"
ADDRESS = f"{{}}+{NAME}@sandbox.example"
# A person's own id is hashed in logs; services know it, and are told it.
USER, CORRELATION = "usercanary", "corrcanary@sandbox.example"
PERSON = f"/v1/recipients/{USER}"
KINDS = ("success", "bounce", "soft-bounce", "complaint", "timeout", "throttled", "refused")
PEOPLE = (NAME, WORDS, FID, NUMBER[1:], NUMBER[3:], BEARER)
SECRETS = (TOKEN, APPLICATION_PASSWORD, SHARED["KEY_ENCRYPTION_KEY"], "BEGIN PRIVATE KEY")
FIELDS = {"timestamp", "level", "event", "logger"}
OF_AN_ATTEMPT = {"message_id", "notification_id", "user_id", "channel", "provider", "attempt", "outcome"}
EVENTS = {
    "message_taken_in",
    "message_refused",
    "message_conflicts",
    "unknown_message_type",
    "dead_letter",
    "judged",
    "attempt_started",
    "attempt_answered",
    "report",
    "ended",
    "callback_refused",
    "personal_data_read",
}
OUTCOMES = {"accepted", "refused", "postponed", "in_doubt"}


class Fakes(msgspec.Struct):
    """One provider of each kind."""

    mails: FakeSes
    relay: FakeSmtp
    texts: FakeTwilio
    pushes: FakeFcm


@pytest.fixture
async def fakes(fake: FakeSes) -> AsyncIterator[Fakes]:
    texts, pushes = await FakeTwilio.start(auth_token=TOKEN), await FakeFcm.start()
    relay = await FakeSmtp.start()
    yield Fakes(fake, relay, texts, pushes)
    for one in (relay, pushes, texts):
        await one.stop()


class Running(msgspec.Struct):
    """The whole service in one process, logging all that it can."""

    process: Process
    url: str
    secrets: Secrets

    def lines(self) -> list[dict[str, Any]]:
        """Read every line that it has written to the end; each is a JSON object."""
        return [json.loads(line) for line in self.process.log().splitlines(keepends=True) if line.endswith("\n")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == name]

    def outcomes(self) -> set[str]:
        return {line["outcome"] for line in self.events("attempt_answered")}

    def as_(self, *scopes: str) -> dict[str, str]:
        token = self.secrets.token(subject="support", now=datetime.now(UTC).timestamp(), scopes=scopes)
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def running(database: Database, broker: Broker, fakes: Fakes, tmp_path: Path) -> AsyncIterator[Running]:
    secrets, keys, port = secrets_in(tmp_path), tmp_path / "jwks.json", ports.free()
    keys.write_bytes(msgspec.json.encode(secrets.public_keys()))
    url = f"http://127.0.0.1:{port}"
    settings = {
        "DATABASE_URL": database.url,
        "AMQP_URL": broker.url,
        "CHANNELS": "email,sms,push",
        "SES_ENDPOINT_URL": fakes.mails.url,
        "SES_TOPIC_ARNS": TOPIC,
        "SES_CERTIFICATE_ORIGIN": fakes.mails.url,
        "SMTP_URL": fakes.relay.url,
        "SMS_SENDER": "+15005550006",
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "TWILIO_BASE_URL": fakes.texts.url,
        "PUBLIC_URL": url,
        "FCM_BASE_URL": fakes.pushes.url,
        "FCM_CREDENTIALS": fakes.pushes.credentials,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_JWKS_URL": keys.as_uri(),
        "PORT": str(port),
        "LOG_LEVEL": "debug",
    }
    await declared(broker.url)
    async with processes.running(tmp_path, **settings) as service:
        process = await service.start("all")
        await fakes.mails.topic.subscribe(f"{url}/callbacks/ses")
        yield Running(process, url, secrets)


def asking() -> list[Message]:
    """Something for every channel, and a mail for each thing that befalls one."""
    person = {"userId": USER, "firstName": NAME}
    mails = [
        message("PasswordResetRequestedEvent", **person, emailAddress=ADDRESS.format(kind), resetLink=link())
        for kind in KINDS
    ]
    others = [
        message("OrderShippedEvent", **person, userEmail=ADDRESS.format("success")),
        message("OrderConfirmedEvent", **person, userEmail=ADDRESS.format("success"), userPhoneNumber=NUMBER),
    ]
    return [{**one, "correlationId": CORRELATION} for one in (*mails, *others)]


def link() -> str:
    return f"https://shop.example/{WORDS}"


def about_people() -> list[Message]:
    now = datetime.now(UTC).isoformat()

    def about(message_type: str, **payload: Any) -> Message:
        envelope = {"messageId": str(uuid4()), "messageType": message_type, "sourceService": "UserService"}
        return {**envelope, "timestamp": now, "payload": {"userId": USER, **payload}}

    return [
        about("UserContactChangedEvent", emailAddress=ADDRESS.format("success"), phoneNumber=NUMBER, firstName=NAME),
        about("DeviceRegisteredEvent", fid=f"phone-{FID}", platform="ios"),
        about("DeviceRegisteredEvent", fid=f"unregistered-{FID}", platform="android"),
        about("UserPreferencesChangedEvent", consents=[{"purpose": "offers", "granted": False, "at": now}]),
    ]


def bad() -> list[bytes]:
    good = message("OrderShippedEvent", firstName=NAME, userEmail=ADDRESS.format("success"))
    return [
        f"Dear {ADDRESS}".encode(),
        json.dumps({ADDRESS: NAME}).encode(),
        json.dumps({**good, "payload": {"userEmail": [NAME], NAME: WORDS}}).encode(),
        json.dumps({**good, "messageType": f"{NAME}@sandbox.example"}).encode(),
        json.dumps({**good, "messageId": CORRELATION, "sourceService": CORRELATION, "payload": NUMBER}).encode(),
    ]


async def refused_requests(running: Running) -> list[httpx.Response]:
    """Ask for what is not given, each time with what must not come back."""
    reader, writer = running.as_("notifications:read"), running.as_("notifications:write")
    keeper = running.as_("recipients:write")
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        conflicting = message("OrderShippedEvent", firstName=NAME, userEmail=ADDRESS.format("success"))
        await client.post("/v1/messages", json=conflicting, headers=writer)
        conflicting["payload"]["firstName"] = WORDS
        return [
            await client.post("/v1/messages", json=conflicting, headers=writer),
            await client.post("/v1/messages", content=f'{{"{NAME}": ', headers=writer),
            await client.post("/v1/notifications", json={"type": NAME, "recipient": {WORDS: NAME}}, headers=writer),
            await client.get(f"/v1/notifications/{NAME}", headers=reader),
            await client.get("/v1/notifications", params={"status": NAME, ADDRESS.format("x"): WORDS}, headers=reader),
            await client.get("/v1/notifications", headers={"Authorization": f"Bearer {BEARER}"}),
            await client.post("/callbacks/ses", content=f"{NAME} {WORDS}"),
            await client.post(f"/callbacks/twilio?To={NUMBER[1:]}", headers={"X-Twilio-Signature": BEARER}),
            await client.post(f"/v1/receipts/{BEARER}", json={"kind": NAME}),
            await client.patch(f"{PERSON}/preferences", json={ADDRESS: WORDS, "consents": [NAME]}, headers=keeper),
        ]


async def shown(running: Running) -> list[httpx.Response]:
    """What those are shown who may not see people, of every notification; and one unmasked look."""
    reader = running.as_("notifications:read")
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        found = await client.post("/v1/notifications/search", json={"recipient": NUMBER}, headers=reader)
        listed = await client.get("/v1/notifications", params={"limit": 200}, headers=reader)
        ids = [one["id"] for one in listed.json()["notifications"]]
        single = [await client.get(f"/v1/notifications/{one}", headers=reader) for one in ids]
        single += [await client.get(f"/v1/notifications/{one}/history", headers=reader) for one in ids]
        single += [await client.get(f"{PERSON}{part}", headers=reader) for part in ("", "/preferences", "/history")]
        assert {reply.status_code for reply in single} == {200}
        await client.get(f"/v1/notifications/{ids[0]}", headers=running.as_("notifications:read", "pii:read"))
        return [found, listed, *single]


def with_trouble(fakes: Fakes) -> None:
    """From now on every provider says in its errors what it was given."""
    said = f"{ADDRESS.format('x')} {NUMBER} {FID} {WORDS}"
    fakes.mails.behaviour = Mailed(status=500, code="InternalFailure", message=said)
    fakes.texts.behaviour = Texted(status=400, code=21211, message=said)
    fakes.pushes.behaviour = Pushed(status=400, state="INVALID_ARGUMENT", message=said)


async def without_database(database: Database, running: Running) -> None:
    """Take the database away for as long as it takes to be missed, and give it back."""
    allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    before = len(running.lines())
    async with await psycopg.AsyncConnection.connect(_beside(database), autocommit=True) as connection:
        await connection.execute(allow.format(sql.Identifier(database.name), sql.SQL("false")))
        try:
            await connection.execute(end, [database.name])
            missed = {"claiming_waits", "signals_lost", "follower_lost", "gauges_stale"}
            await until(lambda: bool(missed & {line["event"] for line in running.lines()[before:]}), "the trouble")
        finally:
            await connection.execute(allow.format(sql.Identifier(database.name), sql.SQL("true")))


def _beside(database: Database) -> str:
    return database.superuser_url.removesuffix(database.name) + "postgres"


async def published(broker: Broker) -> list[str]:
    """Return the status messages as they lie in the broker: their bodies, headers and routing keys."""
    found = []
    async with await aio_pika.connect(broker.url) as connection:
        queue = await (await connection.channel()).get_queue(UNROUTED, ensure=False)
        while (one := await queue.get(fail=False)) is not None:
            told = json.loads(one.body)
            # The message's own names go back to whoever gave them.
            told = {**told, "correlationId": None, "payload": {**told["payload"], "origin": None}}
            found.append(f"{told} {dict(one.headers)} {one.routing_key}")
    return found


def canaries_in(texts: Iterable[str], canaries: Iterable[str]) -> list[tuple[str, str]]:
    """Return each canary that stands in a text, with what is around it."""
    return [(one, text[max(0, text.find(one) - 200) :][:400]) for text in texts for one in canaries if one in text]


async def test_i18_nobody_is_named_in_logs_metrics_reasons_headers_and_answers_whatever_goes_wrong(
    running: Running, fakes: Fakes, broker: Broker, database: Database
):
    unknown = {**message("OrderShippedEvent", firstName=NAME), "messageType": "NobodyKnowsThisEvent"}
    await publish(broker.url, [*about_people(), *asking(), *bad(), unknown])
    answers = await refused_requests(running)
    await until(lambda: running.outcomes() >= OUTCOMES, "every outcome")
    await until(lambda: len(dead_letters(database.url)) == len(bad()), "the dead letters")
    with_trouble(fakes)
    await publish(broker.url, asking())
    await until(lambda: len(running.events("attempt_answered")) >= 30, "the answers in trouble")
    await without_database(database, running)
    answers += await shown(running)
    await until(lambda: {line["event"] for line in running.lines()} >= EVENTS, "every point")

    assert canaries_in([running.process.log()], (*PEOPLE, *SECRETS, USER, CORRELATION)) == []
    assert canaries_in([reply.text for reply in answers], (*PEOPLE, *SECRETS)) == []
    assert canaries_in([running.process.ask("/metrics").text], (*PEOPLE, *SECRETS, USER, CORRELATION)) == []
    assert canaries_in([str(letter) for letter in dead_letters(database.url)], PEOPLE) == []
    status_messages = await published(broker)
    assert len(status_messages) > 10
    assert canaries_in(status_messages, PEOPLE) == []

    assert all(line.keys() >= FIELDS for line in running.lines())
    assert all(line.keys() >= OF_AN_ATTEMPT for line in running.events("attempt_answered"))
