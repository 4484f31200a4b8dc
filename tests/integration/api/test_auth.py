from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from litestar import get

from api import app as api_app
from api.app import make_app
from api.auth import PUBLIC, Scope, UndeclaredRouteError, declared, operations
from api.services import Services
from api.sessions import is_console
from tests.integration.api.conftest import Service
from tests.integration.api.tokens import claims, signed, token

READ = "notifications:read"
NOWHERE = f"/v1/notifications/{uuid4()}"


async def status(service: Service, bearer: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        return await client.get(NOWHERE, headers={"Authorization": f"Bearer {bearer}"})


def filled(path: str) -> str:
    return (
        path.replace("{notification_id}", str(uuid4()))
        .replace("{action_id}", str(uuid4()))
        .replace("{name}", "welcome")
        .replace("{pause_id}", str(uuid4()))
        .replace("{action_id}", str(uuid4()))
        .replace("{suppression_id}", str(uuid4()))
        .replace("{key}", "00" * 32)
        .replace("{message_type}", "OrderShippedEvent")
        .replace("{user_id}", "ada")
        .replace("{device_id}", "00" * 16)
    )


async def test_i17_every_route_is_closed_without_its_scope(service: Service, services: Services):
    app = make_app(services)
    others = {scope: service.as_(" ".join(set(Scope) - {scope})) for scope in Scope}
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        for path, method, handler in operations(app):
            # What the console says to whoever lacks a scope: console/test_sessions.py.
            if path in PUBLIC or is_console(path):
                continue
            nobody = await client.request(method, filled(path))
            assert nobody.status_code == 401, path
            assert nobody.headers["WWW-Authenticate"].startswith("Bearer")
            for scope in map(Scope, declared(handler) or ()):
                lesser = await client.request(method, filled(path), headers=others[scope])
                assert lesser.status_code == 403, path
                assert scope in lesser.json()["detail"]
                assert f'scope="{scope}"' in lesser.headers["WWW-Authenticate"]


async def test_i17_nothing_opens_but_to_a_scope_or_for_a_reason(services: Services):
    for path, _, handler in operations(make_app(services)):
        assert (declared(handler) is None) == (path in PUBLIC), path


async def test_i17_every_public_route_is_there_and_says_why_it_is_public(services: Services):
    paths = {route.path_format for route in make_app(services).routes} | {"/metrics"}
    assert set(PUBLIC) == paths & set(PUBLIC)
    assert all(reason.strip() for reason in PUBLIC.values())


async def test_i17_an_app_with_an_undeclared_route_does_not_start(services: Services, monkeypatch: pytest.MonkeyPatch):
    @get("/v1/everything")
    async def everything() -> str:
        return "everything"

    monkeypatch.setattr(api_app, "ROUTES", (*api_app.ROUTES, everything))
    with pytest.raises(UndeclaredRouteError, match="/v1/everything"):
        make_app(services)


async def test_nobody_may_ask_for_the_options_of_a_route(service: Service):
    assert (await service.client.options("/v1/notifications")).status_code == 403


async def test_a_token_signed_by_the_issuer_opens(service: Service):
    assert (await status(service, token(READ))).status_code == 404


async def test_a_token_that_is_not_in_order_is_refused(service: Service):
    reply = await status(service, signed(claims(READ, aud="billing")))
    assert reply.status_code == 401
    assert reply.headers["content-type"] == "application/problem+json"
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


async def test_a_request_without_a_bearer_token_is_told_to_bring_one(service: Service):
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        for header in ("", "Basic dTpw", "Bearer", "token"):
            reply = await client.get(NOWHERE, headers={"Authorization": header})
            assert reply.status_code == 401
            assert reply.headers["WWW-Authenticate"] == 'Bearer realm="notification-ledger"'


async def test_i24_expiry_goes_by_the_time_of_the_database_also_for_a_token_seen_before(service: Service):
    bearer, clock = token(READ), service.ledger.clock
    assert (await status(service, bearer)).status_code == 404
    clock.set(clock.now() + timedelta(hours=1))
    assert (await status(service, bearer)).status_code == 401
