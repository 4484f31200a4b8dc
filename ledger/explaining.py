"""Why a notification was sent, or was not: each decision on it in plain words, with the facts that it goes back to.

Pure. Whoever asks reads the facts first: those of the notification, and what `looked_at` names beside them. Nothing
here says who anybody is: words are made of rules, codes, times and ids alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ledger import notification as n
from ledger import preferences as p
from ledger import recipient as r
from ledger import suppression as s
from ledger.ids import is_standing
from ledger.keys import Identity
from ledger.plain_words import Inputs, moment, said, says
from ledger.status import Status
from ledger.telling import sent_twice


class Seen(msgspec.Struct, frozen=True):
    """A fact where it stands."""

    stream: UUID
    version: int
    topic: str
    fact: n.Fact


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A fact of another stream that a decision goes back to; `says` is what it says, in words."""

    stream: UUID
    version: int
    topic: str
    recorded_at: datetime
    by: str
    says: str


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One decision: by which rule (of which `policy`), on what it looked at, and what would have had to differ.

    `version` is that of the notification's own fact. A rule that this release does not know has its name for words.
    """

    version: int
    recorded_at: datetime
    by: str
    rule: str
    policy: str | None
    inputs: Inputs
    words: str
    differently: str | None
    evidence: list[Evidence]


class Waits(msgspec.Struct, frozen=True):
    """What it waits for now, and until when at the longest, where anybody can say."""

    reason: str
    until: datetime | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a notification stands as it does: `answer` for whoever asks, and all `decisions` on it, in their order."""

    id: UUID
    status: Status
    answer: str
    waiting: Waits | None
    sent_twice: str | None
    decisions: list[Decided]


Known = Mapping[UUID, Sequence[Seen]]
Speaks = Callable[[n.Fact], bool]
_ENDINGS = frozenset({Status.SUPPRESSED, Status.FAILED, Status.EXPIRED, Status.CANCELLED})
# The rule of a decision on which no status rests.
_AGAIN = "sent_again"
_NOT_YET = frozenset({Status.REQUESTED, Status.RENDERED, Status.DEFERRED})


def explain(
    state: n.State, facts: Sequence[Seen], known: Known, identity: Identity, *, waits: Waits | None
) -> Explanation:
    """Explain a notification by its facts, at least one; `known` are the streams that `looked_at` and `evidence_of`
    have named.
    """
    decisions = [_decided(seen, state, known, identity) for seen in facts if _is_decision(seen.fact)]
    return Explanation(
        id=facts[0].stream,
        status=state.status,
        answer=_answer(state, decisions, waits),
        waiting=waits,
        sent_twice=sent_twice(state),
        decisions=decisions,
    )


def _is_decision(fact: n.Fact) -> bool:
    """Whether somebody has decided something by it; of all that begins a notification, only a resend is one."""
    return type(fact) in _RULINGS and (not isinstance(fact, n.Requested) or fact.resend_of is not None)


def looked_at(facts: Iterable[Seen], identity: Identity) -> set[UUID]:
    """Name the standing streams that the decisions on a notification looked at."""
    named: set[UUID] = set()
    requested = None
    for seen in facts:
        if isinstance(seen.fact, n.Requested):
            requested = seen.fact
        elif isinstance(seen.fact, n.AttemptStarted) and requested is not None:
            named.update(_streams(requested, seen.fact, identity))
        named.update(stream for stream, _ in _named_in(seen.fact))
    return named


def evidence_of(facts: Iterable[Seen], known: Known) -> set[UUID]:
    """Name the notifications whose reports listed an address that these facts go back to."""
    listed = (each.fact for seen in facts for each in _referred(_named_in(seen.fact), known))
    return {fact.notification for fact in listed if isinstance(fact, s.Listed) and fact.notification is not None}


# ---------------------------------------------------------------------------------------------------------------
# The answer: the decision that its status rests on, or what it waits for.
# ---------------------------------------------------------------------------------------------------------------


