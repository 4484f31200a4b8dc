"""How often a person is told: the frequency cap and the ceiling, taken by a notification with its first attempt."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from ledger.decision import Take
from ledger.keys import Identity
from ledger.notification import Requested, State
from ledger.policy import Suppress
from ledger.status import Evidence
from ledger.store import Store
from ledger.values import Category, FrequencyCap
from templates.declarations import spelled

# Of one type for one person in an hour: whoever asks for more is a program that has run away.
CEILING = 100
_HOUR = timedelta(hours=1)
# Windows are counted from here on, so that they begin at full hours, at midnight, and weeks on a Monday, in UTC.
_A_MONDAY = datetime(2001, 1, 1, tzinfo=UTC)


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What a notification takes from a quota, the rule that it is for, and what is counted together by it."""

    rule: str
    counted: Mapping[str, str]
    window: timedelta
    take: Take

    def refusal(self, used: Decimal) -> Suppress:
        """Return the verdict of the rule where so many have been counted."""
        since, until = self.take.window_start, self.take.window_start + self.window
        evidence = {
            "used": f"{used:f}",
            "limit": f"{self.take.limit:f}",
            "window": spelled(self.window),
            "since": since.isoformat(),
            "until": until.isoformat(),
        }
        return Suppress(self.rule, {**self.counted, **evidence})


class Frequency:
    """Counts what goes to each person; `ceiling` is how many of one type may in an hour."""

    def __init__(self, identity: Identity, ceiling: int = CEILING) -> None:
        self._identity = identity
        self._ceiling = FrequencyCap(ceiling, _HOUR)

    def limits(self, state: State, at: datetime) -> Sequence[Limit]:
        """Return what a notification counts against with an attempt made then: with its first alone, and where it takes
        another's place with none, for the person has been counted by that one.
        """
        requested = state.requested
        if state.attempts or requested.fallback_of is not None:
            return ()
        return tuple(self._limits(requested, at))

    def takes(self, state: State, at: datetime) -> tuple[Take, ...]:
        """Return what an attempt made then takes."""
        return tuple(limit.take for limit in self.limits(state, at))

    def gives_back(self, state: State) -> tuple[Take, ...]:
        """Return what goes back when a notification has failed: where no provider has, or may have, taken it."""
        if any(attempt.evidence is not Evidence.REFUSED for attempt in state.attempts):
            return ()
        untried = msgspec.structs.replace(state, attempts=())
        return tuple(take.returned() for take in self.takes(untried, state.attempts[0].started_at))

    async def spent(self, store: Store, states: Sequence[State], at: datetime) -> list[Suppress | None]:
        """Say what each of these would be refused for with an attempt made then, were those before it sent; nothing is
        taken. None = there is room.
        """
        counted = [self.limits(state, at) for state in states]
        used = await store.used({limit.take.key: limit.take.window_start for limits in counted for limit in limits})
        return [_counted_on(limits, used) for limits in counted]

    def _limits(self, requested: Requested, at: datetime) -> list[Limit]:
        person, category = requested.recipient, requested.category
        limits = []
        if requested.frequency_cap is not None and category is not Category.SECURITY:
            counted = {"category": category.value}
            limits.append(self._limit("frequency_cap", counted, requested.frequency_cap, person=person, at=at))
        counted = {"type": requested.type}
        return [*limits, self._limit("ceiling", counted, self._ceiling, person=person, at=at)]

    def _limit(self, rule: str, counted: Mapping[str, str], cap: FrequencyCap, *, person: str, at: datetime) -> Limit:
        # The length of the window stands in the name: what is counted by the day counts for nothing in a week.
        name = self._identity.quota(rule, person, *counted.values())
        take = Take(
            key=f"{rule}:{cap.window // timedelta(seconds=1)}:{name}",
            window_start=at - (at - _A_MONDAY) % cap.window,
            amount=Decimal(1),
            limit=Decimal(cap.most),
        )
        return Limit(rule=rule, counted=counted, window=cap.window, take=take)


def _counted_on(limits: Sequence[Limit], used: dict[str, Decimal]) -> Suppress | None:
    """Return the refusal of the first that has no room; where all have, count on in `used`."""
    for limit in limits:
        taken = used.get(limit.take.key, Decimal(0))
        if taken + limit.take.amount > limit.take.limit:
            return limit.refusal(taken)
    for limit in limits:
        used[limit.take.key] = used.get(limit.take.key, Decimal(0)) + limit.take.amount
    return None
