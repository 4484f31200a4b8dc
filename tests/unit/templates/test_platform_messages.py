"""All that the platform publishes, from the message to the words: what is sent, what is not, and why."""

from collections import Counter
from datetime import timedelta

import pytest

from ledger.keys import Identity
from ledger.notification import Requested, Source, request
from ledger.policy import AllowList, Considered, Send, Suppress, Verdict, judge
from ledger.recipient import nobody_named
from ledger.values import CONTENT_OF, Category, Channel, FrequencyCap, Wanted
from templates.addresses import country_of, is_email, is_phone
from templates.catalogue import Catalogue, load
from templates.rendering import Renderer
from tests.unit.ledger.samples import origin
from tests.unit.templates.samples import MEANINGS, NOW, body, sample

# What each line of the platform's list names: how many notifications on each channel, and the rule that forbids them.
EMAIL, SMS, PUSH = Channel
NAMED: dict[str, tuple[dict[Channel, int], str | None]] = {
    "UserRegisteredEvent": ({EMAIL: 1}, None),
    "PasswordResetRequestedEvent": ({EMAIL: 1}, None),
    "EmailVerificationRequestedEvent": ({EMAIL: 1}, None),
    "AccountLockedEvent": ({EMAIL: 1}, None),
    "TwoFactorAuthCodeEvent": ({SMS: 1}, None),
    "OrderConfirmedEvent": ({EMAIL: 1, SMS: 1}, None),
    "OrderShippedEvent": ({EMAIL: 1, SMS: 1, PUSH: 1}, None),
    "OrderDeliveredEvent": ({EMAIL: 1, PUSH: 1}, None),
    "OrderCancelledEvent": ({EMAIL: 1}, None),
    "PaymentFailedEvent": ({EMAIL: 1}, None),
    "RefundProcessedEvent": ({EMAIL: 1}, None),
    "ProductBackInStockEvent": ({EMAIL: 2, PUSH: 2}, "no_consent"),
    "LowStockWarningEvent": ({EMAIL: 1}, None),
    "SupportTicketCreatedEvent": ({EMAIL: 1}, None),
    "SupportTicketUpdatedEvent": ({EMAIL: 1}, None),
    "SupportTicketResolvedEvent": ({EMAIL: 1}, None),
    "FlashSaleAnnouncedEvent": ({EMAIL: 1, PUSH: 1}, "no_consent"),
}
BRITISH = AllowList(frozenset({"*"}), frozenset({"GB"}))


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


@pytest.fixture(scope="module")
def renderer(catalogue: Catalogue) -> Renderer:
    return Renderer(sender=catalogue.sender, sms_sender="+15005550006", segments=catalogue.sms_segments)


def wanted_by(catalogue: Catalogue, message_type: str) -> list[Wanted]:
    _, found = catalogue.read(body(sample(message_type)), now=NOW, channels=set(Channel))
    return found


def judged(wanted: Wanted) -> Verdict:
    """Judge it as delivery does; a push has the address that its person's device was registered with."""
    (requested,) = request(wanted, Source(source="test"), origin(), recipient="user:u-1", address_hash=None)
    assert isinstance(requested, Requested)
    address = wanted.personal.address or "cHJvYmFibHkgYW4gaWQgZ3"
    considered = Considered(
        requested=requested,
        recipient=nobody_named(Identity(bytes(32)), "user:u-1"),
        address=address,
        suppression=None,
        country=country_of(address) if wanted.channel is Channel.SMS else None,
        allowed=BRITISH,
        now=NOW,
    )
    return judge(considered)


def test_all_seventeen_are_looked_at():
    assert NAMED.keys() == MEANINGS.keys()


@pytest.mark.parametrize(("message_type", "named"), NAMED.items(), ids=NAMED)
def test_a_message_makes_the_notifications_that_its_line_names(
    catalogue: Catalogue, message_type: str, named: tuple[dict[Channel, int], str | None]
):
    channels, rule = named
    found = wanted_by(catalogue, message_type)
    assert Counter(wanted.channel for wanted in found) == channels
    for wanted in found:
        verdict = judged(wanted)
        assert verdict == Send() if rule is None else isinstance(verdict, Suppress) and verdict.rule == rule


@pytest.mark.parametrize("message_type", NAMED)
def test_marketing_alone_needs_consent_is_capped_and_keeps_quiet_hours(catalogue: Catalogue, message_type: str):
    bound = ("marketing", FrequencyCap(2, timedelta(days=1)), True)
    for wanted in wanted_by(catalogue, message_type):
        is_marketing = wanted.category is Category.MARKETING
        found = (wanted.consent, wanted.frequency_cap, wanted.quiet_hours)
        assert found == (bound if is_marketing else (None, None, False))


@pytest.mark.parametrize("locale", ["en", "fr"])
@pytest.mark.parametrize("message_type", NAMED)
def test_a_message_is_said_to_each_in_the_words_of_its_channel_and_language(
    catalogue: Catalogue, renderer: Renderer, message_type: str, locale: str
):
    for wanted in wanted_by(catalogue, message_type):
        rendered = renderer.render(wanted.template, wanted.channel, locale=locale, personal=wanted.personal)
        assert type(rendered.content) is CONTENT_OF[wanted.channel]
        assert rendered.locale == locale
        assert rendered.template_version == wanted.template_version


@pytest.mark.parametrize("message_type", NAMED)
def test_a_message_holds_the_address_that_each_channel_needs(catalogue: Catalogue, message_type: str):
    for wanted in wanted_by(catalogue, message_type):
        address = wanted.personal.address
        match wanted.channel:
            case Channel.EMAIL:
                assert is_email(address)
            case Channel.SMS:
                assert is_phone(address)
            case Channel.PUSH:
                assert address is None
        assert wanted.recipient is not None or wanted.type == "low_stock"


def test_a_failed_payment_has_words_and_a_number_to_fall_back_to(catalogue: Catalogue, renderer: Renderer):
    (wanted,) = wanted_by(catalogue, "PaymentFailedEvent")
    assert wanted.fallback is not None
    assert wanted.personal.fallback_address == "+442071838750"
    said = renderer.render(wanted.template, wanted.fallback.channel, locale=wanted.locale, personal=wanted.personal)
    assert type(said.content) is CONTENT_OF[Channel.SMS]
