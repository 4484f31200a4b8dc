import asyncio
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx
import pytest
from twilio.request_validator import RequestValidator

from ledger.suppression import Reason, nothing
from ledger.values import Category, Channel
from tests.integration.api.conftest import PUBLIC_URL, TWILIO_TOKENS, Service
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


# -- Twilio ----------------------------------------------------------------------------------------------------------

SID = f"SM{'1' * 32}"
NUMBER = "+447700900123"


async def post_status(
    service: Service, stream: UUID, attempt: UUID, *, token: str = TWILIO_TOKENS[0], **changes: str
) -> httpx.Response:
    """Post as Twilio does: a form, signed over the public URL, which is not the one that it comes in by."""
    form = {"MessageSid": SID, "MessageStatus": "delivered", "To": "+447700900123"} | changes
    path = f"/callbacks/twilio?{urlencode({'notification': str(stream), 'attempt': str(attempt)})}"
    signature = RequestValidator(token).compute_signature(PUBLIC_URL + path, form)
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        return await client.post(path, data=form, headers={"X-Twilio-Signature": signature})


@pytest.mark.parametrize("token", TWILIO_TOKENS)
async def test_i09_a_status_of_twilio_is_answered_when_it_is_on_disk(service: Service, token: str):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream, reference=SID)
    reply = await post_status(service, stream, attempt, token=token)
    assert (reply.status_code, reply.content) == (204, b"")
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    assert loaded.state.status == "delivered"


async def test_i08_each_status_of_twilio_is_a_fact_and_its_repetition_none(service: Service):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream, reference=SID)
    for status in ("sent", "delivered", "sent", "delivered", "read"):
        assert (await post_status(service, stream, attempt, MessageStatus=status)).status_code == 204
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    assert (loaded.state.status, await service.ledger.store.head()) == ("opened", 6)


async def test_i09_a_status_of_twilio_that_matches_nothing_is_kept(service: Service):
    assert (await post_status(service, uuid4(), uuid4())).status_code == 204
    assert await service.services.set_aside.unmatched() == 1


async def answer(service: Service, text: str, *, sid: str = SID, number: str = NUMBER) -> httpx.Response:
    """Post what a person has answered, as Twilio does."""
    form = {"MessageSid": sid, "From": number, "To": "+15005550006", "Body": text}
    path = "/callbacks/twilio/inbound"
    signature = RequestValidator(TWILIO_TOKENS[0]).compute_signature(PUBLIC_URL + path, form)
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        return await client.post(path, data=form, headers={"X-Twilio-Signature": signature})


async def listed(service: Service) -> set[tuple[Reason, Category | None]]:
    identity = service.ledger.identity
    known = await service.ledger.suppression(nothing(identity, Channel.SMS, identity.address_hash(NUMBER)).stream)
    return set() if known is None else set(known.entries)


def sid(number: int) -> str:
    return f"SM{number:032x}"


async def test_i07_stop_lists_the_number_before_it_is_answered_and_says_nothing_to_the_person(service: Service):
    reply = await answer(service, "Stop")
    assert (reply.status_code, reply.headers["Content-Type"].partition(";")[0]) == (200, "text/xml")
    assert reply.text.endswith("<Response></Response>")
    assert await listed(service) == {(Reason.STOP, None)}


async def test_start_ends_a_stop_and_nothing_that_somebody_else_has_listed(service: Service):
    by_hand = {"channel": "sms", "address": NUMBER, "reason": "manual", "note": "a wrong number"}
    await service.client.post("/v1/suppressions", json=by_hand)
    await answer(service, "STOP", sid=sid(1))
    assert await listed(service) == {(Reason.MANUAL, None), (Reason.STOP, None)}
    await answer(service, "START", sid=sid(2))
    assert await listed(service) == {(Reason.MANUAL, None)}


async def test_an_answer_that_comes_again_undoes_nothing_that_came_after_it(service: Service):
    for text, number in (("START", 1), ("STOP", 2), ("START", 1)):
        assert (await answer(service, text, sid=sid(number))).status_code == 200
    assert await listed(service) == {(Reason.STOP, None)}
    for text, number in (("START", 3), ("STOP", 2)):
        assert (await answer(service, text, sid=sid(number))).status_code == 200
    assert await listed(service) == set()


async def test_the_same_answer_many_times_at_once_is_one_fact(service: Service):
    replies = await asyncio.gather(*(answer(service, "STOP") for _ in range(20)))
    assert {reply.status_code for reply in replies} == {200}
    assert await service.ledger.store.head() == 1


async def test_other_answers_are_counted_and_leave_nothing_behind(service: Service):
    assert (await answer(service, "Where is my parcel? Yours, Ada")).status_code == 200
    assert await service.ledger.store.head() == 0
    assert service.services.metrics.replies.labels("twilio", "other", "ignored")._value.get() == 1


async def test_i09_what_is_answered_while_we_are_in_trouble_is_asked_for_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service.ledger, "change_suppression", broken)
    assert (await answer(service, "STOP")).status_code == 503


@pytest.mark.parametrize("path", ["/callbacks/twilio", "/callbacks/twilio/inbound"])
async def test_what_is_no_callback_of_twilio_is_refused_and_never_our_fault(service: Service, path: str):
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        for content, headers in (
            (b"", {}),
            (b"MessageSid=SM1", {"X-Twilio-Signature": "x"}),
            (b"%ff=%ff", {"Content-Type": "application/x-www-form-urlencoded"}),
            (b"a=1&" * 1_000, {}),
            (b"{}", {"Content-Type": "application/json"}),
            (b"{", {"Content-Type": "application/json", "X-Twilio-Signature": "x"}),
            (b"\xff" * 100, {"Content-Type": "multipart/form-data"}),
        ):
            for query in ("", "?bodySHA256=", "?notification=%ff&%00"):
                reply = await client.post(f"{path}{query}", content=content, headers=headers)
                assert (reply.status_code, reply.json()["type"]) == (403, "/problems/callback-refused"), content
        assert (await client.post(path, content=b"x" * 2 * 1024 * 1024)).status_code == 413
    assert service.services.metrics.refused_callbacks.labels("twilio")._value.get() == 21
