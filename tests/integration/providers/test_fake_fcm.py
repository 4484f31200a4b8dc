import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web

from ledger.values import Accepted, InDoubt, Outcome, Postponed, PushMessage, Refused
from providers.contract import Sending
from providers.fakes.fcm import LARGEST_PAYLOAD, Behaviour, FakeFcm
from providers.fcm import Fcm
from providers.google_access import service_account
from tests.integration.providers.stub import never_answers, stub
from tests.support import ports


@pytest.fixture
async def phones() -> AsyncIterator[FakeFcm]:
    fake = await FakeFcm.start()
    yield fake
    await fake.stop()


@contextlib.asynccontextmanager
async def sender(
    fake: FakeFcm, *, project: str = "", deadline: timedelta = timedelta(seconds=30)
) -> AsyncIterator[Fcm]:
    credentials, own = service_account(fake.credentials)
    fcm = await Fcm.open(
        credentials,
        project=project or own,
        base_url=fake.url,
        receipt=lambda _, attempt: attempt.hex,
        deadline=deadline,
    )
    try:
        yield fcm
    finally:
        await fcm.aclose()


def to(device: str, *, text: str = "there") -> Sending:
    return Sending(notification=uuid4(), attempt=uuid4(), address=device, content=PushMessage("Hi", text))


async def outcome_of(fake: FakeFcm, device: str) -> Outcome:
    async with sender(fake) as fcm:
        return await fcm.send(to(device))


async def test_a_push_is_kept_whole_under_the_name_that_it_was_taken_by(phones: FakeFcm):
    sending = to("cXyz1234567890abcdefgh")
    async with sender(phones) as fcm:
        outcome = await fcm.send(sending)
    [push] = phones.requests
    assert outcome == Accepted(push.name)
    assert push.tags == {"notification": str(sending.notification), "attempt": str(sending.attempt)}
    assert push.said == {"title": "Hi", "body": "there"}
    assert (push.fid, push.status) == ("cXyz1234567890abcdefgh", 200)
    assert "Authorization" not in push.headers


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("unregistered", Refused("UNREGISTERED", suppresses=True)),
        ("unregistered-2", Refused("UNREGISTERED", suppresses=True)),
        ("invalid", Refused("INVALID_ARGUMENT", suppresses=True)),
        ("mismatch", Refused("SENDER_ID_MISMATCH")),
        ("quota", Postponed("QUOTA_EXCEEDED", retry_after=timedelta(seconds=1))),
        ("unavailable", Postponed("UNAVAILABLE", retry_after=timedelta(seconds=1))),
        ("internal", InDoubt("INTERNAL")),
    ],
)
async def test_a_magic_device_answers_as_its_name_says(phones: FakeFcm, device: str, expected: Outcome):
    assert await outcome_of(phones, device) == expected
    assert len(phones.requests) == 1


async def test_a_device_without_quota_has_some_again_after_two_requests(phones: FakeFcm):
    outcomes = [await outcome_of(phones, "quota") for _ in range(3)]
    assert [type(outcome) for outcome in outcomes] == [Postponed, Postponed, Accepted]


async def test_a_device_that_times_out_has_the_push_and_the_sender_a_doubt(phones: FakeFcm):
    async with sender(phones, deadline=timedelta(seconds=1)) as fcm:
        assert await fcm.send(to("timeout")) == InDoubt("timeout")
    assert [push.accepted for push in phones.requests] == [True]


async def test_more_than_fcm_takes_is_the_messages_own_fault(phones: FakeFcm):
    async with sender(phones) as fcm:
        assert await fcm.send(to("phone", text="x" * LARGEST_PAYLOAD)) == Refused("INVALID_ARGUMENT")


async def test_another_project_is_a_fault_of_ours(phones: FakeFcm):
    async with sender(phones, project="elsewhere") as fcm:
        assert await fcm.send(to("phone")) == Postponed("NOT_FOUND", ours=True)


async def test_one_access_token_serves_many_pushes_at_once(phones: FakeFcm):
    async with sender(phones) as fcm:
        outcomes = await asyncio.gather(*(fcm.send(to(f"phone-{number}")) for number in range(50)))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert phones.account.tokens == 1


async def test_i06_a_token_that_is_not_taken_is_no_second_request_and_the_next_push_has_a_new_one(phones: FakeFcm):
    async with sender(phones) as fcm:
        await fcm.send(to("phone"))
        phones.account.revoke()
        assert await fcm.send(to("phone")) == Postponed("UNAUTHENTICATED", ours=True)
        assert isinstance(await fcm.send(to("phone")), Accepted)
    assert phones.account.tokens == 2


async def test_a_token_in_its_last_minutes_serves_while_the_next_is_fetched(phones: FakeFcm):
    phones.account.lifetime = timedelta(minutes=2)
    async with sender(phones) as fcm:
        await fcm.send(to("phone"))
        phones.account.lifetime = timedelta(hours=1)
        while phones.account.tokens < 2:
            assert isinstance(await fcm.send(to("phone")), Accepted)
            await asyncio.sleep(0)
        assert isinstance(await fcm.send(to("phone")), Accepted)
    assert phones.account.tokens == 2


