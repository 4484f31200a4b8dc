"""The policy `strongest-evidence`, row by row, as contracts.md words it."""

import itertools

import pytest

from ledger.status import PRECEDENCE, STRENGTH, Evidence, Status, strongest_evidence

WITHIN_AN_ATTEMPT = "sending < in_doubt < refused < dispatched < delivered < bounced < opened < clicked < complained"
OVER_ATTEMPTS = (
    "complained > clicked > opened > delivered > dispatched > (failed, expired, cancelled, suppressed) > sending > "
    "in_doubt > bounced > refused"
)
ENDINGS = (Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED)


def _rank(word: str) -> int:
    rows = [row.strip(" ()").split(", ") for row in OVER_ATTEMPTS.split(">")]
    return next(-number for number, row in enumerate(rows) if word in row)


def test_within_an_attempt_the_strength_is_that_of_the_contract():
    assert sorted(STRENGTH, key=STRENGTH.__getitem__) == WITHIN_AN_ATTEMPT.split(" < ")


def test_over_attempts_the_precedence_is_that_of_the_contract():
    words = list(PRECEDENCE)
    assert len(words) == len(Evidence) + len(ENDINGS)
    for one, other in itertools.product(words, words):
        assert (PRECEDENCE[one] < PRECEDENCE[other]) == (_rank(one) < _rank(other)), (one, other)


@pytest.mark.parametrize(
    ("evidence", "status"),
    [
        (Evidence.SENDING, Status.SENDING),
        (Evidence.IN_DOUBT, Status.IN_DOUBT),
        (Evidence.REFUSED, Status.DEFERRED),
        (Evidence.DISPATCHED, Status.DISPATCHED),
        (Evidence.DELIVERED, Status.DELIVERED),
        (Evidence.BOUNCED, Status.BOUNCED),
        (Evidence.OPENED, Status.OPENED),
        (Evidence.CLICKED, Status.CLICKED),
        (Evidence.COMPLAINED, Status.COMPLAINED),
    ],
)
def test_one_attempt_is_told_by_its_evidence(evidence: Evidence, status: Status):
    assert strongest_evidence([evidence], ended=None, rendered=True) is status


@pytest.mark.parametrize("ended", ENDINGS)
@pytest.mark.parametrize("evidence", Evidence)
def test_an_ending_stands_unless_something_has_left(ended: Status, evidence: Evidence):
    arrived = PRECEDENCE[evidence] > PRECEDENCE[Status.FAILED]
    expected = Status(evidence) if arrived else ended
    assert strongest_evidence([evidence], ended=ended, rendered=True) is expected


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(Evidence, 2)))
def test_of_two_attempts_the_better_one_for_the_person_counts_in_either_order(one: Evidence, other: Evidence):
    best = max(one, other, key=_rank)
    expected = Status.DEFERRED if best is Evidence.REFUSED else Status(best)
    assert strongest_evidence([one, other], ended=None, rendered=True) is expected
    assert strongest_evidence([other, one], ended=None, rendered=True) is expected


def test_without_an_attempt_it_is_requested_or_rendered():
    assert strongest_evidence([], ended=None, rendered=False) is Status.REQUESTED
    assert strongest_evidence([], ended=None, rendered=True) is Status.RENDERED


@pytest.mark.parametrize("ended", ENDINGS)
def test_an_ending_without_an_attempt_stands(ended: Status):
    assert strongest_evidence([], ended=ended, rendered=False) is ended
