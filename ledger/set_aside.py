"""What we refuse and what we cannot match: kept sealed, listed, tried again; never lost, never in the way."""

import re
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
import structlog
from psycopg.types.json import Jsonb

from ledger.keys import Identity, Keys
from ledger.mentions import people_in, text, texts_in
from ledger.recipient import nobody_named
from ledger.store import Store
from ledger.values import Report

TRIES = 3
KEPT = timedelta(days=30)
MATCHED_WITHIN = timedelta(days=7)
_TRY_AGAIN_AFTER = timedelta(minutes=1)
# What stands for a name that the sender chose and that may hold an address.
HIDDEN = "(hidden)"
_SPEAKABLE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_KEY = re.compile(r"[0-9a-f]{64}")
# What Postgres has no place for in a text: U+0000, and half of a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_log = structlog.get_logger("ledger.set_aside")

# Keep a refused message; the same bytes again are the same row, kept from now on, and a decided one waits anew.
_KEEP = """
INSERT INTO ledger.dead_letter AS d (key, reason, faults, origin, source, type, message_id, week, body, people, said)
VALUES (%(key)s, %(reason)s, %(faults)s, %(origin)s, %(source)s, %(type)s, %(message_id)s, %(week)s, %(body)s,
        %(people)s, %(said)s)
ON CONFLICT (key) DO UPDATE SET seen = d.seen + 1, reason = excluded.reason, faults = excluded.faults,
    received_at = now(), week = excluded.week, body = excluded.body, people = excluded.people, said = excluded.said,
    state = 'waiting', decided_at = NULL, decided_by = NULL, decision = NULL
"""
_LIST = """
SELECT key, reason, faults, origin, source, type, message_id, state, seen, received_at, decided_at, decided_by, decision
FROM ledger.dead_letter WHERE (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY received_at DESC, key LIMIT %(limit)s
"""
_SHOW = """
SELECT key, reason, faults, origin, source, type, message_id, state, seen, received_at, decided_at, decided_by,
       decision, week, body
FROM ledger.dead_letter WHERE key = %(key)s
"""
# What names a person, or holds a text; by its message id alone what was kept by a release that knew no texts.
_FIND = """
SELECT key, reason, faults, origin, source, type, message_id, state, seen, received_at, decided_at, decided_by, decision
FROM ledger.dead_letter
WHERE key = ANY(%(keys)s) OR message_id = ANY(%(texts)s) OR said && %(said)s OR people && %(people)s
ORDER BY received_at DESC, key LIMIT %(limit)s
"""
_DECIDE = """
UPDATE ledger.dead_letter SET state = %(state)s, decided_at = now(), decided_by = %(by)s, decision = %(reason)s
WHERE key = %(key)s AND state = 'waiting'
"""
_COUNT_WAITING = "SELECT count(*) FROM ledger.dead_letter WHERE state = 'waiting'"
# One more try of these bytes, counted before they are parsed. The commit does not wait for the disk, nor does that of
# the forgetting: the count is to outlive our process, which may end by these bytes, and not the server. Messages that
# come again come one by one, by the hundred, and each would wait twice more for a slow disk.
_TRY = """
WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO ledger.intake_try AS t (hash, tries) SELECT %(hash)s, 1 FROM relaxed
ON CONFLICT (hash) DO UPDATE SET tries = t.tries + 1 RETURNING tries
"""
_FORGET_TRY = """
WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
DELETE FROM ledger.intake_try USING relaxed WHERE hash = %(hash)s
"""
# Keep a report that matches nothing yet.
_KEEP_REPORT = """
INSERT INTO ledger.unmatched_report AS u (provider, key, reference, week, body)
VALUES (%(provider)s, %(key)s, %(reference)s, %(week)s, %(body)s) ON CONFLICT DO NOTHING
"""
# Reports to be tried: those whose reference has appeared, and the others by the clock, the older the less often.
_WAITING = """
UPDATE ledger.unmatched_report u SET tries = tries + 1, tried_at = now()
WHERE (u.provider, u.key) IN (
    SELECT w.provider, w.key FROM ledger.unmatched_report w
    WHERE w.tried_at < now() - least(%(pause)s * (1 + w.tries), interval '1 hour')
       OR EXISTS (SELECT FROM ledger.provider_reference r WHERE (r.provider, r.reference) = (w.provider, w.reference))
    ORDER BY w.tried_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
) RETURNING u.provider, u.key, u.week, u.body
"""
_DROP_REPORT = "DELETE FROM ledger.unmatched_report WHERE provider = %(provider)s AND key = %(key)s"
_PURGE = (
    "DELETE FROM ledger.dead_letter WHERE received_at < now() - %(kept)s",
    "DELETE FROM ledger.intake_try WHERE first_at < now() - %(kept)s",
    "DELETE FROM ledger.unmatched_report WHERE received_at < now() - %(matched_within)s",
    "DELETE FROM ledger.conflict c WHERE NOT EXISTS (SELECT FROM ledger.intake i WHERE i.key = c.key)",
    "DELETE FROM ledger.week_key WHERE week < now() - %(kept)s - interval '8 days'",
)
_COUNT_REPORTS = "SELECT count(*) FROM ledger.unmatched_report"
_REFERENCE = """
SELECT notification, attempt FROM ledger.provider_reference WHERE provider = %(provider)s AND reference = %(reference)s
"""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that we refused. Holds no personal data: the body is sealed, and read only by `body_of`.

    `key` is in hex: it is shown and typed in everywhere.
    """

    key: str
    reason: str
    faults: list[dict[str, str]]
    origin: str
    source: str | None
    type: str | None
    message_id: str | None
    state: str
    seen: int
    received_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decision: str | None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message is set aside, and what could still be read of its envelope.

    It goes into logs and lists: a name that is not up to 128 ASCII letters, digits or `._:-` reads `(hidden)`.
    """

    reason: str
    faults: list[dict[str, str]] = []
    source: str | None = None
    type: str | None = None
    message_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("source", "type", "message_id"):
            msgspec.structs.force_setattr(self, name, speakable(getattr(self, name)))


