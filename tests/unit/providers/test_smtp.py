import pytest
from aiosmtplib import SMTPResponse

from ledger.values import Postponed, Refused
from providers.smtp import Stage, verdict

# Replies of relays, word for word but for the names in them.
AGAINST_US = [
    # Postfix
    (Stage.RCPT, 553, "5.7.1 <no-reply@acme.example>: Sender address rejected: not owned by user service"),
    (Stage.RCPT, 553, "5.7.1 <no-reply@acme.example>: Sender address rejected: not logged in"),
    (Stage.RCPT, 550, "5.1.0 <no-reply@acme.example>: Sender address rejected: User unknown in local recipient table"),
    (Stage.RCPT, 550, "5.1.8 <no-reply@acme.example>: Sender address rejected: Domain not found"),
    (Stage.RCPT, 554, "5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"),
    (Stage.RCPT, 550, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using list.example; on record"),
    (Stage.RCPT, 554, "5.7.1 Service unavailable; Client host [2001:db8::1] blocked using list.example"),
    (Stage.RCPT, 554, "Service unavailable; Sender address [no-reply@acme.example] blocked using list.example"),
    (Stage.RCPT, 550, "5.7.1 <app>: Helo command rejected: Host not found"),
    (Stage.RCPT, 550, "<app>: Helo command rejected: Invalid name"),
    (Stage.RCPT, 550, "5.7.25 Client host rejected: cannot find your reverse hostname, [192.0.2.1]"),
    (Stage.RCPT, 550, "5.7.23 <jane@x.example>: Recipient address rejected: Message rejected due to: SPF fail"),
    (Stage.RCPT, 554, "5.7.1 <jane@x.example>: Relay access denied"),
    (Stage.RCPT, 554, "<jane@x.example>: Relay access denied"),
    (Stage.END, 554, "5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"),
    # Sendmail
    (Stage.RCPT, 550, "5.7.1 <jane@x.example>... Relaying denied. Proper authentication required."),
    (Stage.RCPT, 550, "5.7.1 Access denied"),
    # Exim
    (Stage.RCPT, 550, "relay not permitted"),
    # qmail
    (Stage.RCPT, 553, "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
    # Exchange
    (Stage.RCPT, 550, "5.7.1 Unable to relay"),
    (Stage.RCPT, 550, "5.7.54 SMTP; Unable to relay recipient in non-accepted domain"),
    (Stage.RCPT, 550, "5.7.1 Recipient not authorized, your IP has been found on a block list"),
    (Stage.END, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
    (Stage.END, 550, "5.7.1 Client does not have permissions to send as this sender"),
    (Stage.END, 554, "5.2.252 SendAsDenied; service@acme.example not allowed to send as no-reply@acme.example"),
    # Amazon SES
    (Stage.END, 554, "Message rejected: Email address is not verified. The following identities failed the check"),
]
AGAINST_THIS_MESSAGE = [
    (Stage.RCPT, 550, "5.1.1 <jane@x.example>: Recipient address rejected: User unknown in relay recipient table"),
    (Stage.RCPT, 550, "<jane@x.example>: Recipient address rejected: User unknown in relay recipient table"),
    (Stage.RCPT, 550, "5.1.1 <jane@relay.x.example>: Recipient address rejected: User unknown"),
    (Stage.RCPT, 550, "<jane@relay.x.example>: no such user"),
    (Stage.RCPT, 550, "5.1.1 Relaying denied: no such user"),
    (Stage.RCPT, 554, "5.7.1 <jane@x.example>: Recipient address rejected: Access denied"),
    (Stage.RCPT, 554, "5.7.1 Requested action not taken: mailbox unavailable"),
    (Stage.RCPT, 550, "5.7.2 You may not send to this list"),
    (Stage.RCPT, 550, "5.7.17 Mailbox owner has changed"),
    (Stage.RCPT, 550, "5.7.18 Domain owner has changed"),
    (
        Stage.RCPT,
        550,
        "5.1.1 <jane@x.example>: Recipient address rejected: undeliverable: host said:\n5.7.1 Client host rejected: No",
    ),
    (Stage.RCPT, 554, "Refused by policy"),
    (Stage.DATA, 550, "5.7.1 Not this one"),
    (Stage.END, 554, "5.7.1 Refused by relay policy"),
    (Stage.END, 550, "5.7.1 Looks like spam"),
]


@pytest.mark.parametrize(("stage", "code", "text"), AGAINST_US)
def test_what_a_relay_has_against_us_costs_no_mail_and_calls_an_operator(stage: Stage, code: int, text: str):
    outcome = verdict(stage, SMTPResponse(code, text))
    assert isinstance(outcome, Postponed)
    assert outcome.ours


@pytest.mark.parametrize(("stage", "code", "text"), AGAINST_THIS_MESSAGE)
def test_what_a_relay_has_against_one_mail_does_not_stop_the_others(stage: Stage, code: int, text: str):
    assert isinstance(verdict(stage, SMTPResponse(code, text)), Refused)


@pytest.mark.parametrize("text", ["4.7.1 <jane@x.example>: Relay access denied", "4.7.1 Client host rejected: later"])
def test_what_is_temporary_stays_so_whatever_its_words_are(text: str):
    assert verdict(Stage.RCPT, SMTPResponse(454, text)) == Postponed("454-4.7.1")
