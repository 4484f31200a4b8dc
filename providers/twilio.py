"""Twilio: sends one SMS, reads its reply as an outcome, and asks what became of one that it took."""

import asyncio
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlencode
from uuid import UUID

from twilio.base.exceptions import TwilioRestException, TwilioServiceException
from twilio.rest import Client

from ledger.values import Accepted, Answer, Channel, InDoubt, Outcome, Postponed, Refused
from providers.contract import Sending
from providers.http_line import LINE, Line, broken, not_sent, retry_after
from providers.twilio_statuses import report_of
from providers.twilio_wire import Wire

API = "https://api.twilio.com"
CALLBACK = "/callbacks/twilio"
DEADLINE = timedelta(seconds=8)
CONNECT_TIMEOUT = timedelta(seconds=2)
READ_TIMEOUT = timedelta(seconds=5)
# Questions go over connections of their own, and few: whatever becomes of them, no message waits for one.
QUESTIONS_AT_ONCE = 8

# For how long Twilio may keep a message in its queue (Message resource, "ValidityPeriod"; more than 5 s is advised).
SHORTEST_VALIDITY, LONGEST_VALIDITY = timedelta(seconds=6), timedelta(seconds=36_000)

# ITU-T E.164: a country code that does not begin with 0, and 15 digits at most.
NUMBER = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
MESSAGE_SID = re.compile(r"(?:SM|MM)[0-9a-f]{32}", re.ASCII)
MESSAGING_SERVICE = re.compile(r"MG[0-9a-f]{32}", re.ASCII)

OURS = Postponed("", ours=True)
THEIRS = Postponed("")
THIS_MESSAGE = Refused("")
OPTED_OUT = Refused("", opted_out=True)
UNKNOWN = InDoubt("")
# What each error code of "create a Message" means, whatever its HTTP status. Twilio's Error and Warning Dictionary,
# https://www.twilio.com/docs/api/errors/CODE. What is said of one number's country or line is said of this message
# alone: were it a fault of ours, one odd number would shut the way of all others.
CODES: Mapping[int, Outcome] = {
    14107: THEIRS,  # above the sending rate
    20001: OURS,  # a parameter is unknown
    20003: OURS,  # the account or its token is wrong, or the account is closed
    20005: OURS,  # the account is not active
    20006: OURS,  # the account may not do this
    20008: OURS,  # these are the credentials for tests
    20009: OURS,  # a parameter is malformed
    20403: OURS,  # the account may not do this
    20404: OURS,  # there is no such account
    20426: OURS,  # Twilio wants TLS of a newer version
    20429: THEIRS,  # too many requests at a time; never processed
    20500: UNKNOWN,  # it broke while it had our message
    20503: UNKNOWN,  # likewise
    21211: THIS_MESSAGE,  # the number is not valid
    21212: OURS,  # the sender is not valid
    21214: THIS_MESSAGE,  # the number cannot be reached
    21217: THIS_MESSAGE,  # the number does not appear to be valid
    21219: OURS,  # a trial account writes to verified numbers only
    21265: THIS_MESSAGE,  # the number is a short code
    21266: THIS_MESSAGE,  # the number is the sender's own
    21267: OURS,  # a trial account has no sender with a name
    21401: OURS,  # the sender cannot send SMS
    21408: THIS_MESSAGE,  # the account does not write to the number's country (geo permissions)
    21601: OURS,  # the sender is no number of this account
    21602: THIS_MESSAGE,  # there is no text
    21603: OURS,  # there is no sender
    21604: OURS,  # there is no recipient
    21606: OURS,  # the sender cannot send SMS
    21607: OURS,  # a trial account sends from its trial number only
    21608: OURS,  # a trial account writes to verified numbers only
    21609: OURS,  # the URL for reports is not valid: see PUBLIC_URL
    21610: OPTED_OUT,  # the person has answered STOP
    21611: THEIRS,  # the sender's queue is full
    21612: THIS_MESSAGE,  # this sender does not reach this number
    21614: THIS_MESSAGE,  # the number is no mobile one
    21617: THIS_MESSAGE,  # the text is longer than 1,600 characters
    21619: THIS_MESSAGE,  # there is no text
    21635: THIS_MESSAGE,  # the number is a landline
    21658: THIS_MESSAGE,  # a parameter, which can only be the text, is too long
    21659: OURS,  # the sender is no number of Twilio's
    21660: OURS,  # the sender is another account's
    21661: OURS,  # the sender cannot send SMS
    21701: OURS,  # the messaging service does not exist
    21702: OURS,  # the messaging service is not available
    21703: OURS,  # the messaging service has no sender
    21704: OURS,  # likewise
    21705: OURS,  # the messaging service's id is malformed
    21712: OURS,  # the sender belongs to another messaging service
    21730: THEIRS,  # maintenance
    30001: THEIRS,  # the sender's queue is full
    30002: OURS,  # the account is suspended
    63038: OURS,  # the account's daily limit is used up
}
# For a code that is not listed, its HTTP status speaks; any other below 500 is a fault of ours. Twilio says of a 429,
# and of no 5xx, that the request was not processed.
STATUSES: Mapping[int, Outcome] = {408: THEIRS, 429: THEIRS}
# No message of this account, or none that it has sent.
UNKNOWN_TO_TWILIO = Answer("unknown")


