import re

from api.app import make_app
from api.auth import declared, operations
from api.problems import KINDS
from api.services import Services
from api.sessions import is_console
from tests.integration.api.conftest import Service


async def test_every_route_is_described_with_its_scopes(service: Service, services: Services):
    document = (await service.client.get("/schema")).json()
    for path, method, handler in operations(make_app(services)):
        if path.startswith("/schema") or is_console(path):
            continue
        operation = document["paths"][path][method.lower()]
        scopes = declared(handler)
        assert operation["security"] == ([] if scopes is None else [{"bearer": sorted(scopes)}]), path
        assert operation["summary"]


async def test_every_description_says_what_may_come_back(service: Service):
    document = (await service.client.get("/schema/openapi.json")).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            statuses = set(operation["responses"])
            assert statuses & {"200", "202", "204"}, path
            assert "503" in statuses, path
            assert ("401" in statuses) == ("403" in statuses and "callbacks" not in path) == bool(operation["security"])
            assert ("404" in statuses) == ("{" in path), path
            if operation.get("requestBody"):
                assert {"400", "413"} <= statuses, path
            assert method != "get" or "413" not in statuses


async def test_the_document_refers_to_nothing_that_is_not_in_it(service: Service):
    text = (await service.client.get("/schema")).text
    document = (await service.client.get("/schema")).json()
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= set(document["components"]["schemas"])
    assert {"Message", "NotificationRequest", "Problem", "SearchFilters"} <= names


async def test_every_problem_of_the_table_is_documented_under_its_status(service: Service):
    text = (await service.client.get("/schema")).text
    undocumented = {kind.type for kind in KINDS if kind.type not in text}
    assert undocumented == {"/problems/method-not-allowed", "/problems/unexpected"}


async def test_there_is_nothing_else_below_the_schema(service: Service):
    reply = await service.client.get("/schema/redoc")
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert (await service.client.get("/schema/openapi.yaml")).status_code == 200
