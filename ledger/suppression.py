"""Who must not be contacted any more: one small stream per address and channel, its facts, state and decisions."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from ledger.decision import NewFact
from ledger.keys import Identity
from ledger.notification import Fact, Origin
from ledger.values import Category, Channel

# ---------------------------------------------------------------------------------------------------------------
# Facts. They are storage, as those of a notification are.
# ---------------------------------------------------------------------------------------------------------------


class Reason(StrEnum):
    """Why an address must not be used."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    # The provider says that the person has told it so; with the others the person has told us.
    OPT_OUT = "opt_out"
    STOP = "stop"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"
    LEGAL = "legal"


class Listed(Fact, frozen=True, kw_only=True):
    """Nothing more goes to this address by this channel: nothing of `category`, None = nothing at all.

    The evidence stands in `notification` and `attempt`, where it came of one, and in `note`, where somebody gives one.
    It ends by itself at `expires_at`, None = never.
    """

    channel: Channel
    address_hash: str
    reason: Reason
    notification: UUID | None = None
    attempt: UUID | None = None
    category: Category | None = None
    expires_at: datetime | None = None
    note: str | None = None


class Delisted(Fact, frozen=True, kw_only=True):
    """What was listed for this reason and category no longer holds; `note` says why."""

    channel: Channel
    address_hash: str
    reason: Reason
    category: Category | None = None
    note: str


SuppressionFact = Listed | Delisted

# ---------------------------------------------------------------------------------------------------------------
# State
# ---------------------------------------------------------------------------------------------------------------

# One entry for each reason and category: the same from somewhere else is no news.
EntryName = tuple[Reason, Category | None]


class Entry(msgspec.Struct, frozen=True):
    """A fact by which an address must not be used, and its version in the stream."""

    fact: Listed
    version: int

    @property
    def name(self) -> EntryName:
        return self.fact.reason, self.fact.category


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one address; at version 0 there is nothing, and nothing forbids to use it."""

    stream: UUID
    channel: Channel
    address_hash: str
    version: int = 0
    entries: Mapping[EntryName, Entry] = {}

    def against(self, category: Category, now: datetime) -> Entry | None:
        """Return what forbids to send something of a category there, the earliest of several; None = nothing."""
        return next((entry for entry in self.in_force(now) if entry.fact.category in {None, category}), None)

    def in_force(self, now: datetime) -> tuple[Entry, ...]:
        """Return all entries that still hold, the earliest first."""
        holding = (entry for entry in self.entries.values() if not _is_over(entry.fact, now))
        return tuple(sorted(holding, key=lambda entry: entry.version))

    def next(self, facts: Sequence[SuppressionFact]) -> tuple[NewFact, ...]:
        """Number the facts that follow."""
        return tuple(NewFact(self.stream, self.version + 1 + place, fact) for place, fact in enumerate(facts))


def _is_over(fact: Listed, now: datetime) -> bool:
    return fact.expires_at is not None and fact.expires_at <= now


def _lasts(fact: Listed, until: datetime | None) -> bool:
    """Whether it holds until then at least; None = for good."""
    return fact.expires_at is None or (until is not None and until <= fact.expires_at)


def stream_of(identity: Identity, channel: Channel, address_hash: str) -> UUID:
    """Return the id of the stream of an address: derived, so that a guard can name it before it is there."""
    return identity.standing_stream("suppression", f"{channel.value}:{address_hash}")


def nothing(identity: Identity, channel: Channel, address_hash: str) -> Suppression:
    """Return an address of which nothing is known."""
    stream = stream_of(identity, channel, address_hash)
    return Suppression(stream=stream, channel=channel, address_hash=address_hash)


def fold(empty: Suppression, facts: Sequence[SuppressionFact]) -> Suppression:
    """Apply facts in order."""
    state = empty
    for fact in facts:
        state = evolve(state, fact)
    return state


def evolve(state: Suppression, fact: SuppressionFact) -> Suppression:
    """Return the state after one more fact."""
    version, name = state.version + 1, (fact.reason, fact.category)
    entries = {known: entry for known, entry in state.entries.items() if known != name}
    if isinstance(fact, Listed):
        entries[name] = Entry(fact, version)
    return msgspec.structs.replace(state, version=version, entries=entries)


# ---------------------------------------------------------------------------------------------------------------
# Decide
# ---------------------------------------------------------------------------------------------------------------


class Grounds(msgspec.Struct, frozen=True, kw_only=True):
    """Why an address is listed, how far and for how long: as the fact will say it."""

    reason: Reason
    category: Category | None = None
    notification: UUID | None = None
    attempt: UUID | None = None
    expires_at: datetime | None = None
    note: str | None = None


def list_address(state: Suppression, grounds: Grounds, origin: Origin) -> tuple[Listed, ...]:
    """Record that an address must not be used.

    What is listed for this reason and category for as long, or longer, is no news: a release alone ends it sooner. What
    has expired meanwhile is.
    """
    known = state.entries.get((grounds.reason, grounds.category))
    if known is not None and not _is_over(known.fact, origin.now) and _lasts(known.fact, grounds.expires_at):
        return ()
    listed = Listed(
        **origin.stamp(),
        channel=state.channel,
        address_hash=state.address_hash,
        **msgspec.structs.asdict(grounds),
    )
    return (listed,)


def delist(state: Suppression, names: Collection[EntryName], origin: Origin, *, note: str) -> tuple[Delisted, ...]:
    """Let what was listed for these reasons and categories hold no longer; what is not in force is no news."""
    return tuple(
        Delisted(
            **origin.stamp(),
            channel=state.channel,
            address_hash=state.address_hash,
            reason=entry.fact.reason,
            category=entry.fact.category,
            note=note,
        )
        for entry in state.in_force(origin.now)
        if entry.name in names
    )


# What a person has said by SMS: to us, or to the provider, who refuses to send since. Both hear the word that ends it.
SAID_BY_SMS: Collection[EntryName] = ((Reason.STOP, None), (Reason.OPT_OUT, None))


def stop(state: Suppression, origin: Origin) -> tuple[Listed, ...]:
    """Record that the person has answered STOP: nothing more goes to that number."""
    return list_address(state, Grounds(reason=Reason.STOP), origin)


def start(state: Suppression, origin: Origin) -> tuple[Delisted, ...]:
    """Record that the person has answered START: that ends their STOP, and nothing else."""
    return delist(state, SAID_BY_SMS, origin, note="the person has answered START")
