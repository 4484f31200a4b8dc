"""What stands before every call of a provider: its rate and its breaker; and a channel's providers in their order."""

import asyncio
import time
from collections.abc import Collection, Sequence
from datetime import timedelta

import msgspec
import structlog

from ledger.values import Accepted, Channel, InDoubt, Lane, Outcome, Postponed, Refused
from providers.contract import Provider, Sending
from providers.limits import Connect, Limits

# So many calls in a row that the provider did not answer as it should open its breaker.
FAILURES = 5
# What was reserved and not used is void after this (promise I20 counts on it).
_VOID_AFTER = 1.0
# Of a limited rate a block is at most this long; of an unlimited one it only says how soon an open breaker is seen.
_BLOCK_SECONDS = 0.1
_UNLIMITED_BLOCK = 1_000
# Nobody waits longer than this for a provider that only asks for quiet.
_LONGEST_REST = timedelta(minutes=1)
# While nothing can be sent, so many items are still looked at, so often: what has expired or was left open must end.
_TRICKLE, _TRICKLE_EVERY = 16, 1.0
# How soon to look again when others hold all that there is.
_LOOK_AGAIN = timedelta(milliseconds=50)

_ALL = tuple(Lane)

_log = structlog.get_logger("providers.guard")


class Token:
    """The right to one call by one gate. Spent by the call, or given back for the next."""

    __slots__ = ("_out", "_void_at", "gate", "probe")

    def __init__(self, gate: "Gate", *, void_at: float, probe: bool) -> None:
        self.gate = gate
        self.probe = probe
        self._void_at = void_at
        self._out = True

    @property
    def good(self) -> bool:
        """Whether a call may still be made with it."""
        return self._out and time.monotonic() < self._void_at

    def spend(self) -> bool:
        """Use it for the call that is now made; False when it is too old for its rate (promise I20)."""
        if self.gate.limited and not self.good:
            return False
        self._return(usable=False)
        return True

    def give_back(self) -> None:
        """Leave it to another item; nothing, when it was spent."""
        self._return(usable=self.good)

    def _return(self, *, usable: bool) -> None:
        if self._out:
            self._out = False
            self.gate.returned(self, usable=usable)


class Gate:
    """One provider's gate in this process. A call needs a token of its rate in hand, and its breaker closed."""

    def __init__(self, provider: Provider, connect: Connect, *, rate: float | None = None) -> None:
        self.provider = provider
        self.rate = rate
        self.limited = rate is not None
        self._block = _UNLIMITED_BLOCK if rate is None else max(1, int(rate * _BLOCK_SECONDS))
        self._probe_for = provider.deadline * 2
        self._limits = Limits(connect, provider.name, rate=rate, burst=self._block, probe=self._probe_for)
        self._free = 0
        self._out = 0
        self._void_at = 0.0
        self._next_at = 0.0
        self._probing = False
        self._failures = 0
        self._asking = asyncio.Lock()
        self.shut = False

    @property
    def wait(self) -> timedelta:
        """How long until it is worth asking for a token again."""
        return timedelta(seconds=max(0.0, self._next_at - time.monotonic()))

    async def room(self, wanted: int) -> int:
        """Return for how many more calls there are tokens, at most `wanted`; they are reserved when none is in hand.

        Raises UnavailableError when the database does not answer.
        """
        async with self._asking:  # who waits here finds what the one before has reserved
            now = time.monotonic()
            if now >= self._void_at:
                self._free = 0
            if not self._free and now >= self._next_at and self._out < self._block:
                await self._reserve(min(wanted, self._block - self._out) if self.limited else self._block)
        return min(wanted, self._free)

    def take(self) -> Token | None:
        """Take a token; None when there is none."""
        if not self._free or time.monotonic() >= self._void_at:
            return None
        self._free -= 1
        self._out += 1
        return Token(self, void_at=self._void_at, probe=self._probing)

    def returned(self, token: Token, *, usable: bool) -> None:
        """Take note of a token that is out no more; one that is `usable` is free again."""
        self._out -= 1
        self._free += usable and token.probe == self._probing

    async def send(self, sending: Sending, token: Token) -> Outcome:
        """Make the call, and let its outcome move the breaker."""
        outcome = await self.provider.send(sending)
        try:
            await self._learn(outcome, token)
        except Exception as exc:  # noqa: BLE001 - whatever happens here, the outcome of the call must be recorded
            _log.warning("breaker_not_told", provider=self.provider.name, error=type(exc).__name__)
        return outcome

    async def _reserve(self, wanted: int) -> None:
        asked_at = time.monotonic()
        grant = await self._limits.reserve(wanted)
        self.shut = grant.shut
        self._free += grant.calls
        if grant.calls:
            self._probing = grant.probe
            self._void_at = asked_at + (self._probe_for.total_seconds() if grant.probe else _VOID_AFTER)
        else:
            self._next_at = asked_at + max(grant.wait, _LOOK_AGAIN).total_seconds()

    async def _learn(self, outcome: Outcome, token: Token) -> None:
        if (self._probing or self.shut) and not token.probe:
            return  # it left before the breaker opened: the probe alone tells how things are now
        match outcome:
            case Accepted():
                self._failures = 0
                if token.probe:
                    await self._limits.close()
                    self._drop()
                    _log.info("breaker_closed", provider=self.provider.name)
            case Refused():
                # A fault of this one message says nothing of the provider: it may not even have been called.
                self._free += token.probe
            case Postponed(ours=False, retry_after=timedelta() as pause) if pause:
                await self._limits.rest(min(pause, _LONGEST_REST))
                self._drop()
            case Postponed(code=cause, ours=ours):
                await self._failed(cause, enough=1 if ours or token.probe else FAILURES)
            case InDoubt(cause=cause):
                await self._failed(cause, enough=1 if token.probe else FAILURES)

    async def _failed(self, cause: str, *, enough: int) -> None:
        self._failures += 1
        if self._failures < enough:
            return
        self._failures = 0
        await self._limits.trip(cause)
        self._drop()
        self.shut = True
        _log.error("breaker_opened", provider=self.provider.name, cause=cause)

    def _drop(self) -> None:
        """Forget what is in hand: the row says something else by now."""
        self._probing = False
        self._free = 0
        self._void_at = self._next_at = 0.0