class SetAside:
    """The tables of what waits for a person or for its match."""

    def __init__(self, store: Store, keys: Keys, identity: Identity) -> None:
        self._store = store
        self._keys = keys
        self._identity = identity

    async def keep(self, body: bytes, refusal: Refusal, *, origin: str, now: datetime) -> bytes:
        """Keep a refused message, in one commit; returns its key, the same for the same bytes."""
        key = self._identity.intake_key("dead-letter", sha256(body).hexdigest())
        week = monday(now)
        async with self._store.connection() as connection:
            data_key = await self._keys.of_week(connection, week)
            given = {
                "key": key,
                "reason": refusal.reason,
                "faults": Jsonb([_storable(fault) for fault in refusal.faults]),
                "origin": origin,
                "source": refusal.source,
                "type": refusal.type,
                "message_id": refusal.message_id,
                "week": week,
                "body": data_key.seal(body, bound_to=key),
                "people": people_in(body, self._identity),
                "said": texts_in(body, self._identity),
            }
            await connection.execute(_KEEP, given)
        return key

    async def listed(self, *, state: str | None = "waiting", limit: int = 100) -> list[DeadLetter]:
        """List refused messages, newest first."""
        async with self._store.connection() as connection:
            rows = await (await connection.execute(_LIST, {"state": state, "limit": limit})).fetchall()
        return [_dead_letter(row) for row in rows]

    async def find(self, texts: Collection[str], addresses: Collection[str], *, limit: int) -> list[DeadLetter]:
        """List refused messages, newest first, that hold one of these texts, or name who has one of these addresses.

        A text may be a key of theirs in hex, too. Texts that cannot be stored are in none.
        """
        known = [one for one in texts if not _UNSTORABLE.search(one)]
        given = {
            "keys": [bytes.fromhex(one) for one in known if _KEY.fullmatch(one)],
            "texts": known,
            "said": [text(self._identity, one) for one in known],
            "people": [nobody_named(self._identity, self._identity.recipient(None, one)).stream for one in addresses],
            "limit": limit,
        }
        async with self._store.connection() as connection:
            # Planned for these very values: one may stand in every message, and the next in none.
            found = await connection.execute(_FIND, given, prepare=False)
            return [_dead_letter(row) for row in await found.fetchall()]

    async def shown(self, key: bytes) -> DeadLetter | None:
        """Return one refused message."""
        row = await self._row(key)
        return None if row is None else _dead_letter(row)

    async def body_of(self, key: bytes) -> bytes | None:
        """Open the body of a refused message. The caller records who read it."""
        row = await self._row(key)
        if row is None:
            return None
        async with self._store.connection() as connection:
            data_key = await self._keys.of_week(connection, row[-2])
        return data_key.open(row[-1], bound_to=key)

    async def decide(self, key: bytes, *, state: str, by: str, reason: str) -> bool:
        """Mark a waiting message as replayed or discarded; False when it no longer waits."""
        async with self._store.connection() as connection:
            given = {"key": key, "state": state, "by": by, "reason": reason}
            return (await connection.execute(_DECIDE, given)).rowcount > 0

    async def waiting(self) -> int:
        """Count the refused messages that nobody has decided on."""
        async with self._store.connection() as connection:
            row = await (await connection.execute(_COUNT_WAITING)).fetchone()
        return int(row[0]) if row else 0

    async def try_again(self, body: bytes) -> int:
        """Count one more try of these bytes, before anything looks into them; returns how many there were."""
        async with self._store.connection() as connection:
            row = await (await connection.execute(_TRY, {"hash": sha256(body).digest()})).fetchone()
        return int(row[0]) if row else 1

    async def forget_tries(self, body: bytes) -> None:
        """Forget the tries of bytes that went well."""
        async with self._store.connection() as connection:
            await connection.execute(_FORGET_TRY, {"hash": sha256(body).digest()})

    async def keep_report(self, report: Report, *, now: datetime) -> None:
        """Keep a report that matches nothing yet."""
        week = monday(now)
        async with self._store.connection() as connection:
            data_key = await self._keys.of_week(connection, week)
            given = {
                "provider": report.provider,
                "key": report.key,
                "reference": report.reference,
                "week": week,
                "body": data_key.seal(msgspec.json.encode(report), bound_to=report.key.encode()),
            }
            await connection.execute(_KEEP_REPORT, given)

    async def reports_to_try(self, *, limit: int = 200) -> list[Report]:
        """Return unmatched reports that are to be tried now, and mark them as tried."""
        async with self._store.connection() as connection:
            given = {"pause": _TRY_AGAIN_AFTER, "limit": limit}
            rows = await (await connection.execute(_WAITING, given, binary=True)).fetchall()
        return await self._opened(rows)

    async def drop_report(self, report: Report) -> None:
        """Forget a report that has found its notification, or whose time is over."""
        async with self._store.connection() as connection:
            await connection.execute(_DROP_REPORT, {"provider": report.provider, "key": report.key})

    async def unmatched(self) -> int:
        """Count the reports that match nothing."""
        async with self._store.connection() as connection:
            row = await (await connection.execute(_COUNT_REPORTS)).fetchone()
        return int(row[0]) if row else 0

    async def find_reference(self, provider: str, reference: str) -> tuple[UUID, UUID] | None:
        """Return (notification, attempt) of a provider's id."""
        async with self._store.connection() as connection:
            given = {"provider": provider, "reference": reference}
            row = await (await connection.execute(_REFERENCE, given, binary=True)).fetchone()
        return (row[0], row[1]) if row else None

    async def purge(self) -> None:
        """Delete what is older than it is kept."""
        async with self._store.connection() as connection:
            for statement in _PURGE:
                deleted = await connection.execute(statement, {"kept": KEPT, "matched_within": MATCHED_WITHIN})
                if deleted.rowcount > 0:
                    _log.info("purged", table=statement.split()[2], rows=deleted.rowcount)

    async def _row(self, key: bytes) -> Any:
        async with self._store.connection() as connection:
            return await (await connection.execute(_SHOW, {"key": key})).fetchone()

    async def _opened(self, rows: Sequence[Any]) -> list[Report]:
        reports = []
        async with self._store.connection() as connection:
            for _, key, week, body in rows:
                data_key = await self._keys.of_week(connection, week)
                plain = data_key.open(body, bound_to=key.encode())
                reports.append(msgspec.json.decode(plain, type=Report))
        return reports


def monday(now: datetime) -> date:
    """Return the Monday of a moment's week."""
    return now.date() - timedelta(days=now.weekday())


def speakable(name: str | None) -> str | None:
    """Return a name that a sender chose as it may stand in logs and lists: what may hold an address is hidden."""
    return name if name is None or _SPEAKABLE.fullmatch(name) else HIDDEN


def _storable(fault: dict[str, str]) -> dict[str, str]:
    return {name: _UNSTORABLE.sub("\ufffd", text) for name, text in fault.items()}


def _dead_letter(row: Sequence[Any]) -> DeadLetter:
    return DeadLetter(key=row[0].hex(), **dict(zip(DeadLetter.__struct_fields__[1:], row[1:], strict=False)))
