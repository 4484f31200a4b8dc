"""Forgetting people: who goes with a person, in one decision, and the list of them that outlives a restore."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from uuid import uuid4

import msgspec
import structlog

from ledger import erasure
from ledger.archive import Shelf
from ledger.decision import Decision
from ledger.erasure import Erasure
from ledger.errors import ArchiveUnavailableError
from ledger.ledger import Ledger, until_stored
from ledger.notification import RESTORED, Origin
from ledger.recipient import erase
from ledger.store import Store
from templates.addresses import read_phone

# Where the list of erasures lies beside the archive.
LIST = "erasures.json"

_log = structlog.get_logger("handlers.erasures")


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure has done. `erased_at` is when the person was erased last, None where nothing was known of them.

    So many `addresses` of theirs were known by themselves, too, and went with them; `shared` ones are also
    somebody else's.
    """

    erased_at: datetime | None
    addresses: int
    shared: int


async def erase_user(ledger: Ledger, user_id: str, addresses: Collection[str], *, by: str, reason: str) -> Erased:
    """Forget a user of the platform, and those of their addresses, `addresses` among them, that nobody else has."""
    recipient = ledger.identity.recipient(user_id, None)
    return await _erase(ledger, [recipient], _hashes(ledger, addresses), _commanded(by), reason=reason)


async def erase_addresses(ledger: Ledger, addresses: Collection[str], *, by: str, reason: str) -> Erased:
    """Forget whoever is known by these addresses alone, and by no user id."""
    people = [f"address:{one}" for one in _hashes(ledger, addresses)]
    return await _erase(ledger, people, (), _commanded(by), reason=reason)


async def erase_again(ledger: Ledger, erasures: Iterable[Erasure], since: datetime, *, dry_run: bool) -> list[Erasure]:
    """Forget whom a restored database knows again; returns those, or those that it would be. A repeat finds nobody."""
    async with ledger.store.connection() as connection:
        known = {one.recipient: one.erased_at for one in await erasure.listed(connection)}
    again = [one for one in latest(erasures) if one.recipient not in known or known[one.recipient] < one.erased_at]
    for one in () if dry_run else again:
        origin = _from(f"{RESTORED}:{since.isoformat()}", "recover")
        await _erase(ledger, [one.recipient], (), origin, reason=one.reason)
    return again


async def copy_list(store: Store, shelf: Shelf) -> None:
    """Bring the list of erasures beside the archive up to date. What it once held stays in it."""
    async with store.connection() as connection:
        known = await erasure.listed(connection)
    there = await read_list(shelf)
    if (wanted := latest([*there, *known])) != there:
        await shelf.put(LIST, encode(wanted))
    async with store.connection() as connection:
        await erasure.set_copied(connection, known)


async def read_list(shelf: Shelf) -> list[Erasure]:
    """Read the list that lies beside the archive. Raises ArchiveUnavailableError."""
    body = await shelf.get(LIST)
    if body is None:
        return []
    try:
        return decode(body)
    except msgspec.DecodeError as exc:
        raise ArchiveUnavailableError(f"{LIST} in the archive cannot be read") from exc


def encode(erasures: Sequence[Erasure]) -> bytes:
    """Return a list of erasures as it lies in a file."""
    return msgspec.json.format(msgspec.json.encode(erasures))


def decode(body: bytes) -> list[Erasure]:
    """Read what `encode` wrote. Raises msgspec.DecodeError."""
    return msgspec.json.decode(body, type=list[Erasure])


def latest(erasures: Iterable[Erasure]) -> list[Erasure]:
    """Return the last erasure of each person, the longest ago first."""
    by_time = sorted(erasures, key=_order)
    return sorted({one.recipient: one for one in by_time}.values(), key=_order)


def _order(one: Erasure) -> tuple[datetime, str]:
    return one.erased_at, one.recipient


async def _erase(
    ledger: Ledger,
    people: Sequence[str],
    addresses: Collection[str],
    origin: Callable[[datetime], Origin],
    *,
    reason: str,
) -> Erased:
    """Forget people (names of data keys), and with them whoever is known by their addresses alone: in one commit."""

    async def attempt(_number: int) -> Erased:
        async with ledger.store.connection() as connection:
            theirs = await erasure.addresses(connection, people, addresses)
        alone = [
            name for one, is_shared in theirs.items() if not is_shared and (name := f"address:{one}") not in people
        ]
        named = await ledger.sealed_people([*people, *alone])
        # Behind the streams: what another process erases from now on has moved them, and this is decided again.
        async with ledger.store.connection() as connection:
            kept = await erasure.kept(connection, {one.recipient: one.stream for one in named})
        at = origin(ledger.clock.now())
        facts = [
            new for one in named for new in one.next(erase(one, reason, at, is_anything_kept=one.recipient in kept))
        ]
        if facts:
            await ledger.append(Decision(facts=tuple(facts)))
        gone = {new.stream for new in facts}
        for one in named:
            if one.stream in gone:
                _log.info("person_erased", stream=str(one.stream), by=at.by)
        times = [at.now if one.stream in gone else one.erased_at for one in named[: len(people)]]
        return Erased(
            erased_at=max((time for time in times if time is not None), default=None),
            addresses=sum(one.stream in gone for one in named[len(people) :]),
            shared=sum(theirs.values()),
        )

    return await until_stored(attempt)


def _hashes(ledger: Ledger, addresses: Collection[str]) -> list[str]:
    """Return the hashes of addresses, phone numbers as they are stored."""
    return sorted({ledger.identity.address_hash(read_phone(one.strip()) or one) for one in addresses})


def _commanded(by: str) -> Callable[[datetime], Origin]:
    return _from(f"command:{uuid4()}", by)


def _from(cause: str, by: str) -> Callable[[datetime], Origin]:
    return lambda now: Origin(now=now, cause=cause, by=by)
