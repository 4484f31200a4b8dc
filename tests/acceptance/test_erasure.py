"""Two people in everything that the service holds, and one of them erased: nobody can read her, and he is all there."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
import zstandard

from ledger import notification as n
from ledger.decision import Decision, NewFact
from ledger.ids import notification_id
from ledger.notification import Origin
from ledger.values import Personal, Report, ReportKind
from ops import postgres_programs
from ops.secrets import AUDIENCE, ISSUER, Secrets, secrets_in
from ops.settings import load
from ops.wiring import parts
from providers.fakes.ses import TOPIC, FakeSes
from tests.acceptance.audit import Audit, count, dead_letters
from tests.acceptance.sealed import everything
from tests.acceptance.traffic import USERS, Message, declared, message, publish
from tests.integration.ledger.parts import request
from tests.integration.old_weeks import drop_contents, make_weeks, weeks_ago
from tests.support import ports
from tests.support import service as processes
from tests.support.postgres import Database, fresh_database
from tests.support.rabbitmq import Broker
from tests.support.service import SHARED, Process, Service, until

WHY = {"reason": "asked for by letter"}
UNSEALED = """
SELECT count(*) FROM ledger.stored_events WHERE notification_id > (SELECT coalesce(max(last), 0) FROM ledger.chain)
"""
DUE = "SELECT count(*) FROM ledger.agenda"
NOT_COPIED = "SELECT count(*) FROM ledger.erasure WHERE copied_at IS NULL"
REPORTS = "SELECT count(*) FROM ledger.unmatched_report"
PAUSED = "order_cancelled"


class Who(msgspec.Struct, frozen=True):
    """A person, and what stands for them in every field: found nowhere else."""

    user: str
    name: str
    phone: str

    @property
    def address(self) -> str:
        return f"{self.name}+mail@example.com"

    @property
    def words(self) -> str:
        return f"{self.name}words"

    @property
    def fid(self) -> str:
        return f"{self.name}fid"

    @property
    def canaries(self) -> tuple[str, ...]:
        return (self.name, self.phone[3:])

    def named(self, **payload: Any) -> dict[str, Any]:
        return {"userId": self.user, "firstName": self.name, **payload}


SHE, HE = Who("user-7", "adacanary", "+447400990457"), Who("user-8", "bobcanary", "+447400990583")


class Running(msgspec.Struct, frozen=True):
    service: Service
    process: Process
    url: str
    secrets: Secrets
    archive: Path

    def as_(self, *scopes: str) -> dict[str, str]:
        token = self.secrets.token(subject="support", now=datetime.now(UTC).timestamp(), scopes=scopes)
        return {"Authorization": f"Bearer {token}"}

    async def ask(self, method: str, path: str, *scopes: str, **given: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            reply = await client.request(method, path, headers={**self.as_(*scopes), "X-Reason": "ticket 7"}, **given)
        assert reply.is_success, reply.text
        return reply


@pytest.fixture
def elsewhere(postgres_url: str) -> Iterator[Database]:
    """An empty database, to restore into."""
    with fresh_database(postgres_url, "template1") as fresh:
        yield fresh


@pytest.fixture
async def running(database: Database, broker: Broker, fake: FakeSes, tmp_path: Path) -> AsyncIterator[Running]:
    secrets, keys, port = secrets_in(tmp_path), tmp_path / "jwks.json", ports.free()
    keys.write_bytes(msgspec.json.encode(secrets.public_keys()))
    archive, url = tmp_path / "archive", f"http://127.0.0.1:{port}"
    settings = {
        "DATABASE_URL": database.url,
        "AMQP_URL": broker.url,
        "SES_ENDPOINT_URL": fake.url,
        "SES_TOPIC_ARNS": TOPIC,
        "SES_CERTIFICATE_ORIGIN": fake.url,
        "ARCHIVE_URL": archive.as_uri(),
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_JWKS_URL": keys.as_uri(),
        "PORT": str(port),
        "LOG_LEVEL": "debug",
    }
    await declared(broker.url)
    async with processes.running(tmp_path, **settings) as service:
        process = await service.start("all")
        await fake.topic.subscribe(f"{url}/callbacks/ses")
        yield Running(service, process, url, secrets, archive)


def about(who: Who) -> list[Message]:
    """What is told of a person."""

    def told(message_type: str, **payload: str) -> Message:
        envelope = {"messageId": str(uuid4()), "messageType": message_type, "sourceService": "UserService"}
        return {**envelope, "timestamp": datetime.now(UTC).isoformat(), "payload": {"userId": who.user, **payload}}

    contact = {"emailAddress": who.address, "phoneNumber": who.phone, "firstName": who.name}
    return [told("UserContactChangedEvent", **contact), told("DeviceRegisteredEvent", fid=who.fid, platform="ios")]


def asking(who: Who) -> list[Message | bytes]:
    """What is asked for, from the broker: mails, one that waits, and what is refused."""
    reset = {"emailAddress": who.address, "resetLink": f"https://shop.example/{who.words}"}
    good = message("OrderShippedEvent", **who.named(userEmail=who.address, userPhoneNumber=who.phone))
    return [
        good,
        message("PasswordResetRequestedEvent", **who.named(**reset)),
        message("OrderShippedEvent", **who.named(userEmail=None, userPhoneNumber=None)),
        message("OrderCancelledEvent", **who.named(userEmail=who.address)),
        message("PaymentFailedEvent", **who.named(userEmail=who.address, userPhoneNumber=who.phone)),
        f"{who.name} {who.address} {who.phone}".encode(),
        msgspec.json.encode({**good, "messageId": "", "payload": {"userId": who.user, "name": who.name}}),
    ]


async def over_http(running: Running, who: Who) -> None:
    """What comes over HTTP: a message, a request for an address alone, and somebody who looks at the person."""
    shipped = message("OrderShippedEvent", **who.named(userEmail=who.address, userPhoneNumber=who.phone))
    await running.ask("POST", "/v1/messages", "notifications:write", json=shipped)
    data = {"resetLink": f"https://shop.example/{who.words}"}
    asked = {"type": "password_reset", "recipient": {"email": who.address, "name": who.name}, "data": data}
    made = await running.ask("POST", "/v1/notifications", "notifications:write", json=asked)
    (first,) = made.json()["notifications"]
    await running.ask("GET", f"/v1/notifications/{first['id']}", "notifications:read", "pii:read")
    await running.ask("GET", f"/v1/recipients/{who.user}", "notifications:read", "pii:read")


async def long_ago(database: Database, *people: Who) -> None:
    """A week that is to be archived, with a notification for each of them, and a report that nobody knows."""
    moment = weeks_ago(20)
    make_weeks(database)
    async with parts(load({**SHARED, "DATABASE_URL": database.url}, dotenv=None)) as given:
        for number, who in enumerate(people):
            stream, at = notification_id(moment), moment + timedelta(seconds=number)
            personal = Personal(who.address, who.name, {"link": who.words})
            by = {"recipient": f"user:{who.user}", "address_hash": given.ledger.identity.address_hash(who.address)}
            asked = request(at=at, user_id=who.user, personal=personal, **by)
            expired = n.Expired(**Origin(now=at, cause="clock", by="test").stamp())
            await given.ledger.append(Decision(facts=(NewFact(stream, 1, asked), NewFact(stream, 2, expired))))
            report = Report(provider="ses", kind=ReportKind.DELIVERED, key=f"unknown-{number}", reference="unknown")
            await given.receive.reports([report])
    drop_contents(database, f"{moment:%Gw%V}")


def in_files(folder: Path) -> str:
    """Return what all files below a folder hold, packed or not."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    unpack = zstandard.decompress
    return "\n".join((unpack(one.read_bytes()) if one.suffix == ".zst" else one.read_bytes()).decode() for one in files)


