import asyncio
from uuid import uuid4

import httpx
import pytest

from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import posted, sent
from tests.integration.api.topic import ARN


async def post(service: Service, body: bytes) -> httpx.Response:
    """Post as SNS does: no token, text/plain."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        headers = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "Notification"}
        return await client.post("/callbacks/ses", content=body, headers=headers)


async def test_i09_a_report_is_answered_when_it_is_on_disk(service: Service):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream)
    reply = await post(service, service.topic.delivery(stream, attempt))
    assert (reply.status_code, reply.content) == (204, b"")
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    assert loaded.state.status == "delivered"


async def test_i08_the_same_report_many_times_at_once_is_one_fact(service: Service):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream)
    body = service.topic.delivery(stream, attempt)
    replies = await asyncio.gather(*(post(service, body) for _ in range(20)))
    assert {reply.status_code for reply in replies} == {204}
    assert await service.ledger.store.head() == 5


async def test_i09_a_report_that_matches_nothing_is_kept(service: Service):
    reply = await post(service, service.topic.delivery(uuid4(), uuid4()))
    assert reply.status_code == 204
    assert await service.services.set_aside.unmatched() == 1


async def test_what_is_no_callback_is_refused(service: Service):
    for body in (
        b"",
        b"{",
        b"[]",
        b'{"Type":"Notification"}',
        b"\xff",
        b"[" * 10_000,
        b'{"Type": "\\ud800"}',
        b"\0" * 1000,
    ):
        reply = await post(service, body)
        assert (reply.status_code, reply.json()["type"]) == (403, "/problems/callback-refused"), body


async def test_a_callback_that_the_topic_did_not_sign_is_refused(service: Service):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream)
    forged = service.topic.posted({"eventType": "Delivery"}, Message='{"eventType":"Bounce"}')
    foreign = service.topic.posted({"eventType": "Delivery"}, TopicArn=ARN + "-2")
    for body in (forged, foreign):
        assert (await post(service, body)).status_code == 403
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    assert [each.id for each in loaded.state.attempts] == [attempt]
    assert loaded.state.status == "dispatched"
    refused = service.services.metrics.refused_callbacks.labels("ses")
    assert refused._value.get() == 2


async def test_i09_what_cannot_be_verified_just_now_is_asked_for_again(service: Service):
    service.topic.shows_certificate = False
    body = service.topic.delivery(uuid4(), uuid4())
    reply = await post(service, body)
    assert reply.status_code == 503
    assert "Retry-After" in reply.headers
    service.topic.shows_certificate = True
    assert (await post(service, body)).status_code == 204


async def test_i09_our_own_trouble_is_never_the_providers(service: Service, monkeypatch: pytest.MonkeyPatch):
    async def broken(_reports: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service.services.receive, "reports", broken)
    assert (await post(service, service.topic.delivery(uuid4(), uuid4()))).status_code == 503


async def test_a_callback_of_the_largest_size_is_read_and_a_larger_one_refused(service: Service):
    assert (await post(service, b"x" * 256 * 1024)).status_code == 403
    assert (await post(service, b"x" * 2 * 1024 * 1024)).status_code == 413
