"""Ledger: load, decide, append, and decide again when the world has moved on meanwhile."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
import zstandard

from ledger import notification as n
from ledger.clock import Clock
from ledger.decision import AgendaRow, Decision, Guard, NewFact, Reference, SaidContent
from ledger.errors import KeyUnavailableError, LedgerError, Refusal, RefusedError, UnknownTopicError, UnstorableError
from ledger.group_commit import GroupCommit
from ledger.ids import is_standing
from ledger.keys import DataKey, Identity, Keyring, Keys
from ledger.lookup import Lookup
from ledger.mapping import FactMapper, content_bound_to, unseal
from ledger.signals import AGENDA, FACTS, Signals
from ledger.store import Encoded, Row, Store, Taken
from ledger.suppression import Listed, Suppression, fold, stream_of
from ledger.values import CONTENT_OF, Channel, Content, Personal

_TRIES = 5
_AT_ONCE = timedelta(seconds=1)
_LOADED_AT_ONCE = 200
_DECIDE_AGAIN = {Refusal.VERSION, Refusal.PREDECESSOR, Refusal.GUARD}


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A notification as it was read; `key` is its person's data key, None when that was destroyed.

    `suppression` is what is known of its address, None while it has none.
    """

    stream: UUID
    state: n.State
    key: DataKey | None
    suppression: Suppression | None
    read_at: datetime
    clock: float

    def now(self) -> datetime:
        """Return the database's time: as it was read, plus what this process's monotonic clock has counted since."""
        return self.read_at + timedelta(seconds=time.monotonic() - self.clock)

    def next(self, facts: n.Facts) -> tuple[NewFact, ...]:
        """Number the facts that follow."""
        return tuple(NewFact(self.stream, self.state.version + 1 + i, fact) for i, fact in enumerate(facts))

    def after(self, decision: Decision) -> "Loaded":
        """Return what it is after a decision that was stored."""
        state = self.state
        for new in decision.facts:
            if new.stream == self.stream:
                state = n.evolve(state, new.fact)  # type: ignore[arg-type]  # this stream holds notification facts
        return msgspec.structs.replace(self, state=state)


_Address = tuple[Channel, str]
Decide = Callable[[Loaded, datetime], Decision | None]


