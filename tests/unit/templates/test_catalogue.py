from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.values import Category, Channel, DoubtPolicy, Lane, Wanted
from templates.catalogue import CATALOGUE, Catalogue, describe, load
from templates.envelope import MessageRejectedError, UnknownMessageError, examine
from tests.unit.templates.samples import MEANINGS, NOW, body, sample

EMAIL = frozenset({Channel.EMAIL})
ALL = frozenset(Channel)
ADA = "6f1c2c1e-6f0e-4a55-9a64-0f6a0f3b7d10"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def wanted(catalogue: Catalogue, message: dict[str, Any], channels: Collection[Channel] = EMAIL) -> list[Wanted]:
    _, found = catalogue.read(body(message), now=NOW, channels=channels)
    return found


def faults(catalogue: Catalogue, message: dict[str, Any]) -> list[str]:
    with pytest.raises(MessageRejectedError) as caught:
        catalogue.read(body(message), now=NOW, channels=ALL)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(("message_type", "meaning"), MEANINGS.items())
def test_each_sample_asks_for_what_its_line_says(catalogue: Catalogue, message_type: str, meaning: str):
    found = wanted(catalogue, sample(message_type), ALL)
    kind, _, line = meaning.partition(": ")
    said = line.split("; falls back")[0].split(", falls back")[0]
    assert {notification.type for notification in found} == {kind}
    assert {notification.channel for notification in found} == {channel for channel in Channel if channel in said}
    for notification in found:
        assert ("marketing" in line) == (notification.category is Category.MARKETING)
        assert ("security" in line) == (notification.category is Category.SECURITY)
        assert [lane for lane in (Lane.URGENT, Lane.HIGH) if lane in line] in ([], [notification.lane])


def test_all_seventeen_types_are_known_and_those_about_people(catalogue: Catalogue):
    about_people = {"UserContactChangedEvent", "DeviceRegisteredEvent", "UserPreferencesChangedEvent"}
    assert catalogue.types == {*MEANINGS, *about_people}
    with pytest.raises(UnknownMessageError, match="UserBefriendedEvent"):
        wanted(catalogue, {**sample("UserRegisteredEvent"), "messageType": "UserBefriendedEvent"})


ADDRESSES = ("emailAddress", "phoneNumber", "userEmail", "userPhoneNumber")
# A verification proves the very address that its message names; the warehouse is told at addresses, it is no user.
NEED_THEIRS = {"EmailVerificationRequestedEvent", "LowStockWarningEvent"}


@pytest.mark.parametrize("message_type", sorted(MEANINGS.keys() - NEED_THEIRS))
def test_a_message_without_addresses_asks_for_the_same_and_leaves_them_to_what_is_known_of_the_person(
    catalogue: Catalogue, message_type: str
):
    whole = sample(message_type)
    bare = sample(message_type, **dict.fromkeys(ADDRESSES))
    for subscriber in bare["payload"].get("subscribers", []):
        subscriber.pop("email", None)
    with_one, without = wanted(catalogue, whole, ALL), wanted(catalogue, bare, ALL)
    asked_where_given = {Channel.SMS} if message_type == "OrderConfirmedEvent" else set()
    assert [one.channel for one in without] == [one.channel for one in with_one if one.channel not in asked_where_given]
    assert all(one.personal.address is None and one.recipient for one in without)


def test_a_locale_that_nobody_names_is_the_catalogue_s_and_is_marked_as_assumed(catalogue: Catalogue):
    (named,) = wanted(catalogue, sample("UserRegisteredEvent", locale="de_DE"))
    (assumed,) = wanted(catalogue, sample("UserRegisteredEvent", locale=None))
    assert (named.locale, named.locale_assumed) == ("de-DE", False)
    assert (assumed.locale, assumed.locale_assumed) == ("en", True)


def test_everything_that_a_notification_resolves_to_is_in_what_is_wanted(catalogue: Catalogue):
    (found,) = wanted(catalogue, sample("OrderConfirmedEvent"))
    assert (found.type, found.channel, found.category) == ("order_confirmed", Channel.EMAIL, Category.TRANSACTIONAL)
    assert (found.lane, found.doubt, found.retention) == (Lane.HIGH, DoubtPolicy.RESEND, "standard")
    assert (found.recipient, found.locale) == (ADA, "en-GB")
    assert (found.personal.address, found.personal.name) == ("ada@example.com", "Ada")
    assert (found.template, found.catalogue) == ("order_confirmed", catalogue.digest)
    assert len(found.template_version) == len(found.catalogue) == 64
    assert (found.expires_after, found.expires_at, found.send_at) == (timedelta(days=3), None, None)
    assert found.references == {"order": "5b0a7a7e-2f63-47e7-9d1e-3f8a4b6c7d01"}
    assert found.personal.data["items"][0] == {"productName": "Blue mug", "quantity": 2, "price": 7.5}


