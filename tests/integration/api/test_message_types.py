import msgspec

from ledger.values import Channel
from templates.catalogue import load
from templates.message_schemas import message_schemas
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message
from tests.support.json_schema_2020 import fits


async def test_every_message_that_is_known_is_listed_with_a_schema_that_what_is_taken_in_fits(service: Service):
    listed = (await service.client.get("/v1/message-types")).json()["message_types"]
    assert {one["type"] for one in listed} == message_schemas(load(), channels={Channel.EMAIL}).keys()
    for one in listed:
        reply = await service.client.get(one["schema"])
        assert reply.headers["content-type"].startswith("application/schema+json")
        assert reply.json()["title"] == one["type"]
    body = message("OrderShippedEvent")
    schema = (await service.client.get("/v1/message-types/OrderShippedEvent/schema")).json()
    assert fits(msgspec.json.decode(msgspec.json.encode(body)), schema)
    assert (await service.client.post("/v1/messages", json=body)).status_code == 202


async def test_any_token_may_ask_for_schemas_and_nobody_without_one(service: Service):
    path = "/v1/message-types/OrderShippedEvent.v1/schema"
    for url in ("/v1/message-types", path):
        assert (await service.client.get(url, headers=service.as_("operations"))).status_code == 200
        assert (await service.client.get(url, headers={"Authorization": ""})).status_code == 401


async def test_a_type_that_is_not_known_has_no_schema(service: Service):
    for name in ("OrderShippedEvent.v2", "UserBefriendedEvent", "%00"):
        reply = await service.client.get(f"/v1/message-types/{name}/schema")
        assert (reply.status_code, reply.json()["type"]) == (404, "/problems/not-found")
