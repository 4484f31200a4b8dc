"""Any SMTP relay: sends one e-mail in one transaction, and reads the relay's replies as an outcome."""

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import timedelta
from enum import IntEnum
from typing import Self

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException

from ledger.values import Accepted, Channel, InDoubt, Outcome, Postponed, Refused
from providers.contract import Sending
from providers.mail_address import unsendable, wire_address
from providers.smtp_message import Sender, compose, message_id, sender_of
from providers.smtp_url import Relay, Security
from providers.smtp_wire import AllBusyError, Connection, Connections, ExtensionMissingError

# RFC 5321 4.5.3.2.6 would give the last reply ten minutes; more than this does not go into a lease, with its margin.
DEADLINE = timedelta(seconds=20)
CONNECT_TIMEOUT = timedelta(seconds=5)
# Relays allow one client some tens of connections at a time (Postfix: 50).
MAX_CONNECTIONS = 20
# A wait for one of them that was in vain is a pause for the breaker, no failure of the relay's. A short one: other
# processes may have a connection free.
BUSY_PAUSE = timedelta(milliseconds=100)

OURS = Postponed("", ours=True)
THEIRS = Postponed("")
THIS_MESSAGE = Refused("")


class Stage(IntEnum):
    """How far a mail has come: what the reply in hand, or the one that fails to come, is the answer to."""

    CONNECT = 1  # the greeting, EHLO, STARTTLS, AUTH
    MAIL = 2
    RCPT = 3
    DATA = 4
    END = 5  # the final dot has left, or may have


# What a permanent reply (5yz) means from RCPT on; any other is a fault of ours. RFC 5321 4.2.3 where nothing is said.
CODES: dict[int, Outcome] = {
    500: OURS,  # the command is not understood
    501: OURS,  # its parameters are not
    502: OURS,  # it is not implemented
    503: OURS,  # out of sequence
    504: OURS,  # a parameter is not implemented
    521: OURS,  # the host takes no mail at all (RFC 7504)
    530: OURS,  # we must log in (RFC 4954), or use STARTTLS (RFC 3207)
    534: OURS,  # our way of logging in is too weak (RFC 4954)
    535: OURS,  # wrong password (RFC 4954)
    538: OURS,  # logging in takes TLS (RFC 4954)
    550: THIS_MESSAGE,  # no such mailbox, or refused by policy
    551: THIS_MESSAGE,  # the recipient has moved; we follow nobody
    552: THIS_MESSAGE,  # larger than the relay takes (but see CODES_OF)
    553: THIS_MESSAGE,  # the mailbox name is not allowed
    554: THIS_MESSAGE,  # the transaction failed: refused by policy
    555: OURS,  # a parameter of MAIL or RCPT is not known
    556: THIS_MESSAGE,  # the recipient's domain takes no mail (RFC 7504)
}
CODES_OF: Mapping[Stage, Mapping[int, Outcome]] = {
    # The recipient is not known yet: all are faults of ours, but for a declared size that is too much (RFC 1870, 6.1).
    Stage.MAIL: {552: THIS_MESSAGE},
    # RFC 5321 4.5.3.1.10: an old "too many recipients", to be treated as temporary.
    Stage.RCPT: CODES | {552: THEIRS},
}
# RFC 4954 4.7.12: a password must be changed, which no waiting does; every other 4yz is temporary.
TEMPORARY: Mapping[int, Outcome] = {432: OURS}
# Enhanced codes (RFC 3463 and the IANA registry) that say more than the reply they stand in.
ENHANCED: Mapping[str, Outcome] = {
    "5.1.7": OURS,  # the sender's mailbox is malformed
    "5.1.8": OURS,  # the sender's domain is bad
    "5.2.2": THIS_MESSAGE,  # the mailbox is full, and is said to stay so
    "5.3.2": OURS,  # the relay is not taking mail
    "5.3.4": THIS_MESSAGE,  # larger than the relay takes
    "5.3.5": OURS,  # the relay is set up wrongly
    "5.5.1": OURS,  # the command is not understood, or out of sequence
    "5.5.4": OURS,  # its parameters are not
    "5.7.2": THIS_MESSAGE,  # a mailing list that is not for us
    "5.7.8": OURS,  # wrong password (RFC 4954)
    "5.7.9": OURS,  # our way of logging in is too weak (RFC 4954)
    "5.7.11": OURS,  # logging in takes TLS (RFC 4954)
    "5.7.13": OURS,  # our account is disabled (RFC 5248)
    "5.7.17": THIS_MESSAGE,  # the mailbox belongs to somebody else by now (RFC 7293)
    "5.7.18": THIS_MESSAGE,  # likewise the domain
    "5.7.20": OURS,  # no DKIM signature passes (RFC 7372)
    "5.7.21": OURS,  # likewise, none that is acceptable
    "5.7.22": OURS,  # likewise, none of the author's
    "5.7.23": OURS,  # SPF says no (RFC 7372)
    "5.7.24": OURS,  # SPF cannot be read
    "5.7.25": OURS,  # our host has no name in reverse DNS
    "5.7.26": OURS,  # several of these checks fail
    "5.7.27": OURS,  # the sender's domain takes no mail (RFC 7505)
    "5.7.60": OURS,  # we may not send as this sender (Exchange)
}
# What a reply repeats: an address, or the words of another host. None of it is the relay's own word on us.
REPEATED = re.compile(r"<[^<>]*>|\bsaid:.*", re.DOTALL)
# Where relays say a fault of ours in the words of 550, 553 or 554. Postfix keeps what it has against the client, its
# EHLO and the sender for the answer to RCPT (smtpd_delay_reject).
FAULTS_OF_OURS = re.compile(
    r"\b(?:client host|helo command|sender address)(?: \[[^\]]*\])? (?:rejected|blocked)\b"  # Postfix
    r"|\byour ip\b"  # Exchange, with its list of hosts
    r"|\b(?:permissions?|allowed) to send as\b"  # Exchange
    r"|\bemail address is not verified\b",  # Amazon SES
    re.IGNORECASE,
)
# We are not among those whose mail it carries on.
RELAYING_DENIED = re.compile(
    r"\brelay(?:ing)? (?:access )?(?:is )?(?:denied|prohibited|not (?:permitted|allowed))\b"  # Postfix, Sendmail, Exim
    r"|\b(?:unable|not permitted|not allowed) to relay\b"  # Exchange
    r"|\ballowed rcpthosts\b",  # qmail
    re.IGNORECASE,
)
RECIPIENT_NAMED = re.compile(r"\b(?:recipient|mailbox)\b", re.IGNORECASE)
# What keeps us from a connection that can be sent over: the first that fits. Nothing of the mail has left.
NO_CONNECTION: tuple[tuple[type[Exception], Outcome], ...] = (
    (AllBusyError, Postponed("connections_busy", retry_after=BUSY_PAUSE)),
    (ExtensionMissingError, Postponed("extension_missing", ours=True)),
    (ssl.SSLError, Postponed("tls_failed", ours=True)),
    (socket.gaierror, Postponed("name_not_resolved")),
    (TimeoutError, Postponed("connect_timeout")),
    (OSError, Postponed("connect_failed")),
    (SMTPException, Postponed("connect_failed")),
)
ENHANCED_CODE = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b", re.ASCII)


