"""POST /v1/find: whatever a caller says, and all that is known of it; "nothing found" says how far it reaches."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec
from litestar import post

from api.auth import Scope
from api.bodies import members_in
from api.problems import MALFORMED, TOO_LARGE, malformed
from api.said import OF_ANY_TEXT, Kind, Meaning, UnsearchableError, meanings
from api.schemas import FindText
from api.search import LIMIT, MOST, Listed, listed
from api.services import Call, services_of
from api.suppressions import CHANNELS, ShownSuppression, shown
from ledger import conflicts as named_conflicts
from ledger import queues
from ledger.archive import Archive
from ledger.errors import LedgerError
from ledger.keys import Keys
from ledger.ledger import Ledger
from ledger.queues import Queue
from ledger.set_aside import DeadLetter, SetAside
from ledger.status import Status
from ledger.suppression import nothing
from projections import finding
from projections.finding import Conflict
from projections.notification_log import LogRow
from projections.notification_search import CursorError, Filters, search_any
from templates.envelope import Fault

# So many refused messages are told of; there are more where `more_dead_letters`.
LETTERS = 20
_NOT_OVER = frozenset(
    {Status.REQUESTED, Status.DEFERRED, Status.RENDERED, Status.SENDING, Status.IN_DOUBT, Status.DISPATCHED}
)
_EVERYTHING = Filters()


class Knowing(Protocol):
    """What finding needs: the API's services have it, and a command's parts."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def archive(self) -> Archive: ...
    @property
    def set_aside(self) -> SetAside: ...


class Hit(Listed, frozen=True, kw_only=True):
    """A notification that was found. `matched_by` says by what: `address`, `device`, `notification`, `user_id`,
    `reference`, `message_id`, `correlation_id`, `provider_message_id`; nothing where filters alone were given.

    `held`: it may have been sent, and waits for a person to decide. `due_at`: when it is looked at again.
    """

    matched_by: list[str]
    held: bool
    due_at: datetime | None


class FoundLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was refused: none of it was sent while it is `waiting`."""

    key: str
    reason: str
    faults: list[dict[str, str]]
    source: str | None
    type: str | None
    message_id: str | None
    state: str
    seen: int
    received_at: datetime


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How far the answer reaches. What is older than `since` is found by its id alone, if it is archived.

    Lists are behind the log by `view_events` facts, the oldest of them `view_seconds` old, and leave `parked`
    notifications out. `queues` are those of the broker, as they were last seen: what waits there is not known yet.
    """

    asked_at: datetime
    since: datetime
    view_events: int
    view_seconds: float
    parked: int
    queues: list[Queue]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of what was asked for, notifications the newest first, in pages (`cursor`; null = the last).

    `taken_for` is what it may be. `unlisted` are notifications that exist and stand in no list: archived, or too new.
    `conflicts` are messages that came again with other content. Refused messages are found by each text and address
    that they hold.
    """

    taken_for: list[str]
    notifications: list[Hit]
    cursor: str | None
    unlisted: list[UUID]
    dead_letters: list[FoundLetter]
    more_dead_letters: bool
    conflicts: list[Conflict]
    suppressions: list[ShownSuppression]
    reach: Reach

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known of it."""
        return not (self.notifications or self.unlisted or self.dead_letters or self.conflicts or self.suppressions)


async def find(
    given: Knowing, text: str | None, *, narrowed: Filters = _EVERYTHING, cursor: str | None = None, limit: int = LIMIT
) -> Found:
    """Find whatever a text may mean, among what the filters leave; without a text, what the filters find.

    Raises UnsearchableError for a text that is none, CursorError for a cursor that no earlier page gave.
    """
    said = meanings(text) if text is not None else _named_by(narrowed)
    wanted: Sequence[tuple[Kind | None, Filters]] = (
        _wanted(given, said, narrowed) if text is not None else [(None, narrowed)]
    )
    async with given.ledger.store.connection() as connection:
        page, found_by = await search_any(connection, [filters for _, filters in wanted], cursor=cursor, limit=limit)
        ids = [row.notification for row in page.rows]
        due = await finding.due(connection, [row.notification for row in page.rows if row.status in _NOT_OVER])
        causes = await finding.intake_keys(connection, ids)
        keys = await given.keys.read(connection, [row.recipient for row in page.rows])
        reach = await finding.reach(connection)
    kinds = [kind for kind, _ in wanted]
    matched = [[each for each in dict.fromkeys(kinds[number] for number in by) if each] for by in found_by]
    hits = [_hit(row, listed(row, keys), by, due) for row, by in zip(page.rows, matched, strict=True)]
    letters = await _letters(given, said)
    return Found(
        taken_for=[str(kind) for kind in dict.fromkeys(one.kind for one in said)],
        notifications=hits,
        cursor=page.cursor,
        unlisted=await _unlisted(given, said, ids) if cursor is None else [],
        dead_letters=[_letter(letter) for letter in letters[:LETTERS]],
        more_dead_letters=len(letters) > LETTERS,
        conflicts=await _conflicts(given, said, causes),
        suppressions=await _suppressions(given, said),
        reach=Reach(
            asked_at=reach.now,
            since=reach.since,
            view_events=reach.view_events,
            view_seconds=reach.view_seconds,
            parked=reach.parked,
            queues=await queues.waiting(given.ledger.store),
        ),
    )


