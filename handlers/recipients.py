"""What somebody says of a recipient by a command: it is said now, and so holds over all that was said before."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import uuid4

import msgspec

from ledger.decision import Decision
from ledger.errors import LedgerError
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.preferences import PreferenceNews, said_before
from ledger.recipient import ContactNews, DeviceNews, DropReason, Facts, News, Recipient, drop_device, learn


class NoSuchDeviceError(LedgerError):
    """The person has no device with this id; it may have been dropped before."""


async def tell(ledger: Ledger, news: News, *, by: str) -> Recipient:
    """Record what is said of a person; returns what is known of them then. Its `said_at` is set here."""

    def facts(known: Recipient, origin: Origin) -> Facts:
        return learn(known, _last(news, known, origin.now), origin, ledger.identity)

    return await _change(ledger, news.user_id, facts, by=by)


async def remove_device(ledger: Ledger, user_id: str, address_hash: str, *, by: str) -> Recipient:
    """Use a device of a person no more. Raises NoSuchDeviceError."""
    dropped = False

    def facts(known: Recipient, origin: Origin) -> Facts:
        nonlocal dropped
        decided = drop_device(known, address_hash, DropReason.REMOVED, origin)
        dropped = bool(decided)
        return decided

    after = await _change(ledger, user_id, facts, by=by)
    if not dropped:
        raise NoSuchDeviceError("the person has no such device")
    return after


async def _change(ledger: Ledger, user_id: str, facts: Callable[[Recipient, Origin], Facts], *, by: str) -> Recipient:
    cause = f"command:{uuid4()}"

    def decide(known: Recipient, now: datetime) -> Decision | None:
        decided = facts(known, Origin(now=now, cause=cause, by=by))
        return Decision(facts=known.next(decided)) if decided else None

    return await ledger.change_recipient(user_id, decide)


def _last(news: News, known: Recipient, now: datetime) -> News:
    """Return it as said after all that is known of the same: a publisher's clock may be ahead of ours.

    So may be that of the process by which the person was erased.
    """
    return msgspec.structs.replace(news, said_at=max([now, known.erased_at or now, *_said(news, known)]))


def _said(news: News, known: Recipient) -> Iterable[datetime]:
    """Return the times from which on the news holds over what is known."""
    match news:
        case ContactNews():
            return [at for field, at in known.said_at.items() if field in news.values]
        case DeviceNews():
            # Behind the dropping, not with it: what registers as it is dropped stays dropped.
            dropped = [at + timedelta.resolution for at in known.dropped.values()]
            return [*dropped, *(device.said_at for device in known.devices)]
        case PreferenceNews():
            return [at + timedelta.resolution for at in said_before(known.allows, news)]