class Smtp:
    """Sends e-mails over a pool of connections to one relay; safe for any number of calls at a time."""

    name = "smtp"
    channel = Channel.EMAIL

    def __init__(self, connections: Connections, *, deadline: timedelta = DEADLINE) -> None:
        self.deadline = deadline
        self._connections = connections

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        deadline: timedelta = DEADLINE,
        connect_timeout: timedelta = CONNECT_TIMEOUT,
        max_connections: int = MAX_CONNECTIONS,
    ) -> Self:
        """Read the URL and the certificates that are trusted; no connection is made yet. Raises RelayUrlError."""
        relay, context = await _relay(url)
        # Who gets its turn late must still have time for the reply to its mail: without one there is a doubt.
        connections = Connections(
            relay, context, limit=max_connections, queueing=deadline / 2, patience=connect_timeout
        )
        return cls(connections, deadline=deadline)

    async def use_url(self, url: str) -> None:
        """Log in by this URL from the next connection on: the password has changed. Raises RelayUrlError."""
        self._connections.use_relay(*await _relay(url))

    async def send(self, sending: Sending) -> Outcome:
        """Make one transaction, or none when its outcome is certain beforehand."""
        if fault := unsendable(sending.address, sending.mail):
            return Refused(fault)
        recipient = wire_address(sending.address, international=True)
        if recipient is None:
            return Refused("address_syntax")
        sender = sender_of(sending.mail.sender)
        if sender is None:
            return Postponed("sender_syntax", ours=True)
        transaction = Transaction(sending, sender, recipient)
        try:
            async with asyncio.timeout(self.deadline.total_seconds()), self._connections.borrow() as connection:
                outcome = await transaction.run(connection)
                if isinstance(outcome, Accepted):
                    self._connections.keep(connection)
                else:
                    connection.leave()
        except Exception as error:  # noqa: BLE001 - whatever breaks, an attempt has an outcome
            return transaction.broken(error)
        return outcome

    async def aclose(self) -> None:
        self._connections.close()