def test_only_declared_data_are_taken_along(catalogue: Catalogue):
    (found,) = wanted(catalogue, sample("UserRegisteredEvent"))
    assert found.personal.data == {}
    (shipped,) = wanted(
        catalogue, sample("OrderShippedEvent", itemsShipped=[{"productName": "Mug", "quantity": 1, "x": 2}])
    )
    assert shipped.personal.data["itemsShipped"] == [{"productName": "Mug", "quantity": 1}]


def test_a_channel_that_is_not_served_makes_nothing(catalogue: Catalogue):
    assert wanted(catalogue, sample("TwoFactorAuthCodeEvent")) == []
    assert [found.channel for found in wanted(catalogue, sample("OrderShippedEvent"), ALL)] == list(Channel)


def test_an_sms_needs_a_phone_number_to_be_asked_for(catalogue: Catalogue):
    for number in (None, ""):
        found = wanted(catalogue, sample("OrderConfirmedEvent", userPhoneNumber=number), ALL)
        assert [notification.channel for notification in found] == [Channel.EMAIL]


def test_a_number_is_kept_in_e164(catalogue: Catalogue):
    (found,) = wanted(catalogue, sample("TwoFactorAuthCodeEvent", phoneNumber="+44 20 7183 8750"), ALL)
    assert found.personal.address == "+442071838750"


def test_a_push_is_wanted_without_an_address(catalogue: Catalogue):
    push = wanted(catalogue, sample("OrderDeliveredEvent"), {Channel.PUSH})
    assert [(found.recipient, found.personal.address) for found in push] == [(ADA, None)]


def test_every_kind_has_words_and_one_that_has_none_yet_has_no_version(catalogue: Catalogue, tmp_path: Path):
    assert all(kind.template_version for kind in catalogue.kinds.values())
    nothing = load(messages=tmp_path)
    (found,) = wanted(nothing, sample("RefundProcessedEvent"))
    assert (found.template, found.template_version) == ("refund_processed", "")


def test_each_subscriber_is_wanted_once_in_the_order_of_the_message(catalogue: Catalogue):
    subscribers = [
        {"userId": "u-2", "email": "two@example.com", "locale": "fr_FR"},
        {"userId": "u-1", "email": "one@example.com"},
        {"userId": "u-2", "email": "other@example.com"},
    ]
    found = wanted(catalogue, sample("ProductBackInStockEvent", subscribers=subscribers))
    assert [(one.recipient, one.personal.address, one.locale) for one in found] == [
        ("u-2", "two@example.com", "fr-FR"),
        ("u-1", "one@example.com", "en"),
    ]
    assert {one.doubt for one in found} == {DoubtPolicy.DROP}


def test_a_bare_address_is_a_person_too(catalogue: Catalogue):
    emails = ["b@example.com", "A@example.com", "B@EXAMPLE.com"]
    found = wanted(catalogue, sample("LowStockWarningEvent", recipientEmails=emails))
    assert [(one.recipient, one.personal.address) for one in found] == [(None, emails[0]), (None, emails[1])]


def test_nobody_to_tell_is_no_fault(catalogue: Catalogue):
    assert wanted(catalogue, sample("LowStockWarningEvent", recipientEmails=[])) == []


def test_a_reset_link_expires_with_its_token_however_long_the_message_lay(catalogue: Catalogue):
    (found,) = wanted(catalogue, sample("PasswordResetRequestedEvent"))
    assert found.expires_at == datetime(2031, 5, 4, 12, 29, 0, 125000, tzinfo=UTC)


def test_a_code_expires_after_the_seconds_that_the_message_gives(catalogue: Catalogue):
    (found,) = wanted(catalogue, sample("TwoFactorAuthCodeEvent"), ALL)
    assert found.expires_at == datetime(2031, 5, 4, 12, 4, 0, 125000, tzinfo=UTC)


