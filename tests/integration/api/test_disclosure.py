"""Whoever is shown personal data is recorded before: asked of every route that there is, so that none is forgotten."""

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from api.app import make_app
from api.auth import PUBLIC, Scope, operations
from api.sessions import is_console
from tests.integration.api.conftest import EVERYTHING, Service
from tests.integration.api.console.browser import Browser
from tests.integration.api.deliveries import message
from tests.integration.api.things import ADDRESS, NAME, PERSONAL, USER, Things, made
from tests.support.postgres import Database

WHY = "a caller asked"
MASKED = " ".join(set(Scope) - {Scope.PII})
READS = "SELECT subject, what, of, reason FROM ledger.personal_data_read WHERE read_at <= clock_timestamp() ORDER BY id"
FORGET = "DELETE FROM ledger.personal_data_read"

FULL_DISK = """
CREATE FUNCTION ledger.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON ledger.personal_data_read EXECUTE FUNCTION ledger.full_disk();
"""
STREAMS = {"GET /console/live/facts"}
# What would become of it is asked, with the words that it would say.
TRIED = {"POST /v1/messages", "POST /v1/notifications"}

Said = tuple[str, str, str, str | None]


class Answer(msgspec.Struct, frozen=True):
    """What came back to one request: its status, whether it showed the person, and the records that it left."""

    status: int
    is_unmasked: bool
    records: list[Said]


def disclosing(things: Things) -> Mapping[str, tuple[str, str]]:
    """Return the operations that show a person to those who may see them; and what is recorded of it: what, of whom.

    All others show nobody to anyone. What a page of the console shows is masked until it is revealed.
    """
    done = str(things.done)
    return {
        "GET /v1/notifications/{notification_id}": ("notification", done),
        "GET /v1/notifications/{notification_id}/history": ("history", done),
        "GET /v1/notifications/{notification_id}/content": ("content", done),
        "GET /v1/recipients/{user_id}": ("recipient", USER),
        "GET /v1/recipients/{user_id}/history": ("recipient_history", USER),
        "GET /v1/dead-letters/{key}": ("dead_letter", things.by_name["key"]),
        "POST /v1/messages": ("dry_run", "UserRegisteredEvent"),
        "POST /v1/notifications": ("dry_run", "welcome"),
        "POST /console/notifications/{notification_id}/reveal": ("notification", done),
        "POST /console/notifications/{notification_id}/content": ("content", done),
        "POST /console/recipients/{user_id}/reveal": ("recipient", USER),
    }


def sent_to(things: Things) -> Mapping[str, Any]:
    """Return what is sent to each operation that changes or takes something. A new one fails until it stands here."""
    why, form = {"reason": WHY}, {"reason": WHY}
    grounds = {"channel": "email", "address": ADDRESS, "reason": "manual", "note": WHY}
    return {
        "POST /v1/messages": message(userId=USER, emailAddress=ADDRESS, firstName=NAME),
        "POST /v1/notifications": {"type": "welcome", "recipient": {"email": ADDRESS, "name": NAME}},
        "POST /v1/notifications/search": {"recipient": ADDRESS},
        "POST /v1/find": {"for": ADDRESS},
        "POST /v1/notifications/{notification_id}/cancel": why,
        "POST /v1/notifications/{notification_id}/release": why,
        "POST /v1/notifications/{notification_id}/resend": why,
        "POST /v1/bulk-actions": {"action": "resend", "filters": {"recipient": ADDRESS}, "dry_run": True},
        "POST /v1/bulk-actions/{action_id}/stop": why,
        "PATCH /v1/recipients/{user_id}": {"email": ADDRESS, "name": NAME},
        "POST /v1/recipients/{user_id}/devices": {"fid": "fid-2", "platform": "ios"},
        "DELETE /v1/recipients/{user_id}/devices/{device_id}": None,
        "PATCH /v1/recipients/{user_id}/preferences": {"preferences": [{"category": "marketing", "enabled": False}]},
        "POST /v1/suppressions": grounds,
        "POST /v1/suppressions/search": {"address": ADDRESS},
        "POST /v1/suppressions/{suppression_id}/release": why,
        "PUT /v1/templates/{name}/draft": {"files": {}},
        "POST /v1/templates/{name}/preview": {"name": "Ada", "data": {}},
        "POST /v1/templates/{name}/publish": {"draft": "0" * 64, **why},
        "POST /v1/templates/{name}/rollback": {"version": things.by_name["version"], **why},
        "POST /v1/test-sends": {"template": "welcome", "channel": "email", "address": "zebedee.quux@acme.example"},
        "POST /v1/pauses": {"channel": "push", **why},
        "POST /v1/pauses/{pause_id}/resume": why,
        "POST /v1/dead-letters/{key}/replay": None,
        "POST /v1/dead-letters/{key}/discard": why,
        # Not by the address: the field says again what was typed into it.
        "POST /console": {"text": USER},
        "POST /console/notifications/{notification_id}/content": form,
        "POST /console/notifications/{notification_id}/reveal": form,
        "POST /console/recipients/{user_id}/reveal": form,
        "POST /console/suppressions/search": {"address": "bob@example.com"},
        "POST /console/suppressions": {**grounds, "address": "carol@example.com"},
        "POST /console/suppressions/{suppression_id}/release": form,
        "POST /console/bulk": {"action": "resend", "user_id": USER},
        "POST /console/bulk/{action_id}/begin": form,
        "POST /console/bulk/{action_id}/stop": form,
        "POST /console/notifications/{notification_id}/cancel": form,
        "POST /console/notifications/{notification_id}/release": form,
        "POST /console/notifications/{notification_id}/resend": form,
        # What is left comes last: it ends what the others need.
        "POST /console/sign-out": {},
        "POST /v1/recipients/{user_id}/erasure": why,
        "POST /v1/erasures": {"addresses": [ADDRESS], **why},
    }