@post(
    "/v1/find",
    status_code=200,
    scopes=[Scope.READ],
    tags=["notifications"],
    summary="Find what is known of whatever a caller says",
    body=FindText,
    problems=[MALFORMED, TOO_LARGE],
)
async def post_find(request: Call) -> Found:
    text, cursor, limit = _read(await request.body())
    try:
        return await find(services_of(request), text, cursor=cursor, limit=limit)
    except UnsearchableError as exc:
        raise malformed(Fault("for", str(exc))) from None
    except CursorError:
        raise malformed(Fault("cursor", "is not one that an earlier page gave")) from None


def _read(body: bytes) -> tuple[str, str | None, int]:
    raw, faults = members_in(body, FindText.__struct_encode_fields__)
    text: Any = raw.get("for")
    cursor: Any = raw.get("cursor")
    limit: Any = raw.get("limit")
    if not isinstance(text, str):
        faults.append(Fault("for", "is required" if text is None else "must be a text"))
    if not isinstance(cursor, str | None):
        faults.append(Fault("cursor", "must be a text"))
    if limit is not None and (type(limit) is not int or not 1 <= limit <= MOST):
        faults.append(Fault("limit", f"must be a whole number from 1 to {MOST}"))
    if faults:
        raise malformed(*faults)
    return text, cursor, LIMIT if limit is None else limit


def _wanted(given: Knowing, said: tuple[Meaning, ...], narrowed: Filters) -> list[tuple[Kind, Filters]]:
    """Return what is to be searched for each meaning: whatever it may be, within what the filters leave."""
    wanted: list[tuple[Kind, Filters]] = []
    for one in said:
        values = _values(given, one)
        if all(getattr(narrowed, name) in {None, value} for name, value in values.items()):
            wanted.append((one.kind, msgspec.structs.replace(narrowed, **values)))
    return wanted


def _values(given: Knowing, one: Meaning) -> dict[str, Any]:
    match one.kind:
        case Kind.ADDRESS:
            return {"address_hash": given.ledger.identity.address_hash(one.value)}
        case Kind.DEVICE:
            return {"address_hash": given.ledger.identity.device_hash(one.value)}
        case Kind.NOTIFICATION:
            return {"notification": UUID(one.value)}
        case Kind.REFERENCE if one.name is not None:
            return {"reference": one.value, "reference_name": one.name}
        case _:
            return {one.kind.value: one.value}


def _named_by(filters: Filters) -> tuple[Meaning, ...]:
    """Return what is named by filters alone: refused messages and conflicts are looked for by that, too."""
    given = {kind: getattr(filters, kind.value) for kind in (*OF_ANY_TEXT, Kind.NOTIFICATION)}
    return tuple(Meaning(kind, str(value)) for kind, value in given.items() if value is not None)


def _of(said: tuple[Meaning, ...], *kinds: Kind) -> list[str]:
    return list(dict.fromkeys(one.value for one in said if one.kind in kinds))


async def _letters(given: Knowing, said: tuple[Meaning, ...]) -> list[DeadLetter]:
    """Return refused messages that speak of it, one more than are told of."""
    if not said:
        return []
    return await given.set_aside.find(
        dict.fromkeys(one.value for one in said), _of(said, Kind.ADDRESS), limit=LETTERS + 1
    )


async def _conflicts(given: Knowing, said: tuple[Meaning, ...], keys: set[bytes]) -> list[Conflict]:
    store = given.ledger.store
    ids = _of(said, Kind.MESSAGE)
    known = keys | (await named_conflicts.named(store, given.ledger.identity, ids) if ids else set())
    async with store.connection() as connection:
        return await finding.conflicts(connection, known)


async def _suppressions(given: Knowing, said: tuple[Meaning, ...]) -> list[ShownSuppression]:
    """Return what is listed now of an address that was said."""
    identity, now = given.ledger.identity, given.ledger.clock.now()
    hashes = dict.fromkeys(identity.address_hash(one) for one in _of(said, Kind.ADDRESS))
    streams = [nothing(identity, channel, one).stream for one in hashes for channel in CHANNELS]
    known = [await given.ledger.suppression(stream) for stream in streams]
    return [each for each in (shown(one, now=now) for one in known if one is not None) if each.entries]


async def _unlisted(given: Knowing, said: tuple[Meaning, ...], ids: list[UUID]) -> list[UUID]:
    """Return notifications that were named by their id and exist, though no list has them."""
    return [
        one for one in map(UUID, _of(said, Kind.NOTIFICATION)) if one not in ids and await _exists(given.archive, one)
    ]


async def _exists(archive: Archive, notification: UUID) -> bool:
    try:
        return bool(await archive.facts(notification))
    except LedgerError:
        # Its archive does not answer now: whoever asks for it by its id is told so.
        return True


def _hit(row: LogRow, listed_as: Listed, by: list[Kind], due: Any) -> Hit:
    next_look = due.get(row.notification)
    return Hit(
        **msgspec.structs.asdict(listed_as),
        matched_by=[str(kind) for kind in by],
        held=next_look is not None and next_look.held,
        due_at=next_look and next_look.at,
    )


def _letter(letter: DeadLetter) -> FoundLetter:
    return FoundLetter(**{name: getattr(letter, name) for name in FoundLetter.__struct_fields__})
