"""Ledger: load, decide, append, and decide again when the world has moved on meanwhile.

Reading and writing stand together: what was read for a decision is what its append is guarded by.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeVar, cast
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
import zstandard

from ledger import notification as n
from ledger import operations, suppression
from ledger.clock import Clock
from ledger.decision import AgendaRow, Decision, Guard, NewFact, Reference, SaidContent
from ledger.errors import (
    KeyMissingError,
    KeyUnavailableError,
    LedgerError,
    Refusal,
    RefusedError,
    UnknownTopicError,
    UnstorableError,
)
from ledger.group_commit import GroupCommit
from ledger.ids import is_standing
from ledger.keys import DataKey, Identity, Keyring, Keys
from ledger.lookup import Lookup
from ledger.mapping import FactMapper, content_bound_to, key_of, of_notification, open_in, unseal
from ledger.operations import Operations, OperationsFact, Paused, Resumed
from ledger.recipient import ContactChanged, Recipient, RecipientFact, fold, nobody, stream_of
from ledger.signals import AGENDA, FACTS, TEMPLATES, Signals
from ledger.store import Encoded, Row, Store, Taken
from ledger.suppression import Suppression, SuppressionFact
from ledger.surroundings import Around, Surroundings
from ledger.template import Published, RolledBack
from ledger.values import CONTENT_OF, Channel, Content, Personal

# Who loses to others waits a little, and never the same while, so that all have their turn: of fifty at once, too.
_TRIES = 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.25
_AT_ONCE = timedelta(seconds=1)
_LOADED_AT_ONCE = 200
_NO_KEY = "the key of the person's data is not there"
# The stream of what is in no log.
_NOWHERE = UUID(int=0)
_DECIDE_AGAIN = {Refusal.VERSION, Refusal.PREDECESSOR, Refusal.GUARD}


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told, and in which language: as the message says, and what it leaves out as the person's stream says.

    `found` = the address is from the stream. No address: nobody knows one. `others` are the hashes of what else the
    person can be reached at by the same channel: further devices.
    """

    address: str | None
    address_hash: str | None
    found: bool
    name: str | None
    locale: str
    others: tuple[str, ...] = ()