def _answer(state: n.State, decisions: Sequence[Decided], waits: Waits | None) -> str:
    again = [one.words for one in decisions if one.rule == _AGAIN]
    return " ".join([_stands(state, [one for one in decisions if one.rule != _AGAIN], waits), *again[-1:]])


def _stands(state: n.State, decisions: Sequence[Decided], waits: Waits | None) -> str:
    is_early = waits is not None and waits.reason == "deferred"
    if waits is not None and not is_early and state.status in _NOT_YET:
        return said(f"waits: {waits.reason}", {"until": moment(waits.until)}).words
    if state.status is Status.SENDING:
        return said("waits: being_handled", {}).words
    if state.status not in _ENDINGS and state.reached:
        allowed = next((one.words for one in reversed(decisions) if one.rule == "sent"), "")
        return f"{said(f'then: {state.status}', {}).words} {allowed}".rstrip()
    return decisions[-1].words if decisions else said("nothing yet", {}).words


# ---------------------------------------------------------------------------------------------------------------
# Each decision
# ---------------------------------------------------------------------------------------------------------------

# What is decided beside the policy, by rules of our own: name and inputs of each.
_RULINGS: Mapping[type, Callable[[Any, n.Requested], tuple[str, Inputs]]] = {
    n.Requested: lambda fact, _: ("resend", {"of": str(fact.resend_of), "by": fact.by}),
    n.Suppressed: lambda fact, _: (fact.rule, fact.inputs),
    n.Deferred: lambda fact, _: (fact.rule, {**fact.inputs, "until": moment(fact.until)}),
    n.AttemptStarted: lambda fact, asked: ("restored" if fact.because == n.RESTORED else "sent", _sent(fact, asked)),
    n.DeviceSkipped: lambda fact, _: ("device_skipped", {"because": fact.rule, "device": fact.address_hash}),
    n.AttemptFailed: lambda fact, _: (fact.kind, {"code": fact.code, "retry_at": moment(fact.retry_at)}),
    n.AttemptInDoubt: lambda fact, asked: (
        "in_doubt",
        {"doubt": fact.doubt, "until": moment(fact.until), "then": asked.doubt.value},
    ),
    n.RenderFailed: lambda fact, _: ("render_failed", {"code": fact.code, "template": fact.template}),
    n.Expired: lambda _, asked: ("expired", {"expires_at": moment(asked.expires_at)}),
    n.Cancelled: lambda fact, _: ("cancelled", {"reason": fact.reason, "by": fact.by}),
    n.Released: lambda fact, _: ("released", {"reason": fact.reason, "by": fact.by}),
    n.FallbackDropped: lambda fact, _: ("fallback_dropped", {"reason": fact.reason}),
    n.FellBack: lambda fact, _: (
        "fell_back",
        {"channel": fact.channel.value, "to": str(fact.to), "because": fact.reason},
    ),
    n.Failed: lambda fact, _: ("failed", {"reason": fact.reason}),
    n.SentAgain: lambda fact, _: (_AGAIN, {"to": str(fact.to), "reason": fact.reason, "by": fact.by}),
}


def _decided(seen: Seen, state: n.State, known: Known, identity: Identity) -> Decided:
    rule, inputs = _RULINGS[type(seen.fact)](seen.fact, state.requested)
    if isinstance(seen.fact, n.AttemptStarted):
        evidence = list(_allowed_by(seen.fact, state.requested, known, identity))
    else:
        evidence = list(_evidence(_referred(_named_in(seen.fact), known), known))
    told = said(f"failed: {seen.fact.reason}" if isinstance(seen.fact, n.Failed) else rule, inputs)
    return Decided(
        version=seen.version,
        recorded_at=seen.fact.recorded_at,
        by=seen.fact.by,
        rule=rule,
        policy=getattr(seen.fact, "policy", None) or None,
        inputs=inputs,
        words=told.words,
        differently=told.differently,
        evidence=evidence,
    )


