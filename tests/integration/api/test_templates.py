"""Templates over HTTP: drafted, looked at, published, rolled back; what is refused is refused with every fault."""

import asyncio
from typing import Any

import httpx
import pytest

from templates.files import MESSAGES, files_in
from tests.integration.api.conftest import Service

PATH = "/v1/templates/password_reset"
WHY = {"reason": "a kinder tone"}
SAMPLE = {"resetLink": "https://shop.example/reset/1"}


def files(**changes: str) -> dict[str, str]:
    """The shipped files with another subject or body."""
    return {**files_in(MESSAGES, "password_reset"), **{f"en/{part}": text for part, text in changes.items()}}


async def drafted(service: Service, subject: str) -> str:
    reply = await service.client.put(f"{PATH}/draft", json={"files": files(**{"subject.txt": subject})})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["draft"]["draft"])


async def publish(service: Service, draft: str) -> httpx.Response:
    return await service.client.post(f"{PATH}/publish", json={"draft": draft, **WHY})


async def published(service: Service, subject: str) -> str:
    reply = await publish(service, await drafted(service, subject))
    assert reply.status_code == 200, reply.text
    return str(reply.json()["version"])


async def shown(service: Service, path: str = PATH, **query: str) -> Any:
    reply = await service.client.get(path, params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_template_is_drafted_looked_at_published_and_rolled_back(service: Service):
    before = await shown(service)
    assert (before["version"], before["draft"]) == (before["shipped"], None)
    assert before["data"][0]["resetLink"] == "link"
    draft = await drafted(service, "Pick a new password")
    after = await shown(service)
    assert (after["version"], after["draft"]["draft"], after["draft"]["by"]) == (before["shipped"], draft, "api:tester")
    look = await service.client.post(f"{PATH}/preview", json={"data": SAMPLE, "channel": "email", "locale": "en"})
    (preview,) = look.json()["previews"]
    assert preview["mail"]["subject"] == "Pick a new password"
    assert SAMPLE["resetLink"] in preview["mail"]["text"]
    done = (await publish(service, draft)).json()
    assert (done["draft"], done["shipped"]) == (None, before["shipped"])
    assert done["version"] != before["shipped"]
    back = await service.client.post(f"{PATH}/rollback", json={"version": before["shipped"], **WHY})
    assert back.json()["version"] == before["shipped"]
    versions = await shown(service, f"{PATH}/versions")
    assert versions["version"] == before["shipped"]
    assert [(one["version"], one["by"], one["reason"]) for one in versions["versions"]] == [
        (before["shipped"], None, None),
        (done["version"], "api:tester", WHY["reason"]),
    ]


async def test_the_list_says_of_every_template_what_is_said(service: Service):
    version = await published(service, "Pick a new password")
    listed = {one["name"]: one for one in (await shown(service, "/v1/templates"))["templates"]}
    assert listed["password_reset"]["version"] == version
    assert listed["welcome"]["version"] == listed["welcome"]["shipped"]


async def test_a_version_is_shown_word_for_word_and_compared_with_another(service: Service):
    shipped = (await shown(service))["version"]
    version = await published(service, "Pick a new password")
    words = await shown(service, f"{PATH}/versions/{version}")
    assert words["files"]["en/subject.txt"] == "Pick a new password"
    (change,) = (await shown(service, f"{PATH}/diff", **{"from": shipped, "to": version}))["changes"]
    assert change["file"] == "en/subject.txt"
    assert "+Pick a new password" in change["diff"].splitlines()


async def test_publishing_the_same_draft_again_and_rolling_back_again_change_nothing(service: Service):
    shipped = (await shown(service))["version"]
    draft = await drafted(service, "Pick a new password")
    first, again = await publish(service, draft), await publish(service, draft)
    assert first.json() == again.json()
    for _ in range(2):
        assert (await service.client.post(f"{PATH}/rollback", json={"version": shipped, **WHY})).status_code == 200
    templates = await shown(service)
    assert templates["version"] == shipped
    states = service.services.templates
    assert (await states.one("password_reset")).version == 3


async def test_a_draft_that_was_replaced_meanwhile_is_not_published(service: Service):
    first = await drafted(service, "Pick a new password")
    await drafted(service, "Choose another password")
    reply = await publish(service, first)
    assert (reply.status_code, reply.json()["type"]) == (409, "/problems/draft-moved")
    assert (await shown(service))["version"] == (await shown(service))["shipped"]


async def test_of_several_who_publish_the_same_draft_at_once_all_are_told_the_same(service: Service):
    draft = await drafted(service, "Pick a new password")
    replies = await asyncio.gather(*(publish(service, draft) for _ in range(4)))
    assert [reply.status_code for reply in replies] == [200] * 4
    assert len({reply.json()["version"] for reply in replies}) == 1
    assert (await service.services.templates.one("password_reset")).version == 2


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<p>{{ 10**10**8 }}</p>", "costly"),
        ("{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", "undeclared"),
        ("<p>{{ ''.__class__.__mro__ }}</p>", "unsafe"),
        ('{% include "password_reset/en/body.html" %}', "include"),
        ("<p>{{ nothingLikeIt }}</p>", "undeclared"),
    ],
)
async def test_what_is_not_in_order_is_refused_with_its_rule_and_nothing_is_said_by_it(
    service: Service, body: str, rule: str
):
    reply = await service.client.put(f"{PATH}/draft", json={"files": files(**{"body.html": body})})
    refused = await publish(service, reply.json()["draft"]["draft"])
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/template-refused")
    assert any(
        fault["path"].startswith("en/body.html") and rule in fault["message"] for fault in refused.json()["faults"]
    ), refused.text
    assert (await shown(service))["version"] == (await shown(service))["shipped"]


