"""What is done to many notifications at once: shown first, then worked off in the background, at a bounded pace."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID, uuid4

import msgspec
import structlog

from handlers.by_hand import NoSuchNotificationError, NotHeldError, TooLateError, cancel, release
from handlers.frequency import CEILING, Frequency
from handlers.judging import judged
from handlers.resending import NotAgainError, again, resend_of_bulk, why_not
from ledger import notification
from ledger.archive import Archive
from ledger.bulk import Action, Begun, BulkFact, Ended, Stopped, stream_of
from ledger.bulk_work import BulkWork, Refusals, Work
from ledger.decision import Decision, NewFact
from ledger.errors import KeyUnavailableError, LedgerError, UnknownTopicError
from ledger.ledger import Ledger, Loaded, until_stored
from ledger.mapping import FactMapper
from ledger.notification import Origin, Requested, WhyNot
from ledger.policy import AllowList, Send
from ledger.values import Channel

# Who wants more does it in parts: what goes wrong with so many can still be looked through.
MOST = 10_000
# So many a second, so that nobody's sign-in code waits behind them; and so many at a time.
PER_SECOND = 50
BATCH = 25
# Of what a search has found, so many are tried before anything is done.
SAMPLE = 200
# What was shown is what is done: after this, it is shown anew.
GOOD_FOR = timedelta(hours=1)
_EXAMPLES = 5
# The job of the clock works for so many seconds at a time: less than what passes from one turn of it to the next.
_AT_A_STRETCH = 4.0
_BY = "maintain"
_MAPPER = FactMapper()
# Refusals that are no WhyNot.
SENT_AGAIN_BEFORE, TOO_LATE, NOT_HELD, MISSING = "sent_again_before", "too_late", "not_held", "missing"

_log = structlog.get_logger("handlers.bulk")


class NoSuchActionError(LedgerError):
    """There is no such action on many notifications."""


class TooOldError(LedgerError):
    """It was shown too long ago: what is done must be what was seen."""


class TooManyError(LedgerError):
    """More notifications were found than one action may be about."""


class Found(msgspec.Struct, frozen=True):
    """A notification that a search has found, as the list has it."""

    id: UUID
    status: str
    type: str
    channel: Channel


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a sample of so many: refused by reason, and what rules would keep from being sent."""

    looked_at: int
    refused: dict[str, int]
    ruled_out: dict[str, int]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done to whom. Whoever begins it by its `id` until `good_until` has exactly this done."""

    id: UUID
    action: Action
    filters: dict[str, str]
    count: int
    by_status: dict[str, int]
    by_type: dict[str, int]
    by_channel: dict[str, int]
    sample: Tried
    good_until: datetime


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far an action is. `ends_at` is when it will have ended, at the pace so far; None where it has, or stands."""

    id: UUID
    action: Action
    filters: dict[str, str]
    reason: str
    by: str
    begun_at: datetime
    stopped_at: datetime | None
    ended_at: datetime | None
    count: int
    done: int
    refused: dict[str, Refusals]
    left: int
    ends_at: datetime | None


