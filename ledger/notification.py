"""The Notification, its whole lifecycle: facts, state, evolve, the deciding functions, and what is due next.

Longer than other files on purpose: a lifecycle is read from its first fact to its last rule without turning a page.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from ledger.status import STRENGTH, Evidence, Status, strongest_evidence
from ledger.values import (
    Accepted,
    Answer,
    Category,
    Channel,
    Cost,
    DoubtPolicy,
    Fallback,
    FrequencyCap,
    InDoubt,
    Lane,
    Money,
    Outcome,
    Personal,
    Postponed,
    Redacted,
    Refused,
    Report,
    ReportKind,
    Wanted,
)

# ---------------------------------------------------------------------------------------------------------------
# Facts. They are storage: never rename a field, never remove one, add only with a default. Their topics stand in
# ledger/mapping.py. `recorded_at` is the database's time given to the decision, `cause` what led to it (an intake
# key, a report key, a command id or "clock"), `by` who decided (a role, a provider, a caller).
# ---------------------------------------------------------------------------------------------------------------


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every fact says."""

    recorded_at: datetime
    cause: str
    by: str


class Requested(Fact, frozen=True, kw_only=True):
    """Somebody is to be told. Carries all that was resolved, so that later steps never ask the catalogue again.

    `recipient` names the data key of the person: `user:<id>`, or `address:<keyed hash>` where only that is known.
    Where `locale_assumed`, nobody said which language it is to be: the person's own goes before `locale`. `consent` is
    the purpose that the person must have agreed to, None = none is named (see ledger/policy.py); `quiet_hours` =
    theirs are kept. `fallback_of` is the notification whose place it takes on another channel, `resend_of` the one that
    somebody has sent again by it.
    """

    type: str
    channel: Channel
    category: Category
    lane: Lane
    recipient: str
    user_id: str | None = None
    address_hash: str | None = None
    locale: str
    locale_assumed: bool = False
    template: str
    template_version: str
    catalogue: str
    doubt: DoubtPolicy
    expires_at: datetime
    send_at: datetime | None = None
    fallback: Fallback | None = None
    fallback_of: UUID | None = None
    resend_of: UUID | None = None
    retention: str
    source: str
    message_id: str | None = None
    correlation_id: str | None = None
    references: dict[str, str] = {}
    consent: str | None = None
    frequency_cap: FrequencyCap | None = None
    quiet_hours: bool = False
    personal: Personal | Redacted | bytes


class Suppressed(Fact, frozen=True, kw_only=True):
    """A rule forbade to tell this person; `inputs` are what the rule looked at."""

    rule: str
    policy: str
    inputs: dict[str, str] = {}


class Deferred(Fact, frozen=True, kw_only=True):
    """A rule lets it wait: it is looked at again then, by all rules; `inputs` are what the rule looked at."""

    until: datetime
    rule: str
    policy: str
    inputs: dict[str, str] = {}


class Rendered(Fact, frozen=True, kw_only=True):
    """The words stand in `content` under this digest: exactly what the provider is given (promise I26).

    They are in `locale`; those of `passed_over`, nearest first, were the person's before it, and the template has not.
    """

    digest: bytes
    template: str
    template_version: str
    locale: str
    passed_over: tuple[str, ...] = ()


class RenderFailed(Fact, frozen=True, kw_only=True):
    """The template and the data do not fit."""

    code: str
    template: str


