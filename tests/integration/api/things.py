"""One of each thing that a route can be asked about, all of one person whose data are like nobody else's."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from uuid import UUID

import msgspec

from ledger.follower import Follower, caught_up
from ledger.set_aside import Refusal
from projections.notification_log import NotificationLog
from projections.views import all_views
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import CONTENT, message, posted, sent
from tests.support.postgres import Database

USER = "caller"
ADDRESS, NAME, PHONE = "zebedee.quux@example.com", "Zebedeea", "+442071838750"
# What only an unmasked answer shows: address, name, number, and what was said.
PERSONAL = (ADDRESS, NAME, PHONE, CONTENT.subject)


class Things(msgspec.Struct, frozen=True):
    """What is there. `done` was sent, `waiting` was not; `by_name` has each by the name that it has in paths."""

    done: UUID
    waiting: UUID
    by_name: Mapping[str, str]


@contextlib.asynccontextmanager
async def made(service: Service, database: Database) -> AsyncIterator[Things]:
    """Make the things, and keep every view up to date meanwhile."""
    async with contextlib.AsyncExitStack() as following:
        for view in all_views():
            follower = Follower(database.url, view, service.signals)
            follower.start()
            following.push_async_callback(follower.stop)
        yield await _make(service)


async def _make(service: Service) -> Things:
    client = service.client
    told = {"userId": USER, "emailAddress": ADDRESS, "firstName": NAME}
    done, waiting = await posted(client, message(**told)), await posted(client, message(**told))
    await sent(service.ledger, done)
    contact = {"email": ADDRESS, "phone": PHONE, "name": NAME}
    (await client.patch(f"/v1/recipients/{USER}", json=contact)).raise_for_status()
    device = await client.post(f"/v1/recipients/{USER}/devices", json={"fid": "fid-1", "platform": "ios"})
    grounds = {"channel": "email", "address": "bob@example.com", "reason": "manual", "note": "asked by phone"}
    listed = await client.post("/v1/suppressions", json=grounds)
    paused = await client.post("/v1/pauses", json={"channel": "sms", "reason": "the sale starts next week"})
    refusal = Refusal(reason="killer", faults=[{"path": "", "message": "was given to us 3 times"}], type="Unknown")
    body, now = msgspec.json.encode(message(**told)), service.ledger.clock.now()
    letter = await service.services.set_aside.keep(body, refusal, origin="amqp", now=now)
    template = await client.get("/v1/templates/welcome")
    head = await service.ledger.store.head()
    async with service.ledger.store.connection() as connection:
        assert await caught_up(connection, NotificationLog(), head, timeout=timedelta(seconds=60))
    plan = {"action": "resend", "filters": {"user_id": USER}, "dry_run": True}
    planned = await client.post("/v1/bulk-actions", json=plan)
    by_name = {
        "notification_id": str(done),
        "user_id": USER,
        "device_id": device.json()["id"],
        "suppression_id": listed.json()["id"],
        "pause_id": paused.json()["id"],
        "key": letter.hex(),
        "name": "welcome",
        "version": template.json()["version"],
        "message_type": "OrderShippedEvent",
        "action_id": planned.json()["id"],
    }
    return Things(done, waiting, by_name)
