"""How a notification stood at a moment: its facts until then, and what of them is personal, opened."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile
from uuid import UUID

import msgspec

from api.problems import DELETED, NOT_FOUND, ProblemError
from api.services import Services
from ledger import old_weeks
from ledger.errors import UnknownTopicError
from ledger.ids import week_of
from ledger.keys import DataKey
from ledger.mapping import FactMapper, StoredFact, of_notification, unseal
from ledger.notification import AttemptStarted, Requested, State, fold
from ledger.store import Row
from ledger.values import REDACTED, Content, Personal, Redacted

_MAPPER = FactMapper()


async def rows_of(services: Services, notification_id: UUID) -> list[Row]:
    """Return all facts of a notification. Raises ProblemError where there is no such one."""
    rows = await services.archive.facts(notification_id)
    if not rows:
        raise ProblemError(NOT_FOUND, "no such notification")
    return rows


def until(rows: Sequence[Row], *, version: int | None, at: datetime | None) -> list[Row]:
    """Return the facts up to a version or a moment, without a gap."""
    if at is not None:
        return list(takewhile(lambda row: _MAPPER.decode(row.topic, row.state).recorded_at <= at, rows))
    return [row for row in rows if version is None or row.version <= version]


def folded(rows: Sequence[Row]) -> State | None:
    """Return how a notification stands by these facts; None where there are none. Raises UnknownTopicError."""
    return fold([of_notification(_MAPPER.decode(row.topic, row.state)) for row in rows])


async def key_of(services: Services, rows: Sequence[Row]) -> DataKey | None:
    """Return the data key of the notification's person; None when it was destroyed."""
    first = _first(rows)
    if not isinstance(first, Requested):
        return None
    async with services.ledger.store.connection() as connection:
        keys = await services.keys.read(connection, [first.recipient])
    return keys.get(first.recipient)


def personal_of(rows: Sequence[Row], state: State, key: DataKey | None) -> Personal | Redacted:
    """Return the personal data of the request, with the address that was found where it gave none."""
    first = rows[0]
    personal = opened(unseal(state.requested, first.stream, topic=first.topic, key=key).personal)
    if not isinstance(personal, Personal) or personal.address is not None:
        return personal
    found = (started.address for started in map(partial(_found, key=key), reversed(rows)) if started is not None)
    return msgspec.structs.replace(personal, address=next(found, None))


def opened(personal: Personal | Redacted | bytes | None) -> Personal | Redacted:
    """Return personal data where they can be read."""
    return personal if isinstance(personal, Personal) else REDACTED


async def content_of(services: Services, notification_id: UUID) -> tuple[Content, bytes]:
    """Return what was said last, word for word, and its digest. Raises ProblemError that says why there is nothing."""
    loaded = await services.ledger.load(notification_id)
    digest = loaded.state.rendered if loaded is not None else None
    content = await services.ledger.content(loaded) if loaded is not None else None
    if content is None or digest is None:
        raise await _unsaid(services, notification_id)
    return content, digest


async def _unsaid(services: Services, notification_id: UUID) -> ProblemError:
    state = folded(await rows_of(services, notification_id))
    if state is None or state.rendered is None:
        return ProblemError(NOT_FOUND, "nothing has been said yet")
    week = week_of(notification_id)
    dropped_at = await old_weeks.dropped_at(services.ledger.store, state.requested.retention, week)
    if dropped_at is None:
        return ProblemError(NOT_FOUND, "what was said is not kept any more, or its person was erased")
    return ProblemError(DELETED, f"what was said was deleted by retention on {dropped_at:%Y-%m-%d}")


def _first(rows: Sequence[Row]) -> StoredFact | None:
    try:
        return _MAPPER.decode(rows[0].topic, rows[0].state)
    except UnknownTopicError:
        return None


def _found(row: Row, *, key: DataKey | None) -> Personal | None:
    fact = _MAPPER.decode(row.topic, row.state)
    if not isinstance(fact, AttemptStarted) or fact.personal is None:
        return None
    found = opened(unseal(fact, row.stream, version=row.version, topic=row.topic, key=key).personal)
    return found if isinstance(found, Personal) else None
