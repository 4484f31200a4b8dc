"""What a decision on a notification looks at beside it: its person, their key, and what is known of the addresses."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from typing import cast
from uuid import UUID

import msgspec

from ledger import notification as n
from ledger import recipient as r
from ledger import suppression as s
from ledger.errors import KeyUnavailableError, UnknownTopicError
from ledger.keys import DataKey, Identity, Keys
from ledger.mapping import FactMapper, unseal
from ledger.store import Row, Store
from ledger.values import Channel

# What goes wrong with one stream: the others of the same reading are not touched by it.
UNREADABLE = (UnknownTopicError, KeyUnavailableError, msgspec.DecodeError, ValueError)

KeysRead = Mapping[str, DataKey | KeyUnavailableError]
People = Mapping[str, r.Recipient | Exception]
# By channel and address hash. Plain strings: the hash of a member of an enumeration is computed anew each time.
_Lists = dict[tuple[str, str], s.Suppression | Exception]


class Around(msgspec.Struct, frozen=True):
    """What was read beside one notification.

    `key` is None when it was destroyed; `suppressions` are those of every address that it was or may be sent to, by the
    address's hash.
    """

    key: DataKey | None
    recipient: r.Recipient
    suppressions: Mapping[str, s.Suppression]


class Surroundings:
    """Reads what lies around notifications: all of a batch in two round trips at once, and a third for addresses that
    only the person's stream knows.
    """

    def __init__(self, store: Store, keys: Keys, identity: Identity) -> None:
        self._store = store
        self._keys = keys
        self._identity = identity
        self._mapper = FactMapper()

    async def of(self, states: Sequence[n.State]) -> list[Around | Exception]:
        """Read what lies around each; what cannot be read is the error of those that it belongs to."""
        empty = self._nobody({state.requested.recipient for state in states})
        lists = self._nothing_listed((state, _named(state)) for state in states)
        keys, rows = await asyncio.gather(
            self.keys_of(empty), self._rows([*(one.stream for one in empty.values()), *_streams(lists)])
        )
        people = {name: self._known(nobody, rows, keys) for name, nobody in empty.items()}
        found = self._nothing_listed((state, _found(state, people)) for state in states)
        rows |= await self._rows(_streams({name: found[name] for name in found.keys() - lists.keys()}))
        lists = {name: self._filled(known, rows) for name, known in (found | lists).items()}
        return [_around(state, keys, people, lists) for state in states]

    async def people(self, names: Collection[str], *, at: datetime | None = None) -> dict[str, r.Recipient | Exception]:
        """Read what is known of some people, by the names of their keys; of those nobody has spoken of, that nothing
        is. `at` = what was known then, as far as it can still be read.
        """
        empty = self._nobody(names)
        keys, rows = await asyncio.gather(self.keys_of(names), self._rows([one.stream for one in empty.values()]))
        return {name: self._known(nobody, rows, keys, at=at) for name, nobody in empty.items()}

    async def suppression(self, stream: UUID) -> s.Suppression | None:
        """Read what is known of an address by its stream; None where that holds nothing of the kind."""
        rows = (await self._rows([stream])).get(stream, [])
        facts = [self._mapper.decode(row.topic, row.state) for row in rows]
        if not facts or not isinstance(facts[0], s.SuppressionFact):
            return None
        empty = s.nothing(self._identity, facts[0].channel, facts[0].address_hash)
        return s.fold(empty, cast("list[s.SuppressionFact]", facts))

    async def sealed_people(self, names: Sequence[str]) -> list[r.Recipient | Exception]:
        """Read the same without their keys, which may be gone, or open with none of ours."""
        empty = [r.nobody_named(self._identity, name) for name in names]
        rows = await self._rows([one.stream for one in empty])
        return [self._known(nobody, rows, {}) for nobody in empty]

    async def keys_of(self, names: Collection[str]) -> dict[str, DataKey | KeyUnavailableError]:
        """Read keys; one that does not open (wrapped by a key that we were not given) spoils none of the others."""
        wanted = sorted(names)
        try:
            async with self._store.connection() as connection:
                return dict(await self._keys.read(connection, wanted))
        except KeyUnavailableError as exc:
            if len(wanted) == 1:
                return {wanted[0]: exc}
        middle = len(wanted) // 2
        return await self.keys_of(wanted[:middle]) | await self.keys_of(wanted[middle:])

    async def _rows(self, streams: Sequence[UUID]) -> dict[UUID, list[Row]]:
        rows: dict[UUID, list[Row]] = defaultdict(list)
        if streams:
            for row in await self._store.load(streams):
                rows[row.stream].append(row)
        return rows

    def _nobody(self, names: Iterable[str]) -> dict[str, r.Recipient]:
        return {name: r.nobody_named(self._identity, name) for name in names}

    def _nothing_listed(self, addresses: Iterable[tuple[n.State, Iterable[str]]]) -> _Lists:
        """Return the suppressions of some addresses before anything is read of them."""
        empty: _Lists = {}
        for state, hashes in addresses:
            channel = state.requested.channel
            for address_hash in hashes:
                if (channel.value, address_hash) not in empty:
                    empty[channel.value, address_hash] = s.nothing(self._identity, channel, address_hash)
        return empty

    def _known(
        self, empty: r.Recipient, rows: Mapping[UUID, Sequence[Row]], keys: KeysRead, *, at: datetime | None = None
    ) -> r.Recipient | Exception:
        key = keys.get(empty.recipient)
        if isinstance(key, KeyUnavailableError):
            return key
        try:
            facts = self._opened(rows.get(empty.stream, ()), key)
            return r.fold(empty, takewhile(lambda fact: at is None or fact.recorded_at <= at, facts))
        except UNREADABLE as exc:
            return exc

    def _opened(self, rows: Sequence[Row], key: DataKey | None) -> list[r.RecipientFact]:
        """Open what was said since the person was erased last: what was said before was sealed under another key."""
        facts = [cast("r.RecipientFact", self._mapper.decode(row.topic, row.state)) for row in rows]
        erased = max(
            (row.version for row, fact in zip(rows, facts, strict=True) if isinstance(fact, r.Erased)), default=0
        )
        return [
            unseal(fact, row.stream, version=row.version, topic=row.topic, key=key if row.version > erased else None)
            for row, fact in zip(rows, facts, strict=True)
        ]

    def _filled(
        self, empty: s.Suppression | Exception, rows: Mapping[UUID, Sequence[Row]]
    ) -> s.Suppression | Exception:
        if isinstance(empty, Exception) or empty.stream not in rows:
            return empty
        try:
            facts = [self._mapper.decode(row.topic, row.state) for row in rows[empty.stream]]
            return s.fold(empty, cast("list[s.SuppressionFact]", facts))
        except UNREADABLE as exc:
            return exc


def _streams(lists: _Lists) -> list[UUID]:
    return [known.stream for known in lists.values() if isinstance(known, s.Suppression)]


def _named(state: n.State) -> set[str]:
    """Return the addresses that the notification itself names, and those that it was sent to, by their hashes."""
    hashes = {attempt.address_hash for attempt in state.attempts}
    hashes.add(state.requested.address_hash or "")
    hashes.discard("")
    return hashes


def _found(state: n.State, people: People) -> Iterable[str]:
    """Return the addresses that the person's stream gives, where the message gave none.

    What has reached its provider needs nothing more; only a push may have further devices to go to.
    """
    asked = state.requested
    person = people[asked.recipient]
    is_on_its_way = state.ended or (state.reached and asked.channel is not Channel.PUSH)
    if asked.address_hash is not None or is_on_its_way or not isinstance(person, r.Recipient):
        return ()
    return [address.address_hash for address in person.addresses(asked.channel)]


def _around(state: n.State, keys: KeysRead, people: People, lists: _Lists) -> Around | Exception:
    key, person = keys.get(state.requested.recipient), people[state.requested.recipient]
    if isinstance(key, Exception):
        return key
    if isinstance(person, Exception):
        return person
    suppressions: dict[str, s.Suppression] = {}
    for address_hash in (*_named(state), *_found(state, people)):
        known = lists[state.requested.channel.value, address_hash]
        if isinstance(known, Exception):
            return known
        suppressions[address_hash] = known
    return Around(key, person, suppressions)
