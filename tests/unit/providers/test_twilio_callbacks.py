"""Whose callbacks are believed, and what they are read as."""

import base64
import hmac
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from twilio.request_validator import RequestValidator

from ledger.values import Report, ReportKind, Word
from providers.contract import CallbackRefusedError
from providers.twilio_callbacks import TwilioCallbacks

PUBLIC = "https://notifications.acme.example"
NEW, OLD = "the new token", "the old token"
NOTIFICATION, ATTEMPT = UUID(int=1), UUID(int=2)
IDS = urlencode({"notification": str(NOTIFICATION), "attempt": str(ATTEMPT)})
SID = f"SM{'1' * 32}"
FORM = {"MessageSid": SID, "MessageStatus": "delivered", "To": "+447700900123", "From": "", "ErrorMessage": "Größe"}
CALLBACKS = TwilioCallbacks(public_url=PUBLIC, secrets=[NEW, OLD])


def signed(url: str, fields: Any, *, token: str = NEW) -> CIMultiDict[str]:
    return CIMultiDict({"X-Twilio-Signature": RequestValidator(token).compute_signature(url, fields)})


def url(query: str = IDS, *, host: str = PUBLIC) -> str:
    return f"{host}/callbacks/twilio?{query}"


async def read_form(fields: dict[str, str], *, query: str = IDS) -> Report:
    (report,) = await CALLBACKS.read(urlencode(fields).encode(), signed(url(query), fields), query)
    return report


async def refusal(body: bytes, headers: CIMultiDict[str], query: str = IDS) -> str:
    with pytest.raises(CallbackRefusedError) as refused:
        await CALLBACKS.read(body, headers, query)
    return str(refused.value)


def test_the_signature_is_the_one_of_twilios_own_example():
    """Twilio, "Webhooks security", the example of a form."""
    fields = {"Digits": "1234", "To": "+18005551212", "From": "+14158675310", "Caller": "+14158675310"}
    signature = RequestValidator("12345").compute_signature(
        "https://example.com/myapp.php?foo=1&bar=2", {**fields, "CallSid": "CA1234567890ABCDE"}
    )
    assert signature == "L/OH5YylLD5NRKLltdqwSvS0BnU="


@pytest.mark.parametrize("token", [NEW, OLD])
async def test_during_a_rotation_either_token_may_have_signed(token: str):
    (report,) = await CALLBACKS.read(urlencode(FORM).encode(), signed(url(), FORM, token=token), IDS)
    assert (report.notification, report.attempt, report.reference) == (NOTIFICATION, ATTEMPT, SID)


async def test_the_port_may_stand_in_the_url_that_was_signed():
    headers = signed(url(host=f"{PUBLIC}:443"), FORM)
    assert len(await CALLBACKS.read(urlencode(FORM).encode(), headers, IDS)) == 1


def signed_by_a_shared_key(secret: str, *, algorithm: str = "HMAC_SHA256") -> CIMultiDict[str]:
    """Sign FORM as Twilio does where a webhook setting names a shared key, computed apart from its SDK."""
    text = url() + "".join(f"{name}{FORM[name]}" for name in sorted(FORM))
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()
    settings = f"key=webhooks_sharedkey_1,algorithm={algorithm}"
    return CIMultiDict({"X-Twilio-Signature": signature, "X-Twilio-Webhooks-Signature-Settings": settings})


async def test_a_shared_key_signs_by_sha256():
    callbacks = TwilioCallbacks(public_url=PUBLIC, secrets=[NEW, "the shared key"])
    (report,) = await callbacks.read(urlencode(FORM).encode(), signed_by_a_shared_key("the shared key"), IDS)
    assert report.attempt == ATTEMPT


@pytest.mark.parametrize(
    "headers",
    [
        signed_by_a_shared_key("another key"),
        signed_by_a_shared_key(NEW, algorithm="HMAC_SHA1"),
        signed_by_a_shared_key(NEW, algorithm="NONE"),
    ],
    ids=["another key", "another algorithm than it names", "an unknown algorithm"],
)
async def test_what_a_shared_key_of_ours_did_not_sign_as_the_header_says_is_refused(headers: CIMultiDict[str]):
    assert "signature" in await refusal(urlencode(FORM).encode(), headers)


async def test_nothing_is_believed_where_no_token_is_known():
    callbacks = TwilioCallbacks(public_url=PUBLIC, secrets=[])
    with pytest.raises(CallbackRefusedError):
        await callbacks.read(urlencode(FORM).encode(), signed(url(), FORM), IDS)


