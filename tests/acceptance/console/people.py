"""What has happened when somebody calls: a mail that arrived, and an SMS that was not to be sent."""

import asyncio
from uuid import UUID

import httpx
import msgspec

from tests.acceptance.traffic import message
from tests.support.service import SOON

PHONE = "+442071838750"
ON_PAPER = "+44 20 7183 8750"
MAIL = "success@sandbox.example"


class Told(msgspec.Struct, frozen=True):
    """The notifications of one order by channel, of whom; what stopped the SMS, and what came too late."""

    mail: UUID
    sms: UUID
    user: str
    suppression: UUID
    bulk: UUID


async def tell(client: httpx.AsyncClient) -> Told:
    """Ship an order to somebody whose number is on the list; return what came of it."""
    grounds = {"channel": "sms", "address": PHONE, "reason": "manual", "note": "asked for it by letter"}
    listed = (await client.post("/v1/suppressions", json=grounds)).raise_for_status().json()
    shipped = message("OrderShippedEvent", userEmail=MAIL, userPhoneNumber=PHONE)
    made = (await client.post("/v1/messages", json=shipped)).raise_for_status().json()["notifications"]
    by_channel = {each["channel"]: UUID(each["id"]) for each in made}
    mail, sms = by_channel["email"], by_channel["sms"]
    async with asyncio.timeout(SOON.total_seconds()):
        await listed_as(client, mail, "delivered")
        await listed_as(client, sms, "suppressed")
    wanted = {"action": "cancel", "filters": {"message_id": shipped["messageId"]}, "dry_run": True}
    plan = (await client.post("/v1/bulk-actions", json=wanted)).raise_for_status().json()
    meant = {"confirm": plan["id"], "reason": "the order was a mistake"}
    (await client.post("/v1/bulk-actions", json=meant)).raise_for_status()
    return Told(mail, sms, shipped["payload"]["userId"], UUID(listed["id"]), UUID(plan["id"]))


async def listed_as(client: httpx.AsyncClient, notification: UUID, status: str) -> None:
    """Wait until the lists show it: they come after the facts."""
    while True:
        found = (await client.get("/v1/notifications", params={"status": status})).json()["notifications"]
        if str(notification) in {each["id"] for each in found}:
            return
        await asyncio.sleep(0.05)