@pytest.fixture
async def browser(service: Service) -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        yield Browser(client)


@pytest.fixture
async def things(service: Service, database: Database) -> AsyncIterator[Things]:
    async with made(service, database) as things:
        yield things


async def test_i18_every_unmasked_answer_leaves_its_record_and_no_other_does(
    service: Service, browser: Browser, database: Database, things: Things
):
    expected = disclosing(things)
    for operation, answer in (await answers(service, browser, database, things, EVERYTHING)).items():
        what_of = expected.get(operation)
        assert answer.is_unmasked == (what_of is not None), f"{operation}: {answer}"
        assert answer.records == ([] if what_of is None else [("clerk", *what_of, WHY)]), operation


async def test_i18_whoever_may_not_see_people_is_shown_nobody_and_leaves_no_record(
    service: Service, browser: Browser, database: Database, things: Things
):
    for operation, answer in (await answers(service, browser, database, things, MASKED)).items():
        assert not answer.is_unmasked, operation
        assert answer.records == [], operation


async def test_i18_where_the_record_cannot_be_written_nobody_is_shown(
    service: Service, browser: Browser, database: Database, things: Things
):
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(FULL_DISK)
    asked = disclosing(things)
    told = await answers(service, browser, database, things, EVERYTHING, of=asked)
    assert set(told) == set(asked)
    for operation, answer in told.items():
        assert not answer.is_unmasked, operation
        assert answer.status == 503, operation


async def answers(
    service: Service,
    browser: Browser,
    database: Database,
    things: Things,
    scope: str,
    *,
    of: Collection[str] | None = None,
) -> dict[str, Answer]:
    """Ask operations of the API and of the console, absent = all, once each, as the clerk with this scope."""
    await browser.sign_in(scope, subject="clerk")
    headers = {**service.as_(scope, "clerk"), "X-Reason": WHY}
    bodies, told = sent_to(things), {}
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        for operation in asked_in_turn(service, bodies):
            if of is not None and operation not in of:
                continue
            method, path = operation.format_map(things.by_name).split(" ")
            body: Any = bodies.get(operation)
            if operation in STREAMS:
                answer = await beginning(browser.client, path)
            elif is_console(path):
                answer = await (browser.get(path) if method == "GET" else filled_in(browser, path, body))
            else:
                query = {"dry_run": "true"} if operation in TRIED else {}
                answer = await service.client.request(method, path, params=query, json=body, headers=headers)
            told[operation] = Answer(answer.status_code, shows_the_person(answer), records(connection))
    return told


async def filled_in(browser: Browser, path: str, fields: dict[str, str]) -> httpx.Response:
    """Send a form as from a page that has just been looked at."""
    await browser.get("/console")
    return await browser.post(path, **fields)


async def beginning(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """Return an answer that does not end, as far as its first facts."""
    async with client.stream("GET", path, params={"after": 0}) as answer:
        text = ""
        async for chunk in answer.aiter_text():
            text += chunk
            if "event: fact" in text:
                break
        return httpx.Response(answer.status_code, text=text)


def asked_in_turn(service: Service, bodies: Mapping[str, Any]) -> list[str]:
    """Return all operations: first those that only look."""
    there = {f"{method} {path}" for path, method, _ in operations(make_app(service.services)) if path not in PUBLIC}
    looks = {operation for operation in there if operation.startswith("GET ")}
    assert there - looks == set(bodies), "what is sent to each operation stands in the table"
    return [*sorted(looks), *bodies]


def shows_the_person(answer: httpx.Response) -> bool:
    return any(each in answer.text for each in PERSONAL)


def records(connection: psycopg.Connection) -> list[Said]:
    """Return what was recorded since this was asked last, each at a time that has come."""
    rows = connection.execute(READS).fetchall()
    connection.execute(FORGET)
    return rows
