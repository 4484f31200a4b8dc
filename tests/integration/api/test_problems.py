import json
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from ledger.errors import KeyUnavailableError, OverloadedError, UnavailableError
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message


async def test_what_is_not_there_is_a_problem_too(service: Service):
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/v1/messages", 405)):
        reply = await service.client.request(method, path)
        assert reply.status_code == status
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["status"] == status
        assert reply.json()["correlation_id"] == reply.headers["X-Correlation-Id"]
        assert ("POST" in reply.headers.get("Allow", "")) == (status == 405)


async def test_a_plain_correlation_id_comes_back_and_another_is_replaced(service: Service):
    kept = await service.client.get("/health/liveness", headers={"X-Correlation-Id": "req-1.a:b/c="})
    assert kept.headers["X-Correlation-Id"] == "req-1.a:b/c="
    for given in ("ada@example.com", "a b", "x" * 129, "[1]"):
        reply = await service.client.get("/health/liveness", headers={"X-Correlation-Id": given})
        assert len(reply.headers["X-Correlation-Id"]) == 32


@pytest.mark.parametrize("error", [UnavailableError("x"), OverloadedError("x")])
async def test_trouble_with_the_database_is_503_and_asks_to_come_again(
    service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    async def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(service.services.take_in, "messages", fails)
    reply = await service.client.post("/v1/messages", json=message())
    assert (reply.status_code, reply.json()["type"]) == (503, "/problems/unavailable")
    assert reply.headers["Retry-After"] == "1"


@pytest.mark.parametrize("error", [ValueError("ada@example.com"), KeyUnavailableError("secret of ada@example.com")])
async def test_i18_the_unexpected_is_logged_by_its_type_and_answered_with_an_id(
    service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    async def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(service.services.take_in, "messages", fails)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        reply = await service.client.post("/v1/messages", json=message(), headers={"X-Correlation-Id": "c-9"})
    assert (reply.status_code, reply.json()["correlation_id"]) == (500, "c-9")
    assert "ada" not in reply.text
    (logged,) = [entry for entry in logs if entry["event"] == "unexpected_error"]
    assert logged["correlation_id"] == "c-9"
    assert logged["route"] == "/v1/messages"
    assert logged["exc_info"] is error


async def test_i18_no_answer_to_a_bad_request_repeats_what_it_held(service: Service):
    secret = "ada.lovelace"
    replies = [
        await service.client.get(f"/v1/notifications/{secret}"),
        await service.client.get("/v1/notifications", params={secret: secret, "status": secret, "cursor": secret}),
        await service.client.post("/v1/messages", json={secret: secret, "messageType": secret, "timestamp": secret}),
        await service.client.post("/v1/notifications", json={"type": secret, "recipient": secret, secret: 1}),
        await service.client.post("/v1/notifications", content=json.dumps(secret)),
        await service.client.post("/v1/notifications/search", json={secret: {secret: 1}, "recipient": [secret]}),
        await service.client.post("/callbacks/ses", json={secret: secret, "Type": secret}),
        await service.client.get("/health/readiness", headers={"Authorization": f"Bearer {secret}"}),
    ]
    for reply in replies:
        assert secret not in reply.text
        assert reply.status_code < 500