class Ledger:
    """The only writer of facts."""

    def __init__(self, store: Store, keys: Keys, identity: Identity, signals: Signals) -> None:
        self.store = store
        self.identity = identity
        self.clock = Clock()
        self._keys = keys
        self._signals = signals
        self._mapper = FactMapper()
        self._writer = GroupCommit(store, self._encode, self._committed)
        self._loads: Lookup[UUID, Loaded] = Lookup(self.load_many, most=_LOADED_AT_ONCE)
        self._intakes: Lookup[bytes, Taken] = Lookup(self.taken_many, most=_LOADED_AT_ONCE)
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def start(self) -> None:
        """Read the database's time, and begin to write."""
        self.clock.set(await self.store.now())
        self._writer.start()

    async def stop(self) -> None:
        """Write what is queued, then end."""
        await self._writer.stop()

    @property
    def room(self) -> int:
        """How many more decisions may be queued; 0 = take nothing new."""
        return self._writer.room

    # -- reading ----------------------------------------------------------------------------------------------

    async def load(self, stream: UUID) -> Loaded | None:
        """Read one notification; None when there is none. Loads that are asked for at the same moment share a query."""
        return await self._loads.find(stream)

    async def taken(self, key: bytes) -> Taken | None:
        """Return what the intake knows of one key; None when it is new. Shares a query, as `load` does."""
        return await self._intakes.find(key)

    async def taken_many(self, keys: Sequence[bytes]) -> dict[bytes, Taken]:
        """Return what the intake knows of some keys, and take over the database's time."""
        now, known = await self.store.taken(keys)
        self.clock.set(now)
        return known

    async def load_many(self, streams: Iterable[UUID]) -> dict[UUID, "Loaded | Exception"]:
        """Read many at once; one that cannot be read is its error, one that does not exist is missing."""
        by_stream: dict[UUID, list[Row]] = defaultdict(list)
        for row in await self.store.load(streams):
            by_stream[row.stream].append(row)
        clock = time.monotonic()
        folded = {stream: self._fold(rows) for stream, rows in by_stream.items()}
        states = [state for state in folded.values() if isinstance(state, n.State)]
        keys, suppressions = await asyncio.gather(
            self._keys_of(sorted({state.requested.recipient for state in states})), self._suppressions_of(states)
        )
        return {
            stream: state
            if isinstance(state, Exception)
            else _loaded(by_stream[stream], state, keys, suppressions, clock)
            for stream, state in folded.items()
        }

    async def _suppressions_of(self, states: Iterable[n.State]) -> dict[_Address, Suppression | Exception]:
        """Read what is known of the addresses of some notifications."""
        addresses = {address for state in states if (address := _address(state)) is not None}
        empty = {
            stream_of(self.identity, *address): Suppression(
                stream=stream_of(self.identity, *address), channel=address[0], address_hash=address[1]
            )
            for address in addresses
        }
        facts: dict[UUID, list[Row]] = defaultdict(list)
        for row in await self.store.load(empty):
            facts[row.stream].append(row)
        return {
            (one.channel, one.address_hash): self._fold_suppression(one, facts[stream]) for stream, one in empty.items()
        }

    def _fold_suppression(self, empty: Suppression, rows: Sequence[Row]) -> Suppression | Exception:
        try:
            return fold(empty, [cast("Listed", self._mapper.decode(row.topic, row.state)) for row in rows])
        except (UnknownTopicError, msgspec.DecodeError, ValueError) as exc:
            return exc

    async def _keys_of(self, recipients: Sequence[str]) -> dict[str, DataKey | KeyUnavailableError]:
        """Read keys; one that does not open (wrapped by a key that we were not given) spoils none of the others."""
        try:
            async with self.store.connection() as connection:
                return dict(await self._keys.read(connection, recipients))
        except KeyUnavailableError as exc:
            if len(recipients) == 1:
                return {recipients[0]: exc}
        middle = len(recipients) // 2
        return await self._keys_of(recipients[:middle]) | await self._keys_of(recipients[middle:])

    def _fold(self, rows: Sequence[Row]) -> n.State | Exception:
        try:
            state = n.fold([self._mapper.decode(row.topic, row.state) for row in rows])
        except (UnknownTopicError, msgspec.DecodeError, ValueError) as exc:
            return exc
        return state or LedgerError("an empty stream")

    # -- writing ----------------------------------------------------------------------------------------------

    async def append(self, decision: Decision) -> None:
        """Store a decision whose notifications are new. Raises as GroupCommit.append."""
        await self._append(decision, {})

    async def change(self, stream: UUID, decide: Decide, *, known: Loaded | None = None) -> Loaded | None:
        """Let `decide` look at a notification and store what it decides; returns how it stands then.

        `decide` is called again on newer facts when the store refuses, at most five times; then RefusedError.
        `known` spares the first load. None when there is no such notification. Within a process those who change the
        same notification take turns: they would only refuse each other.
        """
        turn = self._turns.setdefault(stream, asyncio.Lock())
        async with turn:
            return await self._change(stream, decide, known)

    async def _change(self, stream: UUID, decide: Decide, known: Loaded | None) -> Loaded | None:
        for attempt in range(_TRIES):
            loaded = known if known is not None and attempt == 0 else await self.load(stream)
            if loaded is None:
                return None
            decision = decide(loaded, loaded.now())
            if decision is None:
                return loaded
            try:
                return await self._append(decision, {stream: loaded})
            except RefusedError as exc:
                if exc.reason not in _DECIDE_AGAIN or attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    async def _append(self, decision: Decision, known: Mapping[UUID, Loaded]) -> Loaded | None:
        after = {stream: loaded.after(decision) for stream, loaded in known.items()}
        states = {stream: loaded.state for stream, loaded in after.items()} | _fresh(decision, known)
        agenda = tuple(
            AgendaRow(stream, state.version, n.next_due(state), decision.settles) for stream, state in states.items()
        )
        references = tuple(
            Reference(new.fact.provider, new.fact.reference, new.stream, new.fact.attempt)
            for new in decision.facts
            if isinstance(new.fact, n.Dispatched)
        )
        await self._writer.append(
            msgspec.structs.replace(
                decision, agenda=agenda, references=references, guards=(*decision.guards, *_unmoved(decision, known))
            )
        )
        return next(iter(after.values()), None)

    async def _encode(self, decisions: Sequence[Decision]) -> list[Encoded | Exception]:
        recipients = {
            new.fact.recipient
            for decision in decisions
            for new in decision.facts
            if isinstance(new.fact, n.Requested) and isinstance(new.fact.personal, Personal)
        }
        keys: Keyring = {}
        if recipients:
            async with self.store.connection() as connection:
                keys = await self._keys.ensure(connection, recipients)
        return [self._encoded(decision, keys) for decision in decisions]

    def _encoded(self, decision: Decision, keys: Keyring) -> Encoded | Exception:
        try:
            return Encoded(
                facts=[(new.stream, new.version, *self._stored(new, keys)) for new in decision.facts],
                guards=[(guard.stream, guard.version) for guard in decision.guards],
                intake=(decision.intake.key, decision.intake.body_hash) if decision.intake else None,
                takes=decision.takes,
                contents=[(c.retention, c.notification, c.digest, _sealed(c)) for c in decision.contents],
                references=decision.references,
                agenda=decision.agenda,
            )
        except (LedgerError, TypeError, ValueError, RecursionError) as exc:
            return exc if isinstance(exc, LedgerError) else UnstorableError(f"not to be encoded: {type(exc).__name__}")

    def _stored(self, new: NewFact, keys: Keyring) -> tuple[str, bytes]:
        key = keys.get(new.fact.recipient) if isinstance(new.fact, n.Requested) else None
        return self._mapper.encode(new.stream, new.version, new.fact, key=key)

    def _committed(self, decisions: Sequence[Decision]) -> None:
        due = {
            f"{AGENDA}/{row.due.channel.value}"
            for decision in decisions
            for row in decision.agenda
            if row.due and (not decision.facts or row.due.at <= decision.facts[-1].fact.recorded_at + _AT_ONCE)
        }
        self._signals.raise_([FACTS, *due])

    # -- words ------------------------------------------------------------------------------------------------

    async def content(self, loaded: Loaded) -> Content | None:
        """Return what was said last, word for word; None when nothing was, or its time or its person's key is over."""
        if loaded.state.rendered is None or loaded.key is None:
            return None
        digest = loaded.state.rendered
        sealed = await self.store.content(loaded.state.requested.retention, loaded.stream, digest)
        if sealed is None:
            return None
        body = loaded.key.open(sealed, bound_to=content_bound_to(loaded.stream, digest))
        return msgspec.json.decode(zstandard.decompress(body), type=CONTENT_OF[loaded.state.requested.channel])


