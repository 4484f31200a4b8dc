"""What a person allows: given what was said of it, when more is said, then what is recorded."""

from datetime import time
from typing import Any

import msgspec
from hypothesis import given, strategies

from ledger.keys import Identity
from ledger.preferences import (
    Choice,
    ConsentChanged,
    ConsentNews,
    PreferenceNews,
    Preferences,
    PreferencesChanged,
    QuietHours,
    QuietHoursChanged,
)
from ledger.recipient import ContactNews, Erased, Facts, Field, News, Recipient, fold, learn, nobody
from ledger.values import Category, Channel
from tests.unit.ledger.samples import at, origin

IDENTITY = Identity(bytes(range(32)))
UNKNOWN = nobody(IDENTITY, "u-1")
MARKETING, SECURITY = Category.MARKETING, Category.SECURITY
NIGHT, NOON = QuietHours(time(22), time(7)), QuietHours(time(12), time(13))
NEWSLETTER = "newsletter"


def said(seconds: float = 0, **parts: Any) -> PreferenceNews:
    return PreferenceNews(user_id="u-1", said_at=at(seconds), **parts)


def chose(seconds: float, *, enabled: bool, channel: Channel = Channel.EMAIL) -> PreferenceNews:
    return said(seconds, choices=(Choice(MARKETING, channel, enabled),))


def agreed(seconds: float, *, granted: bool = True, message: float | None = None, **proof: str) -> PreferenceNews:
    consent = ConsentNews(purpose=NEWSLETTER, granted=granted, at=at(seconds), **proof)
    return said(seconds if message is None else message, consents=(consent,))


def when(state: Recipient, news: News, *, seconds: float = 100) -> Facts:
    return learn(state, news, origin(seconds), IDENTITY)


def known(*news: News, state: Recipient = UNKNOWN) -> Recipient:
    for one in news:
        state = fold(state, when(state, one))
    return state


def wants(state: Recipient, channel: Channel = Channel.EMAIL) -> bool | None:
    chosen = state.allows.choices.get((MARKETING, channel))
    return None if chosen is None else chosen.enabled


def consents(state: Recipient) -> bool | None:
    consent = state.allows.consents.get(NEWSLETTER)
    return None if consent is None else consent.granted


def test_all_that_a_message_says_is_recorded_as_of_its_time():
    consent = ConsentNews(purpose=NEWSLETTER, granted=True, at=at(3), wording="2031-05", where="checkout")
    choice = Choice(MARKETING, Channel.SMS, enabled=False)
    facts = when(UNKNOWN, said(5, choices=(choice,), consents=(consent,), quiet=NIGHT))
    stamp: dict[str, Any] = {**origin(100).stamp(), "recipient": "user:u-1"}
    assert facts == (
        PreferencesChanged(**stamp, said_at=at(5), choices=(choice,)),
        ConsentChanged(**stamp, said_at=at(3), purpose=NEWSLETTER, granted=True, wording="2031-05", where="checkout"),
        QuietHoursChanged(**stamp, said_at=at(5), quiet=NIGHT),
    )


def test_each_thing_names_the_fact_that_says_it():
    state = known(chose(1, enabled=False), agreed(2, wording="w"), said(3, quiet=NIGHT), chose(4, enabled=True))
    allows = state.allows
    assert allows.choices[MARKETING, Channel.EMAIL].version == 4
    assert (allows.consents[NEWSLETTER].version, allows.quiet and allows.quiet.version) == (2, 3)


def test_a_message_that_says_nothing_records_nothing():
    assert when(UNKNOWN, said(1)) == ()


def test_what_is_not_spoken_of_stays():
    state = known(chose(1, enabled=False), said(2, quiet=NIGHT), chose(3, enabled=True, channel=Channel.SMS))
    assert (wants(state), wants(state, Channel.SMS)) == (False, True)
    assert state.allows.quiet is not None
    assert state.allows.quiet.hours == NIGHT


def test_the_same_message_again_is_no_news():
    news = said(1, choices=(Choice(SECURITY, Channel.SMS, enabled=True),), quiet=NIGHT)
    assert when(known(news), news) == ()
    assert when(known(agreed(1, wording="w")), agreed(1, wording="w", message=9)) == ()


def test_an_older_message_undoes_nothing_and_still_tells_what_no_later_one_has_spoken_of():
    state = known(chose(2, enabled=False))
    older = (Choice(MARKETING, Channel.EMAIL, enabled=True), Choice(MARKETING, Channel.SMS, enabled=True))
    (fact,) = when(state, said(1, choices=older, quiet=None))[:1]
    assert isinstance(fact, PreferencesChanged)
    assert fact.choices == older[1:]


