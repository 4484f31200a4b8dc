"""Messages about people: what is read of them, and every fault at once."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.recipient import ContactNews, DeviceNews, Field, Platform
from ledger.values import Channel
from templates.catalogue import Catalogue, load
from templates.envelope import MessageRejectedError, examine
from tests.unit.templates.samples import NOW, STAMP, body

SAID_AT = datetime(2031, 5, 4, 11, 59, 0, 125000, tzinfo=UTC)
EMAIL = "must be an e-mail address: one @, a domain, at most 254 characters"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def about(message_type: str = "UserContactChangedEvent", **payload: Any) -> bytes:
    envelope = {"messageId": "m-1", "messageType": message_type, "timestamp": STAMP, "sourceService": "UserService"}
    return body({**envelope, "payload": {"userId": "u-1", **payload}})


def asked(catalogue: Catalogue, message: bytes) -> object:
    envelope, _ = examine(message, now=NOW)
    return catalogue.asks(envelope, channels=set(Channel))


def faults(catalogue: Catalogue, message: bytes) -> list[str]:
    with pytest.raises(MessageRejectedError) as caught:
        catalogue.read(message, now=NOW, channels=set(Channel))
    return [str(fault) for fault in caught.value.faults]


def test_a_contact_is_read_as_of_the_message_s_time(catalogue: Catalogue):
    message = about(
        emailAddress="ada@example.com",
        phoneNumber="+442071838750",
        firstName="Ada",
        locale="en_GB",
        timeZone="Europe/London",
    )
    values = {
        Field.EMAIL: "ada@example.com",
        Field.PHONE: "+442071838750",
        Field.NAME: "Ada",
        Field.LOCALE: "en-GB",
        Field.TIME_ZONE: "Europe/London",
    }
    assert asked(catalogue, message) == ContactNews("u-1", SAID_AT, values)


def test_what_is_absent_is_not_spoken_of_and_null_or_nothing_clears(catalogue: Catalogue):
    assert asked(catalogue, about(emailAddress=None, phoneNumber="", more=1)) == ContactNews(
        "u-1", SAID_AT, {Field.EMAIL: None, Field.PHONE: None}
    )


def test_a_device_is_read(catalogue: Catalogue):
    message = about("DeviceRegisteredEvent", fid="dLxYq2_APA91b-", platform="ios")
    assert asked(catalogue, message) == DeviceNews("u-1", SAID_AT, "dLxYq2_APA91b-", Platform.IOS)


def test_a_message_about_a_person_asks_for_no_notification(catalogue: Catalogue):
    _, wanted = catalogue.read(about(emailAddress="ada@example.com"), now=NOW, channels=set(Channel))
    assert wanted == []


def test_every_fault_of_a_contact_is_named_and_no_value(catalogue: Catalogue):
    message = about(
        userId=None, emailAddress="ada", phoneNumber=7, firstName=["Ada"], locale="?", timeZone="Atlantis/North"
    )
    assert faults(catalogue, message) == [
        "payload.userId is required",
        f"payload.emailAddress {EMAIL}",
        "payload.phoneNumber must be a phone number with its country code such as +442071838750",
        "payload.firstName must be a string of at most 200 characters on one line",
        "payload.locale must be a language tag such as en-GB",
        "payload.timeZone must be an IANA time zone such as Europe/London",
    ]


def test_faults_of_envelope_and_payload_come_together(catalogue: Catalogue):
    message = about("DeviceRegisteredEvent", fid="a b", platform=["ios"]).replace(b'"messageId": "m-1", ', b"")
    assert faults(catalogue, message) == [
        "messageId is required",
        "payload.fid must be a Firebase installation id: at most 64 letters, digits, - or _",
        "payload.platform must be android or ios or web",
    ]


def test_a_newer_version_is_kept_as_a_dead_letter(catalogue: Catalogue):
    assert faults(catalogue, about("UserContactChangedEvent.v2")) == ["messageType version 2 is not in the catalogue"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_a_time_zone_is_one_of_the_iana_database(catalogue: Catalogue, zone: str):
    assert asked(catalogue, about(timeZone=zone)) == ContactNews("u-1", SAID_AT, {Field.TIME_ZONE: zone})


@pytest.mark.parametrize(
    "zone", ["Europe", "europe london", "../etc/passwd", "/etc/localtime", "right/Europe/London", "A" * 500, 7, {}]
)
def test_what_is_no_time_zone_is_refused(catalogue: Catalogue, zone: object):
    assert faults(catalogue, about(timeZone=zone)) == [
        "payload.timeZone must be an IANA time zone such as Europe/London"
    ]