class Bulk:
    """Shows, begins, works off and stops actions on many notifications.

    An action outlives the process that works at it: another one goes on where it was, and what was done is not done
    again, since each notification's own facts say so.
    """

    def __init__(
        self,
        ledger: Ledger,
        archive: Archive,
        *,
        allowed: AllowList,
        ceiling: int = CEILING,
        per_second: float = PER_SECOND,
    ) -> None:
        self._ledger = ledger
        self._archive = archive
        self._allowed = allowed
        self._frequency = Frequency(ledger.identity, ceiling)
        self._work = BulkWork(ledger.store)
        self._pause = BATCH / per_second

    # -- shown and begun --------------------------------------------------------------------------------------

    async def show(self, action: Action, found: Sequence[Found], filters: Mapping[str, str], *, by: str) -> Plan:
        """Say what would be done to these notifications, and remember them; nothing is done. Raises TooManyError."""
        if len(found) > MOST:
            raise TooManyError(f"more than {MOST} were found: narrow the search, and do it in parts")
        action_id = stream_of(self._ledger.identity, uuid4())
        sample = await self._tried(action, [one.id for one in found[:: max(1, len(found) // SAMPLE)][:SAMPLE]])
        await self._work.show(action_id, action, filters, [one.id for one in found], by=by)
        return Plan(
            id=action_id,
            action=action,
            filters=dict(filters),
            count=len(found),
            by_status=_counted(one.status for one in found),
            by_type=_counted(one.type for one in found),
            by_channel=_counted(one.channel for one in found),
            sample=sample,
            good_until=self._ledger.clock.now() + GOOD_FOR,
        )

    async def begin(self, action_id: UUID, *, by: str, reason: str) -> Progress:
        """Have done what was shown; twice is the same as once. Raises NoSuchActionError, TooOldError."""
        work = await self._read(action_id)
        if work.begun_at is None and work.now > work.shown_at + GOOD_FOR:
            raise TooOldError("it was shown more than an hour ago: have it shown again, and begin that")

        def decide(facts: Sequence[BulkFact], origin: Origin) -> BulkFact | None:
            if facts:
                return None
            filters, count = work.filters, work.count
            return Begun(**origin.stamp(), action=work.action, filters=filters, count=count, reason=reason)

        begun = (await self._record(action_id, decide, by=by))[0]
        if isinstance(begun, Begun):
            await self._work.begin(action_id, by=begun.by, reason=begun.reason, at=begun.recorded_at)
        return _progress(await self._read(action_id))

    async def stop(self, action_id: UUID, *, by: str, reason: str) -> Progress:
        """Let the rest of it be; what was done stays so. Where it has ended, nothing. Raises NoSuchActionError."""
        if (await self._read(action_id)).begun_at is None:
            raise NoSuchActionError("it has not begun")

        def decide(facts: Sequence[BulkFact], origin: Origin) -> BulkFact | None:
            is_over = any(isinstance(fact, Stopped | Ended) for fact in facts)
            return None if is_over else Stopped(**origin.stamp(), reason=reason)

        await self._record(action_id, decide, by=by)
        await self._work.stop(action_id)
        return _progress(await self._read(action_id))

    async def stop_open(self, *, by: str, reason: str, dry_run: bool = False) -> int:
        """Stop all that go on, and say how many those are; `dry_run` = only say it."""
        going = [one for one in await self._work.begun(limit=MOST) if one.ended_at is None and one.stopped_at is None]
        for one in going if not dry_run else ():
            await self.stop(one.id, by=by, reason=reason)
        return len(going)

    async def progress(self, action_id: UUID) -> Progress:
        """Say how far it is. Raises NoSuchActionError, also where it was shown and not begun."""
        work = await self._read(action_id)
        if work.begun_at is None:
            raise NoSuchActionError("it has not begun")
        return _progress(work)

    async def listed(self, *, limit: int = 100) -> list[Progress]:
        """List what was begun, the newest first."""
        return [_progress(work) for work in await self._work.begun(limit=limit)]

    async def _read(self, action_id: UUID) -> Work:
        work = await self._work.read(action_id)
        if work is None:
            raise NoSuchActionError("there is no such action")
        return work

    async def _record(
        self, action_id: UUID, decide: Callable[[Sequence[BulkFact], Origin], BulkFact | None], *, by: str
    ) -> Sequence[BulkFact]:
        """Let `decide` look at the facts of an action, and store what it decides; returns them all."""

        async def attempt(_number: int) -> Sequence[BulkFact]:
            rows = await self._ledger.store.load([action_id])
            facts = [cast("BulkFact", _MAPPER.decode(row.topic, row.state)) for row in rows]
            fact = decide(facts, Origin(now=self._ledger.clock.now(), cause=f"command:{uuid4()}", by=by))
            if fact is None:
                return facts
            await self._ledger.append(Decision(facts=(NewFact(action_id, len(facts) + 1, fact),)))
            return [*facts, fact]

        return await until_stored(attempt)

    # -- tried ------------------------------------------------------------------------------------------------

    async def _tried(self, action: Action, sample: Sequence[UUID]) -> Tried:
        refused: Counter[str] = Counter()
        asked: list[Requested] = []
        loads = await self._ledger.load_many(sample)
        for one in sample:
            loaded = loads.get(one)
            if not isinstance(loaded, Loaded):
                refused[MISSING if loaded is None else WhyNot.UNREADABLE] += 1
            elif why := _why_not(action, loaded):
                refused[why] += 1
            elif action is Action.RESEND:
                asked.append(again(loaded, Origin(now=loaded.now(), cause="dry_run", by="dry_run")))
        return Tried(looked_at=len(sample), refused=dict(refused), ruled_out=await self._ruled_out(asked))

    async def _ruled_out(self, asked: Sequence[Requested]) -> dict[str, int]:
        """Count what rules would keep from being sent, the quotas too: those are asked of what the others let go."""
        imagined, now = await self._ledger.imagined(asked) if asked else [], self._ledger.clock.now()
        verdicts = [judged(loaded, self._allowed, now) for loaded in imagined]
        free = [one.state for one, verdict in zip(imagined, verdicts, strict=True) if isinstance(verdict, Send)]
        spent = await self._frequency.spent(self._ledger.store, free, now)
        return _counted(each.rule for each in (*verdicts, *spent) if each is not None and not isinstance(each, Send))

    # -- worked off -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work at what was begun, the first first, for some seconds or until nothing is left: a job of the clock."""
        await self._work.forget()
        until = time.monotonic() + _AT_A_STRETCH
        while time.monotonic() < until and (work := await self._work.open()) is not None:
            began = time.monotonic()
            if await self._go_on(work):
                await asyncio.sleep(max(0.0, self._pause - (time.monotonic() - began)))

    async def _go_on(self, work: Work) -> bool:
        """Handle some more of it, or end it where none are left; says whether it goes on."""
        some = [] if work.stopped_at is not None else await self._work.next(work.id, limit=BATCH)
        if not some:
            await self._end(work)
            return False
        results = await asyncio.gather(*(self._one(work, one) for one in some), return_exceptions=True)
        refused = dict(work.refused)
        for one, result in zip(some, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            if result is not None:
                known = refused.get(result, Refusals(0, ()))
                refused[result] = Refusals(known.count + 1, (*known.examples, one)[:_EXAMPLES])
        await self._work.advance(work, len(some), refused)
        return True

    async def _one(self, work: Work, one: UUID) -> str | None:
        """Do it to one; returns why not. What was done before a process died is done already, by its own facts.

        Raises what is to be tried again.
        """
        cause, by, reason = f"bulk:{work.id}", work.by or _BY, work.reason or ""
        try:
            match work.action:
                case Action.CANCEL:
                    await cancel(self._ledger, one, by=by, reason=reason, cause=cause)
                case Action.RELEASE:
                    await self._release(one, by=by, reason=reason, cause=cause)
                case Action.RESEND:
                    sent = await resend_of_bulk(self._ledger, self._archive, one, by=by, reason=reason, cause=cause)
                    return SENT_AGAIN_BEFORE if sent is None else None
        except (NoSuchNotificationError, TooLateError, NotHeldError, NotAgainError) as exc:
            return _reason(exc)
        except (UnknownTopicError, KeyUnavailableError):
            return WhyNot.UNREADABLE
        return None

    async def _release(self, one: UUID, *, by: str, reason: str, cause: str) -> None:
        try:
            await release(self._ledger, one, by=by, reason=reason, cause=cause)
        except NotHeldError:
            rows = await self._ledger.store.load([one])
            if not any(_MAPPER.decode(row.topic, row.state).cause == cause for row in rows):
                raise

    async def _end(self, work: Work) -> None:
        refused = {why: refusals.count for why, refusals in work.refused.items()}

        def decide(facts: Sequence[BulkFact], origin: Origin) -> BulkFact | None:
            if any(isinstance(fact, Ended) for fact in facts):
                return None
            return Ended(**origin.stamp(), done=work.handled - sum(refused.values()), refused=refused)

        await self._record(work.id, decide, by=_BY)
        await self._work.end(work.id)
        _log.info("bulk_action_ended", action=work.action.value, handled=work.handled, refused=sum(refused.values()))


def _why_not(action: Action, loaded: Loaded) -> str | None:
    """Say why it would be refused."""
    origin = Origin(now=loaded.now(), cause="dry_run", by="dry_run")
    match action:
        case Action.CANCEL:
            return None if notification.cancel(loaded.state, "", origin) else TOO_LATE
        case Action.RELEASE:
            return None if notification.release(loaded.state, "", origin) else NOT_HELD
        case Action.RESEND:
            return SENT_AGAIN_BEFORE if loaded.state.resends else why_not(loaded, origin.now)


def _reason(refused: LedgerError) -> str:
    match refused:
        case NotAgainError(why=why):
            return why
        case TooLateError():
            return TOO_LATE
        case NotHeldError():
            return NOT_HELD
        case _:
            return MISSING


def _progress(work: Work) -> Progress:
    refused, left = sum(one.count for one in work.refused.values()), work.count - work.handled
    is_over = work.ended_at is not None or work.stopped_at is not None
    begun_at = work.begun_at or work.shown_at
    each = (work.now - begun_at) / work.handled if work.handled else timedelta(seconds=1 / PER_SECOND)
    return Progress(
        id=work.id,
        action=work.action,
        filters=work.filters,
        reason=work.reason or "",
        by=work.by or "",
        begun_at=begun_at,
        stopped_at=work.stopped_at,
        ended_at=work.ended_at,
        count=work.count,
        done=work.handled - refused,
        refused=work.refused,
        left=left,
        ends_at=None if is_over else work.now + each * left,
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return {str(name): count for name, count in Counter(names).most_common()}
