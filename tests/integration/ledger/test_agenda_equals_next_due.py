"""After anything that may happen to many notifications at once, the agenda holds what their folds say."""

import asyncio
import random
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from ledger import notification as n
from ledger.errors import RefusedError
from ledger.ledger import Ledger, Loaded
from ledger.values import Accepted, Channel, DoubtPolicy, InDoubt, Lane, Outcome, Postponed, Refused, ReportKind
from tests.integration.ledger import lives
from tests.integration.ledger.parts import Connection, now, rows

ONE_DATABASE = True

NOTIFICATIONS, ACTIONS = 40, 8
OUTCOMES: tuple[Outcome, ...] = (Accepted("ref"), Refused("bad"), Postponed("busy"), InDoubt("reset"))
OWNER = uuid4()


class Chaos:
    """Does anything to one notification; two of them share each."""

    def __init__(self, ledger: Ledger, stream: UUID, chance: random.Random) -> None:
        self._ledger = ledger
        self._stream = stream
        self._chance = chance
        self._attempts = [uuid4()]

    async def run(self) -> None:
        for _ in range(ACTIONS):
            await self._chance.choice(
                [self.start, self.settle, self.report, self.overdue, self.suppress, self.set_aside, self.nothing]
            )()

    async def start(self) -> None:
        deadline = timedelta(seconds=self._chance.choice([-1, 60]))
        self._attempts.append(await lives.start(self._ledger, self._stream, deadline=deadline))

    async def settle(self) -> None:
        wait = timedelta(seconds=self._chance.choice([-1, 60]))
        attempt, outcome = self._chance.choice(self._attempts), self._chance.choice(OUTCOMES)
        await lives.settle(self._ledger, self._stream, attempt, outcome, wait=wait)

    async def report(self) -> None:
        attempt, kind = self._chance.choice(self._attempts), self._chance.choice(list(ReportKind))
        await lives.report(self._ledger, self._stream, attempt, kind)

    async def overdue(self) -> None:
        await lives.decide(self._ledger, self._stream, n.overdue, settles=OWNER)

    async def suppress(self) -> None:
        if self._chance.random() < 0.2:
            await lives.decide(self._ledger, self._stream, lambda state, at: n.suppress(state, ("r", "p", {}), at))

    async def set_aside(self) -> None:
        if self._chance.random() < 0.2:
            await lives.decide(self._ledger, self._stream, lambda state, at: n.set_aside(state, 6, at))

    async def nothing(self) -> None:
        await lives.decide(self._ledger, self._stream, lambda _state, _at: (), settles=OWNER)


async def _begin(ledger: Ledger, chance: random.Random) -> UUID:
    return await lives.begin(
        ledger,
        at=now() - timedelta(hours=chance.choice([0, 0, 0, 25])),
        send_at=chance.choice([None, None, now() + timedelta(hours=1)]),
        lane=chance.choice(list(Lane)),
        channel=chance.choice([Channel.EMAIL, Channel.SMS]),
        doubt=chance.choice(list(DoubtPolicy)),
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_i11_agenda_equals_next_due(ledger: Ledger, application: Connection, seed: int):
    chance = random.Random(seed)
    streams = [await _begin(ledger, chance) for _ in range(NOTIFICATIONS)]
    runs = [Chaos(ledger, stream, random.Random(chance.random())).run() for stream in streams * 2]
    for result in await asyncio.gather(*runs, return_exceptions=True):
        # Five refusals in a row end one of two that act on the same notification, and change nothing.
        assert result is None or isinstance(result, RefusedError)
    loaded = await ledger.load_many(streams)
    expected = {}
    for stream, one in loaded.items():
        assert isinstance(one, Loaded)
        due = n.next_due(one.state)
        if due is not None:
            expected[stream] = (due.at, due.channel.value, due.lane.value, one.state.version)
    query = "SELECT notification, due_at, channel, lane, version FROM ledger.agenda"
    assert {row[0]: row[1:] for row in await rows(application, query)} == expected
    assert 0 < len(expected) < NOTIFICATIONS
