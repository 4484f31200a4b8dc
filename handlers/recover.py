"""After a restore: what may have been sent since is put in doubt, so that none of it is sent again without a record."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from handlers.fallback import requested_instead
from ledger import agenda, agenda_audit, notification
from ledger.decision import Decision, NewFact
from ledger.ids import notification_id
from ledger.ledger import Ledger, Loaded
from ledger.notification import RESTORED, Facts, Lost, Origin
from ledger.ranges import FIRST
from ledger.recovery import Recovery

_LOADED_AT_ONCE = 200
_TOLD_EVERY = 10_000

Told = Callable[[str], None]


class Recovered(msgspec.Struct):
    """What a recovery has done, or would do: rows of the agenda set right; notifications put in doubt, by what the
    catalogue wants done about a doubt; fallbacks; and those that nobody here can read.
    """

    agenda: int = 0
    in_doubt: Counter[str] = msgspec.field(default_factory=Counter)
    fallbacks: int = 0
    unreadable: list[UUID] = []

    def lines(self) -> list[str]:
        """Say it for a terminal."""
        doubts = ", ".join(f"{policy} {count}" for policy, count in sorted(self.in_doubt.items()))
        told = [
            f"agenda: {self.agenda} rows set right",
            f"in doubt: {self.in_doubt.total()} notifications{f' ({doubts})' if doubts else ''}",
            f"fallbacks in doubt: {self.fallbacks}",
        ]
        return [*told, *(f"unreadable: {stream}" for stream in self.unreadable)]


class Recover:
    """Goes once through the agenda. A repeat, also of one that was killed, does what is left to do."""

    def __init__(self, ledger: Ledger, recovery: Recovery, *, told: Told, dry_run: bool = False) -> None:
        self._ledger = ledger
        self._recovery = recovery
        self._told = told
        self._dry_run = dry_run
        self._done = Recovered()
        self._seen = 0

    async def run(self) -> Recovered:
        """Set the agenda right, then put in doubt what of it could have been started."""
        if self._dry_run:
            async for found in agenda_audit.differing(self._ledger.store, seen=self._count):
                self._done.agenda += len(found)
        else:
            self._done.agenda = await agenda_audit.rebuild(self._ledger.store, seen=self._count)
        async for streams in self._startable():
            for stream, loaded in (await self._ledger.load_many(streams)).items():
                if isinstance(loaded, Loaded):
                    await self._presume(loaded)
                else:
                    self._done.unreadable.append(stream)
            self._count(len(streams))
        return self._done

    async def _startable(self) -> AsyncIterator[list[UUID]]:
        after = FIRST
        while True:
            async with self._ledger.store.connection() as connection:
                streams = await agenda.due_before(
                    connection, after=after, head=self._recovery.head, limit=_LOADED_AT_ONCE
                )
            if not streams:
                return
            yield streams
            after = streams[-1]

    async def _presume(self, loaded: Loaded) -> None:
        if self._dry_run:
            decision = self._decide(loaded, loaded.now())
        else:
            decisions: list[Decision | None] = []

            def decide(current: Loaded, now: datetime) -> Decision | None:
                decisions.append(self._decide(current, now))
                return decisions[-1]

            await self._ledger.change(loaded.stream, decide, known=loaded)
            decision = decisions[-1]
        if decision is not None:
            self._done.in_doubt[loaded.state.requested.doubt.value] += 1
            self._done.fallbacks += any(isinstance(new.fact, notification.FellBack) for new in decision.facts)

    def _decide(self, current: Loaded, now: datetime) -> Decision | None:
        origin = Origin(now=now, cause=f"{RESTORED}:{self._recovery.since.isoformat()}", by="recover")
        state, person = current.state, current.person
        if any(one.code == RESTORED and one.started_at >= self._recovery.begun_at for one in state.attempts):
            return None
        facts: Facts = ()
        # Where nobody knows an address, nothing can have been sent.
        if person.address_hash is not None:
            facts = notification.presume_sent(
                state, Lost(address_hash=person.address_hash, others=person.others), _drawn(), origin
            )
        for fact in facts:
            state = notification.evolve(state, fact)
        fell_back = notification.fall_back(state, notification_id(now), origin) if not current.is_erased else None
        if fell_back is None:
            return Decision(facts=current.next(facts)) if facts else None
        return Decision(facts=(*current.next((*facts, fell_back)), *self._instead(current, fell_back, origin)))

    def _instead(self, current: Loaded, fell_back: notification.FellBack, origin: Origin) -> Iterator[NewFact]:
        """Begin what takes the place of a notification, and put it in doubt in the same commit."""
        requested = requested_instead(self._ledger.identity, current, fell_back)
        lost = Lost(address_hash=requested.address_hash or "")
        begun = notification.evolve(None, requested)
        facts = (requested, *notification.presume_sent(begun, lost, _drawn(), origin))
        return (NewFact(fell_back.to, version, fact) for version, fact in enumerate(facts, start=1))

    def _count(self, streams: int) -> None:
        before, self._seen = self._seen, self._seen + streams
        if before // _TOLD_EVERY < self._seen // _TOLD_EVERY:
            self._told(f"recover: {self._seen} notifications looked at …")


def _drawn() -> Iterator[UUID]:
    while True:
        yield uuid4()
