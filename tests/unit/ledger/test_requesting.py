"""From the wish to the words: request, suppress, give up rendering."""

from ledger import notification as n
from ledger.status import Status
from ledger.values import Accepted, Personal
from tests.unit.ledger.samples import FIRST, at, given, origin, requested, sending, settled, then, types, wanted

SOURCE = n.Source(source="orders", message_id="m-1", correlation_id="c-1")
NO_CONSENT = ("no_consent", "2026-11", {"consent": "none recorded"})


def test_a_request_carries_everything_that_was_resolved():
    (fact,) = n.request(
        wanted(references={"order": "A-17"}), SOURCE, origin(), recipient="user:u-1", address_hash="ab" * 16
    )
    assert isinstance(fact, n.Requested)
    expected = requested(
        lane=fact.lane,
        message_id="m-1",
        correlation_id="c-1",
        references={"order": "A-17"},
        personal=Personal("ada@example.com"),
    )
    assert fact == expected


def test_a_request_expires_a_while_after_it_was_made():
    (fact,) = n.request(wanted(), SOURCE, origin(), recipient="user:u-1", address_hash=None)
    assert isinstance(fact, n.Requested)
    assert fact.expires_at == at(86_400)


def test_a_request_for_later_expires_a_while_after_that():
    (fact,) = n.request(wanted(send_at=at(3_600)), SOURCE, origin(), recipient="user:u-1", address_hash=None)
    assert isinstance(fact, n.Requested)
    assert (fact.send_at, fact.expires_at) == (at(3_600), at(90_000))


def test_a_request_for_a_time_that_has_passed_counts_its_expiry_from_now():
    (fact,) = n.request(wanted(send_at=at(-3_600)), SOURCE, origin(), recipient="user:u-1", address_hash=None)
    assert isinstance(fact, n.Requested)
    assert fact.expires_at == at(86_400)


def test_an_expiry_that_the_message_names_is_taken():
    (fact,) = n.request(wanted(expires_at=at(60)), SOURCE, origin(), recipient="user:u-1", address_hash=None)
    assert isinstance(fact, n.Requested)
    assert fact.expires_at == at(60)


def test_a_new_notification_is_requested():
    state = given(requested())
    assert (state.status, state.version, state.changed_at) == (Status.REQUESTED, 1, at(0))


def test_a_rule_that_forbids_it_ends_it_and_says_what_it_looked_at():
    state = given(requested())
    (fact,) = n.suppress(state, NO_CONSENT, origin(1))
    assert fact == n.Suppressed(
        **origin(1).stamp(), rule="no_consent", policy="2026-11", inputs={"consent": "none recorded"}
    )
    ended = then(state, (fact,))
    assert (ended.status, ended.reason, ended.version) == (Status.SUPPRESSED, "no_consent", 2)


def test_what_has_ended_is_not_suppressed_again():
    state = given(requested())
    ended = then(state, n.suppress(state, NO_CONSENT, origin(1)))
    assert n.suppress(ended, NO_CONSENT, origin(2)) == ()


def test_an_open_attempt_is_not_suppressed():
    assert n.suppress(sending(), NO_CONSENT, origin(1)) == ()


def test_what_a_provider_has_taken_is_not_suppressed():
    assert n.suppress(settled(sending(), Accepted("ref-1")), NO_CONSENT, origin(2)) == ()


def test_what_is_to_be_sent_later_is_not_suppressed_before():
    assert n.suppress(given(requested(send_at=at(60))), NO_CONSENT, origin(59)) == ()


def test_what_has_expired_is_not_suppressed():
    assert n.suppress(given(requested(expires_at=at(60))), NO_CONSENT, origin(60)) == ()


def test_words_that_cannot_be_made_end_it():
    state = given(requested())
    facts = n.give_up_rendering(state, "undefined: order", origin(1))
    assert facts == (
        n.RenderFailed(**origin(1).stamp(), code="undefined: order", template="order_shipped"),
        n.Failed(**origin(1).stamp(), reason="render_failed: undefined: order"),
    )
    ended = then(state, facts)
    assert (ended.status, ended.reason) == (Status.FAILED, "render_failed: undefined: order")


def test_rendering_is_given_up_once():
    state = given(requested())
    ended = then(state, n.give_up_rendering(state, "undefined", origin(1)))
    assert n.give_up_rendering(ended, "undefined", origin(2)) == ()


def test_rendering_is_not_given_up_while_an_attempt_is_open():
    assert n.give_up_rendering(sending(), "undefined", origin(1)) == ()


def test_a_process_that_crashes_again_and_again_over_it_ends_it():
    state = given(requested())
    (fact,) = n.set_aside(state, 6, origin(1))
    assert fact == n.Failed(**origin(1).stamp(), reason="set aside after 6 crashes")
    assert then(state, (fact,)).status is Status.FAILED


def test_an_open_attempt_may_be_set_aside_and_its_outcome_is_still_recorded():
    state = sending()
    ended = then(state, n.set_aside(state, 6, origin(1)))
    assert ended.status is Status.FAILED
    assert settled(ended, Accepted("ref-1"), attempt=FIRST).status is Status.DISPATCHED


def test_what_has_ended_is_not_set_aside_again():
    ended = then(given(requested()), n.set_aside(given(requested()), 6, origin(1)))
    assert n.set_aside(ended, 7, origin(2)) == ()


def test_what_a_provider_has_taken_is_not_set_aside():
    assert types(n.set_aside(settled(sending(), Accepted("ref-1")), 6, origin(2))) == []