async def test_a_key_that_google_does_not_know_is_a_fault_of_ours_and_nothing_is_sent(phones: FakeFcm):
    other = await FakeFcm.start()
    credentials, project = service_account(other.account.credentials(phones.url))
    fcm = await Fcm.open(credentials, project=project, base_url=phones.url, receipt=lambda *_: "")
    assert await fcm.send(to("phone")) == Postponed("credentials", ours=True)
    await fcm.aclose()
    await other.stop()
    assert phones.requests == []


async def test_a_new_key_of_the_account_is_used_from_the_next_push_on_and_disturbs_none(phones: FakeFcm):
    other = await FakeFcm.start()
    wrong, _ = service_account(other.account.credentials(phones.url))
    right, _ = service_account(phones.account.credentials(phones.url))
    async with sender(phones) as fcm:
        under_way = [asyncio.create_task(fcm.send(to(f"phone-{number}"))) for number in range(20)]
        await asyncio.sleep(0)
        fcm.use_credentials(wrong)
        assert await fcm.send(to("phone")) == Postponed("credentials", ours=True)
        fcm.use_credentials(right)
        assert isinstance(await fcm.send(to("phone")), Accepted)
        assert all(isinstance(outcome, Accepted) for outcome in await asyncio.gather(*under_way))
    await other.stop()
    assert phones.account.tokens == 2


async def test_a_token_endpoint_that_is_down_is_certainly_not_sent(phones: FakeFcm):
    credentials, project = service_account(phones.account.credentials(f"http://127.0.0.1:{ports.free()}"))
    fcm = await Fcm.open(credentials, project=project, base_url=phones.url, receipt=lambda *_: "")
    assert await fcm.send(to("phone")) == Postponed("access_token")
    await fcm.aclose()


async def test_a_token_endpoint_that_hangs_holds_a_push_no_longer_than_its_deadline(phones: FakeFcm):
    async with stub(never_answers) as endpoint:
        credentials, project = service_account(phones.account.credentials(endpoint.url))
        fcm = await Fcm.open(
            credentials, project=project, base_url=phones.url, receipt=lambda *_: "", deadline=timedelta(seconds=1)
        )
        assert await fcm.send(to("phone")) == Postponed("connect_timeout")
        await fcm.aclose()
    assert phones.requests == []


async def test_the_log_outlives_the_process(tmp_path: Path):
    log = tmp_path / "fcm.jsonl"
    first = await FakeFcm.start(log=log)
    await outcome_of(first, "phone")
    await first.stop()
    log.write_bytes(log.read_bytes() + b'{"number":2,"to')
    second = await FakeFcm.start(log=log)
    await outcome_of(second, "phone")
    await second.stop()
    assert [push.number for push in second.requests] == [1, 2]


async def test_a_behaviour_that_is_set_overrules_the_magic_devices(phones: FakeFcm):
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{phones.url}/control", json={"status": 500, "state": "INTERNAL"}) as reply:
            assert reply.status == 200
        assert await outcome_of(phones, "phone") == InDoubt("INTERNAL")
        async with http.post(f"{phones.url}/control", data="null", headers={"Content-Type": "application/json"}):
            assert isinstance(await outcome_of(phones, "phone"), Accepted)
        async with http.get(f"{phones.url}/requests", params={"after": "1"}) as reply:
            assert [push["number"] for push in await reply.json()] == [2]


async def test_the_phones_show_the_last_copy_of_what_came_twice(phones: FakeFcm):
    twice = to("phone", text="<b>twice</b>")
    async with sender(phones) as fcm, aiohttp.ClientSession() as http:
        for sending in (twice, twice, to("phone"), to("unregistered")):
            await fcm.send(sending)
        async with http.get(f"{phones.url}/inbox") as reply:
            page = await reply.text()
    assert page.count("<tr><td>") == 2
    assert "&lt;b&gt;twice&lt;/b&gt;<td>2" in page
    assert "unregistered" not in page


async def test_a_button_reports_as_the_app_does():
    told: list[tuple[str, object]] = []

    async def take(request: web.Request) -> web.Response:
        told.append((request.match_info["token"], await request.json()))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/v1/receipts/{token}", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake = await FakeFcm.start(service_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    sending = to("phone")
    async with sender(fake) as fcm, aiohttp.ClientSession() as http:
        await fcm.send(sending)
        async with http.post(f"{fake.url}/inbox/1/opened") as reply:
            assert reply.status == 200
        async with http.post(f"{fake.url}/inbox/1/read") as reply:
            assert reply.status == 404
    assert told == [(sending.attempt.hex, {"kind": "opened"})]
    await fake.stop()
    await runner.cleanup()


async def test_a_behaviour_with_a_delay_answers_late(phones: FakeFcm):
    phones.behaviour = Behaviour(delay=timedelta(seconds=30))
    async with sender(phones, deadline=timedelta(milliseconds=500)) as fcm:
        assert await fcm.send(to("phone")) == InDoubt("timeout")