def _sent(fact: n.AttemptStarted, requested: n.Requested) -> Inputs:
    return {
        "because": fact.because,
        "provider": fact.provider,
        "at": moment(fact.recorded_at),
        "type": requested.type,
        "source": requested.source,
        "message_id": requested.message_id or "none",
        "address": "that the message gave" if fact.personal is None else "that the person is known by",
        "recipient_version": str(fact.saw.recipient),
        "suppression_version": str(fact.saw.suppression),
    }


# ---------------------------------------------------------------------------------------------------------------
# What they go back to
# ---------------------------------------------------------------------------------------------------------------


def _named_in(fact: n.Fact) -> Iterator[tuple[UUID, int]]:
    """Return the place of the fact that the inputs of a rule name."""
    inputs = fact.inputs if isinstance(fact, n.Suppressed | n.Deferred) else {}
    try:
        stream, version = UUID(inputs["stream"]), int(inputs["version"])
    except (KeyError, ValueError):
        return
    if is_standing(stream):
        yield stream, version


def _referred(places: Iterable[tuple[UUID, int]], known: Known) -> Iterator[Seen]:
    for stream, version in places:
        yield from (seen for seen in known.get(stream, ()) if seen.version == version)


def _streams(requested: n.Requested, started: n.AttemptStarted, identity: Identity) -> tuple[UUID, UUID]:
    """Return the streams of the person and of the address that an attempt was allowed by."""
    listed = s.nothing(identity, requested.channel, started.address_hash)
    return r.nobody_named(identity, requested.recipient).stream, listed.stream


def _allowed_by(
    started: n.AttemptStarted, requested: n.Requested, known: Known, identity: Identity
) -> Iterator[Evidence]:
    """Return what the rules saw when they had nothing against an attempt: what the person allows, what was listed."""
    person, listed = _streams(requested, started, identity)
    allowed = [seen for seen in known.get(person, ()) if seen.version <= started.saw.recipient]
    for speaks in (_speaks_of_consent(requested), _speaks_of_choice(requested)):
        last = next((seen for seen in reversed(allowed) if speaks(seen.fact)), None)
        yield from _evidence([last] if last is not None else [], known)
    yield from _evidence((seen for seen in known.get(listed, ()) if seen.version <= started.saw.suppression), known)


def _speaks_of_consent(requested: n.Requested) -> Speaks:
    purpose = requested.consent
    return lambda fact: isinstance(fact, p.ConsentChanged) and purpose in {None, fact.purpose}


def _speaks_of_choice(requested: n.Requested) -> Speaks:
    wanted = (requested.category, requested.channel)
    return lambda fact: (
        isinstance(fact, p.PreferencesChanged)
        and any((choice.category, choice.channel) == wanted for choice in fact.choices)
    )


def _evidence(facts: Iterable[Seen], known: Known) -> Iterator[Evidence]:
    for seen in facts:
        yield _shown(seen)
        if isinstance(seen.fact, s.Listed):
            yield from map(_shown, _report_behind(seen.fact, known))


def _report_behind(listed: s.Listed, known: Known) -> Iterator[Seen]:
    """Return the report that listed an address: it was stored with it, in one commit."""
    for seen in known.get(listed.notification, ()) if listed.notification is not None else ():
        fact = seen.fact
        is_of_it = isinstance(fact, n.Reported | n.AttemptFailed) and fact.attempt == listed.attempt
        if is_of_it and fact.recorded_at == listed.recorded_at:
            yield seen


def _shown(seen: Seen) -> Evidence:
    return Evidence(
        stream=seen.stream,
        version=seen.version,
        topic=seen.topic,
        recorded_at=seen.fact.recorded_at,
        by=seen.fact.by,
        says=says(seen.fact),
    )