def test_a_sale_expires_when_it_ends_and_in_eight_weeks_at_the_latest(catalogue: Catalogue):
    (found,) = wanted(catalogue, sample("FlashSaleAnnouncedEvent", endsAt="2031-05-06T00:00:00+02:00"))
    assert found.expires_at == datetime(2031, 5, 5, 22, tzinfo=UTC)
    (late,) = wanted(catalogue, sample("FlashSaleAnnouncedEvent", endsAt="9999-01-01T00:00:00Z"))
    assert late.expires_at == datetime(2031, 6, 29, 11, 59, 0, 125000, tzinfo=UTC)


@pytest.fixture
def scheduled(tmp_path: Path) -> Catalogue:
    """Ours, where a sale is told of at a time that its message gives."""
    file, sale = tmp_path / "catalogue.yaml", "  FlashSaleAnnouncedEvent:\n    - notification: flash_sale\n"
    file.write_text(CATALOGUE.read_text("utf-8").replace(sale, f"{sale}      send_at: payload.startsAt?\n"))
    return load(file)


def sale(**times: str) -> dict[str, Any]:
    return sample("FlashSaleAnnouncedEvent", **times)


def test_what_a_message_wants_later_is_sent_then_and_ends_counted_from_then(scheduled: Catalogue):
    starts, ends = "2031-05-10T08:00:00+02:00", "9999-01-01T00:00:00Z"
    (found,) = wanted(scheduled, sale(startsAt=starts, endsAt=ends))
    begins = datetime(2031, 5, 10, 6, tzinfo=UTC)
    assert (found.send_at, found.expires_at) == (begins, begins + timedelta(weeks=8))
    assert wanted(scheduled, sale())[0].send_at is None


@pytest.mark.parametrize(
    ("starts", "expected"),
    [("2031-07-01T00:00:00Z", "must be at most 8 weeks ahead"), ("soon", "must be an ISO 8601 time with an offset")],
)
def test_a_time_to_send_is_a_time_within_eight_weeks(scheduled: Catalogue, starts: str, expected: str):
    assert faults(scheduled, sale(startsAt=starts)) == [f"payload.startsAt {expected}"]


def test_a_name_may_be_any_unicode_and_may_be_missing(catalogue: Catalogue):
    for name in ("نور", "O'Brien 🎉", "张伟", None):
        (found,) = wanted(catalogue, sample("UserRegisteredEvent", firstName=name))
        assert found.personal.name == name


def test_an_internationalised_address_is_taken(catalogue: Catalogue):
    (found,) = wanted(catalogue, sample("UserRegisteredEvent", emailAddress="用户@例え.jp"))
    assert found.personal.address == "用户@例え.jp"


@pytest.mark.parametrize(
    "address",
    [
        "ada",
        "ada@",
        "@example.com",
        "ada@localhost",
        "a@b@example.com",
        "ada@example.com\r\nBcc: all@example.com",
        "ada @example.com",
        "ada@exam\u200bple.com",
        "<ada@example.com>",
        "ada@example..com",
        f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.example.com",
        7,
        ["ada@example.com"],
    ],
)
def test_a_malformed_address_is_a_fault(catalogue: Catalogue, address: object):
    assert faults(catalogue, sample("UserRegisteredEvent", emailAddress=address)) == [
        "payload.emailAddress must be an e-mail address: one @, a domain, at most 254 characters"
    ]


def test_every_fault_of_a_payload_is_named_at_once(catalogue: Catalogue):
    message = sample(
        "OrderConfirmedEvent",
        userId=7,
        userEmail="ada",
        userPhoneNumber="0171 1234",
        firstName="Ada\nLovelace",
        locale="English, please",
        orderConfirmationLink="javascript:alert(1)",
        orderDetails={
            "items": [{"productName": "Mug", "quantity": "two", "price": True}, "tea", {"productName": "Tea"}],
            "currency": "pounds",
            "shippingAddress": {"city": 3},
        },
    )
    assert sorted(faults(catalogue, message)) == [
        "payload.firstName must be a string of at most 200 characters on one line",
        "payload.locale must be a language tag such as en-GB",
        "payload.orderConfirmationLink must be an http or https URL",
        "payload.orderDetails.currency must be an ISO 4217 code such as GBP",
        "payload.orderDetails.items[0].price must be a number, or a decimal in a string",
        "payload.orderDetails.items[0].quantity must be a number",
        "payload.orderDetails.items[1] must be an object",
        "payload.orderDetails.items[2].price is required",
        "payload.orderDetails.items[2].quantity is required",
        "payload.orderDetails.shippingAddress.city must be a string of at most 2000 characters without controls",
        "payload.orderDetails.shippingAddress.line1 is required",
        "payload.orderDetails.totalAmount is required",
        "payload.userEmail must be an e-mail address: one @, a domain, at most 254 characters",
        "payload.userId must be a string of 1 to 200 printable characters",
        "payload.userPhoneNumber must be a phone number with its country code such as +442071838750",
    ]


