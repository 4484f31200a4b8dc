"""Who must not be contacted any more: one small stream per address and channel, its facts, state and decisions."""

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

import msgspec

from ledger.keys import Identity
from ledger.notification import Fact, Origin
from ledger.values import Channel

# ---------------------------------------------------------------------------------------------------------------
# Facts. They are storage, as those of a notification are.
# ---------------------------------------------------------------------------------------------------------------


class Reason(StrEnum):
    """Why an address must not be used."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    OPT_OUT = "opt_out"


class Listed(Fact, frozen=True, kw_only=True):
    """Nothing more goes to this address by this channel; `notification` and `attempt` are where the evidence stands."""

    channel: Channel
    address_hash: str
    reason: Reason
    notification: UUID
    attempt: UUID


# ---------------------------------------------------------------------------------------------------------------
# State
# ---------------------------------------------------------------------------------------------------------------


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one address; at version 0 there is nothing, and nothing forbids to use it."""

    stream: UUID
    channel: Channel
    address_hash: str
    version: int = 0
    listed: dict[Reason, Listed] = {}

    @property
    def applies(self) -> Listed | None:
        """The fact by which the address must not be used, the earliest one; None when it may be."""
        return min(self.listed.values(), key=lambda fact: fact.recorded_at, default=None)


def stream_of(identity: Identity, channel: Channel, address_hash: str) -> UUID:
    """Return the id of the stream of an address: derived, so that a guard can name it before it is there."""
    return identity.standing_stream("suppression", f"{channel.value}:{address_hash}")


def fold(empty: Suppression, facts: Sequence[Listed]) -> Suppression:
    """Apply facts in order."""
    state = empty
    for fact in facts:
        state = evolve(state, fact)
    return state


def evolve(state: Suppression, fact: Listed) -> Suppression:
    """Return the state after one more fact."""
    return msgspec.structs.replace(state, version=state.version + 1, listed={fact.reason: fact} | state.listed)


# ---------------------------------------------------------------------------------------------------------------
# Decide
# ---------------------------------------------------------------------------------------------------------------


def list_address(
    state: Suppression, reason: Reason, origin: Origin, *, notification: UUID, attempt: UUID
) -> tuple[Listed, ...]:
    """Record that an address must not be used; a reason that is listed already is no news."""
    if reason in state.listed:
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
