"""What Twilio posts to us: its signature over the public URL, the form or JSON, the status or the answer in it."""

import hmac
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import sha256
from urllib.parse import parse_qs, parse_qsl, urlsplit
from uuid import UUID

import msgspec
from multidict import MultiDict
from twilio.request_validator import (
    HMAC_SHA1,
    HMAC_SHA256,
    SIGNATURE_HEADER,
    SIGNATURE_SETTINGS_HEADER,
    RequestValidator,
    add_port,
    get_signature_algorithm,
    remove_port,
)

from ledger.values import Reply, Report, Word
from providers.contract import CallbackRefusedError
from providers.twilio import CALLBACK, MESSAGE_SID, NUMBER
from providers.twilio_statuses import report_of

# Twilio posts some twenty; each is a round of the signature.
FIELDS_AT_MOST = 200
ERROR_CODE = re.compile(r"\d{5}", re.ASCII)

INBOUND = f"{CALLBACK}/inbound"

# Twilio, "Support for opt-out keywords (SMS STOP filtering)": one word alone, in English or French, in any case.
STOP = frozenset(
    {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT", "ARRET", "ARRETE", "ARRETT"}
)
START = frozenset({"START", "UNSTOP", "YES"})
AROUND = string.whitespace + string.punctuation

ALGORITHMS = frozenset({HMAC_SHA1, HMAC_SHA256})

Fields = Mapping[str, object]


class TwilioCallbacks:
    """Reads what Twilio posts to `public_url` + `/callbacks/twilio` and `…/inbound`, signed by one of our secrets: the
    auth tokens of the account, or shared keys (Twilio, "Sign webhooks with shared keys"), whose algorithm a header
    names.

    The signature is over the URL that Twilio was given and not over the one that a proxy made of it (Twilio, "Webhooks
    security"); the ids in its query are covered by it.
    """

    provider = "twilio"

    def __init__(self, *, public_url: str, secrets: Sequence[str]) -> None:
        self._public_url = public_url.rstrip("/")
        self.use_secrets(secrets)

    def use_secrets(self, secrets: Sequence[str]) -> None:
        """Believe what one of these has signed, and nothing else, from now on."""
        self._validators = [RequestValidator(secret) for secret in secrets]

    async def read(self, body: bytes, headers: Mapping[str, str], query: str = "") -> Sequence[Report]:
        return read(self._verified(CALLBACK, body, headers, query), dict(parse_qsl(query)))

    async def reply(self, body: bytes, headers: Mapping[str, str], query: str = "") -> Reply:
        return read_reply(self._verified(INBOUND, body, headers, query))

    def _verified(self, path: str, body: bytes, headers: Mapping[str, str], query: str) -> Fields:
        """Return the fields of what Twilio posted to a path of ours."""
        url = f"{self._public_url}{path}?{query}" if query else f"{self._public_url}{path}"
        if is_json(headers):
            signed, fields = self._json(body, url), decoded(body)
        else:
            signed = fields = form(body)
        if not self._is_signed(url, signed, headers):
            raise CallbackRefusedError("the signature is not that of our secret over the public URL")
        return fields

    def _json(self, body: bytes, url: str) -> MultiDict[str]:
        """Check the body against the hash that the signed URL carries; of a JSON body nothing else is signed."""
        given = parse_qs(urlsplit(url).query).get("bodySHA256", [""])[0]
        if not hmac.compare_digest(sha256(body).hexdigest().encode(), given.lower().encode()):
            raise CallbackRefusedError("bodySHA256 is not the hash of the body")
        return MultiDict()

    def _is_signed(self, url: str, signed: MultiDict[str], headers: Mapping[str, str]) -> bool:
        """Whether any secret signed it, with the port in the URL or without: Twilio does either."""
        signature, parts = headers.get(SIGNATURE_HEADER, ""), urlsplit(url)
        algorithm = get_signature_algorithm(headers.get(SIGNATURE_SETTINGS_HEADER, "")).upper()
        if algorithm not in ALGORITHMS:
            raise CallbackRefusedError("the signature is by an algorithm that we do not know")
        found = False
        for validator in self._validators:
            for signed_url in (add_port(parts), remove_port(parts)):
                expected: str = validator.compute_signature(signed_url, signed, algorithm)
                found |= hmac.compare_digest(expected.encode(), signature.encode())
        return found


def is_json(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"


def form(body: bytes) -> MultiDict[str]:
    """Return the fields of a form, empty ones too: they are signed as well."""
    try:
        return MultiDict(
            parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_AT_MOST)
        )
    except ValueError:
        raise CallbackRefusedError("the body is no form") from None


def decoded(body: bytes) -> Fields:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise CallbackRefusedError("the body is no JSON object") from None


def read(fields: Fields, ids: Mapping[str, str]) -> Sequence[Report]:
    """Return the report of a callback that is Twilio's; raises CallbackRefusedError with every fault."""
    sid, status = str(fields.get("MessageSid", "")), str(fields.get("MessageStatus", ""))
    code = str(fields.get("ErrorCode") or "")
    report = report_of(
        sid,
        status,
        int(code) if ERROR_CODE.fullmatch(code) else 0,
        notification=identifier(ids, "notification"),
        attempt=identifier(ids, "attempt"),
    )
    faults = {
        "MessageSid is missing or malformed": not MESSAGE_SID.fullmatch(sid),
        "MessageStatus is missing or unknown": report is None,
    }
    if report is None or any(faults.values()):
        raise CallbackRefusedError("; ".join(fault for fault, found in faults.items() if found))
    return [report]


def read_reply(fields: Fields) -> Reply:
    """Return an answer that is Twilio's; raises CallbackRefusedError with every fault."""
    sid, number = str(fields.get("MessageSid", "")), str(fields.get("From", ""))
    faults = {"MessageSid is missing or malformed": not MESSAGE_SID.fullmatch(sid), "From is missing": not number}
    if any(faults.values()):
        raise CallbackRefusedError("; ".join(fault for fault, found in faults.items() if found))
    # Somebody may write from a short code, or by another app than SMS: we send nothing there that could be stopped.
    word = said(fields) if NUMBER.fullmatch(number) else Word.OTHER
    return Reply(provider=TwilioCallbacks.provider, key=sid, address=number, word=word)


def said(fields: Fields) -> Word:
    """Return what an answer says: as Twilio's Advanced Opt-Out has understood it (OptOutType), else by its text."""
    given = str(fields.get("OptOutType") or fields.get("Body") or "")[:100].strip(AROUND).upper()
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", given) if not unicodedata.combining(sign))
    if plain in STOP:
        return Word.STOP
    return Word.START if plain in START else Word.OTHER


def identifier(ids: Mapping[str, str], name: str) -> UUID | None:
    """Return the id that we sent along in the URL, None when it is not there."""
    try:
        return UUID(ids[name])
    except (KeyError, ValueError):
        return None
