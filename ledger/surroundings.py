"""What a decision on a notification looks at beside it: its person, their key, and what is known of the addresses."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
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

    `key` is None when it was destroyed, `recipient` where nothing of the person is asked for; `suppressions` are those
    of every address that it was or may be sent to, by the address's hash.
    """

    key: DataKey | None
    recipient: r.Recipient | None
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
        users = {user for state in states if (user := _asked_for(state)) is not None}
        lists = self._nothing_listed((state, _named(state)) for state in states)
        keys, rows = await asyncio.gather(
            self.keys_of({state.requested.recipient for state in states}),
            self._rows([*map(self._person, users), *_streams(lists)]),
        )
        people = {user: self._recipient(user, rows, keys) for user in users}
        found = self._nothing_listed((state, _found(state, people)) for state in states) if people else {}
        rows |= await self._rows(_streams({name: found[name] for name in found.keys() - lists.keys()}))
        lists = {name: self._filled(known, rows) for name, known in (found | lists).items()}
        return [_around(state, keys, people, lists) for state in states]

    async def people(self, users: Collection[str]) -> dict[str, r.Recipient | Exception]:
        """Read what is known of some people; of those nobody has spoken of, that nothing is."""
        names = {self._identity.recipient(user, None) for user in users}
        keys, rows = await asyncio.gather(self.keys_of(names), self._rows([self._person(user) for user in users]))
        return {user: self._recipient(user, rows, keys) for user in users}

    async def suppression(self, stream: UUID) -> s.Suppression | None:
        """Read what is known of an address by its stream; None where that holds nothing of the kind."""
        rows = (await self._rows([stream])).get(stream, [])
        facts = [self._mapper.decode(row.topic, row.state) for row in rows]
        if not facts or not isinstance(facts[0], s.SuppressionFact):
            return None
        empty = s.nothing(self._identity, facts[0].channel, facts[0].address_hash)
        return s.fold(empty, cast("list[s.SuppressionFact]", facts))

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

    def _person(self, user: str) -> UUID:
        return r.stream_of(self._identity, user)

    def _nothing_listed(self, addresses: Iterable[tuple[n.State, Iterable[str]]]) -> _Lists:
        """Return the suppressions of some addresses before anything is read of them."""
        empty: _Lists = {}
        for state, hashes in addresses:
            channel = state.requested.channel
            for address_hash in hashes:
                if (channel.value, address_hash) not in empty:
                    empty[channel.value, address_hash] = s.nothing(self._identity, channel, address_hash)
        return empty

    def _recipient(self, user: str, rows: Mapping[UUID, Sequence[Row]], keys: KeysRead) -> r.Recipient | Exception:
        empty = r.nobody(self._identity, user)
        key = keys.get(empty.recipient)
        if isinstance(key, KeyUnavailableError):
            return key
        try:
            return r.fold(empty, [self._opened(row, key) for row in rows.get(empty.stream, ())])
        except UNREADABLE as exc:
            return exc

    def _opened(self, row: Row, key: DataKey | None) -> r.RecipientFact:
        fact = cast("r.RecipientFact", self._mapper.decode(row.topic, row.state))
        return unseal(fact, row.stream, version=row.version, topic=row.topic, key=key)

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


def _asked_for(state: n.State) -> str | None:
    """Return the user whose stream a notification needs: its message gave no address or no language, or it is a push.

    What has reached its provider needs nothing more; only a push may have further devices to go to.
    """
    asked = state.requested
    is_push = asked.channel is Channel.PUSH
    if not (is_push or asked.address_hash is None or asked.locale_assumed):
        return None
    return None if state.ended or (state.reached and not is_push) else asked.user_id


def _named(state: n.State) -> set[str]:
    """Return the addresses that the notification itself names, and those that it was sent to, by their hashes."""
    hashes = {attempt.address_hash for attempt in state.attempts}
    hashes.add(state.requested.address_hash or "")
    hashes.discard("")
    return hashes


def _found(state: n.State, people: People) -> Iterable[str]:
    """Return the addresses that the person's stream gives, where the message gave none."""
    if state.requested.address_hash is not None:
        return ()
    person = people.get(state.requested.user_id or "")
    if not isinstance(person, r.Recipient):
        return ()
    return [address.address_hash for address in person.addresses(state.requested.channel)]


def _around(state: n.State, keys: KeysRead, people: People, lists: _Lists) -> Around | Exception:
    key = keys.get(state.requested.recipient)
    user = _asked_for(state)
    person = None if user is None else people[user]
    if isinstance(key, Exception):
        return key
    if isinstance(person, Exception):
        return person
    suppressions: dict[str, s.Suppression] = {}
    for address_hash in (*_named(state), *(() if user is None else _found(state, people))):
        known = lists[state.requested.channel.value, address_hash]
        if isinstance(known, Exception):
            return known
        suppressions[address_hash] = known
    return Around(key, person, suppressions)
