import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from ledger.ids import made_at, notification_id
from ledger.status import Status
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import posted, sent


async def post(service: Service, token: str, body: bytes = b"") -> httpx.Response:
    """Post as an app does: without a token of ours."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        return await client.post(f"/v1/receipts/{token}", content=body)


async def status_of(service: Service, stream: UUID) -> Status:
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    return loaded.state.status


async def receipt(service: Service) -> tuple[UUID, str]:
    """Bring a notification to its provider and return it with the receipt that went along."""
    stream = await posted(service.client)
    return stream, service.ledger.identity.receipt(stream, await sent(service.ledger, stream))


async def test_i09_an_open_is_answered_when_it_is_on_disk(service: Service):
    stream, token = await receipt(service)
    reply = await post(service, token)
    assert (reply.status_code, reply.content) == (204, b"")
    assert await status_of(service, stream) is Status.OPENED


async def test_the_app_may_say_that_a_push_was_shown(service: Service):
    stream, token = await receipt(service)
    assert (await post(service, token, b'{"kind":"delivered"}')).status_code == 204
    assert await status_of(service, stream) is Status.DELIVERED
    assert (await post(service, token, b'{"kind":"opened"}')).status_code == 204
    assert await status_of(service, stream) is Status.OPENED


async def test_i08_the_same_receipt_many_times_at_once_is_one_fact(service: Service):
    _, token = await receipt(service)
    before = await service.ledger.store.head()
    replies = await asyncio.gather(*(post(service, token) for _ in range(20)))
    assert {reply.status_code for reply in replies} == {204}
    assert await service.ledger.store.head() == before + 1


async def test_a_receipt_that_was_not_signed_here_is_not_found(service: Service):
    stream, token = await receipt(service)
    before = await service.ledger.store.head()
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    for bad in (forged, "x", "A" * 64, token.swapcase()):
        reply = await post(service, bad)
        assert (reply.status_code, reply.json()["type"]) == (404, "/problems/not-found")
        assert bad not in reply.text
    assert await service.ledger.store.head() == before
    assert await status_of(service, stream) is Status.DISPATCHED
    assert service.services.metrics.refused_callbacks.labels("fcm")._value.get() == 4


async def test_a_receipt_of_an_old_push_is_not_found(service: Service):
    now = service.ledger.clock.now()
    old, just = (notification_id(now - timedelta(days=90, minutes=minutes)) for minutes in (1, -1))
    assert (await post(service, service.ledger.identity.receipt(old, uuid4()))).status_code == 404
    assert (await post(service, service.ledger.identity.receipt(just, uuid4()))).status_code == 204
    assert made_at(old) < made_at(just)


async def test_i09_a_receipt_for_an_attempt_that_is_not_known_is_kept(service: Service):
    stream = await posted(service.client)
    reply = await post(service, service.ledger.identity.receipt(stream, uuid4()))
    assert reply.status_code == 204
    assert await service.services.set_aside.unmatched() == 1


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"\xff", b'{"kind":"read"}', b'{"kind":5}', b'{"kind":[]}', b'{"kind":"opened","user":"u-1"}']
)
async def test_a_body_that_says_something_else_is_malformed(service: Service, body: bytes):
    _, token = await receipt(service)
    reply = await post(service, token, body)
    assert (reply.status_code, reply.json()["type"]) == (400, "/problems/malformed-request")


async def test_i09_our_own_trouble_is_never_the_apps(service: Service, monkeypatch: pytest.MonkeyPatch):
    _, token = await receipt(service)

    async def broken(_reports: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service.services.receive, "reports", broken)
    assert (await post(service, token)).status_code == 503


async def test_the_history_holds_nothing_that_one_could_report_by(service: Service):
    stream, token = await receipt(service)
    await post(service, token)
    history = await service.client.get(f"/v1/notifications/{stream}/history")
    assert "opened" in history.text
    assert token not in history.text