def _address(state: n.State) -> _Address | None:
    known = state.requested.address_hash
    return None if known is None else (state.requested.channel, known)


def _loaded(
    rows: Sequence[Row],
    state: n.State,
    keys: Mapping[str, DataKey | KeyUnavailableError],
    suppressions: Mapping[_Address, Suppression | Exception],
    clock: float,
) -> Loaded | Exception:
    first, key = rows[0], keys.get(state.requested.recipient)
    if isinstance(key, KeyUnavailableError):
        return key
    address = _address(state)
    suppression = None if address is None else suppressions[address]
    if isinstance(suppression, Exception):
        return suppression
    try:
        requested = unseal(state.requested, first.stream, topic=first.topic, key=key)
    except KeyUnavailableError as exc:
        return exc
    opened = msgspec.structs.replace(state, requested=requested)
    return Loaded(stream=first.stream, state=opened, key=key, suppression=suppression, read_at=first.now, clock=clock)


def _unmoved(decision: Decision, known: Mapping[UUID, Loaded]) -> list[Guard]:
    """Guard what was read and is not written: its row of the agenda must not be set by facts that are old by now."""
    return [Guard(stream, loaded.state.version) for stream, loaded in known.items() if stream not in decision.streams]


def _fresh(decision: Decision, known: Mapping[UUID, Loaded]) -> dict[UUID, n.State]:
    """Fold the notifications that begin with this decision."""
    facts: dict[UUID, list[n.NotificationFact]] = defaultdict(list)
    for new in decision.facts:
        if new.stream not in known and not is_standing(new.stream):
            facts[new.stream].append(new.fact)  # type: ignore[arg-type]  # only standing streams hold other facts
    return {stream: state for stream, begun in facts.items() if (state := n.fold(begun))}


def _sealed(content: SaidContent) -> bytes:
    packed = _COMPRESS(content.body)
    return content.key.seal(packed, bound_to=content_bound_to(content.notification, content.digest))


_COMPRESS = zstandard.ZstdCompressor(level=1).compress
