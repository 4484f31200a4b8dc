"""Erasures over HTTP: by whom, of whom, and what is shown of a person afterwards."""

from typing import Any

import psycopg
import pytest

from ledger.ledger import Ledger
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.integration.ledger import lives
from tests.integration.ledger.parts import IDENTITY
from tests.support.postgres import Database

READ, WRITE = "notifications:read", "recipients:write"
ADA = "/v1/recipients/ada"
ADDRESS = "ada@example.com"
WHY = {"reason": "asked for by letter"}
FACTS = "SELECT fact ->> 'reason', fact ->> 'by' FROM ledger.facts WHERE topic = 'recipient.erased' ORDER BY position"


async def erased(service: Service, path: str = f"{ADA}/erasure", **body: Any) -> dict[str, Any]:
    reply = await service.client.post(path, json={**WHY, **body})
    assert reply.status_code == 200, reply.text
    done: dict[str, Any] = reply.json()
    return done


async def alone(ledger: Ledger) -> None:
    address_hash = IDENTITY.address_hash(ADDRESS)
    await lives.begin(ledger, recipient=f"address:{address_hash}", address_hash=address_hash)


async def test_a_person_is_erased_with_a_reason_and_again_is_once(service: Service, database: Database):
    await service.client.patch(ADA, json={"email": ADDRESS, "name": "Ada"})
    await alone(service.ledger)
    done = await erased(service)
    assert (done["addresses"], done["shared"]) == (1, 0)
    assert await erased(service) == done | {"addresses": 0}
    with psycopg.connect(database.url) as connection:
        assert connection.execute(FACTS).fetchall() == [("asked for by letter", "api:tester")] * 2


async def test_i19_what_is_shown_of_them_then_is_that_they_were_erased(service: Service):
    await service.client.patch(ADA, json={"email": ADDRESS, "name": "Ada", "locale": "en-GB"})
    before = await posted(service.client, message(userId="ada"))
    await sent(service.ledger, before)
    assert (await service.client.get(f"/v1/notifications/{before}/content")).status_code == 200
    done = await erased(service)
    shown = (await service.client.get(ADA)).json()
    assert shown["erased_at"] == done["erased_at"]
    assert {shown[name] for name in ("email", "phone", "name", "locale", "time_zone")} == {None}
    told = (await service.client.patch(ADA, json={"email": "new@example.com"})).json()
    assert (told["email"], told["erased_at"]) == ("n…@e…", done["erased_at"])
    for path in ("", "/history"):
        reply = await service.client.get(f"/v1/notifications/{before}{path}")
        assert (reply.status_code, ADDRESS in reply.text) == (200, False)
    assert (await service.client.get(f"/v1/notifications/{before}/content")).status_code == 404


async def test_somebody_known_by_an_address_alone_is_erased_by_it(service: Service):
    await alone(service.ledger)
    done = await erased(service, "/v1/erasures", addresses=["Ada@Example.com", "+44 7400 990457"])
    assert done["erased_at"] is not None
    assert await erased(service, "/v1/erasures", addresses=[ADDRESS]) == done
    nobody = await erased(service, "/v1/erasures", addresses=["nobody@example.com"])
    assert nobody == {"erased_at": None, "addresses": 0, "shared": 0}


@pytest.mark.parametrize(
    ("path", "body", "faults"),
    [
        (f"{ADA}/erasure", {}, ["reason"]),
        (f"{ADA}/erasure", {**WHY, "addresses": "a@b.example", "more": 1}, ["", "addresses"]),
        (
            f"{ADA}/erasure",
            {"reason": "", "addresses": ["secret", ADDRESS, 7]},
            ["reason", "addresses[0]", "addresses[2]"],
        ),
        ("/v1/erasures", WHY, ["addresses"]),
        ("/v1/erasures", {**WHY, "addresses": [ADDRESS] * 101}, ["addresses"]),
    ],
)
async def test_every_fault_is_named_at_once_and_no_value(service: Service, path: str, body: Any, faults: list[str]):
    reply = await service.client.post(path, json=body)
    assert reply.status_code == 400
    assert [fault["path"] for fault in reply.json()["faults"]] == faults
    assert "secret" not in reply.text
    assert await service.ledger.store.head() == 0


@pytest.mark.parametrize("path", [f"{ADA}/erasure", "/v1/erasures"])
async def test_i17_only_who_may_tell_of_people_may_erase_them(service: Service, path: str):
    reply = await service.client.post(path, json=WHY, headers=service.as_(READ))
    assert reply.status_code == 403
