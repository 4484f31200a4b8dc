"""The claim loop: takes what is due of one channel, and hands each item to a task of its own, within its slots."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID, uuid4

import msgspec
import structlog

from handlers.metrics import Metrics
from ledger import agenda
from ledger.agenda import Claim, WaitsFor
from ledger.errors import KeyUnavailableError, LedgerError, UnknownTopicError
from ledger.keys import Identity
from ledger.ledger import Ledger, Loaded
from ledger.recipient import stream_of
from ledger.set_aside import speakable
from ledger.signals import AGENDA, Signals
from ledger.values import Channel, Lane
from providers.guard import Admission, Token

LEASE = timedelta(seconds=60)
SLOTS = 128
# Of what can wait, no more than this is on its way to its intent at once: all of it takes turns on one processor,
# and what cannot wait has to come through between. What waits for a provider's reply takes no turns.
PREPARING = 32
_POLL = timedelta(seconds=1)
_AT_LEAST = timedelta(milliseconds=50)
_CANNOT_READ = timedelta(seconds=30)
_AFTER_TROUBLE = timedelta(seconds=5)
# How often, under load, what was never settled is taken up again, and how many of it in a row.
_LOOK_AHEAD = timedelta(milliseconds=250)
_AGAIN_AT_MOST = 20
_STARTED_AT_ONCE = 32
# What can wait never holds all slots, however slow a provider is: a code for a sign-in finds one free.
_BULK = frozenset({Lane.NORMAL, Lane.LOW})
_BULK_SHARE = 0.75

_log = structlog.get_logger("handlers.worker")


class Lease(msgspec.Struct, frozen=True):
    """A claim in this process's hands; it ends at `ends_at` on the monotonic clock, counted from before the claim.

    `token` is the right to one call that was in hand for it.
    """

    claim: Claim
    owner: UUID
    ends_at: float
    token: Token | None = None

    def left(self) -> timedelta:
        """How long the item is still ours alone."""
        return timedelta(seconds=self.ends_at - time.monotonic())

    def leave_token(self) -> None:
        """Give the token back, unless it was spent."""
        if self.token is not None:
            self.token.give_back()


class Handler(Protocol):
    """What is done with an item. It calls `prepared` once the item can no longer harm the process by being read."""

    channel: Channel

    async def admit(self, free: int) -> Admission:
        """Say how many items of which lanes may be claimed now, at most `free`. Raises LedgerError."""
        ...

    async def handle(self, lease: Lease, loaded: Loaded, prepared: asyncio.Event) -> None:
        """Take the next step of the item and settle its lease. Raises LedgerError."""
        ...


class _Preparation(asyncio.Event):
    """Is set once an item is prepared (see Handler), and tells of it."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self._then = then

    def set(self) -> None:
        if not self.is_set():
            super().set()
            self._then()


class _Item(msgspec.Struct, frozen=True):
    """What a task has in hand, and whether it is `prepared` (see Handler)."""

    notification: UUID
    lane: Lane
    prepared: asyncio.Event