class Loaded(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A notification as it was read; `key` is its person's data key, None when that was destroyed.

    `recipient` is what is known of its person. `suppressions` are those of the addresses that it was or may be sent to,
    by the address's hash. `operations` is what was paused.
    """

    stream: UUID
    state: n.State
    key: DataKey | None
    recipient: Recipient
    suppressions: Mapping[str, Suppression]
    operations: Operations
    read_at: datetime
    clock: float

    @cached_property
    def person(self) -> Person:
        """Who is to be told, as far as it can be read. A dozen times asked for on the way of one notification."""
        requested, known = self.state.requested, self.recipient
        personal = requested.personal if isinstance(requested.personal, Personal) else Personal()
        address, address_hash, found = personal.address, requested.address_hash or n.turn(self.state), False
        others: tuple[str, ...] = ()
        if address is None:
            usable = known.addresses(requested.channel)
            for one in [one for one in usable if address_hash in {None, one.address_hash}][:1]:
                address, address_hash, found = one.address, one.address_hash, True
            others = tuple(other.address_hash for other in usable if other.address_hash != address_hash)
        own_locale = known.locale if requested.locale_assumed else None
        return Person(
            address=address,
            address_hash=address_hash,
            found=found,
            name=personal.name or known.contact.name,
            locale=own_locale or requested.locale,
            others=others,
        )

    @property
    def personal(self) -> Personal:
        """What the message said of the person. Raises KeyMissingError where it cannot be read."""
        personal = self.state.requested.personal
        if not isinstance(personal, Personal):
            raise KeyMissingError(_NO_KEY)
        return personal

    def check_readable(self) -> None:
        """Raise KeyMissingError where nobody can read what the message said, and no erasure is why."""
        if not isinstance(self.state.requested.personal, Personal) and not self.is_erased:
            raise KeyMissingError(_NO_KEY)

    @property
    def is_erased(self) -> bool:
        """Whether the person was erased after it was asked for."""
        requested = self.state.requested
        is_readable = isinstance(requested.personal, Personal)
        return self.recipient.was_erased_since(requested.recorded_at, is_readable=is_readable)

    @property
    def suppression(self) -> Suppression | None:
        """What is known of the address that it goes to, None while it has none."""
        return self.suppressions.get(self.person.address_hash or "")

    def now(self) -> datetime:
        """Return the database's time: as it was read, plus what this process's monotonic clock has counted since."""
        return self.read_at + timedelta(seconds=time.monotonic() - self.clock)

    def next(self, facts: n.Facts) -> tuple[NewFact, ...]:
        """Number the facts that follow."""
        first = self.state.version + 1
        return tuple(NewFact(self.stream, version, fact, self.key) for version, fact in enumerate(facts, start=first))

    def after(self, decision: Decision) -> "Loaded":
        """Return what it is after a decision that was stored."""
        state = self.state
        for new in decision.facts:
            if new.stream == self.stream:
                state = n.evolve(state, new.fact)  # type: ignore[arg-type]  # this stream holds notification facts
        return msgspec.structs.replace(self, state=state)


Decide = Callable[[Loaded, datetime], Decision | None]
DecideOnRecipient = Callable[[Recipient, datetime], Decision | None]
DecideOnAddress = Callable[[Suppression, datetime], Decision | None]
DecideOperations = Callable[[Operations, datetime], Sequence[OperationsFact]]
T = TypeVar("T")


class Ledger:
    """The only writer of facts."""

    def __init__(self, store: Store, keys: Keys, identity: Identity, signals: Signals) -> None:
        self.store = store
        self.identity = identity
        self.clock = Clock()
        # As last read; it only grows, so each look at the log reads what is new.
        self.operations = operations.empty(identity)
        self._keys = keys
        self._signals = signals
        self._mapper = FactMapper()
        self._surroundings = Surroundings(store, keys, identity)
        self._writer = GroupCommit(store, self._encode, self._committed)
        self._loads: Lookup[UUID, Loaded] = Lookup(self.load_many, most=_LOADED_AT_ONCE)
        self._people: Lookup[str, Recipient] = Lookup(self._surroundings.people, most=_LOADED_AT_ONCE)
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

    async def recipient(self, user_id: str) -> Recipient:
        """Read what is known of a person; version 0 = nothing. Shares a query, as `load` does."""
        empty = nobody(self.identity, user_id)
        return await self._people.find(empty.recipient) or empty

    async def recipient_at(self, user_id: str, at: datetime) -> Recipient:
        """Read what was known of a person at a moment: of what was recorded by then, whatever was said of when."""
        name = nobody(self.identity, user_id).recipient
        found = (await self._surroundings.people([name], at=at))[name]
        if isinstance(found, Exception):
            raise found
        return found

    async def sealed_people(self, names: Sequence[str]) -> list[Recipient]:
        """Read what is known of some people, by the names of their data keys, but for what is sealed. Raises what
        makes one unreadable.
        """
        found = await self._surroundings.sealed_people(names)
        for one in found:
            if isinstance(one, Exception):
                raise one
        return cast("list[Recipient]", found)

    async def suppression(self, stream: UUID) -> Suppression | None:
        """Read what is known of an address by its stream; None where nothing ever was listed there."""
        return await self._surroundings.suppression(stream)

    async def load_many(self, streams: Iterable[UUID]) -> dict[UUID, "Loaded | Exception"]:
        """Read many at once; one that cannot be read is its error, one that does not exist is missing."""
        by_stream: dict[UUID, list[Row]] = defaultdict(list)
        known = self.operations
        wanted = (stream for stream in streams if not is_standing(stream))
        for row in await self.store.load_and_newer(wanted, known.stream, known.version):
            by_stream[row.stream].append(row)
        clock = time.monotonic()
        paused = self._learn(by_stream.pop(known.stream, ()))
        folded = {stream: self._fold(rows) for stream, rows in by_stream.items()}
        states = {stream: state for stream, state in folded.items() if isinstance(state, n.State)}
        around = await self._surroundings.of(list(states.values())) if states else []
        found = {
            stream: _loaded(by_stream[stream], state, beside, paused=paused, clock=clock)
            for (stream, state), beside in zip(states.items(), around, strict=True)
        }
        return {stream: found.get(stream) or state for stream, state in folded.items()}  # type: ignore[misc]

    async def imagined(self, requested: Sequence[n.Requested]) -> list["Loaded"]:
        """Return notifications as they would be read if they had just been asked for; nothing is stored of them.

        Raises what stands in the way of reading about one of them.
        """
        paused, clock = await self.look_at_operations(), time.monotonic()
        states = [n.evolve(None, fact) for fact in requested]
        found = []
        for state, beside in zip(states, await self._surroundings.of(states) if states else [], strict=True):
            if isinstance(beside, Exception):
                raise beside
            found.append(
                Loaded(
                    stream=_NOWHERE,
                    state=state,
                    key=beside.key,
                    recipient=beside.recipient,
                    suppressions=beside.suppressions,
                    operations=paused,
                    read_at=self.clock.now(),
                    clock=clock,
                )
            )
        return found

    async def look_at_operations(self) -> Operations:
        """Read what is paused now."""
        known = self.operations
        return self._learn(await self.store.load_and_newer([], known.stream, known.version))

    def _learn(self, rows: Sequence[Row]) -> Operations:
        facts = [(row.version, self._operations_fact(row)) for row in rows]
        self.operations = operations.fold(self.operations, facts)
        return self.operations

    def _operations_fact(self, row: Row) -> OperationsFact:
        try:
            return cast("OperationsFact", self._mapper.decode(row.topic, row.state))
        except (UnknownTopicError, msgspec.DecodeError, ValueError):
            return operations.not_understood(row.now)

    def _fold(self, rows: Sequence[Row]) -> n.State | Exception:
        try:
            state = n.fold([of_notification(self._mapper.decode(row.topic, row.state)) for row in rows])
        except (UnknownTopicError, msgspec.DecodeError, ValueError) as exc:
            return exc
        return state or LedgerError("an empty stream")

    # -- writing ----------------------------------------------------------------------------------------------

    async def append(self, decision: Decision) -> None:
        """Store a decision whose notifications are new. Raises as GroupCommit.append."""
        await self._append(decision, {})

    async def change(self, stream: UUID, decide: Decide, *, known: Loaded | None = None) -> Loaded | None:
        """Let `decide` look at a notification and store what it decides; returns how it stands then.

        `decide` is called again on newer facts when the store refuses, at most twenty times; then RefusedError.
        `known` spares the first load. None when there is no such notification. Within a process those who change the
        same notification take turns: they would only refuse each other.
        """
        turn = self._turns.setdefault(stream, asyncio.Lock())
        async with turn:
            return await self._change(stream, decide, known)

    async def _change(self, stream: UUID, decide: Decide, known: Loaded | None) -> Loaded | None:
        async def attempt(number: int) -> Loaded | None:
            loaded = known if known is not None and number == 0 else await self.load(stream)
            decision = decide(loaded, loaded.now()) if loaded is not None else None
            return loaded if loaded is None or decision is None else await self._append(decision, {stream: loaded})

        try:
            return await until_stored(attempt)
        except RefusedError as exc:
            if exc.reason is Refusal.GUARD:
                self.operations = operations.empty(self.identity)  # in case the log was restored to before it
            raise

    async def change_recipient(self, user_id: str, decide: DecideOnRecipient) -> Recipient:
        """Let `decide` look at a person and store what it decides, as `change` does; returns what is known then."""

        async def attempt(_number: int) -> Recipient:
            known = await self.recipient(user_id)
            decision = decide(known, self.clock.now())
            if decision is None:
                return known
            await self._append(decision, {})
            facts = [new.fact for new in decision.facts if new.stream == known.stream]
            return fold(known, cast("list[RecipientFact]", facts))

        turn = self._turns.setdefault(stream_of(self.identity, user_id), asyncio.Lock())
        async with turn:
            return await until_stored(attempt)

    async def change_suppression(self, empty: Suppression, decide: DecideOnAddress) -> Suppression:
        """Let `decide` look at what is known of an address and store what it decides; returns what is known then.

        `empty` is the address before anything is known of it. Raises as `change`, and RefusedError where the decision
        names a key of the intake that is taken in already.
        """

        async def attempt(_number: int) -> Suppression:
            known = await self.suppression(empty.stream) or empty
            decision = decide(known, self.clock.now())
            if decision is None:
                return known
            await self._append(decision, {})
            facts = [new.fact for new in decision.facts if new.stream == known.stream]
            return suppression.fold(known, cast("list[SuppressionFact]", facts))

        turn = self._turns.setdefault(empty.stream, asyncio.Lock())
        async with turn:
            return await until_stored(attempt)

    async def change_operations(self, decide: DecideOperations) -> Operations:
        """Let `decide` look at what is paused and store what it decides; returns what is paused then."""

        async def attempt(_number: int) -> Operations:
            known = await self.look_at_operations()
            facts = decide(known, self.clock.now())
            if not facts:
                return known
            numbered = enumerate(facts, start=known.version + 1)
            await self._append(Decision(facts=tuple(NewFact(known.stream, *each) for each in numbered)), {})
            return await self.look_at_operations()

        return await until_stored(attempt)

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
        facts = (new for decision in decisions for new in decision.facts)
        wanted = [(name, new.fact) for new in facts if (name := _key_wanted(new)) is not None]
        keys: Keyring = {}
        if wanted:
            addresses = {(name, one) for name, fact in wanted for one in _hashes_in(fact, self.identity)}
            async with self.store.connection() as connection:
                keys = await self._keys.ensure(connection, {name for name, _ in wanted}, addresses)
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
        key = new.key or keys.get(key_of(new.fact) or "")
        return self._mapper.encode(new.stream, new.version, new.fact, key=key)

    def _committed(self, decisions: Sequence[Decision]) -> None:
        due = {
            f"{AGENDA}/{row.due.channel.value}"
            for decision in decisions
            for row in decision.agenda
            if row.due and (not decision.facts or row.due.at <= decision.facts[-1].fact.recorded_at + _AT_ONCE)
        }
        self._signals.raise_([FACTS, *due, *_concerned(decisions)])

    # -- words ------------------------------------------------------------------------------------------------

    async def content(self, loaded: Loaded) -> Content | None:
        """Return what was said last, word for word; None when nothing was, or its time or its person's key is over."""
        if loaded.state.rendered is None or loaded.key is None:
            return None
        digest = loaded.state.rendered
        sealed = await self.store.content(loaded.state.requested.retention, loaded.stream, digest)
        if sealed is None:
            return None
        try:
            body = loaded.key.open(sealed, bound_to=content_bound_to(loaded.stream, digest))
        except KeyUnavailableError:
            return None  # the person was erased since, and has a new key
        return msgspec.json.decode(zstandard.decompress(body), type=CONTENT_OF[loaded.state.requested.channel])


async def until_stored(attempt: Callable[[int], Awaitable[T]]) -> T:
    """Attempt it, and again on newer facts where the store refuses; after twenty times that is the answer."""
    for number in range(_TRIES):
        try:
            return await attempt(number)
        except RefusedError as exc:
            if exc.reason not in _DECIDE_AGAIN or number == _TRIES - 1:
                raise
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**number)
        await asyncio.sleep(longest * random.random())  # noqa: S311 - spreads load, keeps no secret
    raise AssertionError("unreachable: the last try returns or raises")