class Saw(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The versions of what the policy looked at: the person's stream, and that of the suppressions of the address."""

    recipient: int = 0
    suppression: int = 0


class AttemptStarted(Fact, frozen=True, kw_only=True):
    """A request may leave from now on (promise I5). `because`: first, retry, failover, next_device, resend_after_doubt;
    or restore: it stands for all that may have left since the moment that the database was restored to.

    The first one of a push names the `others`: the person's further devices, by address hash, in the order of their
    turns. An address that the message did not give stands here, as it was read from the person's stream; `recipient`
    names the key that it is sealed under.
    `cost` is an estimate by the price list of that moment. `policy` is the version of the rules that had nothing
    against it, and `saw` what they looked at.
    """

    attempt: UUID
    provider: str
    address_hash: str
    digest: bytes
    deadline_at: datetime
    because: str
    recipient: str | None = None
    personal: Personal | Redacted | bytes | None = None
    others: tuple[str, ...] = ()
    cost: Cost | None = None
    policy: str = ""
    saw: Saw = Saw()


class DeviceSkipped(Fact, frozen=True, kw_only=True):
    """A device gets nothing more of this while others have it, or may: by a `rule`, or by what would end it else."""

    address_hash: str
    rule: str


class Dispatched(Fact, frozen=True, kw_only=True):
    """The provider took it: by its reply, or by a report that came before the reply."""

    attempt: UUID
    provider: str
    reference: str


class AttemptFailed(Fact, frozen=True, kw_only=True):
    """The provider certainly did not take it. `kind`: refused (for good, this message) or postponed (not now)."""

    attempt: UUID
    kind: str
    code: str
    retry_at: datetime | None = None


class AttemptInDoubt(Fact, frozen=True, kw_only=True):
    """Nobody can say whether the provider took it; a report may settle it until `until`, then the policy does."""

    attempt: UUID
    doubt: str
    until: datetime


class Released(Fact, frozen=True, kw_only=True):
    """Somebody let a held notification be sent again, and says why."""

    reason: str


class Failed(Fact, frozen=True, kw_only=True):
    """We gave up."""

    reason: str


class Expired(Fact, frozen=True, kw_only=True):
    """Its time passed before it could be sent."""


class Cancelled(Fact, frozen=True, kw_only=True):
    """Somebody does not want it to be sent any more, and says why; what had left before may still arrive."""

    reason: str


class Inquired(Fact, frozen=True, kw_only=True):
    """No report had come, so we asked the provider; `answer` is its own word for how the message stands.

    `again_at` is when it is asked once more, None = never: what it knows by now is all that there will be.
    """

    attempt: UUID
    answer: str
    again_at: datetime | None = None


class FellBack(Fact, frozen=True, kw_only=True):
    """The person is told on another channel, by the notification `to`: what was not sent by now is sent no more.

    `reason`: not_delivered_in_time, failed, bounced, or suppressed.
    """

    channel: Channel
    to: UUID
    reason: str


class FallbackDropped(Fact, frozen=True, kw_only=True):
    """The person is told on no other channel either. `reason`: expired, erased, or set aside after so many crashes."""

    reason: str


class Reported(Fact, frozen=True, kw_only=True):
    """What every report of a provider says; `occurred_at` is the provider's time, where it gives one."""

    attempt: UUID
    key: str
    occurred_at: datetime | None = None
    evidence: dict[str, str] = {}


class SentAgain(Fact, frozen=True, kw_only=True):
    """Somebody has the same sent once more, by the notification `to`, and says why."""

    to: UUID
    reason: str


class Delayed(Reported, frozen=True, kw_only=True):
    """The provider has it and is still trying."""


class Delivered(Reported, frozen=True, kw_only=True):
    """The receiving side took it."""


class Bounced(Reported, frozen=True, kw_only=True):
    """The receiving side gave it back; hard or soft stands in the evidence."""


class Rejected(Reported, frozen=True, kw_only=True):
    """The provider took it and then would not send it (a virus, a template fault): for the person, it came back."""


class Complained(Reported, frozen=True, kw_only=True):
    """The person called it spam."""


class Opened(Reported, frozen=True, kw_only=True):
    """It was opened, or fetched by a mail proxy: evidence, not proof."""


class Clicked(Reported, frozen=True, kw_only=True):
    """A link in it was followed."""


class Unsubscribed(Reported, frozen=True, kw_only=True):
    """The person wants no more of this category: by the link of the mail, or by the provider's list management."""


NotificationFact = (
    Requested
    | Suppressed
    | Deferred
    | Rendered
    | RenderFailed
    | AttemptStarted
    | DeviceSkipped
    | Dispatched
    | AttemptFailed
    | AttemptInDoubt
    | Released
    | Failed
    | Expired
    | Cancelled
    | Inquired
    | FellBack
    | FallbackDropped
    | SentAgain
    | Delayed
    | Delivered
    | Bounced
    | Rejected
    | Complained
    | Opened
    | Clicked
    | Unsubscribed
)
Facts = tuple[NotificationFact, ...]

# ---------------------------------------------------------------------------------------------------------------
# State: a join of what is known, so that the order, delay and duplication of reports cannot matter (promise I8).
# ---------------------------------------------------------------------------------------------------------------

KEPT_TRACKING_EVENTS = 20
# A doubt that is held waits for a person until the notification expires, and for no longer than this.
HELD_AT_MOST = timedelta(days=7)
# What stands for requests that a restored database knows nothing of: their provider, their reason and their doubt.
RESTORED = "restore"
# A person may get as many copies as there are doubts: after three, `resend` has become the greater harm.
DOUBTS_AT_MOST = 3
# Who is silent for so long about an SMS is asked for it; then after twice as long, and again, until a day has passed.
# Other channels' reports are pushed until we have taken them.
_ASKED_AFTER = timedelta(hours=1)
_ASKED_FOR = timedelta(days=1)
_ASKED_ABOUT = frozenset({Channel.SMS})
# The person has it: no other channel need tell them.
_ARRIVED = frozenset({Evidence.DELIVERED, Evidence.OPENED, Evidence.CLICKED, Evidence.COMPLAINED})
# Whoever ended it so wants nobody to be told, on no channel.
_NOBODY_IS_TOLD = frozenset({Status.EXPIRED, Status.CANCELLED})
# Rules (ledger/policy.py) that forbid this address, not to tell the person.
OF_THE_ADDRESS = frozenset({"suppressed_address", "no_address", "no_usable_address", "country_not_allowed"})
_EVIDENCE_OF: dict[type, Evidence] = {
    Delivered: Evidence.DELIVERED,
    Bounced: Evidence.BOUNCED,
    Rejected: Evidence.BOUNCED,
    Complained: Evidence.COMPLAINED,
    Opened: Evidence.OPENED,
    Clicked: Evidence.CLICKED,
}


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try: what is known of it, the strongest evidence first in rank; `reports` are the keys of its reports."""

    id: UUID
    provider: str
    started_at: datetime
    deadline_at: datetime
    digest: bytes
    address_hash: str = ""
    evidence: Evidence = Evidence.SENDING
    reference: str | None = None
    code: str | None = None
    retry_at: datetime | None = None
    doubt_until: datetime | None = None
    dispatched_at: datetime | None = None
    inquire_at: datetime | None = None
    delivered_at: datetime | None = None
    first_opened_at: datetime | None = None
    first_clicked_at: datetime | None = None
    reports: frozenset[str] = frozenset()
    opens: int = 0
    clicks: int = 0
    cost: Cost | None = None


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the facts of one notification amount to; `version` is that of the last one, `changed_at` its time.

    `others` are the devices that it goes to after the first one, `skipped` those that it leaves out. `resends` tell by
    which notifications it was sent again, in their order.
    """

    requested: Requested
    version: int
    changed_at: datetime
    rendered: bytes | None = None
    attempts: tuple[Attempt, ...] = ()
    others: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    released_at: datetime | None = None
    deferred_until: datetime | None = None
    ended: Status | None = None
    reason: str | None = None
    fell_back_to: UUID | None = None
    fallback_dropped: bool = False
    resends: tuple[SentAgain, ...] = ()

    @property
    def status(self) -> Status:
        """Derive the status by the policy `strongest-evidence`."""
        return strongest_evidence(
            [attempt.evidence for attempt in self.attempts],
            ended=self.ended,
            rendered=self.rendered is not None,
            deferred=self.deferred_until is not None,
        )

    @property
    def reached(self) -> bool:
        """Whether a provider has taken one attempt: then nothing more is sent to that address."""
        return any(STRENGTH[attempt.evidence] >= STRENGTH[Evidence.DISPATCHED] for attempt in self.attempts)

    @property
    def cost(self) -> tuple[Money, ...]:
        """What it is estimated to have cost, of each currency: the attempts that no provider has certainly refused."""
        sums: dict[str, Decimal] = {}
        for attempt in self.attempts:
            if attempt.cost is not None and attempt.evidence is not Evidence.REFUSED:
                sums[attempt.cost.currency] = sums.get(attempt.cost.currency, Decimal(0)) + attempt.cost.amount
        return tuple(Money(amount=amount, currency=currency) for currency, amount in sorted(sums.items()))

    def attempt(self, attempt_id: UUID) -> Attempt | None:
        """Find an attempt by its id."""
        return next((attempt for attempt in self.attempts if attempt.id == attempt_id), None)


# ---------------------------------------------------------------------------------------------------------------
# Evolve: applies a fact, never judges it.
# ---------------------------------------------------------------------------------------------------------------


def fold(facts: Sequence[NotificationFact]) -> State | None:
    """Apply facts in order; None where there are none."""
    state: State | None = None
    for fact in facts:
        state = evolve(state, fact)
    return state


def evolve(state: State | None, fact: NotificationFact) -> State:
    """Return the state after one more fact."""
    if isinstance(fact, Requested):
        return State(requested=fact, version=1, changed_at=fact.recorded_at)
    if state is None:
        raise ValueError("the first fact of a notification is `requested`")
    changes = {"version": state.version + 1, "changed_at": fact.recorded_at, **_changes(state, fact)}
    return msgspec.structs.replace(state, **changes)


def _changes(state: State, fact: NotificationFact) -> dict[str, object]:
    changes: dict[str, object] = {}
    match fact:
        case AttemptStarted():
            others = state.others if state.attempts else fact.others
            changes = {"attempts": (*state.attempts, _started(fact)), "others": others}
        case DeviceSkipped():
            changes = {"skipped": state.skipped | {fact.address_hash}}
        case Rendered():
            changes = {"rendered": fact.digest}
        case Released():
            changes = {"released_at": fact.recorded_at}
        case Deferred(until=until):
            changes = {"deferred_until": until}
        case Suppressed() | Failed() | Expired() | Cancelled():
            changes = _ending(fact)
        case FellBack() | FallbackDropped() | SentAgain():
            changes = _told_by_another(state, fact)
        case RenderFailed():
            changes = {"reason": fact.code}
        case Dispatched() | AttemptFailed() | AttemptInDoubt() | Inquired() | Reported():
            joined = (_join(a, fact) if a.id == fact.attempt else a for a in state.attempts)
            changes = {"attempts": tuple(joined)}
    return changes


def _ending(fact: Suppressed | Failed | Expired | Cancelled) -> dict[str, object]:
    match fact:
        case Suppressed():
            return {"ended": Status.SUPPRESSED, "reason": fact.rule}
        case Failed():
            return {"ended": Status.FAILED, "reason": fact.reason}
        case Expired():
            return {"ended": Status.EXPIRED, "reason": "expired"}
        case Cancelled():
            return {"ended": Status.CANCELLED, "reason": "cancelled"}


def _told_by_another(state: State, fact: FellBack | FallbackDropped | SentAgain) -> dict[str, object]:
    if isinstance(fact, FallbackDropped):
        return {"fallback_dropped": True}
    if isinstance(fact, SentAgain):
        return {"resends": (*state.resends, fact)}
    ended = {} if state.ended or state.reached else {"ended": Status.FAILED, "reason": "fell_back"}
    return {"fell_back_to": fact.to, **ended}


def _started(fact: AttemptStarted) -> Attempt:
    return Attempt(
        id=fact.attempt,
        provider=fact.provider,
        started_at=fact.recorded_at,
        deadline_at=fact.deadline_at,
        digest=fact.digest,
        address_hash=fact.address_hash,
        cost=fact.cost,
    )


def _join(attempt: Attempt, fact: Dispatched | AttemptFailed | AttemptInDoubt | Inquired | Reported) -> Attempt:
    changes: dict[str, object] = {}
    match fact:
        case Dispatched():
            changes = {
                "reference": fact.reference,
                "dispatched_at": _earliest(attempt.dispatched_at, fact.recorded_at),
                "inquire_at": fact.recorded_at + _ASKED_AFTER,
            }
        case Inquired():
            changes = {"inquire_at": fact.again_at}
        case AttemptFailed():
            changes = {"code": fact.code, "retry_at": fact.retry_at}
        case AttemptInDoubt():
            changes = {"code": fact.doubt, "doubt_until": fact.until}
        case Delivered():
            changes = {"delivered_at": _earliest(attempt.delivered_at, _when(fact))}
        case Opened():
            changes = {"first_opened_at": _earliest(attempt.first_opened_at, _when(fact)), "opens": attempt.opens + 1}
        case Clicked():
            changes = {
                "first_clicked_at": _earliest(attempt.first_clicked_at, _when(fact)),
                "clicks": attempt.clicks + 1,
            }
    if isinstance(fact, Reported):
        changes["reports"] = attempt.reports | {fact.key}
    changes["evidence"] = max(attempt.evidence, _evidence(fact, attempt), key=STRENGTH.__getitem__)
    return msgspec.structs.replace(attempt, **changes)


def _evidence(fact: Dispatched | AttemptFailed | AttemptInDoubt | Inquired | Reported, attempt: Attempt) -> Evidence:
    match fact:
        case Dispatched():
            return Evidence.DISPATCHED
        case AttemptFailed():
            return Evidence.REFUSED
        case AttemptInDoubt():
            return Evidence.IN_DOUBT
        case _:
            return _EVIDENCE_OF.get(type(fact), attempt.evidence)


def _when(fact: Reported) -> datetime:
    return fact.occurred_at or fact.recorded_at


def _earliest(known: datetime | None, other: datetime) -> datetime:
    return other if known is None else min(known, other)


# ---------------------------------------------------------------------------------------------------------------
# Decide: pure, the time is an argument, and no fact where nothing is new.
# ---------------------------------------------------------------------------------------------------------------


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a fact comes from: the database's time of the decision, what caused it, and who decides."""

    now: datetime
    cause: str
    by: str

    def stamp(self) -> dict[str, Any]:
        """Return the fields that every fact carries."""
        return {"recorded_at": self.now, "cause": self.cause, "by": self.by}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The message that asked for a notification, as its envelope names itself."""

    source: str
    message_id: str | None = None
    correlation_id: str | None = None


def request(
    wanted: Wanted, source: Source, origin: Origin, *, recipient: str, address_hash: str | None
) -> tuple[Requested]:
    """Say that somebody is to be told; the expiry is the message's own, else the catalogue's."""
    start = max(wanted.send_at or origin.now, origin.now)
    requested = Requested(
        recorded_at=origin.now,
        cause=origin.cause,
        by=origin.by,
        type=wanted.type,
        channel=wanted.channel,
        category=wanted.category,
        lane=wanted.lane,
        recipient=recipient,
        user_id=wanted.recipient,
        address_hash=address_hash,
        locale=wanted.locale,
        locale_assumed=wanted.locale_assumed,
        template=wanted.template,
        template_version=wanted.template_version,
        catalogue=wanted.catalogue,
        doubt=wanted.doubt,
        expires_at=wanted.expires_at or start + wanted.expires_after,
        send_at=wanted.send_at,
        fallback=wanted.fallback,
        retention=wanted.retention,
        source=source.source,
        message_id=source.message_id,
        correlation_id=source.correlation_id,
        references=wanted.references,
        consent=wanted.consent,
        frequency_cap=wanted.frequency_cap,
        quiet_hours=wanted.quiet_hours,
        personal=wanted.personal,
    )
    return (requested,)


def suppress(state: State, verdict: tuple[str, str, dict[str, str]], origin: Origin) -> Facts:
    """Record that a rule forbids it; the verdict is (rule, policy version, inputs)."""
    rule, policy, inputs = verdict
    if not sendable(state, origin.now):
        return ()
    if state.reached:
        return _leave_out(state, rule, origin)
    return (Suppressed(**origin.stamp(), rule=rule, policy=policy, inputs=inputs),)


def defer(state: State, until: datetime, verdict: tuple[str, str, dict[str, str]], origin: Origin) -> Facts:
    """Record that a rule lets it wait until then; the verdict as for `suppress`."""
    if not sendable(state, origin.now) or until <= origin.now:
        return ()
    rule, policy, inputs = verdict
    return (Deferred(**origin.stamp(), until=until, rule=rule, policy=policy, inputs=inputs),)


def give_up_rendering(state: State, code: str, origin: Origin) -> Facts:
    """Record that the template and the data do not fit: no later attempt would render either."""
    if not sendable(state, origin.now):
        return ()
    if state.reached:
        return _leave_out(state, "render_failed", origin)
    failed = RenderFailed(**origin.stamp(), code=code, template=state.requested.template)
    return (failed, Failed(**origin.stamp(), reason=f"render_failed: {code}"))


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, about to be made: what is said, by whom it is carried, until when it may take, what it costs.

    `address` is given where it was read from the person's stream; what the message gave stands in `requested`.
    `others` are the person's further devices: the first attempt decides which.
    """

    attempt: UUID
    provider: str
    address_hash: str
    digest: bytes
    template_version: str
    locale: str
    deadline_at: datetime
    passed_over: tuple[str, ...] = ()
    address: str | None = None
    others: tuple[str, ...] = ()
    cost: Cost | None = None
    policy: str = ""
    saw: Saw = Saw()


def start_attempt(state: State, intent: Intent, origin: Origin) -> Facts:
    """Allow one request to leave; the words are recorded again only where they differ from the last time."""
    if not sendable(state, origin.now) or turn(state) not in {None, intent.address_hash}:
        return ()
    rendered = Rendered(
        **origin.stamp(),
        digest=intent.digest,
        template=state.requested.template,
        template_version=intent.template_version,
        locale=intent.locale,
        passed_over=intent.passed_over,
    )
    started = AttemptStarted(
        **origin.stamp(),
        attempt=intent.attempt,
        provider=intent.provider,
        address_hash=intent.address_hash,
        digest=intent.digest,
        deadline_at=intent.deadline_at,
        because=_because(state, intent),
        recipient=None if intent.address is None else state.requested.recipient,
        personal=None if intent.address is None else Personal(address=intent.address),
        others=() if state.attempts else intent.others,
        cost=intent.cost,
        policy=intent.policy,
        saw=intent.saw,
    )
    return (started,) if state.rendered == intent.digest else (rendered, started)


def _because(state: State, intent: Intent) -> str:
    if not state.attempts:
        return "first"
    before = tried(state, intent.address_hash)
    if not before:
        return "next_device"
    last = before[-1]
    if last.evidence is Evidence.IN_DOUBT:
        return "resend_after_doubt"
    return "retry" if last.provider == intent.provider else "failover"


def skip_device(state: State, address_hash: str, rule: str, origin: Origin) -> Facts:
    """Leave out the device whose turn it is; where it was the last hope, that is the end."""
    if not sendable(state, origin.now) or turn(state) != address_hash:
        return ()
    skipped = DeviceSkipped(**origin.stamp(), address_hash=address_hash, rule=rule)
    after = evolve(state, skipped)
    return (skipped, *_hopeless(after, _why_no_more(after), origin))


def _leave_out(state: State, rule: str, origin: Origin) -> Facts:
    """Leave out the devices that want an attempt: another one has it, so what would end it is the end for them."""
    wanting = [device for _, device in _wanting(state) if device is not None]
    return tuple(DeviceSkipped(**origin.stamp(), address_hash=device, rule=rule) for device in wanting)


def settle(state: State, attempt_id: UUID, outcome: Outcome, origin: Origin, *, retry_at: datetime) -> Facts:
    """Record what came of an attempt, also when it comes late: a fact is never fenced off.

    `retry_at` is when a postponed attempt is tried again, jitter included.
    """
    attempt = state.attempt(attempt_id)
    if attempt is None:
        return ()
    stamp = origin.stamp()
    match outcome:
        case Accepted(reference=reference) if attempt.reference != reference:
            return (_dispatched(attempt, reference, origin),)
        case Refused(code=code) if attempt.evidence in {Evidence.SENDING, Evidence.IN_DOUBT}:
            refused = AttemptFailed(**stamp, attempt=attempt_id, kind="refused", code=code)
            return (refused, *_hopeless(evolve(state, refused), f"refused: {code}", origin))
        case Postponed(code=code) if attempt.evidence in {Evidence.SENDING, Evidence.IN_DOUBT}:
            return (AttemptFailed(**stamp, attempt=attempt_id, kind="postponed", code=code, retry_at=retry_at),)
        case InDoubt(cause=cause) if attempt.evidence is Evidence.SENDING:
            return (_doubt(state, attempt_id, cause, origin),)
        case _:
            return ()


def _dispatched(attempt: Attempt, reference: str, origin: Origin) -> Dispatched:
    return Dispatched(**origin.stamp(), attempt=attempt.id, provider=attempt.provider, reference=reference)


def _doubt(state: State, attempt_id: UUID, cause: str, origin: Origin) -> AttemptInDoubt:
    until = origin.now + doubt_window(state.requested.category)
    return AttemptInDoubt(**origin.stamp(), attempt=attempt_id, doubt=cause, until=until)


def doubt_window(category: Category) -> timedelta:
    """How long a report may settle a doubt: a code for a sign-in is useless after minutes, a receipt is not."""
    return timedelta(seconds=30) if category is Category.SECURITY else timedelta(minutes=15)


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Where something may have gone of which a restored database knows nothing: see Intent."""

    address_hash: str
    others: tuple[str, ...] = ()


def presume_sent(state: State, lost: Lost, attempts: Iterator[UUID], origin: Origin) -> Facts:
    """Put in doubt what could have been started by now, at each device of its own, as if it had been sent.

    What really left had an attempt id that is lost with its facts; the new ones stand for it.
    """
    facts: list[NotificationFact] = []
    while sendable(state, origin.now):
        started = AttemptStarted(
            **origin.stamp(),
            attempt=next(attempts),
            provider=RESTORED,
            address_hash=turn(state) or lost.address_hash,
            digest=state.rendered or b"",
            deadline_at=origin.now,
            because=RESTORED,
            others=() if state.attempts else lost.others,
        )
        doubt = _doubt(state, started.attempt, RESTORED, origin)
        state = evolve(evolve(state, started), doubt)
        facts += [started, doubt]
    return tuple(facts)


def reported_attempt(state: State, attempt_id: UUID) -> UUID | None:
    """Return the attempt that a report tells of; of one that a restore has lost, the one that stands for it."""
    if state.attempt(attempt_id) is not None:
        return attempt_id
    standing_in = [attempt.id for attempt in state.attempts if attempt.provider == RESTORED]
    return standing_in[0] if len(standing_in) == 1 else None


def overdue(state: State, origin: Origin) -> Facts:
    """Record what the passing of time alone decides: an attempt nobody finished, a doubt nobody settled, an expiry,
    a fallback that nobody took up before it: what it asked for would expire at once.
    """
    lost = [a for a in state.attempts if a.evidence is Evidence.SENDING and a.deadline_at <= origin.now]
    if lost:
        return tuple(_doubt(state, attempt.id, "no_outcome", origin) for attempt in lost)
    ends_at = None if state.ended or _open(state) else _ends_at(state)
    if ends_at is None or origin.now < ends_at:
        is_late = falls_back(state, origin.now) and state.requested.expires_at <= origin.now
        return (FallbackDropped(**origin.stamp(), reason="expired"),) if is_late else ()
    if _wanting(state):
        return _leave_out(state, "expired", origin) if state.reached else (Expired(**origin.stamp()),)
    return (Failed(**origin.stamp(), reason=_why_no_more(state)),)


def _hopeless(state: State, reason: str, origin: Origin) -> Facts:
    """Give up, unless there are other devices, and one of them has it, may have it, or may still get it."""
    hope = state.reached or _open(state) or _wanting(state) or any(map(_doubtful, _lines(state)))
    if state.ended or (state.others and hope):
        return ()
    return (Failed(**origin.stamp(), reason=reason),)


def _why_no_more(state: State) -> str:
    lines = _lines(state)
    if any(_is_held(state, line) for line in lines):
        return "in_doubt: held, and not released"
    if any(map(_doubtful, lines)):
        return "in_doubt: not sent again"
    refused = [
        attempt.code for attempt in state.attempts if attempt.evidence is Evidence.REFUSED and not attempt.retry_at
    ]
    return f"refused: {refused[-1]}" if refused else "no_usable_address"


def held(state: State, now: datetime) -> bool:
    """Whether a doubt waits for a person: its window is over, no report has settled it, no other device has it."""
    if state.ended or state.reached:
        return False
    return any(_is_held(state, line) and _doubt_ends(line) <= now for line in _lines(state))


def release(state: State, reason: str, origin: Origin) -> Facts:
    """Let a held notification be sent again; nothing where nothing is held."""
    if not held(state, origin.now) or state.requested.expires_at <= origin.now:
        return ()
    return (Released(**origin.stamp(), reason=reason),)


def cancel(state: State, reason: str, origin: Origin) -> Facts:
    """Call off all that is still to come of it: attempts, further devices, another channel. What has left may arrive.

    Nothing where nothing is to come, and so where it was cancelled before.
    """
    return (Cancelled(**origin.stamp(), reason=reason),) if _is_to_come(state) else ()


def _is_to_come(state: State) -> bool:
    """Whether an attempt, or a notification on another channel, may still begin."""
    attempts = _open(state) or _wanting(state) or any(map(_doubtful, _lines(state)))
    return bool(attempts and not state.ended) or _falls_back_at(state) is not None


def falls_back(state: State, now: datetime) -> bool:
    """Whether it is time to tell the person on another channel."""
    at = _falls_back_at(state)
    return at is not None and at <= now


def fall_back(state: State, to: UUID, origin: Origin) -> FellBack | None:
    """Say that the notification `to` tells the person from now on; nothing where it is not the time for that."""
    is_late = state.requested.expires_at <= origin.now
    if state.requested.fallback is None or is_late or not falls_back(state, origin.now):
        return None
    channel, reason = state.requested.fallback.channel, _cannot_be_delivered(state) or "not_delivered_in_time"
    return FellBack(**origin.stamp(), channel=channel, to=to, reason=reason)


def drop_fallback(state: State, reason: str, origin: Origin) -> Facts:
    """Say that the person is told on no other channel; nothing where it is not the time for that."""
    return (FallbackDropped(**origin.stamp(), reason=reason),) if falls_back(state, origin.now) else ()


def request_instead(
    state: State, stream: UUID, fell_back: FellBack, personal: Personal, *, recipient: str, address_hash: str | None
) -> Requested:
    """Return the request of the notification that takes the place of the one in `stream`.

    `recipient` and `address_hash` are those of its own address (see Requested).
    """
    return msgspec.structs.replace(
        state.requested,
        recorded_at=fell_back.recorded_at,
        cause=f"fallback:{stream}",
        by=fell_back.by,
        channel=fell_back.channel,
        recipient=recipient,
        address_hash=address_hash,
        send_at=None,
        fallback=None,
        fallback_of=stream,
        personal=msgspec.structs.replace(personal, address=personal.fallback_address, fallback_address=None),
    )


class WhyNot(StrEnum):
    """Why a notification is not sent again; the last three say what the state alone does not know."""

    STILL_TO_COME = "still_to_come"
    HELD = "held"
    OUTLIVED = "outlived"
    NO_WORDS = "no_words"
    ERASED = "erased"
    ARCHIVED = "archived"
    UNREADABLE = "unreadable"


def why_not_again(state: State, now: datetime) -> WhyNot | None:
    """Say why it cannot be sent again now; None where it can be. What forbids to tell the person, the policy says.

    What a security message says (a code, a link) is good for its own time: sent again it would be of no use.
    """
    requested = state.requested
    if held(state, now):
        return WhyNot.HELD
    if _is_to_come(state):
        return WhyNot.STILL_TO_COME
    if requested.category is Category.SECURITY and requested.expires_at <= now:
        return WhyNot.OUTLIVED
    return None if requested.template_version else WhyNot.NO_WORDS


def request_again(
    requested: Requested, stream: UUID, personal: Personal, origin: Origin, *, lane: Lane | None = None
) -> Requested:
    """Return the request of a notification that says the same as the one in `stream`, in the very same words.

    It is as long of use from now on as that one was; a security message only for as long as that one still is. It goes
    by the same channel and by no other: whoever sends it again sends one thing.
    """
    began = max(requested.send_at or requested.recorded_at, requested.recorded_at)
    anew = origin.now + (requested.expires_at - began)
    return msgspec.structs.replace(
        requested,
        **origin.stamp() | {"cause": f"resend:{stream}"},
        lane=lane or requested.lane,
        expires_at=requested.expires_at if requested.category is Category.SECURITY else anew,
        send_at=None,
        fallback=None,
        fallback_of=None,
        resend_of=stream,
        personal=msgspec.structs.replace(personal, fallback_address=None),
    )


def set_aside(state: State, crashes: int, origin: Origin) -> Facts:
    """Give up the step of a notification whose handling has ended `crashes` processes: it is never due again.

    Steps are given up in the order in which they are taken. Each that is left has its own turn, and its own crashes.
    """
    reason = f"set aside after {crashes} crashes"
    if falls_back(state, origin.now):
        return (FallbackDropped(**origin.stamp(), reason=reason),)
    if attempt := to_inquire(state, origin.now):
        return _inquired(state, attempt.id, reason, origin, final=True)
    if state.ended:
        return ()
    if state.reached:
        return _leave_out(state, "set_aside", origin)
    return (Failed(**origin.stamp(), reason=reason),)


_FACT_OF: dict[
    ReportKind, type[Delivered | Bounced | Rejected | Complained | Opened | Clicked | Delayed | Unsubscribed]
] = {
    ReportKind.DELAYED: Delayed,
    ReportKind.DELIVERED: Delivered,
    ReportKind.BOUNCED: Bounced,
    ReportKind.REJECTED: Rejected,
    ReportKind.COMPLAINED: Complained,
    ReportKind.OPENED: Opened,
    ReportKind.CLICKED: Clicked,
    ReportKind.UNSUBSCRIBED: Unsubscribed,
}


def report(state: State, attempt_id: UUID, told: Report, origin: Origin) -> Facts:
    """Record a provider's report; a known one is no news, and of many opens or clicks the first ones are kept.

    One that comes before the provider's reply tells that it was taken. The reply may name it otherwise, and is right:
    the receipt of a push knows nothing of the provider's own name for it.
    """
    attempt = state.attempt(attempt_id)
    if attempt is None or told.key in attempt.reports:
        return ()
    taken = () if attempt.reference is not None else (_dispatched(attempt, told.reference, origin),)
    if told.kind is ReportKind.DISPATCHED:
        return taken
    if _only_counted(attempt, told, origin.now):
        return ()
    fact = _FACT_OF[told.kind]
    reported = fact(
        **origin.stamp(), attempt=attempt_id, key=told.key, occurred_at=told.occurred_at, evidence=told.evidence
    )
    return (*taken, reported)


def _only_counted(attempt: Attempt, told: Report, now: datetime) -> bool:
    at = told.occurred_at or now
    if told.kind is ReportKind.OPENED and attempt.opens >= KEPT_TRACKING_EVENTS:
        return attempt.first_opened_at is not None and at >= attempt.first_opened_at
    if told.kind is ReportKind.CLICKED and attempt.clicks >= KEPT_TRACKING_EVENTS:
        return attempt.first_clicked_at is not None and at >= attempt.first_clicked_at
    return False


def to_inquire(state: State, now: datetime) -> Attempt | None:
    """Return the attempt that the provider is to be asked about now, None when it is not the time for that."""
    due = [attempt for attempt in _silent(state) if attempt.inquire_at is not None and attempt.inquire_at <= now]
    return due[0] if due else None


def inquired(state: State, attempt_id: UUID, answer: Answer, origin: Origin) -> Facts:
    """Record what a provider said when it was asked: the report that never came, and that we need not ask again."""
    told = report(state, attempt_id, answer.report, origin) if answer.report is not None else ()
    return (*told, *_inquired(state, attempt_id, answer.status, origin, final=answer.report is None))


def unanswered(state: State, attempt_id: UUID, code: str, origin: Origin) -> Facts:
    """Give up asking when there has been no answer for a day; until then a question that failed is no fact."""
    attempt = state.attempt(attempt_id)
    if attempt is None or attempt.dispatched_at is None or origin.now < attempt.dispatched_at + _ASKED_FOR:
        return ()
    return _inquired(state, attempt_id, f"unanswered: {code}", origin, final=True)


def _inquired(state: State, attempt_id: UUID, answer: str, origin: Origin, *, final: bool) -> Facts:
    attempt = to_inquire(state, origin.now)
    if attempt is None or attempt.id != attempt_id:
        return ()
    again_at = None if final else _asked_again_at(attempt, origin.now)
    return (Inquired(**origin.stamp(), attempt=attempt_id, answer=answer, again_at=again_at),)


def _asked_again_at(attempt: Attempt, now: datetime) -> datetime | None:
    """Return when the silence has lasted twice as long, None when that is beyond the day."""
    if attempt.dispatched_at is None:
        return None
    at = attempt.dispatched_at + 2 * (now - attempt.dispatched_at)
    return at if at <= attempt.dispatched_at + _ASKED_FOR else None


# ---------------------------------------------------------------------------------------------------------------
# What is due next: derived, never invented. The agenda holds exactly this (promise I11).
# ---------------------------------------------------------------------------------------------------------------


class Due(msgspec.Struct, frozen=True):
    """When a notification wants to be looked at again, and by whom."""

    at: datetime
    channel: Channel
    lane: Lane


def next_due(state: State) -> Due | None:
    """Say when the notification is to be looked at again; None when there is nothing left to do."""
    at = _next_time(state)
    if at is None:
        return None
    # Nobody waits for an answer as for a message.
    lane = Lane.LOW if at == _inquired_at(state) else state.requested.lane
    return Due(at, state.requested.channel, lane)


def sendable(state: State, now: datetime) -> bool:
    """Whether an attempt may be started now."""
    at = None if state.ended or _open(state) else _sends_at(state)
    return at is not None and at <= now < state.requested.expires_at


def turn(state: State) -> str | None:
    """Return the address hash of the device whose turn is next; None where it is not settled which: any will do."""
    wanting = _wanting(state) if state.others else []
    return min(wanting, key=lambda one: one[0])[1] if wanting else None


def tried(state: State, address_hash: str) -> tuple[Attempt, ...]:
    """Return the attempts made so far at a device; where there is but one address, all of them."""
    if not state.others:
        return state.attempts
    return tuple(attempt for attempt in state.attempts if attempt.address_hash == address_hash)


def waits_at_most_until(state: State) -> datetime:
    """Say when it must be looked at although it may not be sent: it expires, or another channel's turn comes."""
    falls_back_at = _falls_back_at(state)
    return min(state.requested.expires_at, falls_back_at or state.requested.expires_at)


def _next_time(state: State) -> datetime | None:
    times = (_next_step(state), _falls_back_at(state))
    return min((at for at in times if at is not None), default=None)


def _falls_back_at(state: State) -> datetime | None:
    """Say when another channel's turn comes: at once when this one cannot deliver, and never after the expiry."""
    requested = state.requested
    settled = state.fell_back_to or state.fallback_dropped or _has_arrived(state) or state.ended in _NOBODY_IS_TOLD
    if requested.fallback is None or settled:
        return None
    if state.ended is Status.SUPPRESSED and not _cannot_be_delivered(state):
        return None
    in_time = (requested.send_at or requested.recorded_at) + requested.fallback.after
    at = state.changed_at if _cannot_be_delivered(state) else in_time
    return at if at < requested.expires_at else None


def _has_arrived(state: State) -> bool:
    return any(attempt.evidence in _ARRIVED for attempt in state.attempts)


def _cannot_be_delivered(state: State) -> str | None:
    """Name why this channel will not deliver; None while it still may."""
    match state.status:
        case Status.FAILED | Status.BOUNCED as status:
            return status.value
        case Status.SUPPRESSED if state.reason in OF_THE_ADDRESS:
            return "suppressed"
        case _:
            return None


def _next_step(state: State) -> datetime | None:
    open_attempts = _open(state)
    if open_attempts:
        return min(attempt.deadline_at for attempt in open_attempts)
    if state.ended:
        return _inquired_at(state)
    return _sends_at(state) or _ends_at(state) or _inquired_at(state)


def _sends_at(state: State) -> datetime | None:
    """Say when the next attempt may be started; None where the expiry comes first, or none will be."""
    return min((at for at, _ in _wanting(state) if at < state.requested.expires_at), default=None)


def _ends_at(state: State) -> datetime | None:
    """Say when it ends because no attempt is started any more; None where it has come to its provider.

    A doubt is not cut short by the expiry, unless something could have been sent before it.
    """
    times = [at for at, _ in _wanting(state)]
    if not times and state.reached:
        return None
    expires_at = state.requested.expires_at
    if times and min(times) < expires_at:
        return expires_at
    doubts = [
        _held_until(state, line) if _is_held(state, line) else _doubt_ends(line)
        for line in _lines(state)
        if _doubtful(line)
    ]
    return max([expires_at, *doubts] if times else doubts, default=state.changed_at)


def _inquired_at(state: State) -> datetime | None:
    return min((attempt.inquire_at for attempt in _silent(state) if attempt.inquire_at is not None), default=None)


def _silent(state: State) -> list[Attempt]:
    """Return the attempts of which nothing is known since the provider took them, where one says that it matters."""
    if state.requested.channel not in _ASKED_ABOUT or state.status is not Status.DISPATCHED:
        return []
    return [attempt for attempt in state.attempts if attempt.evidence is Evidence.DISPATCHED]


def _open(state: State) -> list[Attempt]:
    return [attempt for attempt in state.attempts if attempt.evidence is Evidence.SENDING]


# Each device has its own line of attempts, and goes by its own last one, as if it were alone; what goes to one address
# has one line. One attempt is open at a time; the line whose time comes first has the turn.
_Line = tuple[Attempt, ...]


def _devices(state: State) -> list[str]:
    """Return the address hashes of the devices that it goes to; nothing where there is but one address."""
    if not state.others:
        return []
    return [one for one in (state.attempts[0].address_hash, *state.others) if one not in state.skipped]


def _lines(state: State) -> list[_Line]:
    return [tried(state, device) for device in _devices(state)] if state.others else [state.attempts]


def _wanting(state: State) -> list[tuple[datetime, str | None]]:
    """Return when each line wants its next attempt, with the device that it is; those that want none are not there."""
    devices: list[str | None] = [*_devices(state)] if state.others else [None]
    lines = zip(_lines(state), devices, strict=True)
    return [(at, device) for line, device in lines if (at := _again_at(state, line)) is not None]


def _again_at(state: State, line: _Line) -> datetime | None:
    """Say when the next attempt of a line may be started; None = there will be none."""
    at = _wanted_at(state, line)
    return at if at is None or state.deferred_until is None else max(at, state.deferred_until)


def _wanted_at(state: State, line: _Line) -> datetime | None:
    if not state.attempts:
        return state.requested.send_at or state.requested.recorded_at
    if not line:
        return state.attempts[0].started_at
    last = line[-1]
    if not _doubtful(line):
        return None if _taken(line) else last.retry_at
    if _released(state, last):
        return state.released_at
    doubts = sum(attempt.evidence is Evidence.IN_DOUBT for attempt in line)
    sent_again = state.requested.doubt is DoubtPolicy.RESEND and doubts < DOUBTS_AT_MOST
    return _doubt_ends(line) if sent_again else None


def _taken(line: _Line) -> bool:
    return any(STRENGTH[attempt.evidence] >= STRENGTH[Evidence.DISPATCHED] for attempt in line)


def _doubtful(line: _Line) -> bool:
    """Whether nobody can say if its last attempt was taken, nor any before was."""
    return bool(line) and line[-1].evidence is Evidence.IN_DOUBT and not _taken(line)


def _doubt_ends(line: _Line) -> datetime:
    return line[-1].doubt_until or line[-1].started_at


def _is_held(state: State, line: _Line) -> bool:
    """Whether a doubt is kept for a person to decide on."""
    return _doubtful(line) and state.requested.doubt is DoubtPolicy.HOLD and not _released(state, line[-1])


def _held_until(state: State, line: _Line) -> datetime:
    until = _doubt_ends(line)
    return max(until, min(state.requested.expires_at, until + HELD_AT_MOST))


def _released(state: State, attempt: Attempt) -> bool:
    """Whether somebody has let it go since this attempt's doubt was over: a later doubt waits for another word."""
    until = attempt.doubt_until
    return until is not None and state.released_at is not None and until <= state.released_at


def backoff(category: Category, attempts: int, *, jitter: float) -> timedelta:
    """How long to wait after `attempts` tries: doubling, capped, spread by `jitter` (0..1) over its upper half."""
    first, cap = (1.0, 30.0) if category is Category.SECURITY else (5.0, 900.0)
    longest = min(cap, first * 2.0 ** min(attempts - 1, 20))
    return timedelta(seconds=longest * (0.5 + jitter / 2))