async def test_every_fault_of_a_draft_is_told_at_once(service: Service):
    wrong = files(**{"subject.txt": "{{ nothing }}", "body.html": "<a href='http://shop.example'>{{ more }}</a>"})
    reply = await service.client.put(f"{PATH}/draft", json={"files": wrong})
    refused = await publish(service, reply.json()["draft"]["draft"])
    assert {fault["path"] for fault in refused.json()["faults"]} >= {"en/subject.txt:1", "en/body.html:1"}


async def test_an_sms_is_shown_with_its_segments(service: Service):
    path = "/v1/templates/two_factor_code/preview"
    (preview,) = (await service.client.post(path, json={"locale": "en"})).json()["previews"]
    assert (preview["channel"], preview["segments"]) == ("sms", 1)
    assert len(preview["sms"]["text"]) < 160


@pytest.mark.parametrize(
    ("method", "path", "body", "paths"),
    [
        ("put", "draft", {}, ["files"]),
        ("put", "draft", {"files": {"en/subject.txt": 7}, "note": "x"}, ["files.?", "note"]),
        ("post", "publish", {}, ["draft", "reason"]),
        ("post", "rollback", {"version": 7, **WHY}, ["version"]),
        ("post", "preview", {"data": [], "channel": "fax", "locale": ""}, ["channel", "data", "locale"]),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_with_every_fault(
    service: Service, method: str, path: str, body: dict[str, Any], paths: list[str]
):
    reply = await service.client.request(method, f"{PATH}/{path}", json=body)
    assert reply.status_code == 400, reply.text
    assert sorted(fault["path"] for fault in reply.json()["faults"]) == paths


async def test_what_is_not_there_is_not_found(service: Service):
    client, nobody = service.client, "0" * 64
    replies = [
        await client.get("/v1/templates/party"),
        await client.get("/v1/templates/party/versions"),
        await client.get(f"{PATH}/versions/{nobody}"),
        await client.get(f"{PATH}/versions/%00"),
        await client.get(f"{PATH}/diff", params={"from": nobody, "to": nobody}),
        await client.put("/v1/templates/party/draft", json={"files": {"en/subject.txt": "x"}}),
        await client.post("/v1/templates/party/preview", json={}),
        await client.post(f"{PATH}/rollback", json={"version": nobody, **WHY}),
    ]
    assert [reply.status_code for reply in replies] == [404] * len(replies)
    assert (await client.get(f"{PATH}/diff")).status_code == 400


async def test_i17_who_may_read_may_not_publish(service: Service):
    lesser = service.as_("notifications:write notifications:read notifications:act operations")
    assert (await service.client.get(PATH, headers=lesser)).status_code == 200
    for method, path in (("put", "draft"), ("post", "publish"), ("post", "rollback")):
        reply = await service.client.request(method, f"{PATH}/{path}", json={}, headers=lesser)
        assert reply.status_code == 403
