"""A template is tried on one address: as a real notification that says of itself what it is."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from ledger.values import Personal
from templates.files import MESSAGES, files_in
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import sent

PATH = "/v1/templates/password_reset"
ADDRESS = "tester@acme.example"
TRIAL = {"template": "password_reset", "channel": "email", "address": ADDRESS}


async def tried(service: Service, **changes: Any) -> httpx.Response:
    return await service.client.post("/v1/test-sends", json={**TRIAL, **changes})


async def drafted(service: Service, subject: str) -> str:
    files = {**files_in(MESSAGES, "password_reset"), "en/subject.txt": subject}
    reply = await service.client.put(f"{PATH}/draft", json={"files": files})
    return str(reply.json()["draft"]["draft"])


async def test_a_draft_is_tried_in_its_own_words_while_everybody_else_is_told_the_old_ones(service: Service):
    await drafted(service, "Pick a new password")
    reply = await tried(service)
    assert reply.status_code == 202, reply.text
    (one,) = reply.json()["notifications"]
    loaded = await service.ledger.load(UUID(one["id"]))
    assert loaded is not None
    requested = loaded.state.requested
    assert (requested.type, requested.source, requested.by) == ("test_send", "test-send", "api:tester")
    assert isinstance(requested.personal, Personal)
    assert requested.personal.address == ADDRESS
    path = f"{PATH}/versions/{requested.template_version}"
    assert (await service.client.get(path)).json()["files"]["en/subject.txt"] == "Pick a new password"
    now = (await service.client.get(PATH)).json()
    assert now["version"] == now["shipped"] != requested.template_version
    await sent(service.ledger, UUID(one["id"]))
    assert (await service.client.get(f"/v1/notifications/{one['id']}")).json()["status"] == "dispatched"


async def test_what_is_said_is_tried_where_there_is_no_draft_or_where_it_is_named(service: Service):
    shipped = (await service.client.get(PATH)).json()["version"]
    replies = [await tried(service)]
    await drafted(service, "Pick a new password")
    replies.append(await tried(service, version=shipped, locale="fr"))
    for reply, locale in zip(replies, ("en", "fr"), strict=True):
        loaded = await service.ledger.load(UUID(reply.json()["notifications"][0]["id"]))
        assert loaded is not None
        assert (loaded.state.requested.template_version, loaded.state.requested.locale) == (shipped, locale)


async def test_i02_with_an_idempotency_key_it_is_tried_once(service: Service):
    headers = {"Idempotency-Key": "try-1"}
    replies = [await service.client.post("/v1/test-sends", json=TRIAL, headers=headers) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [202, 200]
    assert replies[0].json()["notifications"][0]["id"] == replies[1].json()["notifications"][0]["id"]
    other = await service.client.post("/v1/test-sends", json={**TRIAL, "locale": "fr"}, headers=headers)
    assert other.status_code == 409


async def test_a_draft_that_is_not_in_order_is_not_tried(service: Service):
    await drafted(service, "{{ 10**10**8 }}")
    reply = await tried(service)
    assert (reply.status_code, reply.json()["type"]) == (422, "/problems/template-refused")


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"address": "ada@elsewhere.example"}, ["address"]),
        ({"address": "+442071838750"}, ["address"]),
        ({"channel": "push", "address": 7, "when": "now"}, ["?", "address", "channel"]),
        ({"template": None, "version": "", "data": [], "locale": "?"}, ["data", "locale", "template", "version"]),
        ({"data": {"resetLink": "no link"}}, ["data.resetLink"]),
        ({"template": "party"}, ["template"]),
        ({"version": "0" * 64}, ["version"]),
    ],
)
async def test_who_is_not_among_the_testers_and_what_cannot_be_read_is_refused(
    service: Service, changes: dict[str, Any], paths: list[str]
):
    reply = await tried(service, **changes)
    assert reply.status_code == 400, reply.text
    told = [fault["path"].replace("when", "?") for fault in reply.json()["faults"]]
    assert sorted(told) == paths


async def test_i17_who_may_send_messages_may_not_try_templates(service: Service):
    lesser = service.as_("notifications:write notifications:read operations")
    assert (await service.client.post("/v1/test-sends", json=TRIAL, headers=lesser)).status_code == 403
