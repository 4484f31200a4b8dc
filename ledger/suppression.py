"""Who must not be contacted any more: one small stream per address and channel, its facts, state and decisions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

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


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one address; at version 0 there is nothing, and nothing forbids to use it."""

    stream: UUID
    channel: Channel
    address_hash: str
    version: int = 0
    entries: Mapping[EntryName, Entry] = {}

    def against(self, category: Category, now: datetime) -> Entry | None:
        """Return what forbids to send something of a category there, the earliest of several; None = nothing."""
        forbidding = (
            entry
            for entry in self.entries.values()
            if entry.fact.category in {None, category} and not _is_over(entry.fact, now)
        )
        return min(forbidding, key=lambda entry: entry.version, default=None)


def _is_over(fact: Listed, now: datetime) -> bool:
    return fact.expires_at is not None and fact.expires_at <= now


def stream_of(identity: Identity, channel: Channel, address_hash: str) -> UUID:
    """Return the id of the stream of an address: derived, so that a guard can name it before it is there."""
    return identity.standing_stream("suppression", f"{channel.value}:{address_hash}")


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


def list_address(
    state: Suppression, reason: Reason, origin: Origin, *, notification: UUID, attempt: UUID
) -> tuple[Listed, ...]:
    """Record that a report forbids to use an address; a reason that is listed already is no news."""
    if (reason, None) in state.entries:
        return ()
    listed = Listed(
        **origin.stamp(),
        channel=state.channel,
        address_hash=state.address_hash,
        reason=reason,
        notification=notification,
        attempt=attempt,
    )
    return (listed,)
