"""An outside look at what was done: the log, the agenda and the provider's own record of requests must agree."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import dict_row

from ledger import notification as n
from ledger.ids import is_standing
from ledger.mapping import FactMapper, Recorded, of_notification
from ledger.notification import AttemptFailed, AttemptInDoubt, AttemptStarted, Dispatched, NotificationFact
from ledger.operations import Operations, Paused, Resumed, evolve
from ledger.status import Status
from ledger.suppression import Listed
from providers.fakes.fcm_log import Push
from providers.fakes.ses import FakeSes
from providers.fakes.ses_log import Request as MailRequest
from providers.fakes.twilio_log import Request as SmsRequest
from tests.acceptance.traffic import Message
from tests.support.service import SOON, until

FACTS = """
SELECT originator_id, originator_version, topic, state, notification_id FROM ledger.stored_events
ORDER BY notification_id
"""
AGENDA = "SELECT notification, due_at, channel, lane, version FROM ledger.agenda"
# What is under way or due: all but what waits for a doubt to be settled, or for a report.
UNFINISHED = """
SELECT count(*) FROM ledger.agenda a WHERE due_at <= now() OR NOT EXISTS (
    SELECT FROM ledger.stored_events e
    WHERE e.originator_id = a.notification AND e.topic IN ('notification.attempt_in_doubt', 'notification.dispatched')
)
"""
Request = MailRequest | SmsRequest
F = TypeVar("F", bound=NotificationFact)
ENDED_BY = (AttemptFailed, AttemptInDoubt, Dispatched)


class Row(msgspec.Struct, frozen=True):
    """One line of the agenda."""

    due: n.Due
    version: int


class Audit:
    """The ledger at one moment, beside the requests that the provider has seen."""

    def __init__(self, url: str, requests: Sequence[Request | Push]) -> None:
        self.requests = list(requests)
        self.streams: dict[UUID, list[Recorded]] = defaultdict(list)
        self.standing: dict[UUID, list[Recorded]] = defaultdict(list)
        mapper = FactMapper()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET default_transaction_isolation TO 'repeatable read'")
            with connection.transaction():
                for stream, version, topic, state, position in connection.execute(FACTS):
                    fact: Any = mapper.decode(topic, bytes(state))
                    kept = self.standing if is_standing(stream) else self.streams
                    kept[stream].append(Recorded(stream, version, topic, fact, position))
                self.agenda = {row[0]: Row(n.Due(*row[1:4]), row[4]) for row in connection.execute(AGENDA)}
                self.intake = {row[0].hex() for row in connection.execute("SELECT key FROM ledger.intake")}
        self.states = {stream: _folded(facts) for stream, facts in self.streams.items()}

    def message_ids(self) -> Counter[str | None]:
        """How many notifications each message has."""
        return Counter(state.requested.message_id for state in self.states.values())

    def statuses(self) -> Counter[Status]:
        return Counter(state.status for state in self.states.values())

    def doubts(self) -> list[UUID]:
        """The notifications that may have been sent, and nobody can say."""
        return [stream for stream, facts in self.streams.items() if _of(facts, AttemptInDoubt)]

    def history(self, stream: UUID) -> list[str]:
        """What happened to one notification, in a word each."""
        return [recorded.topic.removeprefix("notification.") for recorded in self.streams[stream]]

    def other_than(self, status: Status) -> list[str]:
        """What happened to each notification that stands otherwise."""
        return [self.told(stream) for stream, state in self.states.items() if state.status is not status]

    def told(self, stream: UUID) -> str:
        """The facts of one notification with their times and codes, and how often it was requested."""
        requests = [f"{one.at:%T.%f} {one.status}" for one in self.requests if one.tags["notification"] == str(stream)]
        facts = [
            f"{fact.recorded_at:%T.%f} {recorded.topic} {getattr(fact, 'code', None) or getattr(fact, 'doubt', '')}"
            for recorded in self.streams[stream]
            for fact in [recorded.fact]
        ]
        return f"{stream}: {facts}, requests {requests}"

    def violations(self) -> list[str]:
        """Everything that breaks a promise, in words; empty = sound."""
        checks = (
            self._order(),
            self._origin(),
            self._attempts(),
            self._sent(),
            self._suppressed(),
            self._paused(),
            self._agenda(),
        )
        return [fault for check in checks for fault in check]

    def _order(self) -> Iterator[str]:
        for stream, facts in self.streams.items():
            if [recorded.originator_version for recorded in facts] != list(range(1, len(facts) + 1)):
                yield f"I10 {stream}: versions with gaps, or not in the order of positions"

    def _origin(self) -> Iterator[str]:
        known = {f"intake:{key}" for key in self.intake} | {
            f"fallback:{stream}" for stream, state in self.states.items() if state.fell_back_to
        }
        resent = {again.to: f"resend:{stream}" for stream, state in self.states.items() for again in state.resends}
        for stream, state in self.states.items():
            if state.requested.cause not in known and state.requested.cause != resent.get(stream):
                yield f"I4 {stream}: traces to no message"

    def _attempts(self) -> Iterator[str]:
        for stream, facts in self.streams.items():
            known: set[UUID] = set()
            settled: set[UUID] = set()
            for fact in (recorded.fact for recorded in facts):
                if isinstance(fact, AttemptStarted):
                    if known - settled:
                        yield f"I6 {stream}: an attempt while nothing is recorded of the one before"
                    known.add(fact.attempt)
                elif isinstance(fact, ENDED_BY):
                    settled.add(fact.attempt)

    def _sent(self) -> Iterator[str]:
        by_attempt = Counter((request.tags["notification"], request.tags["attempt"]) for request in self.requests)
        for (stream, attempt), count in by_attempt.items():
            facts = self.streams.get(UUID(stream), [])
            if UUID(attempt) not in {started.attempt for started in _of(facts, AttemptStarted)}:
                yield f"I5 {stream}: a request without a committed attempt"
            if count > 1:
                yield f"I6 {stream}: {count} requests of one attempt"
        accepted = {request.tags["attempt"]: request.message_id for request in self.requests if request.accepted}
        for stream, facts in ((str(stream), facts) for stream, facts in self.streams.items()):
            for dispatched in _of(facts, Dispatched):
                if accepted.get(str(dispatched.attempt)) != dispatched.reference:
                    yield f"I4 {stream}: dispatched, and the provider knows nothing of it"
            doubted = {doubt.attempt for doubt in _of(facts, AttemptInDoubt)}
            taken: dict[str, list[UUID]] = defaultdict(list)
            for started in _of(facts, AttemptStarted):
                if str(started.attempt) in accepted:
                    taken[started.address_hash].append(started.attempt)
            if any(set(attempts[:-1]) - doubted for attempts in taken.values()):
                yield f"I6 {stream}: taken twice for one address without a recorded doubt"

    def _suppressed(self) -> Iterator[str]:
        listed = {
            fact.address_hash: recorded.position or 0
            for facts in self.standing.values()
            for recorded in reversed(facts)
            for fact in [recorded.fact]
            if isinstance(fact, Listed)
        }
        for stream, facts in self.streams.items():
            for recorded in facts:
                fact = recorded.fact
                if isinstance(fact, AttemptStarted) and (recorded.position or 0) > listed.get(
                    fact.address_hash, sys.maxsize
                ):
                    yield f"I7 {stream}: an attempt after its address was suppressed"

    def _paused(self) -> Iterator[str]:
        facts = [recorded for stream in (*self.streams.values(), *self.standing.values()) for recorded in stream]
        operations = Operations(stream=UUID(int=0))
        for recorded in sorted(facts, key=lambda each: each.position or 0):
            fact: Any = recorded.fact
            if isinstance(fact, Paused | Resumed):
                operations = evolve(operations, fact)
            elif isinstance(fact, AttemptStarted):
                requested = self.states[recorded.originator_id].requested
                about = (requested.type, requested.channel)
                if operations.stopping(*about) or fact.provider in operations.stopped_providers(*about):
                    yield f"I7 {recorded.originator_id}: an attempt while it was paused"

    def _agenda(self) -> Iterator[str]:
        for stream, state in self.states.items():
            due, row = n.next_due(state), self.agenda.get(stream)
            if due is None and row is not None:
                yield f"I11 {stream}: has ended and is still on the agenda"
            if due is not None and row != Row(due, state.version):
                yield f"I11 {stream}: due {due} at version {state.version}, the agenda says {row}"


def unfinished(url: str) -> int:
    """Count what is still to be done now; what waits for a doubt to be settled or for a report is not."""
    with psycopg.connect(url, autocommit=True) as connection:
        ((count,),) = connection.execute(UNFINISHED).fetchall()
    return int(count)


def count(url: str, query: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        ((found,),) = connection.execute(query.encode()).fetchall()
    return int(found)


def taken_in(url: str) -> int:
    """Count the notifications that were asked for."""
    return count(url, "SELECT count(*) FROM ledger.stored_events WHERE topic = 'notification.requested'")


def dead_letters(url: str) -> list[dict[str, Any]]:
    """What was refused, as it stands in clear; `body` is sealed."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM ledger.dead_letter ORDER BY received_at").fetchall()