class Twilio:
    """Sends SMS over one pool of connections, and asks over another; safe for any number of calls at a time.

    `public_url` is where Twilio's reports reach our API.
    """

    name = "twilio"
    channel = Channel.SMS

    def __init__(
        self,
        messages: Any,
        questions: Any,
        *,
        public_url: str,
        wires: tuple[Wire, ...],
        clients: tuple[Client, ...] = (),
        deadline: timedelta = DEADLINE,
    ) -> None:
        self.deadline = deadline
        self._messages = messages
        self._questions = questions
        self._callback = f"{public_url.rstrip('/')}{CALLBACK}"
        self._wires = wires
        self._clients = clients

    @classmethod
    async def open(
        cls,
        *,
        account_sid: str,
        auth_token: str,
        public_url: str,
        base_url: str | None = None,
        deadline: timedelta = DEADLINE,
        connect_timeout: timedelta = CONNECT_TIMEOUT,
        read_timeout: timedelta = READ_TIMEOUT,
        max_connections: int = 128,
    ) -> Self:
        """Read the certificates that are trusted; no connection is made yet."""
        context = await asyncio.to_thread(ssl.create_default_context)
        wires, clients = [], []
        for limit in (max_connections, QUESTIONS_AT_ONCE):
            wire = Wire(context, base_url or API, connect=connect_timeout, read=read_timeout, limit=limit)
            client = Client(account_sid, auth_token, http_client=wire)
            client.api.base_url = base_url or API
            wires.append(wire)
            clients.append(client)
        resources = (client.api.v2010.account.messages for client in clients)
        return cls(*resources, public_url=public_url, wires=tuple(wires), clients=tuple(clients), deadline=deadline)

    def use_token(self, auth_token: str) -> None:
        """Make all further requests with this auth token."""
        for client in self._clients:
            client.auth = (client.username, auth_token)

    async def send(self, sending: Sending) -> Outcome:
        """Make one request, or none when its outcome is certain beforehand."""
        if fault := unsendable(sending):
            return Refused(fault)
        line = Line()
        token = LINE.set(line)
        try:
            async with asyncio.timeout(self.deadline.total_seconds()):
                message = await self._messages.create_async(**self._request(sending))
        except Exception as error:  # noqa: BLE001 - whatever breaks, an attempt has an outcome
            return outcome_of(error, line) if line.held else not_sent(error)
        finally:
            LINE.reset(token)
        if not isinstance(message.sid, str) or not MESSAGE_SID.fullmatch(message.sid):
            return InDoubt("no_message_sid")
        return Accepted(message.sid)

    async def ask(self, reference: str, *, notification: UUID, attempt: UUID) -> Answer | Postponed:
        """Say what became of a message that Twilio took (providers.contract.Answers)."""
        if not MESSAGE_SID.fullmatch(reference):
            return UNKNOWN_TO_TWILIO
        line = Line()
        token = LINE.set(line)
        try:
            async with asyncio.timeout(self.deadline.total_seconds()):
                message = await self._questions(reference).fetch_async()
        except Exception as error:  # noqa: BLE001 - a question that fails is asked again
            return no_answer(error, line)
        finally:
            LINE.reset(token)
        if message.sid != reference:
            return Postponed("another_message")
        code = message.error_code if isinstance(message.error_code, int) else 0
        report = report_of(reference, str(message.status), code, notification=notification, attempt=attempt)
        return UNKNOWN_TO_TWILIO if report is None else Answer(str(message.status), report)

    async def aclose(self) -> None:
        for wire in self._wires:
            await wire.close()

    def _request(self, sending: Sending) -> dict[str, str | int]:
        said = sending.text_message
        sender = "messaging_service_sid" if MESSAGING_SERVICE.fullmatch(said.sender) else "from_"
        ids = urlencode({"notification": str(sending.notification), "attempt": str(sending.attempt)})
        return {
            "to": sending.address,
            sender: said.sender,
            "body": said.text,
            "status_callback": f"{self._callback}?{ids}",
            "validity_period": validity(sending.expires_at),
        }


def validity(expires_at: datetime | None) -> int:
    """Return for how many seconds Twilio may keep a message: nobody wants a code that has expired meanwhile."""
    left = LONGEST_VALIDITY if expires_at is None else expires_at - datetime.now(UTC)
    return int(min(max(left, SHORTEST_VALIDITY), LONGEST_VALIDITY).total_seconds())


def unsendable(sending: Sending) -> str | None:
    """Return why no request is made of this, None when one can be."""
    if not NUMBER.fullmatch(sending.address):
        return "address_syntax"
    if not sending.text_message.text.strip():
        return "empty_text"
    try:
        sending.text_message.text.encode()
    except UnicodeEncodeError:
        return "content_not_unicode"
    return None


def outcome_of(error: Exception, line: Line) -> Outcome:
    """Return the outcome of a call that broke when its request may have left."""
    match error:
        case TwilioRestException() | TwilioServiceException():
            return verdict(error.code, line)
        case _:
            return broken(error)


def verdict(given: object, line: Line) -> Outcome:
    """Return what an error reply means; `given` is its code, anything when the reply is not Twilio's."""
    code = given if isinstance(given, int) and 10_000 <= given <= 99_999 else line.status
    meaning = CODES.get(code) or STATUSES.get(line.status) or (UNKNOWN if line.status >= 500 else OURS)
    match meaning:
        case Refused(opted_out=opted_out):
            return Refused(str(code), opted_out=opted_out)
        case Postponed(ours=ours):
            return Postponed(str(code), retry_after=retry_after(line.headers), ours=ours)
        case _:
            return InDoubt(str(code))


def no_answer(error: Exception, line: Line) -> Answer | Postponed:
    """Return what a question has come to that broke: nothing depends on it, so there is no doubt in it."""
    if line.status == 404:
        return UNKNOWN_TO_TWILIO
    outcome = outcome_of(error, line) if line.held else not_sent(error)
    match outcome:
        case Postponed():
            return outcome
        case InDoubt(cause=cause):
            return Postponed(cause)
        case _:
            return Postponed(type(error).__name__)