class Admission(msgspec.Struct, frozen=True):
    """How many items of which lanes may be claimed now; `wait` is how long until it is worth asking again.

    Without a `gate` there is no token for them: they are looked at, and wait unless they end without being sent.
    """

    lanes: tuple[Lane, ...]
    limit: int
    gate: Gate | None = None
    wait: timedelta = timedelta(0)

    def tokens(self, count: int) -> list[Token | None]:
        """Take a token for each of so many items that were claimed, as far as there are any."""
        return [self.gate.take() if self.gate is not None else None for _ in range(count)]


class Route:
    """The providers of a channel in their order. What must not wait (`failover`) takes the next when one is shut."""

    def __init__(self, gates: Sequence[Gate], *, failover: Collection[Lane] = ()) -> None:
        self._gates = gates
        self._failover = frozenset(failover)
        self._trickle_at = 0.0
        self.channel: Channel = gates[0].provider.channel

    @property
    def providers(self) -> frozenset[str]:
        """The names of its providers."""
        return frozenset(gate.provider.name for gate in self._gates)

    @property
    def rates(self) -> dict[str, float]:
        """Calls a second of each provider that has a limit."""
        return {gate.provider.name: gate.rate for gate in self._gates if gate.rate is not None}

    async def admit(self, wanted: int, *, without: Collection[str] = ()) -> Admission:
        """Say what may be claimed, when these providers must not be called. Raises UnavailableError."""
        first, *others = self._gates
        closed = first.provider.name in without
        if not closed and (limit := await first.room(wanted)):
            return Admission(_ALL, limit, first)
        closed = closed or first.shut
        if closed and time.monotonic() >= self._trickle_at:
            self._trickle_at = time.monotonic() + _TRICKLE_EVERY
            return Admission(_ALL, min(wanted, _TRICKLE))
        following = [gate for gate in others if gate.provider.name not in without] if self._failover else []
        for gate in following if closed else ():
            if limit := await gate.room(wanted):
                return Admission(tuple(lane for lane in _ALL if lane in self._failover), limit, gate)
        return Admission((), 0, wait=max(_LOOK_AGAIN, self._wait_of(self._without(self._gates, without))))

    async def take(
        self, lane: Lane, refused_by: Sequence[str], *, without: Collection[str] = (), have: Token | None = None
    ) -> Token | None:
        """Return a token of the provider whose turn it is for an item that these have refused; None = it has to wait.

        It is the one that the item has, where that fits, and none of a provider that it must do `without`. Raises
        UnavailableError.
        """
        for gate in self._in_turn(lane, refused_by, without):
            if have is not None and have.gate is gate and have.good:
                return have
            token = gate.take() or (gate.take() if await gate.room(1) else None)
            if token is not None:
                return token
            if not gate.shut:
                return None
        return None

    def wait(self, lane: Lane, refused_by: Sequence[str], *, without: Collection[str] = ()) -> timedelta:
        """How long an item that got no token should wait."""
        return max(_LOOK_AGAIN, self._wait_of(self._in_turn(lane, refused_by, without)))

    def serves(self, lane: Lane, *, without: Collection[str]) -> bool:
        """Whether a lane has a provider left when it must do without these."""
        return bool(self._in_turn(lane, (), without))

    def is_shut(self, lane: Lane, *, without: Collection[str] = ()) -> bool:
        """Whether every provider that a lane may take is shut."""
        return all(gate.shut for gate in self._in_turn(lane, (), without))

    def at_once(self, lane: Lane, refused_by: Sequence[str], *, without: Collection[str] = ()) -> bool:
        """Whether another provider's turn is next, so that nothing need be waited for."""
        following = self._in_turn(lane, refused_by, without)
        return bool(following) and following[0].provider.name not in refused_by and not following[0].shut

    def provider(self, name: str) -> Provider | None:
        """Return one of its providers, to ask it something; None when it is on this route no more."""
        return next((gate.provider for gate in self._gates if gate.provider.name == name), None)

    def is_failover(self, gate: Gate) -> bool:
        """Whether it is not the first of the route."""
        return gate is not self._gates[0]

    def _in_turn(self, lane: Lane, refused_by: Sequence[str], without: Collection[str]) -> list[Gate]:
        if lane not in self._failover:
            return self._without(self._gates[:1], without)
        left = self._without(self._gates, without)
        return sorted(left, key=lambda gate: refused_by.count(gate.provider.name))

    @staticmethod
    def _without(gates: Sequence[Gate], without: Collection[str]) -> list[Gate]:
        return [gate for gate in gates if gate.provider.name not in without]

    @staticmethod
    def _wait_of(gates: Sequence[Gate]) -> timedelta:
        return min((gate.wait for gate in gates), default=timedelta(seconds=_TRICKLE_EVERY))

    async def aclose(self) -> None:
        """Close the providers' connections."""
        for gate in self._gates:
            await gate.provider.aclose()
