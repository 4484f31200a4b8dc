import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from providers.fakes.ses_log import Request
from tests.acceptance.sandboxes import Sandbox
from tests.acceptance.traffic import Message, message, restamped
from tests.support import service as processes
from tests.support.service import until

COMPLETE = ["requested", "rendered", "attempt_started", "dispatched", "delivered"]
# A process that was killed leaves its claims for a minute, and its doubts for half a minute more.
AFTER_A_KILL = timedelta(seconds=150)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with processes.running(tmp_path) as service:
        sandbox = Sandbox(service, tmp_path / "data")
        await sandbox.start()
        yield sandbox
        service.kill_all()
        await until(lambda: sandbox.left_behind() == [], "the end of its Postgres")


async def test_i02_i03_a_message_posted_a_hundred_times_is_one_mail_that_is_delivered_and_seen_in_the_inbox(
    sandbox: Sandbox,
):
    posted = welcome()
    async with sandbox.client() as client:
        again = [posted if number % 2 else restamped(posted) for number in range(100)]
        replies = await asyncio.gather(*(client.post("/v1/messages", json=one) for one in again))
        assert sorted({reply.status_code for reply in replies}) == [200, 202]
        (stream,) = {one["id"] for reply in replies for one in reply.json()["notifications"]}
        await delivered(client, stream)
        history = (await client.get(f"/v1/notifications/{stream}/history")).json()["facts"]
        assert [fact["topic"].removeprefix("notification.") for fact in history] == COMPLETE
        other = await client.post("/v1/messages", json={**posted, "payload": {**posted["payload"], "firstName": "Eve"}})
        assert other.status_code == 409
    (request,) = sandbox.requests()
    assert request.tags["notification"] == stream
    assert posted["payload"]["emailAddress"] in sandbox.page()


async def test_i05_i09_a_code_goes_out_as_one_sms_whose_signed_callback_says_that_it_arrived(sandbox: Sandbox):
    posted = message("TwoFactorAuthCodeEvent", phoneNumber="+15005550001", code="493817")
    async with sandbox.client() as client:
        stream = await accept(client, posted)
        topics = await delivered(client, stream)
        content = (await client.get(f"/v1/notifications/{stream}/content")).json()
    assert [topic.removeprefix("notification.") for topic in topics] == COMPLETE
    (request,) = sandbox.sms()
    assert (request.to, request.tags["notification"]) == ("+15005550001", stream)
    assert (request.form["Body"], request.form["From"]) == (content["text"], content["sender"])
    assert "493817" in sandbox.sms_page()
    assert sandbox.requests() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_and_sigterm_end_it_cleanly_and_leave_neither_a_process_nor_a_port(
    sandbox: Sandbox, number: signal.Signals
):
    assert not sandbox.ports_are_free()
    assert await sandbox.process.stop(number) == 0
    assert sandbox.left_behind() == []
    assert sandbox.ports_are_free()
    assert "Traceback" not in sandbox.process.log()


async def test_i01_i05_i06_killed_and_started_again_it_delivers_all_that_it_had_accepted(sandbox: Sandbox):
    messages = [message("PasswordResetRequestedEvent", emailAddress=address(number)) for number in range(60)]
    sandbox.slow_down()
    async with sandbox.client() as client:
        accepted = await asyncio.gather(*(accept(client, one) for one in messages))
    sandbox.process.kill()
    await until(lambda: sandbox.left_behind() == [], "the end of its Postgres")
    await sandbox.start()
    end_the_leases(sandbox.data)
    async with sandbox.client() as client:
        for one, first in zip(messages, accepted, strict=True):
            assert (await client.post("/v1/messages", json=restamped(one))).json()["notifications"][0]["id"] == first
        histories = await asyncio.gather(*(delivered(client, stream) for stream in accepted))
    by_notification: dict[str, list[Request]] = {}
    for request in sandbox.requests():
        by_notification.setdefault(request.tags["notification"], []).append(request)
    assert set(by_notification) == set(accepted)
    for stream, history in zip(accepted, histories, strict=True):
        attempts = [request.tags["attempt"] for request in by_notification[stream]]
        assert len(attempts) == len(set(attempts)) <= 1 + history.count("notification.attempt_in_doubt")


async def accept(client: httpx.AsyncClient, posted: Message) -> str:
    reply = await client.post("/v1/messages", json=posted)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["notifications"][0]["id"])


async def delivered(client: httpx.AsyncClient, stream: str) -> list[str]:
    """Wait until a notification is delivered; returns the topics of its history."""
    async with asyncio.timeout(AFTER_A_KILL.total_seconds()):
        while (await shown(client, stream))["status"] != "delivered":  # noqa: ASYNC110 - HTTP has no event to wait for
            await asyncio.sleep(0.2)
    facts = (await client.get(f"/v1/notifications/{stream}/history")).json()["facts"]
    return [fact["topic"] for fact in facts]


async def shown(client: httpx.AsyncClient, stream: str) -> dict[str, Any]:
    reply = await client.get(f"/v1/notifications/{stream}")
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def end_the_leases(data: Path) -> None:
    """What the killed process had claimed is free a minute later: this is that minute."""
    port = (data / "postgres/postgres/postmaster.pid").read_text().splitlines()[3]
    password = msgspec.json.decode((data / "postgres/passwords.json").read_bytes())["ledger_app"]
    url = f"postgresql://ledger_app:{password}@127.0.0.1:{port}/notification_ledger"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE ledger.agenda SET lease_until = lease_until - interval '1 minute'")


def welcome() -> Message:
    return message("UserRegisteredEvent", emailAddress=address(0))


def address(number: int) -> str:
    return f"success+{number}@sandbox.example"
