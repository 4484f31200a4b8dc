"""What is kept of people outside of their facts, and who was erased: asked before an erasure, and behind a restore."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

# The addresses of some people, and which of them somebody else has, too. A name that is made of an address has it, too.
_ADDRESSES = """
SELECT own.address_hash, EXISTS (
    SELECT FROM ledger.recipient_address other
    WHERE other.address_hash = own.address_hash AND other.recipient <> ALL (%(people)b::text[])
      AND other.recipient <> 'address:' || own.address_hash
)
FROM (
    SELECT address_hash FROM ledger.recipient_address WHERE recipient = ANY (%(people)b::text[])
    UNION SELECT unnest(%(given)b::text[])
) AS own ORDER BY own.address_hash
"""
# Of some people, those of whom something is kept that an erasure takes away.
_KEPT = """
SELECT recipient FROM unnest(%(names)b::text[], %(streams)b::uuid[]) AS one (recipient, stream)
WHERE EXISTS (SELECT FROM ledger.recipient_key k WHERE k.recipient = one.recipient)
   OR EXISTS (SELECT FROM ledger.recipient_address a WHERE a.recipient = one.recipient)
   OR EXISTS (SELECT FROM ledger.dead_letter d WHERE d.people @> ARRAY[one.stream])
"""
_LIST = "SELECT recipient, erased_at, reason FROM ledger.erasure ORDER BY erased_at, recipient"
_COPIED = """
UPDATE ledger.erasure e SET copied_at = now()
FROM unnest(%(recipients)b::text[], %(moments)b::timestamptz[]) AS one (recipient, erased_at)
WHERE (e.recipient, e.erased_at) = (one.recipient, one.erased_at) AND e.copied_at IS NULL
"""
_NOT_COPIED = """
SELECT count(*), coalesce(now() - min(erased_at), interval '0') FROM ledger.erasure WHERE copied_at IS NULL
"""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """That a person was erased, and when last; `recipient` is the name that their data key had."""

    recipient: str
    erased_at: datetime
    reason: str


async def addresses(
    connection: AsyncConnection[Any], people: Collection[str], given: Collection[str]
) -> Mapping[str, bool]:
    """Return the address hashes of some people, those `given` among them, each with whether somebody else has it."""
    asked = {"people": list(people), "given": list(given)}
    return dict(await (await connection.execute(_ADDRESSES, asked, binary=True)).fetchall())


async def kept(connection: AsyncConnection[Any], streams: Mapping[str, UUID]) -> frozenset[str]:
    """Return those of some people (name and stream) of whom something is kept that an erasure takes away."""
    asked = {"names": list(streams), "streams": list(streams.values())}
    rows = await (await connection.execute(_KEPT, asked, binary=True)).fetchall()
    return frozenset(name for (name,) in rows)


async def listed(connection: AsyncConnection[Any]) -> list[Erasure]:
    """List who was erased, each with the last time, the longest ago first."""
    rows = await (await connection.execute(_LIST, binary=True)).fetchall()
    return [Erasure(recipient=recipient, erased_at=at, reason=reason) for recipient, at, reason in rows]


async def set_copied(connection: AsyncConnection[Any], erasures: Sequence[Erasure]) -> None:
    """Remember that these lie outside of the database, too."""
    copied = {"recipients": [one.recipient for one in erasures], "moments": [one.erased_at for one in erasures]}
    await connection.execute(_COPIED, copied, binary=True)


async def not_copied(connection: AsyncConnection[Any]) -> tuple[int, float]:
    """Count the erasures that lie in the database alone; also the age of the oldest, in seconds."""
    ((count, age),) = await (await connection.execute(_NOT_COPIED, binary=True)).fetchall()
    return int(count), age.total_seconds()