class Worker:
    """Claims for one handler. No barrier between items: those that wait at the same moment share a commit."""

    def __init__(
        self,
        ledger: Ledger,
        handler: Handler,
        signals: Signals,
        *,
        metrics: Metrics,
        slots: int = SLOTS,
        lease: timedelta = LEASE,
    ) -> None:
        self._ledger = ledger
        self._handler = handler
        self._signals = signals
        self._metrics = metrics
        self._signal = f"{AGENDA}/{handler.channel.value}"
        self._slots = slots
        self._lease = lease
        self._owner = uuid4()
        self._tasks: dict[asyncio.Task[None], _Item] = {}
        self._lost = False
        self._look_ahead_at = 0.0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Claim nothing more; what is in hand is finished."""
        self._stopping.set()
        self._signals.wake(self._signal)

    async def run(self) -> None:
        """Claim until stopped, then wait for the items under way."""
        while not self._stopping.is_set():
            try:
                await self._turn()
            except LedgerError as exc:
                self._lost = True
                _log.warning("claiming_waits", channel=self._handler.channel.value, error=type(exc).__name__)
                await self._signals.wait(self._signal, _POLL.total_seconds())
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _turn(self) -> None:
        if self._ledger.clock.skewed:
            await self._wait_for_the_right_time()
            return
        if self._lost:
            await self._give_back_lost()
        free = min(self._slots - len(self._tasks), self._ledger.room)
        if free <= 0:
            await self._until_one_ends()
            return
        admission = await self._handler.admit(free)
        if not admission.limit:
            await self._signals.wait(self._signal, min(admission.wait, _POLL).total_seconds())
            return
        most = self._most(admission)
        leases = await self._claim(admission, most)
        if leases:
            await self._start_all(leases)
        # Who got less than there was room for in any lane has got all that is due; what comes now is signalled.
        idle = not leases or len(leases) < min(most.values(), default=0)
        if idle or time.monotonic() > self._look_ahead_at:
            await self._look_ahead(idle=idle)

    async def _look_ahead(self, *, idle: bool) -> None:
        """Take up again what was never settled; with nothing to do, sleep until there is."""
        self._look_ahead_at = time.monotonic() + _LOOK_AHEAD.total_seconds()
        async with self._ledger.store.connection() as connection:
            ahead = await agenda.look_ahead(connection, self._handler.channel)
        self._ledger.clock.set(ahead.now)
        if ahead.again:
            await self._take_up_again()
        elif idle:
            # What is due and could not be claimed (another has it, or its lane must wait) is no reason to spin.
            pause = _POLL if ahead.wait is None else min(_POLL, max(_AT_LEAST, ahead.wait))
            await self._signals.wait(self._signal, pause.total_seconds())

    async def _claim(self, admission: Admission, most: Mapping[Lane, int]) -> list[Lease]:
        ends_at = time.monotonic() + self._lease.total_seconds()
        async with self._ledger.store.connection() as connection:
            claims = await agenda.claim(
                connection,
                self._handler.channel,
                most,
                owner=self._owner,
                limit=admission.limit,
                lease=self._lease,
            )
        tokens = admission.tokens(len(claims))
        return [Lease(claim, self._owner, ends_at, token) for claim, token in zip(claims, tokens, strict=True)]

    def _most(self, admission: Admission) -> dict[Lane, int]:
        """How many of each lane may be claimed: what can wait leaves some slots to what cannot."""
        bulk = [item for item in self._tasks.values() if item.lane in _BULK]
        preparing = sum(not item.prepared.is_set() for item in bulk)
        left = max(0, min(max(1, int(self._slots * _BULK_SHARE)) - len(bulk), PREPARING - preparing))
        return {lane: min(admission.limit, left) if lane in _BULK else admission.limit for lane in admission.lanes}

    async def _take_up_again(self) -> None:
        """Take up what was claimed and never settled. Any of it may have ended its process: so it is claimed one by
        one, and no other item of ours stands between its claim and its intent (promise I15).
        """
        for _ in range(_AGAIN_AT_MOST):
            await asyncio.gather(*(item.prepared.wait() for item in list(self._tasks.values())))
            ends_at = time.monotonic() + self._lease.total_seconds()
            async with self._ledger.store.connection() as connection:
                claim = await agenda.claim_again(
                    connection, self._handler.channel, owner=self._owner, lease=self._lease
                )
            if claim is None:
                return
            found = await self._ledger.load_many([claim.notification])
            await self._start(Lease(claim, self._owner, ends_at), found.get(claim.notification)).wait()

    async def _give_back_lost(self) -> None:
        """Give back what was claimed for us and reached no task: else it would lie until its lease ends."""
        in_hand = [item.notification for item in self._tasks.values()]
        async with self._ledger.store.connection() as connection:
            await agenda.give_back_lost(connection, owner=self._owner, in_hand=in_hand)
        self._lost = False

    async def _wait_for_the_right_time(self) -> None:
        _log.error("clock_skewed", channel=self._handler.channel.value)
        await self._signals.wait(self._signal, _POLL.total_seconds())
        self._ledger.clock.set(await self._ledger.store.now())

    async def _until_one_ends(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED, timeout=_POLL.total_seconds())
        else:
            await self._signals.wait(self._signal, _POLL.total_seconds())

    async def _start_all(self, leases: Sequence[Lease]) -> None:
        try:
            found = await self._ledger.load_many([lease.claim.notification for lease in leases])
        except LedgerError:
            for lease in leases:
                lease.leave_token()
            raise
        for number, lease in enumerate(leases, start=1):
            self._start(lease, found.get(lease.claim.notification))
            if number % _STARTED_AT_ONCE == 0:
                # What they render at a stretch, nobody else of this process can interrupt: probes and replies wait.
                await asyncio.sleep(0)

    def _start(self, lease: Lease, loaded: Loaded | Exception | None) -> asyncio.Event:
        prepared = _Preparation(self._one_is_prepared)
        task = asyncio.create_task(self._handle(lease, loaded, prepared), name=f"item-{lease.claim.notification}")
        self._tasks[task] = _Item(lease.claim.notification, lease.claim.lane, prepared)
        task.add_done_callback(self._tasks.pop)
        return prepared

    def _one_is_prepared(self) -> None:
        """Claim on when half of those that were on their way to their intent are there."""
        if sum(not item.prepared.is_set() for item in self._tasks.values()) == PREPARING // 2:
            self._signals.wake(self._signal)

    async def _handle(self, lease: Lease, loaded: Loaded | Exception | None, prepared: asyncio.Event) -> None:
        # Each item is a task of its own: what is bound here stands in every line that is logged on its behalf. It costs
        # 5 µs, of some 3 ms that an item takes (measured).
        named = _named(lease, loaded, self._ledger.identity)
        structlog.contextvars.bind_contextvars(**named, channel=self._handler.channel.value)
        try:
            if isinstance(loaded, Loaded):
                await self._handler.handle(lease, loaded, prepared)
            else:
                await self._leave_unread(lease, loaded)
        except KeyUnavailableError as exc:
            await self._leave_unread(lease, exc)
        except Exception as exc:  # noqa: BLE001 - one item's trouble is never another's; it waits and is tried again
            unexpected = not isinstance(exc, LedgerError)
            _log.warning("item_interrupted", error=type(exc).__name__, exc_info=unexpected)
            await self._wait(lease, _AFTER_TROUBLE, WaitsFor.TROUBLE)
        finally:
            prepared.set()
            lease.leave_token()

    async def _leave_unread(self, lease: Lease, error: Exception | None) -> None:
        """Leave an item to wait whose facts, or whose person's data, nobody here can read: it is not lost by that."""
        name = "missing" if error is None else type(error).__name__
        self._metrics.unreadable.labels(self._handler.channel.value, name).inc()
        _log.error("unreadable", error=name)
        pause = _CANNOT_READ if isinstance(error, UnknownTopicError) else self._lease
        await self._wait(lease, pause, WaitsFor.UNREADABLE)

    async def _wait(self, lease: Lease, pause: timedelta, waits_for: WaitsFor) -> None:
        """Give an item back without a fact; if even that fails, the next turn does it."""
        try:
            await give_back(self._ledger, lease, pause, waits_for)
        except LedgerError as exc:
            self._lost = True
            _log.warning("not_given_back", error=type(exc).__name__)


def _named(lease: Lease, loaded: Loaded | Exception | None, identity: Identity) -> dict[str, str]:
    """Return the ids of an item by which people search the logs; of its person, the keyed hash."""
    ids: dict[str, str | None] = {"notification_id": str(lease.claim.notification)}
    if isinstance(loaded, Loaded):
        requested = loaded.state.requested
        ids["message_id"] = speakable(requested.message_id)
        ids["correlation_id"] = speakable(requested.correlation_id)
        ids["user_id"] = str(stream_of(identity, requested.user_id)) if requested.user_id else None
    return {name: value for name, value in ids.items() if value is not None}


async def give_back(ledger: Ledger, lease: Lease, pause: timedelta, waits_for: WaitsFor) -> None:
    """End a lease unhandled, not to be claimed again before `pause` is over: our own waiting is no fact."""
    async with ledger.store.connection() as connection:
        await agenda.wait(connection, [lease.claim.notification], owner=lease.owner, pause=pause, waits_for=waits_for)