async def _relay(url: str) -> tuple[Relay, ssl.SSLContext | None]:
    relay = Relay.of(url)
    return relay, None if relay.security is Security.NONE else await asyncio.to_thread(ssl.create_default_context)


class Transaction:
    """One mail on its way through the commands of a transaction (RFC 5321, 3.3)."""

    def __init__(self, sending: Sending, sender: Sender, recipient: str) -> None:
        self._sending = sending
        self._sender = sender
        self._recipient = recipient
        self._stage = Stage.CONNECT

    async def run(self, connection: Connection) -> Outcome:
        """Send the mail, and return what the first reply that decides says; raises what `broken` reads."""
        international = not self._recipient.isascii()
        if international and not connection.offers("smtputf8"):
            return Refused("smtputf8_not_offered")
        mail = compose(self._sending, self._sender, recipient=self._recipient)
        size = f" SIZE={len(mail)}" if connection.offers("size") else ""
        utf8 = " SMTPUTF8" if international else ""
        for stage, command, go_on in (
            (Stage.MAIL, f"MAIL FROM:<{self._sender.address}>{size}{utf8}", 2),
            (Stage.RCPT, f"RCPT TO:<{self._recipient}>", 2),
            (Stage.DATA, "DATA", 3),
        ):
            self._stage = stage
            reply = await connection.command(command.encode())
            if reply.code // 100 != go_on:
                return verdict(stage, reply)
        await connection.line.send_lines(mail)
        connection.line.send_dot()
        self._stage = Stage.END
        reply = await connection.line.read_response()
        if reply.code // 100 == 2:
            return Accepted(message_id(self._sending, self._sender))
        return verdict(Stage.END, reply)

    def broken(self, error: Exception) -> Outcome:
        """Return the outcome of a transaction that broke without a reply that decides.

        A relay that never saw the final dot must forget the mail (RFC 5321, 4.1.1.10); what it did with one whose dot
        it may have seen, nobody knows.
        """
        match self._stage:
            case Stage.CONNECT:
                return not_connected(error)
            case Stage.END:
                return InDoubt(cause_of(error))
            case _:
                return Postponed(cause_of(error), ours=not isinstance(error, OSError | SMTPException))


def verdict(stage: Stage, reply: SMTPResponse) -> Outcome:
    """Return what a reply means that does not let the mail go on (RFC 5321, 4.2.1: the first digit decides)."""
    found = ENHANCED_CODE.match(reply.message)
    enhanced = found[1] if found and found[1][0] == str(reply.code)[0] else ""
    match reply.code // 100:
        case 4:
            meaning = TEMPORARY.get(reply.code, THEIRS)
        case 5:
            meaning = permanent(stage, reply, enhanced)
        case _:
            # Nothing that is allowed to stand here; only behind the final dot may the mail have been taken.
            return InDoubt("reply_out_of_place") if stage is Stage.END else Postponed("reply_out_of_place", ours=True)
    code = f"{reply.code}-{enhanced}" if enhanced else str(reply.code)
    return Refused(code) if isinstance(meaning, Refused) else Postponed(code, ours=meaning is OURS)


def permanent(stage: Stage, reply: SMTPResponse, enhanced: str) -> Outcome:
    """Return what a permanent reply means at its stage."""
    own_words = REPEATED.sub("", reply.message)
    if stage is Stage.CONNECT or is_against_us(own_words, enhanced):
        return OURS
    if enhanced in ENHANCED:
        return ENHANCED[enhanced]
    # A policy (5.7) that says nothing of the recipient is one on us: nothing else of the mail has been seen yet.
    if stage is Stage.RCPT and enhanced.startswith("5.7.") and not RECIPIENT_NAMED.search(own_words):
        return OURS
    return CODES_OF.get(stage, CODES).get(reply.code, OURS)


def is_against_us(words: str, enhanced: str) -> bool:
    """Whether a relay says in words that it is us whom it refuses; 5.1 is about an address, whatever else is said."""
    if FAULTS_OF_OURS.search(words):
        return True
    return not enhanced.startswith("5.1.") and RELAYING_DENIED.search(words) is not None


def not_connected(error: Exception) -> Outcome:
    """Return the outcome of a call that got no connection that could be sent over."""
    if isinstance(error, SMTPResponseException) and error.code > 0:
        return verdict(Stage.CONNECT, SMTPResponse(error.code, error.message))
    named = (outcome for kind, outcome in NO_CONNECTION if isinstance(error, kind))
    return next(named, Postponed(type(error).__name__, ours=True))


def cause_of(error: Exception) -> str:
    """Return what broke a transaction."""
    match error:
        case TimeoutError():
            return "timeout"
        case OSError():
            return "connection_lost"
        case SMTPException():
            return "reply_garbled"
        case _:
            return type(error).__name__