async def at_the_end(
    url: str,
    fake: FakeSes,
    messages: Sequence[Message],
    *,
    requests: Sequence[Request] = (),
    within: timedelta = SOON,
) -> Audit:
    """Wait until all is taken in and nothing is left to do: each message has one notification, and all is sound.

    `requests` are those that another provider has seen.
    """
    await until(lambda: taken_in(url) >= len(messages), "all messages", within=within)
    await until(lambda: unfinished(url) == 0, "the end of all that is due", within=within)
    audit = Audit(url, [*fake.requests, *requests])
    assert audit.violations() == [], audit.violations()
    assert audit.message_ids() == {one["messageId"]: 1 for one in messages}, "not one notification a message"
    return audit


async def all_sent_once(url: str, fake: FakeSes, messages: Sequence[Message], *, within: timedelta = SOON) -> None:
    """Wait for the end, where each message has made one request, and no doubt."""
    audit = await at_the_end(url, fake, messages, within=within)
    assert audit.other_than(Status.DISPATCHED) == [], audit.other_than(Status.DISPATCHED)
    assert audit.doubts() == [], [audit.told(stream) for stream in audit.doubts()]
    assert len(fake.requests) == len(messages), f"{len(fake.requests)} requests for {len(messages)} messages"


def _folded(facts: Sequence[Recorded]) -> n.State:
    state = n.fold([of_notification(recorded.fact) for recorded in facts])
    assert state is not None
    return state


def _of(facts: Sequence[Recorded], kind: type[F]) -> list[F]:
    return [recorded.fact for recorded in facts if isinstance(recorded.fact, kind)]