def test_what_was_said_again_is_not_undone_by_a_message_that_lay_between():
    again = known(chose(1, enabled=False), chose(3, enabled=False), chose(2, enabled=True))
    assert wants(again) is False
    hours = known(said(1, quiet=NIGHT), said(3, quiet=NIGHT), said(2, quiet=None)).allows.quiet
    assert hours is not None
    assert hours.hours == NIGHT


def test_consent_holds_by_when_it_was_given_not_by_the_message_that_tells_of_it():
    withdrawn = agreed(5, granted=False, message=6)
    assert consents(known(withdrawn, agreed(4, wording="w", message=50))) is False
    assert consents(known(withdrawn, agreed(7, wording="w", message=50))) is True


def test_consent_without_a_time_of_its_own_was_given_when_the_message_was_sent():
    (fact,) = when(UNKNOWN, said(7, consents=(ConsentNews(purpose=NEWSLETTER, granted=False),)))
    assert isinstance(fact, ConsentChanged)
    assert fact.said_at == at(7)


def test_quiet_hours_are_cleared_and_an_older_message_does_not_bring_them_back():
    state = known(said(1, quiet=NIGHT), said(3, quiet=None), said(2, quiet=NOON))
    assert state.allows.quiet is not None
    assert state.allows.quiet.hours is None


def test_of_two_with_the_same_time_the_one_holds_that_lets_us_send_less():
    for first, second in (
        (chose(1, enabled=True), chose(1, enabled=False)),
        (agreed(1, wording="w"), agreed(1, granted=False)),
        (said(1, quiet=None), said(1, quiet=NIGHT)),
    ):
        for state in (known(first, second), known(second, first)):
            assert (wants(state), consents(state)) in {(False, None), (None, False), (None, None)}
            assert state.allows.quiet is None or state.allows.quiet.hours == NIGHT


def test_somebody_who_was_erased_starts_anew_and_what_was_said_before_does_not_come_back():
    state = known(chose(1, enabled=False), agreed(2, wording="w"), said(3, quiet=NIGHT))
    state = fold(state, [Erased(**origin(50).stamp(), recipient="user:u-1", reason="asked by letter")])
    assert state.allows == Preferences()
    late = ContactNews("u-1", at(49), {Field.EMAIL: "ada@example.com"})
    assert [when(state, news) for news in (chose(49, enabled=True), agreed(49, wording="w"), late)] == [(), (), ()]
    after = known(chose(51, enabled=True), state=state)
    assert (wants(after), after.version) == (True, 5)


CHOICES = strategies.builds(
    Choice,
    category=strategies.sampled_from([MARKETING, SECURITY]),
    channel=strategies.sampled_from(list(Channel)),
    enabled=strategies.booleans(),
)
MOMENTS = strategies.integers(0, 4).map(at)
CONSENTS = strategies.builds(
    ConsentNews,
    purpose=strategies.sampled_from(["newsletter", "offers"]),
    granted=strategies.booleans(),
    at=MOMENTS,
    wording=strategies.sampled_from([None, "v1", "v2"]),
    where=strategies.sampled_from([None, "shop", "app"]),
)
SAID = strategies.builds(
    PreferenceNews,
    user_id=strategies.just("u-1"),
    said_at=MOMENTS,
    choices=strategies.lists(CHOICES, max_size=3, unique_by=lambda one: (one.category, one.channel)).map(tuple),
    consents=strategies.lists(CONSENTS, max_size=2, unique_by=lambda one: one.purpose).map(tuple),
    quiet=strategies.sampled_from([msgspec.UNSET, None, NIGHT, NOON]),
)


@given(strategies.lists(SAID, max_size=6), strategies.data())
def test_messages_about_preferences_may_come_in_any_order_and_repeatedly(
    news: list[PreferenceNews], data: strategies.DataObject
):
    shuffled = data.draw(strategies.permutations([*news, *news]))
    assert what_holds(known(*news)) == what_holds(known(*shuffled))


def what_holds(state: Recipient) -> Any:
    """What a person allows, but not which fact says so: that depends on the order."""
    allows = state.allows
    numbered = [*allows.choices.items(), *allows.consents.items(), ("quiet", allows.quiet)]
    return {name: one and msgspec.structs.replace(one, version=0) for name, one in numbered}
