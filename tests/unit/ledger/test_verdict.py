import re

import pytest

from ledger import notification as n
from ledger.mapping import TOPICS
from ledger.status import Status
from ledger.timeline import happened
from ledger.values import Accepted, Channel, InDoubt, Refused, ReportKind
from ledger.verdict import Sure, Went, verdict
from tests.unit.ledger.facts import FACTS
from tests.unit.ledger.samples import given, in_doubt, origin, reported, requested, sending, settled, then, told

DISPATCHED = settled(sending(), Accepted("ref-1"))
DELIVERED = reported(DISPATCHED, told(ReportKind.DELIVERED))
OPENED = told(ReportKind.OPENED, "k2", seconds=60)
CLICKED = told(ReportKind.CLICKED, "k3", seconds=70)
RULED_OUT = n.suppress(given(requested()), ("no_consent", "p-1", {}), origin(2))
WAITED = n.defer(given(requested()), requested(900).recorded_at, ("quiet_hours", "p-1", {}), origin(2))
CANCELLED = n.Cancelled(**origin(2).stamp(), reason="a mistake")
AT = "2031-05-04 12:0"
ANSWER = "Because of that."

VERDICTS = [
    (given(requested()), Sure.OPEN, ANSWER),
    (then(given(requested()), WAITED), Sure.OPEN, ANSWER),
    (then(given(requested()), RULED_OUT), Sure.CERTAIN, ANSWER),
    (sending(), Sure.OPEN, ANSWER),
    (
        in_doubt(),
        Sure.UNKNOWN,
        "It may have been sent at 2031-05-04 12:00:00 UTC: nothing told whether ses had taken it.",
    ),
    (DISPATCHED, Sure.OPEN, "Handed over to ses at 2031-05-04 12:00:01 UTC; nobody has confirmed that it arrived."),
    (DELIVERED, Sure.CERTAIN, "Delivered to the mail server at 2031-05-04 12:00:05 UTC."),
    (
        reported(DELIVERED, OPENED),
        Sure.LIKELY,
        f"Delivered to the mail server at {AT}0:05 UTC; opened at {AT}1:00 UTC, or fetched by a mail program.",
    ),
    (
        reported(DISPATCHED, CLICKED),
        Sure.LIKELY,
        "Sent at 2031-05-04 12:00:01 UTC, and it arrived; a link in it was followed at 2031-05-04 12:01:10 UTC.",
    ),
    (
        reported(DELIVERED, told(ReportKind.COMPLAINED, "k4")),
        Sure.CERTAIN,
        "Delivered to the mail server at 2031-05-04 12:00:05 UTC, and was marked as spam.",
    ),
    (
        reported(DISPATCHED, told(ReportKind.BOUNCED, "k5")),
        Sure.CERTAIN,
        "Sent at 2031-05-04 12:00:01 UTC, and given back: it did not arrive.",
    ),
    (settled(sending(), Refused("bad_address")), Sure.CERTAIN, ANSWER),
    (then(given(requested()), (n.Expired(**origin(2).stamp()),)), Sure.CERTAIN, ANSWER),
    (then(given(requested()), (CANCELLED,)), Sure.CERTAIN, ANSWER),
]


WENT = {
    Status.REQUESTED: Went.WAITING,
    Status.DEFERRED: Went.WAITING,
    Status.SENDING: Went.WAITING,
    Status.IN_DOUBT: Went.UNKNOWN,
    Status.DISPATCHED: Went.HANDED_OVER,
    Status.DELIVERED: Went.ARRIVED,
    Status.OPENED: Went.ARRIVED,
    Status.CLICKED: Went.ARRIVED,
    Status.COMPLAINED: Went.SPAM,
    Status.BOUNCED: Went.LOST,
}


@pytest.mark.parametrize(("state", "sure", "words"), VERDICTS, ids=[str(state.status) for state, _, _ in VERDICTS])
def test_a_status_has_a_sentence_that_says_how_sure_it_is(state: n.State, sure: Sure, words: str):
    said = verdict(state, ANSWER)
    assert (said.sure, said.words) == (sure, words)
    assert said.went is WENT.get(state.status, Went.NOT_SENT)
    assert said.because.endswith(".")
    assert said.to_do.endswith(".")


def test_every_status_has_been_given_a_verdict_but_the_one_that_passes_at_once():
    assert {state.status for state, _, _ in VERDICTS} == set(Status) - {Status.RENDERED}


def test_what_ended_while_a_try_was_open_may_have_been_sent():
    for open_one in (sending(), settled(sending(), InDoubt("read_timeout"))):
        ended = then(open_one, (CANCELLED,))
        assert verdict(ended, ANSWER).sure is Sure.UNKNOWN
        assert verdict(ended, ANSWER).words.startswith("It may have been sent at")
        assert verdict(ended, ANSWER).words.endswith(ANSWER)


def test_a_mail_program_is_no_excuse_for_what_a_device_has_said():
    state = reported(settled(sending(channel=Channel.PUSH), Accepted("ref-1")), told(ReportKind.OPENED))
    assert "mail" not in f"{verdict(state, ANSWER).words} {verdict(state, ANSWER).because}"


def test_what_was_called_off_after_it_had_arrived_has_arrived():
    assert verdict(then(DELIVERED, (CANCELLED,)), ANSWER).words.startswith("Delivered to the mail server")


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        (Channel.SMS, "Delivered to the phone, as its network says, at"),
        (Channel.PUSH, "Delivered to the device, as the app on it says, at"),
    ],
)
def test_who_took_it_is_said_in_the_words_of_the_channel(channel: Channel, words: str):
    state = reported(settled(sending(channel=channel), Accepted("ref-1")), told(ReportKind.DELIVERED))
    assert verdict(state, ANSWER).words.startswith(words)


NOTIFICATION_TOPICS = [topic for topic in TOPICS if topic.startswith("notification.")]


@pytest.mark.parametrize("topic", NOTIFICATION_TOPICS)
def test_every_fact_is_told_in_a_sentence_that_names_nobody(topic: str):
    words = happened(FACTS[topic])
    assert re.fullmatch(r"[A-Z0-9a-z].*\.", words), words
    assert "does not know" not in words
    assert "ada" not in words.lower()
    assert "None" not in words
