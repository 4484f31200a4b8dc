"""Group commit: one writer per process stores whatever has queued meanwhile, in one commit.

No timer: when idle, a single decision leaves at once; under load, decisions that wait at the same moment share the
cost of the round trip and of the disk.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import msgspec
import structlog

from ledger.decision import Decision, NewFact
from ledger.errors import (
    KeyUnavailableError,
    LedgerError,
    OutcomeUnknownError,
    OverloadedError,
    Refusal,
    RefusedError,
    UnavailableError,
    UnstorableError,
)
from ledger.store import Encoded, Store
from ledger.values import Personal

BATCH = 200
BATCH_BYTES = 8 * 2**20
QUEUED_DECISIONS = 2_000
QUEUED_BYTES = 32 * 2**20
_GIVE_UP_AFTER = 20.0
_log = structlog.get_logger("ledger.group_commit")

Encode = Callable[[Sequence[Decision]], Awaitable[list[Encoded | Exception]]]


class _Waiting:
    """A decision in the queue, and the caller who waits for it."""

    __slots__ = ("decision", "done", "encoded", "size")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.size = sum(len(content.body) for content in decision.contents) + sum(map(_size, decision.facts))
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(_seen)
        self.encoded: Encoded | None = None

    def settle(self, error: Exception | None = None) -> None:
        """Answer the caller, unless it has gone."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


def _seen(done: asyncio.Future[None]) -> None:
    """Look at the answer, so that nobody complains when its caller has gone."""
    if not done.cancelled():
        done.exception()


def _size(new: NewFact) -> int:
    """Return about how many bytes a fact takes; only what a message brings along can be large."""
    personal = getattr(new.fact, "personal", None)
    if not isinstance(personal, Personal):
        return 1024
    try:
        return 1024 + len(msgspec.json.encode(personal))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UnstorableError(f"not to be encoded: {type(exc).__name__}") from exc


class GroupCommit:
    """The only writer of a process.

    `encode` turns decisions into what is stored (it makes the data keys of new people), or into the error of the one
    decision that cannot be stored. `committed` is told of what was stored.
    """

    def __init__(self, store: Store, encode: Encode, committed: Callable[[Sequence[Decision]], None]) -> None:
        self._store = store
        self._encode = encode
        self._committed = committed
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def room(self) -> int:
        """How many more decisions may queue; 0 = the database is behind, take nothing new."""
        return 0 if self._bytes >= QUEUED_BYTES else max(0, QUEUED_DECISIONS - len(self._queue))

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="group-commit")

    async def stop(self) -> None:
        """Write what is queued, then end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def append(self, decision: Decision) -> None:
        """Return when the decision is on disk. A caller that goes away withdraws nothing.

        Raises RefusedError, OverloadedError, UnavailableError or UnstorableError.
        """
        if self._stopping or self.room == 0:
            raise OverloadedError("the queue of decisions is full")
        waiting = _Waiting(decision)
        self._queue.append(waiting)
        self._bytes += waiting.size
        self._wake.set()
        await asyncio.shield(waiting.done)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._write(self._next_batch())
            if self._stopping:
                return

    def _next_batch(self) -> list[_Waiting]:
        """Take decisions in order; one that meets another of the batch in a stream or an intake key waits."""
        batch: list[_Waiting] = []
        held: list[_Waiting] = []
        written: set[UUID] = set()
        guarded: set[UUID] = set()
        keys: set[bytes] = set()
        size = 0
        while self._queue and len(batch) < BATCH and size < BATCH_BYTES:
            waiting = self._queue.popleft()
            decision = waiting.decision
            guards = {guard.stream for guard in decision.guards}
            meets = (
                not written.isdisjoint(decision.touched | guards)
                or not guarded.isdisjoint(decision.streams)
                or (decision.intake is not None and decision.intake.key in keys)
            )
            if meets:
                held.append(waiting)
            else:
                batch.append(waiting)
                size += waiting.size
                self._bytes -= waiting.size
            # Also what is held keeps its place: a later decision on the same stream must not overtake it.
            written |= decision.touched
            guarded |= guards
            if decision.intake is not None:
                keys.add(decision.intake.key)
        self._queue.extendleft(reversed(held))
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        try:
            await self._encode_all(batch)
            await self._store_all([waiting for waiting in batch if waiting.encoded is not None])
        except Exception as exc:  # noqa: BLE001 - whatever it is, the callers must hear of it and the writer go on
            _log.error("append_failed", error=type(exc).__name__)
            error = exc if isinstance(exc, LedgerError) else UnavailableError("the append failed")
            for waiting in batch:
                waiting.settle(error)

    async def _encode_all(self, batch: list[_Waiting]) -> None:
        try:
            encoded = await self._encode([waiting.decision for waiting in batch])
        except (UnstorableError, KeyUnavailableError) as exc:
            await self._bisect(batch, self._encode_all, exc)
            return
        for waiting, result in zip(batch, encoded, strict=True):
            if isinstance(result, Exception):
                waiting.settle(result)
            else:
                waiting.encoded = result

    async def _store_all(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            refused = await self._append([waiting.encoded for waiting in batch if waiting.encoded is not None])
        except UnstorableError as exc:
            await self._bisect(batch, self._store_all, exc)
            return
        self._committed([waiting.decision for index, waiting in enumerate(batch) if index not in refused])
        for index, waiting in enumerate(batch):
            waiting.settle(RefusedError(refused[index]) if index in refused else None)

    @staticmethod
    async def _bisect(
        batch: list[_Waiting], work: Callable[[list[_Waiting]], Awaitable[None]], error: LedgerError
    ) -> None:
        """Try each half: the error is for the one decision that causes it, and for nobody else."""
        if len(batch) == 1:
            batch[0].settle(error)
            return
        middle = len(batch) // 2
        await work(batch[:middle])
        await work(batch[middle:])

    async def _append(self, batch: Sequence[Encoded]) -> dict[int, Refusal]:
        """Append until it is known what became of it; what an unknown try may have stored is told by its bytes."""
        clock = asyncio.get_running_loop()
        give_up_at = clock.time() + _GIVE_UP_AFTER
        pause, unknown = 0.05, False
        while True:
            try:
                refused = await self._store.append(batch)
                return await self._without_own(batch, refused) if unknown else refused
            except UnavailableError as exc:
                unknown = unknown or isinstance(exc, OutcomeUnknownError)
                _log.warning("append_repeated", error=type(exc).__name__)
                if clock.time() > give_up_at:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _without_own(self, batch: Sequence[Encoded], refused: dict[int, Refusal]) -> dict[int, Refusal]:
        """Take out the refusals that come from our own earlier try, whose reply was lost."""
        streams = {fact[0] for index in refused for fact in batch[index].facts}
        stored: dict[tuple[UUID, int], bytes] = {}
        if streams:
            stored = {(row.stream, row.version): row.state for row in await self._store.load(streams)}
        return {
            index: reason
            for index, reason in refused.items()
            if not batch[index].facts or any(stored.get(fact[:2]) != fact[3] for fact in batch[index].facts)
        }
