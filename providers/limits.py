"""Rate and breaker of every provider, in one row each that all replicas share: so they agree without talking."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
from psycopg import AsyncConnection

_KNOW = "INSERT INTO ledger.provider_limit (provider) VALUES (%(provider)b) ON CONFLICT DO NOTHING"
# Where there is no rate and no trouble, there is nothing to write down.
_LOOK = "SELECT NOT tripped AND shut_until <= now() FROM ledger.provider_limit WHERE provider = %(provider)b"
# Reserve calls. The rate is kept by GCRA (ITU-T I.371): `tat` runs ahead of the clock by what was reserved, at most by
# `burst` calls. A tripped breaker lets one probe through once its time is over. A commit that is lost with the server
# gives a block twice at most; no promise on facts hangs on it.
_RESERVE = """
WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
seen AS MATERIALIZED (
    SELECT l.provider, l.tripped, greatest(l.tat, now()) AS base,
           greatest(l.shut_until, CASE WHEN l.tripped THEN l.probe_until END) AS shut_until,
           CASE WHEN %(rate)b::float8 IS NULL THEN %(wanted)b::int
                ELSE floor(%(burst)b::int + 1e-6
                            - extract(epoch FROM greatest(l.tat, now()) - now()) * %(rate)b::float8) END AS free
    FROM ledger.provider_limit l, relaxed WHERE l.provider = %(provider)b FOR UPDATE OF l
),
decided AS (
    SELECT *, CASE WHEN shut_until > now() THEN 0
                   WHEN tripped THEN 1
                   ELSE greatest(0, least(%(wanted)b::int, free)) END::int AS granted
    FROM seen
)
UPDATE ledger.provider_limit l SET
    tat = CASE WHEN %(rate)b::float8 IS NULL THEN l.tat
               ELSE d.base + d.granted * interval '1 second' / %(rate)b::float8 END,
    probe_owner = CASE WHEN d.tripped AND d.granted > 0 THEN %(owner)b ELSE l.probe_owner END,
    probe_until = CASE WHEN d.tripped AND d.granted > 0 THEN now() + %(probe)b ELSE l.probe_until END
FROM decided d WHERE l.provider = d.provider
RETURNING d.granted, d.tripped, d.shut_until > now(), CASE
    WHEN d.shut_until > now() THEN d.shut_until - now()
    WHEN d.granted > 0 OR %(rate)b::float8 IS NULL THEN interval '0'
    ELSE d.base - now() - (%(burst)b::int - 1) * interval '1 second' / %(rate)b::float8 END
"""
# Open the breaker, or leave it open for twice as long when its probe failed. What others report while it is open says
# nothing new.
_TRIP = """
UPDATE ledger.provider_limit SET
    tripped = true, trips = least(trips + 1, 20), cause = %(cause)b, probe_until = '-infinity',
    shut_until = greatest(shut_until, now() + least(%(longest)b, %(first)b * 2 ^ trips))
WHERE provider = %(provider)b AND (NOT tripped OR probe_owner = %(owner)b AND probe_until <> '-infinity')
"""
_CLOSE = """
UPDATE ledger.provider_limit SET tripped = false, trips = 0, cause = NULL, probe_until = '-infinity'
WHERE provider = %(provider)b AND tripped AND probe_owner = %(owner)b
"""
# The provider asks for quiet. Where our probe was told so, another may be made when the quiet is over.
_REST = """
UPDATE ledger.provider_limit SET
    shut_until = greatest(shut_until, now() + %(pause)b),
    probe_until = CASE WHEN probe_owner = %(owner)b THEN '-infinity' ELSE probe_until END
WHERE provider = %(provider)b
"""
# Postgres before 17 does not subtract from -infinity, where a breaker stands that was never open.
_STATES = """
SELECT provider, tripped AND greatest(shut_until, probe_until) > now(),
       extract(epoch FROM greatest(shut_until, now()) - now())::float8, tat > now()
FROM ledger.provider_limit
"""

FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(seconds=15)
Connect = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]


class Grant(msgspec.Struct, frozen=True):
    """What was reserved; `probe` = the breaker is open and this one call tells whether it may close.

    `shut` = the provider may not be called by anybody for `wait`; else `wait` is until the next call is due.
    """

    calls: int
    probe: bool
    shut: bool
    wait: timedelta


class LimitState(msgspec.Struct, frozen=True):
    """Where a provider stands; `shut_for` is in seconds.

    `tripped` = its breaker is open, or being tried. Where nobody has asked since its pause was over, nothing waits for
    it, and it is not shown as open. `spent` = its rate is used up for this moment.
    """

    provider: str
    tripped: bool
    shut_for: float
    spent: bool

    @property
    def shut(self) -> bool:
        """Whether it may not be called now, but for a probe."""
        return self.tripped or self.shut_for > 0


class Limits:
    """One provider's row. `rate` is calls per second over all replicas together, None = no limit of ours.

    Every method raises UnavailableError when the database does not answer.
    """

    def __init__(self, connect: Connect, provider: str, *, rate: float | None, burst: int, probe: timedelta) -> None:
        self._connect = connect
        self._given = {"provider": provider, "owner": uuid4(), "rate": rate, "burst": burst, "probe": probe}

    async def know(self) -> None:
        """Make the row unless it is there."""
        async with self._connect() as connection:
            await connection.execute(_KNOW, self._given, binary=True)

    async def reserve(self, wanted: int) -> Grant:
        """Reserve up to `wanted` calls."""
        async with self._connect() as connection:
            if self._given["rate"] is None:
                row = await (await connection.execute(_LOOK, self._given, binary=True)).fetchone()
                if row is not None and row[0]:
                    return Grant(wanted, probe=False, shut=False, wait=timedelta(0))
            given = {**self._given, "wanted": wanted}
            row = await (await connection.execute(_RESERVE, given, binary=True)).fetchone()
        if row is None:
            await self.know()
            return await self.reserve(wanted)
        calls, tripped, shut, wait = row
        return Grant(calls, bool(tripped and calls), bool(shut), max(wait, timedelta(0)))

    async def trip(self, cause: str) -> None:
        """Open the breaker."""
        await self._do(_TRIP, cause=cause, first=FIRST_PAUSE, longest=LONGEST_PAUSE)

    async def close(self) -> None:
        """Close the breaker after our probe went well."""
        await self._do(_CLOSE)

    async def rest(self, pause: timedelta) -> None:
        """Let nobody call before the pause is over."""
        await self._do(_REST, pause=pause)

    async def _do(self, statement: str, **given: Any) -> None:
        async with self._connect() as connection:
            await connection.execute(statement, {**self._given, **given}, binary=True)


async def states(connection: AsyncConnection[Any]) -> list[LimitState]:
    """Read where every provider stands."""
    return [LimitState(*row) for row in await (await connection.execute(_STATES, binary=True)).fetchall()]