def _key_wanted(new: NewFact) -> str | None:
    """Name the data key that must be read, or made, for a fact to be stored."""
    return None if new.key is not None or open_in(new.fact) is None else key_of(new.fact)


def _hashes_in(fact: n.Fact, identity: Identity) -> Iterator[str]:
    """Yield the hashes of the addresses that a fact gives its person, but for the one that they are named by."""
    hashes: tuple[str | None, ...] = ()
    match fact:
        case n.Requested(personal=Personal(fallback_address=str(other))):
            hashes = (fact.address_hash, identity.address_hash(other))
        case n.Requested():
            hashes = (fact.address_hash,)
        case ContactChanged():
            hashes = (fact.email_hash, fact.phone_hash)
    yield from (one for one in hashes if one and key_of(fact) != f"address:{one}")


def _loaded(
    rows: Sequence[Row], state: n.State, around: Around | Exception, *, paused: Operations, clock: float
) -> Loaded | Exception:
    if isinstance(around, Exception):
        return around
    first = rows[0]
    requested = unseal(state.requested, first.stream, topic=first.topic, key=around.key)
    return Loaded(
        stream=first.stream,
        state=msgspec.structs.replace(state, requested=requested),
        key=around.key,
        recipient=around.recipient,
        suppressions=around.suppressions,
        operations=paused,
        read_at=first.now,
        clock=clock,
    )


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


def _concerned(decisions: Sequence[Decision]) -> list[str]:
    """Name whom news concern that everybody acts by: whoever delivers anything, and whoever says anything."""
    news = {type(new.fact) for decision in decisions for new in decision.facts}
    paused = [f"{AGENDA}/{channel.value}" for channel in Channel] if news & {Paused, Resumed} else []
    return [*paused, TEMPLATES] if news & {Published, RolledBack} else paused


def _sealed(content: SaidContent) -> bytes:
    packed = _COMPRESS(content.body)
    return content.key.seal(packed, bound_to=content_bound_to(content.notification, content.digest))


_COMPRESS = zstandard.ZstdCompressor(level=1).compress
