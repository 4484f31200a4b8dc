"""What views count of a notification, folded from its facts, those before a batch of the log read again.

What is counted of a notification is what all its facts amount to. So a batch takes back what the facts before it
amounted to, and counts anew: no row for each notification is kept, and the size of batches cannot matter.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from ledger import arrays
from ledger import notification as n
from ledger.ids import is_standing
from ledger.mapping import FactMapper, Recorded, of_notification
from ledger.status import STRENGTH, Evidence, Status, strongest_evidence
from ledger.values import Cost
from projections.notification_log import BrokenStreamError

# What came before, of each stream up to a version.
_BEFORE = """
SELECT e.originator_id, e.originator_version, e.topic, e.state
FROM unnest(%b, %b) AS news (stream, version)
JOIN ledger.stored_events e ON e.originator_id = news.stream AND e.originator_version < news.version
ORDER BY e.originator_id, e.originator_version
"""


class Attempt:
    """What is counted of an attempt."""

    __slots__ = ("cost", "delivered_at", "dispatched_at", "evidence", "provider", "started_at")

    def __init__(self, provider: str, started_at: datetime, cost: Cost | None) -> None:
        self.provider = provider
        self.started_at = started_at
        self.cost = cost
        self.evidence = Evidence.SENDING
        self.dispatched_at: datetime | None = None
        self.delivered_at: datetime | None = None


class Life:
    """What is counted of a notification: what ledger.notification.State says, folded in place and so in less time.

    `told` holds the kinds of facts that there were; `provider` is that of the last attempt, and `started_at` the time
    of the first one that is known to have been made.
    """

    __slots__ = (
        "attempts",
        "clicks",
        "deferred",
        "ended",
        "opens",
        "provider",
        "reason",
        "rendered",
        "requested",
        "started_at",
        "stream",
        "told",
    )

    def __init__(self, stream: UUID) -> None:
        self.stream = stream
        self.requested: n.Requested | None = None
        self.attempts: dict[UUID, Attempt] = {}
        self.provider = ""
        self.started_at: datetime | None = None
        self.rendered = False
        self.deferred = False
        self.ended: Status | None = None
        self.reason: str | None = None
        self.opens = 0
        self.clicks = 0
        self.told: set[type] = set()

    @property
    def request(self) -> n.Requested:
        """The first fact; BrokenStreamError where it is another."""
        if self.requested is None:
            raise BrokenStreamError("the first fact of a notification is `requested`")
        return self.requested

    @property
    def status(self) -> Status:
        """Derive the status by the policy `strongest-evidence`."""
        evidence = [attempt.evidence for attempt in self.attempts.values()]
        return strongest_evidence(evidence, ended=self.ended, rendered=self.rendered, deferred=self.deferred)

    def take(self, fact: n.NotificationFact) -> None:
        """Go on by one fact."""
        kind = type(fact)
        self.told.add(kind)
        if change := _CHANGES.get(kind):
            change(self, fact)


def _requested(life: Life, fact: n.Requested) -> None:
    life.requested = fact


def _rendered(life: Life, _: n.Rendered) -> None:
    life.rendered = True


def _deferred(life: Life, _: n.Deferred) -> None:
    life.deferred = True


def _render_failed(life: Life, fact: n.RenderFailed) -> None:
    life.reason = fact.code


def _suppressed(life: Life, fact: n.Suppressed) -> None:
    life.ended, life.reason = Status.SUPPRESSED, fact.rule


def _failed(life: Life, fact: n.Failed) -> None:
    life.ended, life.reason = Status.FAILED, fact.reason


def _expired(life: Life, _: n.Expired) -> None:
    life.ended, life.reason = Status.EXPIRED, "expired"


def _cancelled(life: Life, _: n.Cancelled) -> None:
    life.ended, life.reason = Status.CANCELLED, "cancelled"


def _fell_back(life: Life, _: n.FellBack) -> None:
    taken = STRENGTH[Evidence.DISPATCHED]
    if not life.ended and all(STRENGTH[attempt.evidence] < taken for attempt in life.attempts.values()):
        life.ended, life.reason = Status.FAILED, "fell_back"


def _attempt_started(life: Life, fact: n.AttemptStarted) -> None:
    life.attempts[fact.attempt] = Attempt(fact.provider, fact.recorded_at, fact.cost)
    life.provider = fact.provider
    # What a restored database presumes to have been sent was begun at no known time.
    if life.started_at is None and fact.provider != n.RESTORED:
        life.started_at = fact.recorded_at


def _attempt_failed(life: Life, fact: n.AttemptFailed) -> None:
    _join(life, fact.attempt, Evidence.REFUSED)


def _attempt_in_doubt(life: Life, fact: n.AttemptInDoubt) -> None:
    _join(life, fact.attempt, Evidence.IN_DOUBT)


def _dispatched(life: Life, fact: n.Dispatched) -> None:
    if attempt := _join(life, fact.attempt, Evidence.DISPATCHED):
        attempt.dispatched_at = min(attempt.dispatched_at or fact.recorded_at, fact.recorded_at)


def _delivered(life: Life, fact: n.Delivered) -> None:
    if attempt := _join(life, fact.attempt, Evidence.DELIVERED):
        at = fact.occurred_at or fact.recorded_at
        attempt.delivered_at = min(attempt.delivered_at or at, at)


def _bounced(life: Life, fact: n.Bounced | n.Rejected) -> None:
    _join(life, fact.attempt, Evidence.BOUNCED)


def _opened(life: Life, fact: n.Opened) -> None:
    if _join(life, fact.attempt, Evidence.OPENED):
        life.opens += 1


def _clicked(life: Life, fact: n.Clicked) -> None:
    if _join(life, fact.attempt, Evidence.CLICKED):
        life.clicks += 1


def _complained(life: Life, fact: n.Complained) -> None:
    _join(life, fact.attempt, Evidence.COMPLAINED)


def _join(life: Life, attempt_id: UUID, evidence: Evidence) -> Attempt | None:
    attempt = life.attempts.get(attempt_id)
    if attempt is not None and STRENGTH[evidence] > STRENGTH[attempt.evidence]:
        attempt.evidence = evidence
    return attempt


_CHANGES: Mapping[type, Callable[[Life, Any], None]] = {
    n.Requested: _requested,
    n.Rendered: _rendered,
    n.Deferred: _deferred,
    n.RenderFailed: _render_failed,
    n.Suppressed: _suppressed,
    n.Failed: _failed,
    n.Expired: _expired,
    n.Cancelled: _cancelled,
    n.FellBack: _fell_back,
    n.AttemptStarted: _attempt_started,
    n.AttemptFailed: _attempt_failed,
    n.AttemptInDoubt: _attempt_in_doubt,
    n.Dispatched: _dispatched,
    n.Delivered: _delivered,
    n.Bounced: _bounced,
    n.Rejected: _bounced,
    n.Opened: _opened,
    n.Clicked: _clicked,
    n.Complained: _complained,
}


# ---------------------------------------------------------------------------------------------------------------
# A batch
# ---------------------------------------------------------------------------------------------------------------


class News(msgspec.Struct):
    """What a batch tells of a notification: facts that follow each other, from a version on."""

    first: int
    facts: list[n.NotificationFact]


def news_of(facts: Sequence[Recorded]) -> dict[UUID, News]:
    """Return the news of each notification in a batch; BrokenStreamError when they do not follow each other."""
    told: dict[UUID, News] = {}
    for recorded in facts:
        news = told.get(recorded.originator_id)
        if news is None:
            if is_standing(recorded.originator_id):
                continue
            news = told[recorded.originator_id] = News(recorded.originator_version, [])
        if recorded.originator_version != news.first + len(news.facts):
            raise BrokenStreamError("a fact does not follow the one before it")
        news.facts.append(of_notification(recorded.fact))
    return told


async def lives(
    connection: AsyncConnection[Any], told: Mapping[UUID, News]
) -> list[tuple[Life, list[n.NotificationFact]]]:
    """Return each notification as it was before its news, and these.

    Raises BrokenStreamError where facts before them are missing.
    """
    before = await _before(connection, {stream: news.first for stream, news in told.items() if news.first > 1})
    return [(before.get(stream) or Life(stream), news.facts) for stream, news in told.items()]


async def _before(connection: AsyncConnection[Any], upto: Mapping[UUID, int]) -> dict[UUID, Life]:
    """Fold the facts of each stream that come before a version."""
    if not upto:
        return {}
    given = (arrays.Uuids(list(upto)), arrays.Bigints(list(upto.values())))
    rows = await (await connection.execute(_BEFORE, given, binary=True)).fetchall()
    known: dict[UUID, Life] = {}
    for stream, its in groupby(rows, key=itemgetter(0)):
        life = known[stream] = Life(stream)
        count = 0
        for _, version, topic, state in its:
            count += version == count + 1
            life.take(of_notification(_MAPPER.decode(topic, state)))
        if count != upto[stream] - 1:
            raise BrokenStreamError("a fact does not follow the last one that is stored")
    if len(known) < len(upto):
        raise BrokenStreamError("a fact does not follow one that is stored")
    return known


_MAPPER = FactMapper()
