from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ledger.values import InDoubt, Postponed, PushMessage, Refused
from providers.contract import Sending
from providers.fcm import request_body, verdict

NOTIFICATION = UUID("0198c0de-0000-7000-8000-000000000001")
ATTEMPT = UUID("0198c0de-0000-7000-8000-000000000002")
TAG = "0198c0de000070008000000000000001"
SAID = PushMessage("Your order is on its way", "It arrives on Monday.", "https://acme.example/orders/1")


def message(said: PushMessage = SAID, *, expires_at: datetime | None = None) -> dict[str, Any]:
    sending = Sending(
        notification=NOTIFICATION,
        attempt=ATTEMPT,
        address="cXyz1234567890abcdefgh",
        content=said,
        expires_at=expires_at,
    )
    body = request_body(sending, receipt="r" * 64)
    assert body is not None
    decoded: dict[str, Any] = msgspec.json.decode(body, type=dict[str, dict[str, Any]])["message"]
    return decoded


def test_a_push_says_its_words_to_one_installation():
    assert message()["fid"] == "cXyz1234567890abcdefgh"
    assert message()["notification"] == {"title": "Your order is on its way", "body": "It arrives on Monday."}


def test_the_app_gets_the_ids_the_link_and_its_receipt():
    assert message()["data"] == {
        "notification_id": str(NOTIFICATION),
        "attempt_id": str(ATTEMPT),
        "link": "https://acme.example/orders/1",
        "receipt": "r" * 64,
    }


def test_a_second_copy_takes_the_place_of_the_first_on_every_kind_of_device():
    push = message()
    assert push["android"]["notification"]["tag"] == TAG
    assert push["apns"]["headers"]["apns-collapse-id"] == TAG
    assert push["webpush"]["notification"]["tag"] == TAG
    assert push["webpush"]["headers"]["Topic"] == TAG


def test_it_takes_none_of_the_four_collapse_keys_of_a_device():
    assert "collapse_key" not in message()["android"]


@pytest.mark.parametrize(
    ("left", "seconds"), [(60, (50, 60)), (-60, (0, 0)), (0.2, (0, 0)), (90 * 86_400, (28 * 86_400, 28 * 86_400))]
)
def test_no_device_gets_it_when_its_time_is_over(left: float, seconds: tuple[int, int]):
    expires_at = datetime.now(UTC) + timedelta(seconds=left)
    push = message(expires_at=expires_at)
    least, most = seconds
    assert least <= int(push["android"]["ttl"].removesuffix("s")) <= most
    assert least <= int(push["webpush"]["headers"]["TTL"]) <= most
    assert push["apns"]["headers"]["apns-expiration"] == str(int(expires_at.timestamp()))


@pytest.mark.parametrize("link", ["acme://orders/1", "http://acme.example", None])
def test_a_browser_follows_https_alone(link: str | None):
    push = message(PushMessage("Hi", "there", link))
    assert "fcm_options" not in push["webpush"]
    assert push["data"].get("link") == link


@pytest.mark.parametrize("address", ["", "two words", "line\nbreak", "\u00fc", "x" * 513])
def test_what_is_no_installation_id_is_not_sent(address: str):
    sending = Sending(notification=NOTIFICATION, attempt=ATTEMPT, address=address, content=SAID)
    assert request_body(sending, receipt="r") is None


def test_words_that_unicode_does_not_know_are_not_sent():
    sending = Sending(notification=NOTIFICATION, attempt=ATTEMPT, address="fid", content=PushMessage("\ud800", "Hi"))
    assert request_body(sending, receipt="r") is None


def test_the_words_of_a_reply_never_become_a_code():
    said = {"error": {"status": "no such device cXyz", "message": "jane@acme.example", "details": []}}
    assert verdict(400, msgspec.json.encode(said)) == Postponed("400", ours=True)


def test_only_what_says_that_the_device_is_dead_suppresses_it():
    def outcome(code: str) -> object:
        return verdict(404, msgspec.json.encode({"error": {"details": [{"errorCode": code}]}}))

    assert outcome("UNREGISTERED") == Refused("UNREGISTERED", suppresses=True)
    assert outcome("SENDER_ID_MISMATCH") == Refused("SENDER_ID_MISMATCH")


def test_a_wait_is_passed_on_with_what_was_not_taken_and_with_nothing_else():
    assert verdict(503, b"", wait=timedelta(seconds=7)) == Postponed("503", retry_after=timedelta(seconds=7))
    assert verdict(500, b"", wait=timedelta(seconds=7)) == InDoubt("500")
