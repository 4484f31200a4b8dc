from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.values import Channel, Wanted
from templates.catalogue import Catalogue, load
from templates.direct import examine_request
from templates.envelope import MessageRejectedError, UnknownMessageError
from tests.unit.templates.samples import NOW, body, sample

DATA = {"resetLink": "https://shop.example/reset?token=1"}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def request(**changes: Any) -> bytes:
    whole = {"type": "password_reset", "recipient": {"user_id": "u-1", "email": "ada@example.com"}, "data": DATA}
    return body({name: value for name, value in {**whole, **changes}.items() if value is not None})


def wanted(catalogue: Catalogue, **changes: Any) -> list[Wanted]:
    _, found = catalogue.read_request(request(**changes), now=NOW, channels={Channel.EMAIL})
    return found


def faults(catalogue: Catalogue, **changes: Any) -> list[str]:
    with pytest.raises(MessageRejectedError) as caught:
        wanted(catalogue, **changes)
    return [str(fault) for fault in caught.value.faults]


def test_a_request_is_resolved_by_the_same_declaration_as_a_message(catalogue: Catalogue):
    (asked,) = wanted(
        catalogue, recipient={"user_id": "u-1", "email": "ada@example.com", "name": "Ada", "locale": "en_GB"}
    )
    _, (told,) = catalogue.read(
        body(sample("PasswordResetRequestedEvent", userId="u-1", resetLink=DATA["resetLink"])),
        now=NOW,
        channels={Channel.EMAIL},
    )
    same = ("type", "channel", "category", "lane", "recipient", "personal", "locale", "template", "doubt", "catalogue")
    assert [getattr(asked, name) for name in same] == [getattr(told, name) for name in same]


def test_an_address_alone_is_enough(catalogue: Catalogue):
    (found,) = wanted(catalogue, recipient={"email": "ada@example.com"})
    assert (found.recipient, found.personal.address, found.locale) == (None, "ada@example.com", "en")


def test_a_user_alone_is_enough(catalogue: Catalogue):
    (found,) = wanted(catalogue, recipient={"user_id": "u-1"}, channels=["email"])
    assert (found.recipient, found.personal.address) == ("u-1", None)


def test_the_channels_with_an_address_are_used_when_none_is_named(catalogue: Catalogue):
    data = wanted_data()
    asked = request(type="order_confirmed", data=data, recipient={"user_id": "u-1", "phone": "+442071838750"})
    _, found = catalogue.read_request(asked, now=NOW, channels=set(Channel))
    assert [(one.channel, one.personal.address) for one in found] == [(Channel.SMS, "+442071838750")]
    assert found[0].references == {"order": "o-1"}


def test_a_number_is_kept_in_e164(catalogue: Catalogue):
    asked = request(type="order_confirmed", data=wanted_data(), recipient={"phone": "+44 (0)20 7183-8750"})
    _, (found,) = catalogue.read_request(asked, now=NOW, channels=set(Channel))
    assert found.personal.address == "+442071838750"


def wanted_data() -> dict[str, Any]:
    return {"orderId": "o-1", "items": [], "totalAmount": "27.00", "currency": "GBP"}


def test_a_time_to_send_moves_the_expiry(catalogue: Catalogue):
    (found,) = wanted(catalogue, send_at="2031-05-05T12:00:00+02:00")
    assert found.send_at == datetime(2031, 5, 5, 10, tzinfo=UTC)
    assert found.expires_at == datetime(2031, 5, 5, 10, 30, tzinfo=UTC)


def test_an_expiry_of_its_own_wins(catalogue: Catalogue):
    (found,) = wanted(catalogue, expires_at="2031-05-04T13:00:00Z")
    assert found.expires_at == datetime(2031, 5, 4, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"send_at": "2031-05-05T12:00:00"}, ["send_at must be an ISO 8601 time with an offset"]),
        ({"send_at": (NOW + timedelta(weeks=9)).isoformat()}, ["send_at must be at most 8 weeks ahead"]),
        ({"expires_at": NOW.isoformat()}, ["expires_at must be in the future, and after send_at"]),
        (
            {"send_at": "2031-05-06T00:00:00Z", "expires_at": "2031-05-05T00:00:00Z"},
            ["expires_at must be in the future, and after send_at"],
        ),
        ({"expires_at": "2050-01-01T00:00:00Z"}, ["expires_at must be at most 8 weeks after now, or after send_at"]),
        ({"channels": ["sms"]}, ["channels[0] must be email"]),
        ({"channels": ["fax"]}, ["channels[0] must be email or sms or push"]),
        ({"channels": []}, ["channels must name at least one channel"]),
        ({"channels": "email"}, ["channels must be a list"]),
        ({"recipient": None}, ["recipient is required", "recipient needs a user_id, or an address for email"]),
        ({"recipient": {}}, ["recipient needs a user_id, or an address for email"]),
        ({"recipient": {"phone": "+442071838750"}}, ["recipient needs a user_id, or an address for email"]),
        (
            {"recipient": {"phone": "+442071838750"}, "channels": ["email"]},
            ["recipient needs a user_id, or an address for email"],
        ),
        ({"data": None}, ["data.resetLink is required"]),
        ({"data": []}, ["data must be an object", "data.resetLink is required"]),
        ({"data": {**DATA, "link": 1}}, ["data.link is not known; known are resetLink"]),
        ({"type": "ada@example.com"}, ["type must be a name such as order_shipped"]),
        ({"sendAt": "x"}, ["sendAt is not known; known are channels, data, expires_at, recipient, send_at, type"]),
    ],
)
def test_a_fault_of_a_request_is_named(catalogue: Catalogue, changes: dict[str, Any], expected: list[str]):
    assert faults(catalogue, **changes) == expected


def test_a_channel_that_the_kind_has_but_nobody_serves_is_named(catalogue: Catalogue):
    changes = {"type": "order_confirmed", "data": wanted_data(), "channels": ["sms", "email"]}
    assert faults(catalogue, **changes) == ["channels[0] is not served here"]


def test_every_fault_of_a_request_is_named_at_once(catalogue: Catalogue):
    found = faults(
        catalogue,
        recipient={"email": "nobody", "locale": "?", "fax": 1},
        data={"resetLink": "javascript:alert(1)"},
        send_at=7,
    )
    assert {fault.split(" ")[0] for fault in found} == {
        "recipient.email",
        "recipient.locale",
        "recipient.fax",
        "recipient",
        "data.resetLink",
        "send_at",
    }


def test_an_unknown_type_is_unknown(catalogue: Catalogue):
    with pytest.raises(UnknownMessageError):
        wanted(catalogue, type="party")


def test_what_the_database_cannot_hold_is_refused(catalogue: Catalogue):
    assert faults(catalogue, recipient={"user_id": "u\0"})[0] == "recipient.user_id holds a NUL character"


def test_a_request_that_was_read_is_resolved_in_a_step_of_its_own(catalogue: Catalogue):
    read, _ = examine_request(request(), now=NOW)
    assert catalogue.direct(read, channels={Channel.EMAIL}) == wanted(catalogue)
    incomplete, _ = examine_request(request(data={}), now=NOW)
    with pytest.raises(MessageRejectedError):
        catalogue.direct(incomplete, channels={Channel.EMAIL})


def test_i03_the_hash_tells_requests_apart(catalogue: Catalogue):
    one = examine_request(request(), now=NOW)[0].body_hash
    assert examine_request(request(), now=NOW + timedelta(hours=1))[0].body_hash == one
    assert examine_request(request(channels=["email"]), now=NOW)[0].body_hash != one
