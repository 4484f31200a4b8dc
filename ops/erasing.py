"""`erase` and `erasures`: what a person at a terminal forgets, and what is said of it."""

from collections.abc import Collection

from handlers.erasures import Erased, erase_addresses, erase_user
from ledger import erasure
from ledger.erasure import Erasure
from ledger.ledger import Ledger
from ops.errors import OperationError
from ops.wiring import Parts
from templates.addresses import is_email, read_phone
from templates.envelope import is_identifier

_BY = "cli"


async def erase(ledger: Ledger, user: str | None, addresses: Collection[str], *, reason: str) -> Erased:
    """Forget a user, or whoever is known by addresses alone. Raises OperationError for what names nobody."""
    if user is not None and not is_identifier(user):
        raise OperationError("USER must be 1 to 200 printable characters")
    if not is_identifier(reason):
        raise OperationError("--reason must be 1 to 200 printable characters")
    if not all(is_email(one) or read_phone(one.strip()) for one in addresses):
        raise OperationError("--address must be an e-mail address, or a phone number that begins with +")
    if user is not None:
        return await erase_user(ledger, user, addresses, by=_BY, reason=reason)
    if not addresses:
        raise OperationError("name a USER, or an --address")
    return await erase_addresses(ledger, addresses, by=_BY, reason=reason)


def lines(told: Erased) -> list[str]:
    """Say it for a terminal."""
    if told.erased_at is None:
        return ["nothing is known of this person"]
    return [
        f"erased at {told.erased_at:%Y-%m-%d %H:%M:%S}",
        f"known by their address alone, and erased with them: {told.addresses}",
        f"addresses that somebody else has, too, and that stay: {told.shared}",
    ]


async def listed(given: Parts) -> list[Erasure]:
    """List who was erased, the longest ago first."""
    async with given.ledger.store.connection() as connection:
        return await erasure.listed(connection)