OTHER_IDS = urlencode({"notification": str(UUID(int=3)), "attempt": str(ATTEMPT)})
FORGED = {
    "no signature": (FORM, CIMultiDict[str](), IDS),
    "an empty one": (FORM, CIMultiDict({"X-Twilio-Signature": ""}), IDS),
    "one beyond ASCII": (FORM, CIMultiDict({"X-Twilio-Signature": "Größe"}), IDS),
    "another token": (FORM, signed(url(), FORM, token="another"), IDS),
    "another status": ({**FORM, "MessageStatus": "failed"}, signed(url(), FORM), IDS),
    "a field more": ({**FORM, "More": ""}, signed(url(), FORM), IDS),
    "another notification": (FORM, signed(url(), FORM), OTHER_IDS),
    "no query": (FORM, signed(url(), FORM), ""),
    "another host": (FORM, signed(url(host="https://notifications.evil.example"), FORM), IDS),
    "another scheme": (FORM, signed(url(host=PUBLIC.replace("https", "http")), FORM), IDS),
}


@pytest.mark.parametrize("name", FORGED)
async def test_what_our_token_did_not_sign_over_the_public_url_is_refused(name: str):
    fields, headers, query = FORGED[name]
    assert "signature" in await refusal(urlencode(fields).encode(), headers, query)


def json_of(body: bytes, *, given: str | None = None) -> tuple[CIMultiDict[str], str]:
    """The headers and the query of a JSON callback; nothing of its body but the hash is signed."""
    query = f"{IDS}&bodySHA256={given or sha256(body).hexdigest()}"
    headers = signed(url(query), {})
    headers["Content-Type"] = "application/json; charset=utf-8"
    return headers, query


async def test_a_json_body_is_believed_by_its_hash():
    body = msgspec.json.encode({**FORM, "ErrorCode": 30005, "MessageStatus": "undelivered"})
    headers, query = json_of(body)
    (report,) = await CALLBACKS.read(body, headers, query)
    assert (report.kind, report.suppresses, report.attempt) == (ReportKind.BOUNCED, True, ATTEMPT)


async def test_another_json_body_than_the_one_that_was_signed_is_refused():
    headers, query = json_of(b"{}")
    assert "bodySHA256" in await refusal(msgspec.json.encode(FORM), headers, query)
    headers = signed(url(), {})
    headers["Content-Type"] = "application/json"
    assert "bodySHA256" in await refusal(msgspec.json.encode(FORM), headers, IDS)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 5_000, b'"text"', b'{"MessageSid": ["\\ud800"]}'])
async def test_a_signed_body_that_is_no_callback_is_refused(body: bytes):
    headers, query = json_of(body)
    assert await refusal(body, headers, query)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"MessageSid": SID},
        {"MessageStatus": "sent"},
        {**FORM, "MessageStatus": "received"},
        {**FORM, "MessageSid": "+447700900123"},
        {**FORM, "MessageSid": f"{SID}\n"},
    ],
)
async def test_a_signed_form_that_is_no_callback_is_refused_without_its_words(fields: dict[str, str]):
    said = await refusal(urlencode(fields).encode(), signed(url(), fields))
    assert "Message" in said
    assert "447700900123" not in said


@given(st.binary(max_size=200), st.text(max_size=60), st.sampled_from(["application/json", "text/plain", ""]))
async def test_whatever_is_posted_is_refused_and_breaks_nothing(body: bytes, signature: str, kind: str):
    headers = CIMultiDict({"X-Twilio-Signature": signature, "Content-Type": kind})
    assert await refusal(body, headers, f"bodySHA256={sha256(body).hexdigest()}")


KINDS = {
    "accepted": ReportKind.DISPATCHED,
    "queued": ReportKind.DISPATCHED,
    "sending": ReportKind.DISPATCHED,
    "sent": ReportKind.DISPATCHED,
    "delivered": ReportKind.DELIVERED,
    "undelivered": ReportKind.BOUNCED,
    "failed": ReportKind.BOUNCED,
    "canceled": ReportKind.REJECTED,
    "read": ReportKind.OPENED,
}


@pytest.mark.parametrize("status", KINDS)
async def test_each_status_is_read_as_its_kind_of_report(status: str):
    report = await read_form({**FORM, "MessageStatus": status})
    assert (report.kind, report.occurred_at, report.evidence) == (KINDS[status], None, {"status": status})


