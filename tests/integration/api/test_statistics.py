"""What is counted, over HTTP: numbers, percentiles and costs, as JSON and as CSV, and what cannot be asked for."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ledger.follower import Follower, View, prepare
from ledger.store import connect
from projections.costs import Costs
from projections.delivery_statistics import DeliveryStatistics
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.support.postgres import Database


@pytest.fixture
async def counted(not_at_the_full_hour: None, service: Service, database: Database) -> Service:
    """The service with a mail that was sent and one that was not, both counted."""
    await sent(service.ledger, await posted(service.client, message()))
    await posted(service.client, message("LowStockWarningEvent"))
    for view in (DeliveryStatistics(), Costs()):
        await catch_up(view, service, database)
    return service


async def catch_up(view: View, service: Service, database: Database) -> None:
    async with await connect(database.url, options="-c search_path=views") as connection:
        await prepare(connection, view)
        await Follower(database.url, view, service.signals).catch_up(connection)


async def asked(service: Service, path: str, **given: str) -> Any:
    reply = await service.client.get(path, params=given)
    assert reply.status_code == 200, reply.text
    return reply.json()


def table_in(reply: httpx.Response) -> list[dict[str, str]]:
    assert reply.headers["content-type"] == "text/csv; header=present; charset=utf-8"
    return list(csv.DictReader(io.StringIO(reply.text)))


async def test_what_became_of_notifications_is_counted_by_what_is_asked_for(counted: Service):
    told = await asked(counted, "/v1/statistics", by="type,status")
    assert [(one["group"], one["requested"], one["dispatched"], one["under_way"]) for one in told["buckets"]] == [
        ({"type": "low_stock", "status": "requested"}, 1, 0, 1),
        ({"type": "welcome", "status": "dispatched"}, 1, 1, 0),
    ]
    assert told["buckets"][0]["to_provider"] is None
    assert told["buckets"][1]["to_provider"].keys() == {"notifications", "p50_seconds", "p90_seconds", "p99_seconds"}
    assert told["lag"] == {"events": 0, "seconds": 0.0, "parked": 0}
    (every,) = (await asked(counted, "/v1/statistics", channel="email"))["buckets"]
    assert (every["group"], every["requested"], every["attempts"]) == ({}, 2, 1)
    assert (await asked(counted, "/v1/statistics", channel="sms"))["buckets"] == []
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    before = {"from": (hour - timedelta(hours=2)).isoformat(), "to": (hour - timedelta(hours=1)).isoformat()}
    assert (await asked(counted, "/v1/statistics", **before))["buckets"] == []


async def test_what_attempts_cost_is_told_by_currency(counted: Service):
    told = await asked(counted, "/v1/costs", by="day,provider")
    (cost,) = told["costs"]
    midnight = f"{datetime.now(UTC):%Y-%m-%dT00:00:00Z}"
    assert (told["by"], cost["group"]) == (["day", "provider"], {"day": midnight, "provider": "ses"})
    assert (cost["attempts"], cost["not_taken"]) == (1, 0)
    assert (await asked(counted, "/v1/costs", country="GB"))["costs"] == []


async def test_a_table_is_had_by_the_parameter_or_by_what_is_accepted(counted: Service):
    by_name = await counted.client.get("/v1/statistics", params={"by": "hour,provider", "format": "csv"})
    accepted = {"Accept": "text/csv"}
    by_header = await counted.client.get("/v1/statistics", params={"by": "hour,provider"}, headers=accepted)
    assert table_in(by_name) == table_in(by_header)
    hour = f"{datetime.now(UTC):%Y-%m-%dT%H:00:00Z}"
    assert [(row["hour"], row["provider"], row["requested"]) for row in table_in(by_name)] == [
        (hour, "", "1"),
        (hour, "ses", "1"),
    ]
    in_json = await counted.client.get("/v1/statistics", params={"format": "json"}, headers=accepted)
    assert in_json.json()["by"] == []
    (spent,) = table_in(await counted.client.get("/v1/costs", headers=accepted))
    assert (spent["attempts"], spent["not_taken"]) == ("1", "0")


@pytest.mark.parametrize("accept", ["text/csv;q=1e999", "text/csv;q=-1e999", "text/csv;q=" + "9" * 400])
@pytest.mark.parametrize("path", ["/v1/statistics", "/v1/costs"])
async def test_who_accepts_by_a_weight_that_is_none_gets_what_everybody_gets(counted: Service, path: str, accept: str):
    reply = await counted.client.get(path, headers={"Accept": accept})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")


async def test_what_cannot_be_asked_for_is_named_all_at_once_and_i17_needs_the_scope_to_read(service: Service):
    for path in ("/v1/statistics", "/v1/costs"):
        await refused(service, path)
        assert (await service.client.get(path, headers=service.as_("operations"))).status_code == 403
    hours_and_days = await service.client.get("/v1/statistics", params={"by": "hour,day"})
    assert hours_and_days.json()["faults"] == [{"path": "by", "message": "must name hour or day, not both"}]


async def refused(service: Service, path: str) -> None:
    given = {"from": "9999-01-01T00:00:00Z", "to": "0001-01-01T00:00:00Z", "by": "colour", "channel": "pigeon"}
    reply = await service.client.get(path, params={**given, "format": "xml", "colour": "red"})
    assert reply.status_code == 400
    assert {fault["path"] for fault in reply.json()["faults"]} >= {"from", "to", "by", "channel", "format", "colour"}
    for wrong in (
        {"by": "day,day"},
        {"by": ""},
        {"from": "2026-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"},
        {"from": "2024-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
    ):
        reply = await service.client.get(path, params=wrong)
        assert (reply.status_code, len(reply.json()["faults"])) == (400, 1), wrong
