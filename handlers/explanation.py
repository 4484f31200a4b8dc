"""Why a notification stands as it does: reads what the explanation needs, wherever it lies by now."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from handlers.waiting import Reaching, Waiting, waiting
from ledger.archive import Archive
from ledger.explaining import Explanation, Seen, Waits, evidence_of, explain, looked_at
from ledger.ledger import Ledger
from ledger.mapping import FactMapper, of_notification
from ledger.notification import fold
from ledger.store import Row

_MAPPER = FactMapper()


async def explained(ledger: Ledger, archive: Archive, reach: Reaching, notification: UUID) -> Explanation | None:
    """Explain a notification; None where there is none. Raises UnknownTopicError where a newer release wrote of it."""
    rows = await archive.facts(notification)
    state = fold([of_notification(_MAPPER.decode(row.topic, row.state)) for row in rows])
    if state is None:
        return None
    paused = await ledger.look_at_operations()
    waits = await waiting(ledger, notification, state, operations=paused, reach=reach)
    return await explained_by(ledger, archive, rows, waits=waits)


async def explained_by(ledger: Ledger, archive: Archive, rows: Sequence[Row], *, waits: Waiting | None) -> Explanation:
    """Explain a notification by its facts up to some moment, at least one; `waits` is what it waits for then."""
    facts = [_seen(row) for row in rows]
    state = fold([of_notification(_MAPPER.decode(row.topic, row.state)) for row in rows])
    if state is None:
        raise ValueError("the facts of a notification are at least one")
    known = _by_stream(await ledger.store.load(looked_at(facts, ledger.identity)))
    for other in evidence_of(facts, known):
        known |= _by_stream(await archive.facts(other))
    told = Waits(waits.reason.value, waits.until) if waits is not None else None
    return explain(state, facts, known, ledger.identity, waits=told)


def _by_stream(rows: Iterable[Row]) -> dict[UUID, Sequence[Seen]]:
    by_stream: dict[UUID, list[Seen]] = {}
    for row in rows:
        by_stream.setdefault(row.stream, []).append(_seen(row))
    return {**by_stream}


def _seen(row: Row) -> Seen:
    return Seen(row.stream, row.version, row.topic, _MAPPER.decode(row.topic, row.state))
