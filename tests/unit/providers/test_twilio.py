from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import pytest

from ledger.values import Postponed, Refused, TextMessage
from providers.contract import Answers, Sending
from providers.twilio import Twilio, validity

TEXT = TextMessage(sender="+15005550006", text="Your code is 123 456")
NOTIFICATION, ATTEMPT = UUID(int=1), UUID(int=2)


class NoClient:
    """Stands where the SDK's client would be: it keeps what it is asked to do, and breaks."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def create_async(self, **given: Any) -> None:
        self.asked.append(given)
        raise ConnectionRefusedError


def twilio(client: NoClient) -> Twilio:
    return Twilio(client, None, public_url="https://notifications.acme.example/", wires=())


async def sent(address: str = "+447700900123", content: TextMessage = TEXT) -> tuple[object, list[dict[str, Any]]]:
    client = NoClient()
    sending = Sending(notification=NOTIFICATION, attempt=ATTEMPT, address=address, content=content)
    return await twilio(client).send(sending), client.asked


@pytest.mark.parametrize(
    "address",
    [
        "",
        "447700900123",
        "+0447700900123",
        "+44 7700 900123",
        "+44770090012345678",
        "+1",
        "+44770090012a",
        "+٤٤٧٧٠٠٩٠٠١٢٣",
        "+447700900123\n",
        "whatsapp:+447700900123",
        "tel:+447700900123",
        "jane@acme.example",
    ],
)
async def test_what_cannot_be_a_number_is_refused_before_any_request(address: str):
    assert await sent(address) == (Refused("address_syntax"), [])


@pytest.mark.parametrize(
    ("text", "fault"), [("", "empty_text"), (" \n", "empty_text"), ("\ud800", "content_not_unicode")]
)
async def test_a_text_that_cannot_be_sent_is_refused_before_any_request(text: str, fault: str):
    assert await sent(content=TextMessage(sender="Acme", text=text)) == (Refused(fault), [])


async def test_a_request_carries_the_number_the_text_and_the_way_home_for_reports():
    outcome, (given,) = await sent()
    assert outcome == Postponed("ConnectionRefusedError", ours=True)
    address, _, query = given.pop("status_callback").partition("?")
    assert address == "https://notifications.acme.example/callbacks/twilio"
    assert dict(parse_qsl(query)) == {"notification": str(NOTIFICATION), "attempt": str(ATTEMPT)}
    assert given == {"to": "+447700900123", "from_": TEXT.sender, "body": TEXT.text, "validity_period": 36_000}


@pytest.mark.parametrize("sender", ["+15005550006", "Acme Shop", "12345", "MGroup"])
async def test_a_number_or_a_name_is_the_sender_itself(sender: str):
    _, (given,) = await sent(content=TextMessage(sender=sender, text="Hi"))
    assert (given["from_"], "messaging_service_sid" in given) == (sender, False)


async def test_a_messaging_service_chooses_the_sender():
    service = f"MG{'a' * 32}"
    _, (given,) = await sent(content=TextMessage(sender=service, text="Hi"))
    assert (given["messaging_service_sid"], "from_" in given) == (service, False)


@pytest.mark.parametrize(("minutes", "seconds"), [(5, 300), (0, 6), (-5, 6), (10_000, 36_000)])
def test_twilio_keeps_an_sms_no_longer_than_it_is_wanted_and_than_it_may(minutes: int, seconds: int):
    assert abs(validity(datetime.now(UTC) + timedelta(minutes=minutes)) - seconds) <= 2


def test_it_can_be_asked():
    assert isinstance(twilio(NoClient()), Answers)
