"""Delivery of one item: decide, render, record the intent, make one request, record what came of it.

One file on purpose: each step is read against the others, for the process may die between any two of them.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import structlog
from prometheus_client import Counter

from handlers.fallback import requested_instead
from handlers.frequency import CEILING, Frequency
from handlers.judging import judged
from handlers.metrics import Metrics
from handlers.receive import listed, suppressed
from handlers.spending import DAY, Priced, Spending, day_of
from handlers.stopped import Stopped
from handlers.wording import Wording
from handlers.worker import Lease, give_back
from ledger import notification
from ledger.agenda import WaitsFor
from ledger.decision import Decision, Guard, NewFact, SaidContent, Take
from ledger.errors import LedgerError, Refusal, RefusedError, UnstorableError
from ledger.ids import notification_id
from ledger.ledger import Ledger, Loaded, Person
from ledger.notification import Attempt, AttemptFailed, Facts, Failed, Intent, Origin, Requested, Saw, State
from ledger.policy import VERSION as POLICY_VERSION
from ledger.policy import AllowList, Defer, Send, Suppress, Verdict
from ledger.recipient import DropReason, drop_device
from ledger.status import Evidence
from ledger.suppression import Reason
from ledger.unsubscribing import Links, Unsubscribing
from ledger.values import Accepted, Answer, Channel, InDoubt, Outcome, Personal, Postponed, Refused
from providers.contract import Answers, Provider, Sending
from providers.guard import Admission, Route, Token
from templates.rendering import Rendered, Renderer, RenderError

SET_ASIDE_AFTER = 5
# What may pass between reading the monotonic clock and the provider's reading of ours.
_MARGIN = timedelta(seconds=2)
_INSIST_EVERY = 0.5
# How long a question waits that got no answer.
_ASK_AGAIN = timedelta(minutes=5)
_BY = "deliver"

_log = structlog.get_logger("handlers.deliver")


class Deliver:
    """Delivers one channel through the providers of its route (handlers.worker.Handler).

    Without `spending` nothing has a price, and there is no cap; without `wording` all is said as the folder says it;
    without `links` nothing can be unsubscribed from. `ceiling` is how many notifications of one type may go
    to a person in an hour.
    """

    def __init__(
        self,
        ledger: Ledger,
        renderer: Renderer,
        route: Route,
        *,
        allowed: AllowList,
        metrics: Metrics,
        spending: Spending | None = None,
        wording: Wording | None = None,
        links: Links | None = None,
        ceiling: int = CEILING,
    ) -> None:
        self.channel: Channel = route.channel
        self._ledger = ledger
        self._renderer = renderer
        self._route = route
        self._allowed = allowed
        self._metrics = metrics
        self._spending = spending
        self._wording = wording
        self._links = links
        self._frequency = Frequency(ledger.identity, ceiling)
        self._capped_on: set[tuple[datetime, str | None]] = set()
        self._stopped = Stopped(ledger, route.channel)
        self._attempts: dict[tuple[str, str], Counter] = {}
        self._stopping = False

    def stop(self) -> None:
        """Make no more requests: an intent whose request has not begun is recorded as certainly not sent."""
        self._stopping = True

    async def admit(self, free: int) -> Admission:
        """Say what may be claimed: as much as the providers may be called for that are not paused."""
        paused = await self._stopped.look()
        whole = paused.whole_channel(self.channel)
        return await self._route.admit(
            free, without=self._route.providers if whole else paused.whole_providers(self.channel)
        )

    async def handle(self, lease: Lease, loaded: Loaded, prepared: asyncio.Event) -> None:
        """Take the next step that the facts and the time call for."""
        claims, origin = lease.claim.claims, _origin(loaded.now())
        if claims > SET_ASIDE_AFTER:
            self._metrics.set_aside.labels(self.channel.value).inc()
            _log.error("set_aside", claims=claims)
            await self._record(lease, loaded, lambda state, at: notification.set_aside(state, claims - 1, at))
        elif notification.overdue(loaded.state, origin):
            await self._record(lease, loaded, notification.overdue)
        elif notification.falls_back(loaded.state, origin.now):
            await self._fall_back(lease, loaded)
        elif attempt := notification.to_inquire(loaded.state, origin.now):
            await self._inquire(lease, loaded, attempt)
        elif not notification.sendable(loaded.state, origin.now):
            await self._record(lease, loaded, lambda _state, _at: ())
        elif self._is_paused(loaded):
            await give_back(self._ledger, lease, self._stopped.patience(loaded), WaitsFor.PAUSED)
            self._stopped.has_waited(loaded)
        else:
            await self._send_or_end(lease, loaded, prepared)

    def _is_paused(self, loaded: Loaded) -> bool:
        requested = loaded.state.requested
        return loaded.operations.stopping(requested.type, self.channel) is not None or not self._route.serves(
            requested.lane, without=_paused_providers(loaded)
        )

    async def _send_or_end(self, lease: Lease, loaded: Loaded, prepared: asyncio.Event) -> None:
        verdict = judged(loaded, self._allowed, loaded.now())
        _log.debug("judged", rule=None if isinstance(verdict, Send) else verdict.rule, policy=POLICY_VERSION)
        if not isinstance(verdict, Send):
            await self._obey(lease, loaded)
            return
        requested, person = loaded.state.requested, loaded.person
        named = msgspec.structs.replace(loaded.personal, name=person.name)
        try:
            rendered = await self._render(requested, named, locale=person.locale)
        except RenderError as exc:
            code = exc.code
            _log.warning("render_failed", template=requested.template, code=code)
            await self._record(lease, loaded, lambda state, at: notification.give_up_rendering(state, code, at))
            return
        await self._attempt(lease, loaded, rendered, prepared)

    async def _render(self, requested: Requested, personal: Personal, *, locale: str) -> Rendered:
        if self._wording is not None:
            return await self._wording.say(self._renderer, requested, personal, locale=locale)
        return self._renderer.render(requested.template, self.channel, locale=locale, personal=personal)

    async def _obey(self, lease: Lease, loaded: Loaded, *, spent: Suppress | None = None) -> None:
        """Record what the rules say, else that a quota is `spent`; where they say nothing by now, it is due at once."""

        def decided(current: Loaded, now: datetime) -> Decision:
            verdict = judged(current, self._allowed, now)
            found = spent if spent is not None and isinstance(verdict, Send) else verdict
            facts = _obeying(current.state, found, _origin(now))
            return Decision(facts=current.next(facts), guards=_guards(current), settles=lease.owner)

        await self._append(loaded, decided)

    async def _attempt(self, lease: Lease, loaded: Loaded, rendered: Rendered, prepared: asyncio.Event) -> None:
        """Token, intent, request, outcome: in this order, whatever happens between them (promises I5 and I6)."""
        lane, without = loaded.state.requested.lane, _paused_providers(loaded)
        refused_by = _refused_by(notification.tried(loaded.state, loaded.person.address_hash or ""))
        token = await self._route.take(lane, refused_by, without=without, have=lease.token)
        if token is None:
            pause = self._route.wait(lane, refused_by, without=without)
            shut = self._route.is_shut(lane, without=without)
            await give_back(self._ledger, lease, pause, WaitsFor.PROVIDER_SHUT if shut else WaitsFor.RATE)
            return
        try:
            await self._attempt_with(token, lease, loaded, rendered, prepared)
        finally:
            token.give_back()

    async def _attempt_with(
        self, token: Token, lease: Lease, loaded: Loaded, rendered: Rendered, prepared: asyncio.Event
    ) -> None:
        provider, person = token.gate.provider, loaded.person
        if self._route.is_failover(token.gate):
            self._metrics.failovers.labels(self.channel.value, provider.name).inc()
        attempt = uuid4()
        priced = self._spending.price(provider.name, person.address or "", rendered.content) if self._spending else None
        intent = self._intent(attempt, provider, rendered, person, priced=priced)
        try:
            started = await self._ledger.change(loaded.stream, intent, known=loaded)
        except RefusedError as exc:
            if exc.reason is not Refusal.QUOTA:
                raise
            await self._refused_by_quota(lease, loaded, priced)
            return
        prepared.set()
        if started is None or started.state.attempt(attempt) is None:
            await self._record(lease, started or loaded, lambda _state, _at: ())
            return
        structlog.contextvars.bind_contextvars(provider=provider.name, attempt=str(attempt))
        self._tell_of(started, rendered)
        sending = Sending(
            notification=loaded.stream,
            attempt=attempt,
            address=person.address or "",
            content=rendered.content,
            expires_at=loaded.state.requested.expires_at,
            unsubscribe=self._link(started, attempt, person),
        )
        began = time.monotonic()
        outcome = await self._request(lease, token, sending)
        _log.info("attempt_answered", **_answered(outcome), seconds=round(time.monotonic() - began, 4))
        self._measure(started, outcome, by=provider, priced=priced)
        await self._settle(lease, started, attempt, outcome, by=provider, priced=priced)

    def _link(self, started: Loaded, attempt: UUID, person: Person) -> str | None:
        """Return the link by which the person may end mails of this category, where they may."""
        said = Unsubscribing(
            notification=started.stream,
            attempt=attempt,
            channel=self.channel,
            address_hash=person.address_hash or "",
            category=started.state.requested.category,
        )
        return self._links.of(said) if self._links is not None else None

    @staticmethod
    def _tell_of(started: Loaded, rendered: Rendered) -> None:
        """Say what is asked of the provider, without a word of it."""
        _log.info(
            "attempt_started",
            number=len(started.state.attempts),
            template=started.state.requested.template,
            template_version=rendered.template_version,
            locale=rendered.locale,
            digest=(started.state.rendered or b"").hex(),
        )

    async def _refused_by_quota(self, lease: Lease, loaded: Loaded, priced: Priced | None) -> None:
        """Look which quota has no room: too many for the person end it, too much money waits for tomorrow. Where there
        is room by now, since an attempt has failed or a window has passed, it is due again at once.
        """
        now = loaded.now()
        limits, costs = self._frequency.limits(loaded.state, now), self._costs(priced, now)
        takes = (*(limit.take for limit in limits), *costs)
        used = await self._ledger.store.used({take.key: take.window_start for take in takes})
        full = {take.key for take in takes if used.get(take.key, 0) + take.amount > take.limit}
        too_many = [limit for limit in limits if limit.take.key in full]
        if too_many:
            if too_many[0].rule == "ceiling":
                _log.error("ceiling_reached", type=loaded.state.requested.type)
            await self._obey(lease, loaded, spent=too_many[0].refusal(used[too_many[0].take.key]))
        elif priced is not None and any(cost.key in full for cost in costs):
            await self._wait_for_tomorrow(lease, loaded, priced)
        else:
            await self._record(lease, loaded, lambda _state, _at: ())

    def _costs(self, priced: Priced | None, now: datetime) -> tuple[Take, ...]:
        return self._spending.takes(priced, now) if self._spending is not None and priced is not None else ()

    async def _wait_for_tomorrow(self, lease: Lease, loaded: Loaded, priced: Priced) -> None:
        """Leave an item whose cost would pass a cap of today: without a fact, and nothing looks at it before then."""
        now = loaded.now()
        tomorrow = day_of(now) + DAY
        until = min(tomorrow, notification.waits_at_most_until(loaded.state))
        await give_back(self._ledger, lease, max(timedelta(0), until - now), WaitsFor.SPEND_CAP)
        if (tomorrow, priced.country) not in self._capped_on:
            self._capped_on = {known for known in self._capped_on if known[0] == tomorrow} | {
                (tomorrow, priced.country)
            }
            _log.error("spend_cap_reached", country=priced.country)

    async def _inquire(self, lease: Lease, loaded: Loaded, attempt: Attempt) -> None:
        """Ask the provider about an attempt that it has never reported on. A question changes nothing there: it takes
        no token, and one that fails, or whose process dies, is asked again.
        """
        # With a low rate it is the only one, and a question may take seconds.
        lease.leave_token()
        answer = await self._ask(loaded.stream, attempt)
        result = _result(answer)
        self._metrics.inquiries.labels(self.channel.value, attempt.provider, result).inc()
        _log.info("inquired", provider=attempt.provider, attempt=str(attempt.id), result=result)
        if isinstance(answer, Answer):
            await self._record_answer(lease, loaded, attempt.id, answer)
            return
        code = answer.code
        if notification.unanswered(loaded.state, attempt.id, code, _origin(loaded.now())):
            await self._record(lease, loaded, lambda state, at: notification.unanswered(state, attempt.id, code, at))
        else:
            await give_back(self._ledger, lease, max(_ASK_AGAIN, answer.retry_after or _ASK_AGAIN), WaitsFor.ANSWER)

    async def _ask(self, stream: UUID, attempt: Attempt) -> Answer | Postponed:
        provider = self._route.provider(attempt.provider)
        if attempt.reference is None or not isinstance(provider, Answers):
            return Answer("nobody to ask")
        answer = await provider.ask(attempt.reference, notification=stream, attempt=attempt.id)
        self._metrics.provider_requests.labels(attempt.provider, "ask", _answer_of(answer)).inc()
        if isinstance(answer, Postponed):
            self._alert(attempt.provider, answer)
        return answer

    async def _record_answer(self, lease: Lease, loaded: Loaded, attempt: UUID, answer: Answer) -> None:
        """Record an answer as the report would have been, with the suppression that it brings."""

        def decided(current: Loaded, now: datetime) -> Decision:
            facts = notification.inquired(current.state, attempt, answer, _origin(now))
            gone = suppressed(current, attempt, answer.report, _origin(now)) if facts and answer.report else ()
            return Decision(facts=(*current.next(facts), *gone), settles=lease.owner)

        await self._ledger.change(loaded.stream, decided, known=loaded)

    async def _fall_back(self, lease: Lease, loaded: Loaded) -> None:
        """Ask for a notification on the other channel: one decision over both, so that there is one or none.

        It is guarded by the person's stream: what was said before an erasure is not said again under a new key.
        """

        def decided(current: Loaded, now: datetime) -> Decision:
            guards = _guards(current)
            if current.is_erased:
                dropped = notification.drop_fallback(current.state, "erased", _origin(now))
                return Decision(facts=current.next(dropped), guards=guards, settles=lease.owner)
            instead = notification_id(now)
            fell_back = notification.fall_back(current.state, instead, _origin(now))
            if fell_back is None:
                return Decision(settles=lease.owner)
            begun = NewFact(instead, 1, requested_instead(self._ledger.identity, current, fell_back))
            return Decision(facts=(*current.next((fell_back,)), begun), guards=guards, settles=lease.owner)

        after = await self._ledger.change(loaded.stream, decided, known=loaded)
        wanted = loaded.state.requested.fallback
        if after is not None and wanted is not None and after.state.fell_back_to and not loaded.state.fell_back_to:
            self._metrics.fallbacks.labels(self.channel.value, wanted.channel.value).inc()
            _log.info("fell_back", to=str(after.state.fell_back_to), to_channel=wanted.channel.value)

    def _intent(
        self, attempt: UUID, provider: Provider, rendered: Rendered, person: Person, *, priced: Priced | None
    ) -> Callable[[Loaded, datetime], Decision | None]:
        """Return what decides on the intent: none where a rule has something against it by now, or where the person,
        for whom this was rendered, is known otherwise: then it is due again at once, and goes where they are now.
        """
        digest = rendered.content.digest()

        def decide(loaded: Loaded, now: datetime) -> Decision | None:
            if loaded.person != person or not isinstance(judged(loaded, self._allowed, now), Send):
                return None
            if self._is_paused(loaded) or provider.name in _paused_providers(loaded):
                return None
            intent = Intent(
                attempt=attempt,
                provider=provider.name,
                address_hash=person.address_hash or "",
                digest=digest,
                template_version=rendered.template_version,
                locale=rendered.locale,
                passed_over=rendered.passed_over,
                deadline_at=now + provider.deadline + _MARGIN,
                address=person.address if person.found else None,
                others=person.others,
                cost=priced.cost if priced else None,
                policy=POLICY_VERSION,
                saw=_saw(loaded),
            )
            facts = notification.start_attempt(loaded.state, intent, _origin(now))
            if not facts:
                return None
            is_new = loaded.state.rendered != digest
            return Decision(
                facts=loaded.next(facts),
                guards=_guards(loaded),
                takes=(*self._frequency.takes(loaded.state, now), *self._costs(priced, now)),
                contents=_said(loaded, rendered, digest) if is_new else (),
            )

        return decide

    async def _request(self, lease: Lease, token: Token, sending: Sending) -> Outcome:
        """Make the one request of this attempt, unless it could outlive the lease or its token, or we are stopping."""
        gate = token.gate
        if self._stopping:
            return Postponed("stopped_before_sending", retry_after=timedelta(0))
        if lease.left() < gate.provider.deadline + _MARGIN:
            return Postponed("too_late_in_the_lease", retry_after=timedelta(0))
        if not token.spend():
            return Postponed("too_late_for_the_rate", retry_after=timedelta(0))
        began = time.monotonic()
        outcome = await gate.send(sending, token)
        self._count(gate.provider.name, outcome, time.monotonic() - began)
        return outcome

    def _measure(self, started: Loaded, outcome: Outcome, *, by: Provider, priced: Priced | None) -> None:
        """Observe how long it took until a provider has it, where that is news, and what that costs."""
        state, channel = started.state, self.channel.value
        if isinstance(outcome, Accepted) and not state.reached:
            seconds = (started.now() - _free_since(started)).total_seconds()
            self._metrics.handover_seconds.labels(channel, state.requested.lane.value).observe(max(0.0, seconds))
        if isinstance(outcome, Accepted | InDoubt) and priced is not None:
            cost = self._metrics.cost.labels(channel, by.name, priced.cost.currency)
            cost.inc(float(priced.cost.amount))

    def _count(self, provider: str, outcome: Outcome, seconds: float) -> None:
        name = str(type(outcome).__struct_config__.tag)
        if (provider, name) not in self._attempts:
            self._attempts[provider, name] = self._metrics.attempts.labels(self.channel.value, provider, name)
        self._attempts[provider, name].inc()
        self._metrics.attempt_seconds.labels(self.channel.value, provider).observe(seconds)
        self._metrics.provider_requests.labels(provider, "send", _answer_of(outcome)).inc()
        if isinstance(outcome, Postponed):
            self._alert(provider, outcome)

    def _alert(self, provider: str, outcome: Postponed) -> None:
        if outcome.ours:
            self._metrics.provider_faults.labels(provider, outcome.code).inc()
            _log.error("provider_fault_of_ours", provider=provider, code=outcome.code)

    async def _settle(
        self,
        lease: Lease,
        started: Loaded,
        attempt: UUID,
        outcome: Outcome,
        *,
        by: Provider,
        priced: Priced | None,
    ) -> None:
        is_taken = isinstance(outcome, Accepted)
        wait = timedelta(0) if is_taken else self._wait_after(started, attempt, outcome, by)
        unspent = () if is_taken else self._unspent(started, attempt, priced)

        def decided(current: Loaded, now: datetime) -> Decision:
            origin = _origin(now)
            facts = notification.settle(current.state, attempt, outcome, origin, retry_at=now + wait)
            gone = _unusable(current, attempt, outcome, origin) if facts else ()
            failed = any(isinstance(fact, AttemptFailed) for fact in facts)
            takes = (*(unspent if failed else ()), *self._uncounted(current, facts))
            return Decision(facts=(*current.next(facts), *gone), takes=takes, settles=lease.owner)

        while True:
            try:
                await self._append(started, decided)
            except UnstorableError:
                raise
            except LedgerError:
                # The outcome is known and must not be lost while this process lives; if it dies, the attempt is in
                # doubt, which is the truth then.
                await asyncio.sleep(_INSIST_EVERY)
            else:
                return

    def _wait_after(self, started: Loaded, attempt: UUID, outcome: Outcome, by: Provider) -> timedelta:
        """How long a postponed attempt waits: as its category says, and never shorter than the provider asks; not at
        all when it is another provider's turn.
        """
        if isinstance(outcome, Postponed) and outcome.retry_after == timedelta(0):
            return timedelta(0)
        state, made = started.state, started.state.attempt(attempt)
        tried = notification.tried(state, made.address_hash if made is not None else "")
        refused_by, without = [*_refused_by(tried), by.name], _paused_providers(started)
        if self._route.at_once(state.requested.lane, refused_by, without=without):
            return timedelta(0)
        jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
        own = notification.backoff(state.requested.category, len(tried), jitter=jitter)
        asked = outcome.retry_after if isinstance(outcome, Postponed) else None
        return max(own, asked or own)

    def _uncounted(self, current: Loaded, facts: Facts) -> tuple[Take, ...]:
        """Return what goes back to the counts of the person where that is the end, and nothing has left."""
        if not any(isinstance(fact, Failed) for fact in facts):
            return ()
        return self._frequency.gives_back(current.after(Decision(facts=current.next(facts))).state)

    def _unspent(self, started: Loaded, attempt: UUID, priced: Priced | None) -> tuple[Take, ...]:
        """Return what goes back to the caps where the attempt has certainly failed."""
        begun = started.state.attempt(attempt)
        if self._spending is None or priced is None or begun is None:
            return ()
        return self._spending.gives_back(priced, begun.started_at)

    async def _record(self, lease: Lease, loaded: Loaded, decide: Callable[[State, Origin], Facts]) -> None:
        """Append what is decided and end the lease; where nothing is new, the agenda is still put right."""

        def decided(current: Loaded, now: datetime) -> Decision:
            return Decision(facts=current.next(decide(current.state, _origin(now))), settles=lease.owner)

        await self._append(loaded, decided)

    async def _append(self, loaded: Loaded, decided: Callable[[Loaded, datetime], Decision]) -> None:
        after = await self._ledger.change(loaded.stream, decided, known=loaded)
        if after is not None and after.state.ended is not None and loaded.state.ended is None:
            reason = (after.state.reason or "").split(":", maxsplit=1)[0]
            self._metrics.ended.labels(self.channel.value, after.state.ended.value, reason).inc()
            _log.info("ended", status=after.state.ended.value, reason=after.state.reason)


def _origin(now: datetime) -> Origin:
    return Origin(now=now, cause="agenda", by=_BY)


def _free_since(loaded: Loaded) -> datetime:
    """Say since when nobody has wanted it to wait: from then on its way to the provider is ours."""
    requested, deferred_until = loaded.state.requested, loaded.state.deferred_until
    resumed_at = loaded.operations.free_since(requested.type, requested.channel)
    times = (requested.recorded_at, requested.send_at, deferred_until, resumed_at)
    return max(at for at in times if at is not None)


def _answer_of(outcome: Outcome | Answer) -> str:
    """Say in a word what a provider did with a request."""
    match outcome:
        case Refused():
            return "refused"
        case InDoubt():
            return "no_answer"
        case Postponed(ours=True):
            return "fault_of_ours"
        case Postponed(retry_after=timedelta()):
            return "throttled"
        case Postponed():
            return "unavailable"
        case _:
            return "answered"


def _answered(outcome: Outcome) -> dict[str, str | None]:
    """Say what a provider answered: its own id of what it took, else the code."""
    match outcome:
        case Accepted(reference=reference):
            return {"outcome": "accepted", "reference": reference}
        case Refused(code=code):
            return {"outcome": "refused", "code": code}
        case Postponed(code=code):
            return {"outcome": "postponed", "code": code}
        case InDoubt(cause=cause):
            return {"outcome": "in_doubt", "code": cause}


def _result(answer: Answer | Postponed) -> str:
    if isinstance(answer, Postponed):
        return "unanswered"
    return "unknown" if answer.report is None else "answered"


def _guards(loaded: Loaded) -> tuple[Guard, ...]:
    """What was read for the decision to send must not have moved when the intent is stored (promise I7)."""
    read = (loaded.operations, loaded.suppression, loaded.recipient)
    return tuple(Guard(known.stream, known.version) for known in read if known is not None)


def _saw(loaded: Loaded) -> Saw:
    """Return the versions that those guards name, for whoever asks later why it was sent."""
    listed = loaded.suppression
    return Saw(recipient=loaded.recipient.version, suppression=listed.version if listed is not None else 0)


def _paused_providers(loaded: Loaded) -> frozenset[str]:
    return loaded.operations.stopped_providers(loaded.state.requested.type, loaded.state.requested.channel)


def _said(loaded: Loaded, rendered: Rendered, digest: bytes) -> tuple[SaidContent, ...]:
    if loaded.key is None:
        return ()
    body = msgspec.json.encode(rendered.content)
    return (SaidContent(loaded.state.requested.retention, loaded.stream, digest, body, loaded.key),)


def _obeying(state: State, verdict: Verdict, origin: Origin) -> Facts:
    """Return what a verdict decides: of several devices one is left out for what is wrong with it alone."""
    device = notification.turn(state)
    match verdict:
        case Send():
            return ()
        case Defer(rule=rule, until=until, inputs=inputs):
            return notification.defer(state, until, (rule, POLICY_VERSION, inputs), origin)
        case Suppress(rule=rule) if device is not None and rule in notification.OF_THE_ADDRESS:
            return notification.skip_device(state, device, rule, origin)
        case Suppress(rule=rule, inputs=inputs):
            return notification.suppress(state, (rule, POLICY_VERSION, inputs), origin)


def _unusable(current: Loaded, attempt: UUID, outcome: Outcome, origin: Origin) -> tuple[NewFact, ...]:
    """List the address of a person who wants no more, or drop the device that the provider does not know, with the
    refusal that says so: one commit, and it is used by no other notification after it.
    """
    if not isinstance(outcome, Refused):
        return ()
    if outcome.opted_out:
        return listed(current, attempt, Reason.OPT_OUT, origin)
    person, tried = current.recipient, current.state.attempt(attempt)
    if tried is None or not outcome.suppresses:
        return ()
    return person.next(drop_device(person, tried.address_hash, DropReason.UNREGISTERED, origin))


def _refused_by(tried: Sequence[Attempt]) -> list[str]:
    """Name the providers that certainly did not take it. One that may have it is none of them: what is sent again
    after a doubt goes the same way, where a report can still tell of either.
    """
    return [attempt.provider for attempt in tried if attempt.evidence is Evidence.REFUSED]
