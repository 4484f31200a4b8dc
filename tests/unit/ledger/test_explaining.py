"""Why something was sent or was not: given the facts, then these words, and the facts that they go back to."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from handlers.waiting import WaitingFor
from ledger import notification as n
from ledger import preferences as p
from ledger import suppression as s
from ledger.explaining import Explanation, Seen, Waits, evidence_of, explain, looked_at
from ledger.ids import is_standing
from ledger.mapping import TOPICS
from ledger.plain_words import WORDS, said
from ledger.policy import RULES
from ledger.status import Status
from ledger.suppression import Reason
from ledger.values import Accepted, Category, Channel, DoubtPolicy, InDoubt, Outcome, Postponed, Refused, ReportKind
from tests.integration.ledger.parts import IDENTITY
from tests.unit.ledger.facts import FACTS
from tests.unit.ledger.samples import FIRST, STREAM, at, given, intent, origin, requested, told

ADDRESS = "ab" * 16
LIST = s.stream_of(IDENTITY, Channel.EMAIL, ADDRESS)
BOUNCED = UUID("019e0000-0000-7000-8000-000000000002")
TOPIC_OF = {fact: topic for topic, fact in TOPICS.items()}


def seen(stream: UUID, *facts: n.Fact) -> list[Seen]:
    return [Seen(stream, version, TOPIC_OF[type(fact)], fact) for version, fact in enumerate(facts, start=1)]


def explained(*facts: n.NotificationFact, waits: Waits | None = None, **known: list[Seen]) -> Explanation:
    """Explain a notification; `known` are the facts of other streams."""
    streams = {each[0].stream: each for each in known.values()}
    return explain(given(*facts), seen(STREAM, *facts), streams, IDENTITY, waits=waits)


def suppressed(rule: str, **inputs: str) -> n.Suppressed:
    return n.Suppressed(**origin(10).stamp(), rule=rule, policy="p-1", inputs=inputs)


def listed(**changes: Any) -> s.Listed:
    fields: dict[str, Any] = {"channel": Channel.EMAIL, "address_hash": ADDRESS, "reason": Reason.HARD_BOUNCE}
    return s.Listed(**origin(5).stamp(), **fields | changes)


# The rules of the policy, and those that are quotas.
EVERY_RULE = [*(rule.name for rule in RULES), "frequency_cap", "ceiling"]


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_every_rule_has_words_and_says_what_would_have_had_to_differ(rule: str):
    assert WORDS[rule].differently


@pytest.mark.parametrize("why", WaitingFor)
def test_everything_that_it_may_wait_for_has_words(why: WaitingFor):
    waits = Waits(why.value, at(60))
    answer = explained(requested(), waits=waits).answer
    assert answer != said("unheard of", {}).words
    assert answer.startswith("It ") or why is WaitingFor.DEFERRED


def test_a_rule_of_a_newer_release_is_named_and_shown_as_it_is():
    (one,) = explained(requested(), suppressed("moon_phase", moon="full")).decisions
    assert (one.rule, one.policy, one.inputs, one.differently) == ("moon_phase", "p-1", {"moon": "full"}, None)
    assert "moon_phase" in one.words


def test_inputs_that_a_release_before_did_not_write_are_unknown_and_stop_nobody():
    for rule in WORDS:
        (one,) = explained(requested(), suppressed(rule)).decisions
        assert "{" not in one.words


def test_times_are_told_as_people_read_them_and_only_times_are():
    inputs = {"category": "2031-05-04", "channel": "sms", "since": "2031-05-04T12:00:00.068012+02:00"}
    told = said("opted_out", inputs).words
    assert told == "It was not sent: the person has wanted nothing of 2031-05-04 by sms since 2031-05-04 10:00:00 UTC."


@pytest.mark.parametrize("consent", ["none recorded", "withdrawn"])
def test_a_consent_that_is_missing_and_one_that_was_withdrawn_are_told_in_a_sentence(consent: str):
    told = said("no_consent", {"purpose": "marketing", "consent": consent}).words
    assert told == f"It was not sent: the purpose marketing needs the person's consent ({consent})."


def test_what_was_suppressed_goes_back_to_the_bounce_that_listed_the_address_by_stream_and_version():
    bounce = n.Bounced(
        **origin(5).stamp(), attempt=FIRST, key="k", occurred_at=at(4), evidence={"smtp": "550", "kind": "Permanent"}
    )
    other = seen(BOUNCED, requested(), bounce)
    entry = seen(LIST, listed(notification=BOUNCED, attempt=FIRST))
    verdict = suppressed(
        "suppressed_address", reason="hard_bounce", since="then", stream=str(LIST), version="1", notification="x"
    )
    facts = seen(STREAM, requested(), verdict)
    assert looked_at(facts, IDENTITY) == {LIST}
    assert evidence_of(facts, {LIST: entry}) == {BOUNCED}
    told = explained(requested(), verdict, list=entry, other=other)
    assert told.answer == "It was not sent: the address has been on the suppression list since then (hard_bounce)."
    (one,) = told.decisions
    assert [(each.stream, each.version, each.topic) for each in one.evidence] == [
        (LIST, 1, "suppression.listed"),
        (BOUNCED, 2, "notification.bounced"),
    ]
    assert "reported bounced at 2031-05-04 12:00:04 UTC: kind Permanent, smtp 550" in one.evidence[1].says


def test_a_report_of_another_attempt_or_time_is_no_evidence():
    late = n.Bounced(**origin(6).stamp(), attempt=FIRST, key="k")
    entry = seen(LIST, listed(notification=BOUNCED, attempt=FIRST))
    verdict = suppressed("suppressed_address", stream=str(LIST), version="1")
    (one,) = explained(requested(), verdict, list=entry, other=seen(BOUNCED, requested(), late)).decisions
    assert [each.stream for each in one.evidence] == [LIST]


def test_only_streams_that_stand_for_something_are_read_for_inputs_whatever_a_rule_wrote():
    for inputs in ({"stream": str(BOUNCED), "version": "1"}, {"stream": "x", "version": "1"}, {"stream": str(LIST)}):
        assert looked_at(seen(STREAM, requested(), suppressed("r", **inputs)), IDENTITY) == set()


def attempt(**changes: Any) -> tuple[n.NotificationFact, ...]:
    asked = requested(category=Category.MARKETING, consent="offers", **changes)
    wanted = msgspec.structs.replace(intent(), policy="p-1", saw=n.Saw(recipient=2, suppression=0))
    return (asked, *n.start_attempt(given(asked), wanted, origin(10)))


def test_why_she_got_it_names_who_asked_the_policy_and_what_the_rules_saw_and_nothing_that_came_later():
    asked, *begun = attempt()
    taken = n.Dispatched(**origin(11).stamp(), attempt=FIRST, provider="ses", reference="ref-1")
    said_at: dict[str, Any] = {"said_at": at(1)}
    agreed = p.ConsentChanged(**origin(1).stamp(), **said_at, purpose="offers", granted=True, wording="w-1")
    chosen = p.PreferencesChanged(
        **origin(2).stamp(), **said_at, choices=(p.Choice(Category.MARKETING, Channel.EMAIL, enabled=True),)
    )
    later = p.ConsentChanged(**origin(20).stamp(), **said_at, purpose="offers", granted=False)
    facts = seen(STREAM, asked, *begun, taken)
    person = next(stream for stream in looked_at(facts, IDENTITY) if stream != LIST)
    assert all(map(is_standing, looked_at(facts, IDENTITY)))
    told = explain(
        given(asked, *begun, taken), facts, {person: seen(person, agreed, chosen, later)}, IDENTITY, waits=None
    )
    assert told.status is Status.DISPATCHED
    assert told.answer.startswith("It was sent: a provider has taken it")
    assert "orders had asked for order_shipped" in told.answer
    (one,) = told.decisions
    assert (one.rule, one.policy) == ("sent", "p-1")
    assert [(each.version, each.says.split(" at ")[0]) for each in one.evidence] == [
        (1, "Consent to offers was given"),
        (2, "The person chose"),
    ]


Step = Callable[[n.State], n.Facts]


def lived(*steps: Step, **changes: Any) -> list[n.NotificationFact]:
    """What happens to a notification when one thing after the other is decided on it."""
    facts: list[n.NotificationFact] = [requested(**changes)]
    for step in steps:
        facts += step(given(*facts))
    return facts


def started(state: n.State) -> n.Facts:
    return n.start_attempt(state, intent(), origin())


def came(outcome: Outcome) -> Step:
    return lambda state: n.settle(state, FIRST, outcome, origin(1), retry_at=at(6))


def over(seconds: float) -> Step:
    return lambda state: n.overdue(state, origin(seconds))


def heard(kind: ReportKind) -> Step:
    return lambda state: n.report(state, FIRST, told(kind), origin(6))


DROP = {"doubt": DoubtPolicy.DROP}
ANSWERS = {
    "cancelled": (
        lived(lambda state: n.cancel(state, "she has called", origin(1))),
        "It was called off by test: she has called.",
    ),
    "expired": (lived(over(86_400)), "It was not sent: its time was over at 2031-05-05 12:00:00 UTC"),
    "refused": (lived(started, came(Refused("bad"))), "It was not delivered: the provider refused it for good"),
    "no data": (lived(lambda state: n.give_up_rendering(state, "missing_data", origin())), "It was not sent: the"),
    "in doubt": (lived(started, came(InDoubt("timeout"))), "It may have been sent: nothing told whether"),
    "given up in doubt": (lived(started, came(InDoubt("timeout")), over(2_000), **DROP), "It may have been sent, and"),
    "set aside": (lived(lambda state: n.set_aside(state, 5, origin())), "It was given up: handling it ended several"),
    "tried again": (lived(started, came(Postponed("throttled"))), "A try did not go through (throttled)"),
    "on its way": (lived(started), "It is being sent at this moment."),
    "bounced": (
        lived(started, came(Accepted("r")), heard(ReportKind.BOUNCED)),
        "It was sent, and the receiving side gave it back. It was let go: orders had asked for order_shipped",
    ),
    "cancelled too late": (
        lived(started, lambda state: n.cancel(state, "late", origin(1)), came(Accepted("r"))),
        "It was sent: a provider has taken it",
    ),
    "put off": (
        lived(lambda state: n.defer(state, at(60), ("quiet_hours", "p", {"hours": "22:00-07:00"}), origin())),
        "It was put off until 2031-05-04 12:01:00 UTC",
    ),
    "nothing": (lived(), "Nothing has been decided yet."),
}


@pytest.mark.parametrize(("facts", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_the_answer_says_how_it_stands_and_why(facts: list[n.NotificationFact], answer: str):
    assert explained(*facts).answer.startswith(answer)


def test_what_waits_says_what_for_unless_a_rule_put_it_off():
    put_off = ANSWERS["put off"][0]
    assert explained(*put_off, waits=Waits("turn", None)).answer == "It waits for its turn."
    assert explained(*put_off, waits=Waits("deferred", at(60))).answer.startswith("It was put off until")


@pytest.mark.parametrize("topic", sorted(topic for topic in FACTS if topic.startswith("notification.")))
def test_i18_no_fact_of_a_notification_is_explained_by_anything_personal(topic: str):
    first, fact = requested(), FACTS[topic]
    facts = [first] if isinstance(fact, n.Requested) else [first, fact]
    text = repr(explain(given(*facts), seen(STREAM, *facts), {}, IDENTITY, waits=None))
    assert "ada" not in text.casefold()