async def test_i08_the_same_callback_has_the_same_key_and_another_status_or_code_another():
    callbacks = [{**FORM, "MessageStatus": status} for status in KINDS]
    callbacks += [{**FORM, "MessageStatus": "failed", "ErrorCode": code} for code in ("30001", "30005")]
    keys = [(await read_form(fields)).key for fields in callbacks for _ in range(2)]
    assert len(set(keys)) == len(callbacks)
    assert all(key.startswith(f"twilio:{SID}:") for key in keys)


NEVER, NOT_NOW = ("30005", "30006", "21614"), ("30003", "30007", "")


@pytest.mark.parametrize("code", [*NEVER, *NOT_NOW])
async def test_only_a_number_that_will_never_take_an_sms_is_suppressed(code: str):
    report = await read_form({**FORM, "MessageStatus": "undelivered", "ErrorCode": code})
    assert report.suppresses is (code in NEVER)
    assert report.evidence.get("error_code", "") == code


async def test_a_person_who_has_answered_stop_is_suppressed_for_that():
    report = await read_form({**FORM, "MessageStatus": "undelivered", "ErrorCode": "21610"})
    assert (report.suppresses, report.opted_out) == (True, True)


async def test_i18_no_report_holds_a_number_or_a_text():
    words = {"Body": "123 456", "ErrorMessage": "+447700900123 is off", "ErrorCode": "447700900123"}
    report = await read_form({**FORM, **words, "MessageStatus": "undelivered"})
    told = msgspec.json.encode(report)
    assert not [word for word in (b"447700900123", b"123 456", b"is off") if word in told]


async def test_ids_that_are_none_leave_the_report_to_its_reference():
    report = await read_form(FORM, query="notification=no&attempt=")
    assert (report.notification, report.attempt) == (None, None)


# -- Answers ---------------------------------------------------------------------------------------------------------

INBOUND = f"{PUBLIC}/callbacks/twilio/inbound"
ANSWER = {"MessageSid": SID, "From": "+447700900123", "To": "+15005550006", "Body": "STOP", "NumMedia": "0"}


async def answered(**changes: str) -> Word:
    fields = {**ANSWER, **changes}
    reply = await CALLBACKS.reply(urlencode(fields).encode(), signed(INBOUND, fields))
    assert (reply.provider, reply.key, reply.address) == ("twilio", fields["MessageSid"], fields["From"])
    return reply.word


@pytest.mark.parametrize("text", ["STOP", "stop", " Stop.\n", "STOPALL", "Unsubscribe", "END", "Arrêt", "arre\u0302te"])
async def test_the_words_that_stop_are_those_of_twilio_in_english_and_french(text: str):
    assert await answered(Body=text) is Word.STOP


@pytest.mark.parametrize("text", ["START", "unstop", "Yes!"])
async def test_the_words_that_start_again_are_those_of_twilio(text: str):
    assert await answered(Body=text) is Word.START


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Thanks!",
        "STOP PLEASE",
        "don't stop",
        "HELP",
        "stop" * 1000,
        "\0",
        "\N{OCTAGONAL SIGN}",
        "\N{FULLWIDTH DIGIT TWO}",
    ],
)
async def test_whatever_else_somebody_answers_is_not_for_us(text: str):
    assert await answered(Body=text) is Word.OTHER


async def test_what_twilio_itself_has_understood_goes_before_the_text():
    assert await answered(Body="Lopeta", OptOutType="STOP") is Word.STOP
    assert await answered(Body="Aloita", OptOutType="START") is Word.START
    assert await answered(Body="STOP", OptOutType="HELP") is Word.OTHER


@pytest.mark.parametrize("number", ["12345", "whatsapp:+447700900123", "Acme"])
async def test_who_is_written_to_by_nobody_stops_nothing(number: str):
    assert await answered(From=number) is Word.OTHER


async def test_an_answer_is_believed_where_twilio_posts_answers_and_nowhere_else():
    body = urlencode(ANSWER).encode()
    with pytest.raises(CallbackRefusedError):
        await CALLBACKS.reply(body, signed(f"{PUBLIC}/callbacks/twilio", ANSWER))
    assert "the signature" in await refusal(body, signed(INBOUND, ANSWER), "")


@pytest.mark.parametrize(
    ("changes", "faults"),
    [({"MessageSid": "SM1"}, "MessageSid is missing or malformed"), ({"From": ""}, "From is missing")],
)
async def test_an_answer_that_cannot_be_read_is_refused_without_a_word_of_it(changes: dict[str, str], faults: str):
    fields = {**ANSWER, **changes}
    with pytest.raises(CallbackRefusedError) as refused:
        await CALLBACKS.reply(urlencode(fields).encode(), signed(INBOUND, fields))
    assert str(refused.value) == faults
