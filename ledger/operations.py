"""What is stopped in the whole installation, by whom and why: the stop button, one stream for all of it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ledger.keys import Identity
from ledger.notification import Fact, Origin
from ledger.values import Channel

# ---------------------------------------------------------------------------------------------------------------
# Facts. They are storage, as those of a notification are.
# ---------------------------------------------------------------------------------------------------------------


class Paused(Fact, frozen=True, kw_only=True):
    """No attempt begins that has all that is named here; nothing named = none at all. `pause` is its id."""

    pause: UUID
    type: str | None = None
    channel: Channel | None = None
    provider: str | None = None
    reason: str


class Resumed(Fact, frozen=True, kw_only=True):
    """A pause is over, and why."""

    pause: UUID
    reason: str


OperationsFact = Paused | Resumed

# ---------------------------------------------------------------------------------------------------------------
# State
# ---------------------------------------------------------------------------------------------------------------


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """What a pause stops: all that has each of the named properties; without any, everything."""

    type: str | None = None
    channel: Channel | None = None
    provider: str | None = None


class Operations(msgspec.Struct, frozen=True, kw_only=True):
    """What is stopped: `pauses` are those in force, the earliest first, `ended` the ids of all others.

    `lifted` says of each selector when its last pause ended.
    """

    stream: UUID
    version: int = 0
    pauses: tuple[Paused, ...] = ()
    ended: frozenset[UUID] = frozenset()
    lifted: Mapping[Selector, datetime] = {}

    def stopping(self, type_: str, channel: Channel) -> Paused | None:
        """Return the pause by which no provider may be called for such a notification; None when there is none."""
        return next((pause for pause in self._about(type_, channel) if pause.provider is None), None)

    def stopped_providers(self, type_: str, channel: Channel) -> frozenset[str]:
        """Name the providers that may not be called for such a notification, where others may."""
        return frozenset(pause.provider for pause in self._about(type_, channel) if pause.provider is not None)

    def holding(self, type_: str, channel: Channel) -> Paused | None:
        """Return the pause to be told of for such a notification: one of all providers before one of a single one."""
        return self.stopping(type_, channel) or next(self._about(type_, channel), None)

    def free_since(self, type_: str, channel: Channel) -> datetime | None:
        """Say when the last pause about such a notification ended; None when there was none."""
        return max((at for one, at in self.lifted.items() if _is_about(one, type_, channel)), default=None)

    def whole_channel(self, channel: Channel) -> bool:
        """Whether nothing of a channel may be sent, whatever it is."""
        return any(
            pause.type is None and pause.provider is None and pause.channel in (None, channel) for pause in self.pauses
        )

    def whole_providers(self, channel: Channel) -> frozenset[str]:
        """Name the providers that may not be called for anything of a channel."""
        return frozenset(
            pause.provider
            for pause in self.pauses
            if pause.provider is not None and pause.type is None and pause.channel in (None, channel)
        )

    def _about(self, type_: str, channel: Channel) -> Iterator[Paused]:
        return (pause for pause in self.pauses if _is_about(pause, type_, channel))


def _is_about(one: Paused | Selector, type_: str, channel: Channel) -> bool:
    return one.type in (None, type_) and one.channel in (None, channel)


def empty(identity: Identity) -> Operations:
    """Return the state before the first fact; its stream is derived, so that a guard can name it."""
    return Operations(stream=identity.standing_stream("operations", "all"))


def not_understood(now: datetime) -> Paused:
    """Stand for a fact that only a newer release can read: it may stop what we would send, so nothing is sent."""
    reason = "a newer release has decided what this one cannot read"
    return Paused(recorded_at=now, cause="clock", by="ledger", pause=UUID(int=0), reason=reason)


def fold(state: Operations, facts: Sequence[tuple[int, OperationsFact]]) -> Operations:
    """Apply facts, each with its version, in order; those that the state has seen are passed over."""
    for version, fact in facts:
        if version == state.version + 1:
            state = evolve(state, fact)
    return state


def evolve(state: Operations, fact: OperationsFact) -> Operations:
    """Return the state after one more fact."""
    version = state.version + 1
    if isinstance(fact, Paused):
        return msgspec.structs.replace(state, version=version, pauses=(*state.pauses, fact))
    left = tuple(pause for pause in state.pauses if pause.pause != fact.pause)
    over = {selector_of(pause): fact.recorded_at for pause in state.pauses if pause.pause == fact.pause}
    return msgspec.structs.replace(
        state, version=version, pauses=left, ended=state.ended | {fact.pause}, lifted={**state.lifted, **over}
    )


def selector_of(pause: Paused) -> Selector:
    """Return what a pause stops."""
    return Selector(type=pause.type, channel=pause.channel, provider=pause.provider)


# ---------------------------------------------------------------------------------------------------------------
# Decide
# ---------------------------------------------------------------------------------------------------------------


def pause(state: Operations, pause_id: UUID, selector: Selector, reason: str, origin: Origin) -> tuple[Paused, ...]:
    """Stop what the selector names; what is stopped by the very same selector already is no news."""
    if any(selector_of(known) == selector for known in state.pauses):
        return ()
    return (Paused(**origin.stamp(), pause=pause_id, reason=reason, **msgspec.structs.asdict(selector)),)


def resume(state: Operations, pause_id: UUID, reason: str, origin: Origin) -> tuple[Resumed, ...]:
    """End a pause; nothing where it is not in force."""
    if not any(known.pause == pause_id for known in state.pauses):
        return ()
    return (Resumed(**origin.stamp(), pause=pause_id, reason=reason),)