def found(text: str, who: Who) -> set[str]:
    return {one for one in who.canaries if one in text}


def run(program: str, *arguments: str, url: str) -> None:
    binaries = postgres_programs.find(Path("/nonexistent"))
    subprocess.run([binaries / program, *arguments, "--dbname", url], check=True, capture_output=True)


async def said(service: Service, *arguments: str, **settings: str) -> str:
    process = service.launch(*arguments, **settings)
    code = await process.ended()
    assert code == 0, process.log()
    return process.log()


async def test_i19_of_who_is_erased_nothing_can_be_read_anywhere_and_everyone_else_is_intact(
    database: Database, elsewhere: Database, broker: Broker, fake: FakeSes, running: Running
):
    backup, service = running.archive.with_name("backup"), running.service
    await long_ago(database, SHE, HE)
    stopped = {"type": PAUSED, "reason": "it is to wait for the erasure"}
    pause = (await running.ask("POST", "/v1/pauses", "operations", json=stopped)).json()["id"]
    await publish(broker.url, [*about(SHE), *about(HE)], exchange=USERS)
    known = "SELECT count(*) FROM ledger.stored_events WHERE topic LIKE 'recipient.%'"
    await until(lambda: count(database.url, known) == 4, "what is told of people")
    await publish(broker.url, [*asking(SHE), *asking(HE)])
    for who in (SHE, HE):
        await over_http(running, who)
    await until(lambda: len(dead_letters(database.url)) == 4, "the dead letters")
    await until(lambda: count(database.url, DUE) == 2, "the end of all that is due")
    await until(lambda: count(database.url, UNSEALED) == 0, "the seal")
    assert "archived as" in await said(service, "archive")
    assert found(in_files(running.archive), SHE) == set()

    before = everything(database.superuser_url)
    assert (found(before, SHE), found(before, HE)) == (set(SHE.canaries), set(HE.canaries))
    run("pg_dump", "--format=custom", f"--file={backup}", url=database.superuser_url)
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "+0000")
    sent = len(fake.requests)

    done = await running.ask("POST", f"/v1/recipients/{SHE.user}/erasure", "recipients:write", json=WHY)
    # Her mail address, at which she was asked for by itself, and her phone number, which stands in a refused message.
    assert (done.json()["addresses"], done.json()["shared"]) == (2, 0)
    after = everything(database.superuser_url)
    assert (found(after, SHE), found(after, HE)) == (set(), set(HE.canaries))
    assert len(dead_letters(database.url)) == 2
    assert count(database.url, REPORTS) == 2

    await running.ask("POST", f"/v1/pauses/{pause}/resume", "operations", json={"reason": "it is over"})
    await until(lambda: count(database.url, DUE) == 0, "the end of what waited")
    assert len(fake.requests) == sent + 1
    assert {one.to for one in list(fake.requests)[sent:]} == {HE.address}
    statuses = {(state.requested.user_id, state.reason) for state in Audit(database.url, []).states.values()}
    assert (SHE.user, "erased") in statuses
    assert (HE.user, "erased") not in statuses

    erasures = running.archive / "erasures.json"
    await until(lambda: erasures.exists() and SHE.user in erasures.read_text(), "the list beside the archive")
    assert found(in_files(running.archive), SHE) == found(service.logs(), SHE) == set()
    await until(lambda: count(database.url, NOT_COPIED) == 0, "what is remembered of the list")
    await service.stop_all()
    assert ": ok" in await said(service, "verify")

    run("pg_restore", "--exit-on-error", str(backup), url=elsewhere.superuser_url)
    assert found(everything(elsewhere.superuser_url), SHE) == set(SHE.canaries)
    told = await said(service, "recover", "--since", since, DATABASE_URL=elsewhere.url)
    assert "erased since the backup: 3 people" in told
    restored = everything(elsewhere.superuser_url)
    assert (found(restored, SHE), found(restored, HE)) == (set(), set(HE.canaries))
    assert ": ok" in await said(service, "verify", DATABASE_URL=elsewhere.url)
    assert found(service.logs(), SHE) == set()
