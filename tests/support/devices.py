"""People's devices, as the platform's messages make them known."""

from datetime import datetime

from ledger.decision import Decision
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.recipient import DeviceNews, DropReason, Platform, Recipient, drop_device, register_device


async def register(ledger: Ledger, user_id: str, *fids: str) -> None:
    """Register devices, the last of which a push goes to first."""
    for fid in fids:

        def decide(known: Recipient, now: datetime, fid: str = fid) -> Decision:
            news = DeviceNews(user_id, now, fid, Platform.ANDROID)
            origin = Origin(now=now, cause="test", by="test")
            return Decision(facts=known.next(register_device(known, news, origin, ledger.identity)))

        await ledger.change_recipient(user_id, decide)


async def remove(ledger: Ledger, user_id: str, fid: str) -> None:
    """Take a device off."""

    def decide(known: Recipient, now: datetime) -> Decision:
        origin = Origin(now=now, cause="test", by="test")
        address_hash = ledger.identity.device_hash(fid)
        return Decision(facts=known.next(drop_device(known, address_hash, DropReason.REMOVED, origin)))

    await ledger.change_recipient(user_id, decide)


async def registered(ledger: Ledger, user_id: str) -> list[str | None]:
    """The devices of a person, in the order of their registration."""
    return [device.address for device in (await ledger.recipient(user_id)).devices]