def test_faults_of_a_list_name_its_element(catalogue: Catalogue):
    assert faults(catalogue, sample("LowStockWarningEvent", recipientEmails=["a@example.com", "nobody", None])) == [
        "payload.recipientEmails[1] must be an e-mail address: one @, a domain, at most 254 characters",
        "payload.recipientEmails[2] is required",
    ]
    subscribers = [{"userId": "u-1"}, "x"]
    assert faults(catalogue, sample("ProductBackInStockEvent", subscribers=subscribers)) == [
        "payload.subscribers[1].userId is required",
    ]


@pytest.mark.parametrize(("people", "fault"), [(None, "is required"), ("a@example.com", "must be a list")])
def test_a_list_that_is_none_is_a_fault(catalogue: Catalogue, people: object, fault: str):
    message = sample("LowStockWarningEvent", recipientEmails=people)
    assert faults(catalogue, message) == [f"payload.recipientEmails {fault}"]


@pytest.mark.parametrize("seconds", [0, -5, "300", 2.5, 10**9, True])
def test_seconds_are_a_whole_number_of_some_weeks_at_most(catalogue: Catalogue, seconds: object):
    assert faults(catalogue, sample("TwoFactorAuthCodeEvent", expiresInSeconds=seconds)) == [
        "payload.expiresInSeconds must be a whole number of seconds, at most 8 weeks"
    ]


def test_an_end_without_an_offset_is_a_fault(catalogue: Catalogue):
    assert set(faults(catalogue, sample("FlashSaleAnnouncedEvent", endsAt="2031-05-06T00:00:00"))) == {
        "payload.endsAt must be an ISO 8601 time with an offset"
    }


def test_faults_of_envelope_and_payload_come_together(catalogue: Catalogue):
    message = sample("EmailVerificationRequestedEvent", emailAddress=None)
    del message["messageId"]
    assert faults(catalogue, message) == ["messageId is required", "payload.emailAddress is required"]


def test_a_type_that_is_not_ours_is_unknown_whatever_else_is_wrong(catalogue: Catalogue):
    with pytest.raises(UnknownMessageError) as caught:
        catalogue.read(body({"messageType": "StockCounted.v3", "payload": {}}), now=NOW, channels=EMAIL)
    assert caught.value.message_type == "StockCounted"


def test_i01_a_newer_version_of_our_own_is_kept_as_a_dead_letter(catalogue: Catalogue):
    message = {**sample("UserRegisteredEvent"), "messageType": "UserRegisteredEvent.v2"}
    assert faults(catalogue, message) == ["messageType version 2 is not in the catalogue"]


def test_a_rejected_payload_keeps_what_the_dead_letter_needs(catalogue: Catalogue):
    envelope, _ = examine(body(sample("EmailVerificationRequestedEvent", emailAddress=None)), now=NOW)
    with pytest.raises(MessageRejectedError) as caught:
        catalogue.wanted(envelope, channels=EMAIL)
    error = caught.value
    assert (error.reason, error.source, error.message_id) == ("payload", "UserService", envelope.message_id)


def test_the_digest_is_the_same_in_every_process(catalogue: Catalogue):
    assert load().digest == catalogue.digest


def test_the_check_shows_what_this_installation_does_not_serve(catalogue: Catalogue, tmp_path: Path):
    lines = describe(catalogue, channels=EMAIL)
    assert len(lines) == 17
    nothing = describe(load(messages=tmp_path), channels=EMAIL)
    assert (
        "OrderDeliveredEvent.v1 -> order_delivered: email, push (not in CHANNELS); no template yet: suppressed"
        in nothing
    )
    assert any(line.startswith("PaymentFailedEvent.v1 -> payment_failed: email, sms after 15m") for line in lines)
    version = catalogue.kinds["welcome"].template_version[:12]
    assert f"UserRegisteredEvent.v1 -> welcome: email; template {version}" in lines
