"""Whether it may be sent: each rule, and their order."""

from functools import partial

import pytest

from ledger import policy
from ledger.policy import AllowList, Send, Suppress
from ledger.recipient import nobody
from ledger.suppression import Reason
from ledger.values import Category, Channel
from tests.unit.ledger.samples import at, requested
from tests.unit.ledger.test_suppression import BOUNCED, IDENTITY, suppressed

judge = partial(policy.judge, now=at(9))
EVERYONE = AllowList(frozenset({"*"}))
NOBODY = AllowList(frozenset())


def test_what_nothing_forbids_is_sent():
    assert judge(requested(), "ada@example.com", EVERYONE) == Send()


def test_a_notification_without_a_template_is_not_sent():
    verdict = judge(requested(template_version=""), "ada@example.com", EVERYONE)
    assert verdict == Suppress("no_template", {"template": "order_shipped", "locale": "en"})


def test_marketing_needs_a_consent_that_nobody_can_record_yet():
    verdict = judge(requested(category=Category.MARKETING), "ada@example.com", EVERYONE)
    assert verdict == Suppress("no_consent", {"category": "marketing", "consent": "none recorded"})


def test_a_person_without_an_address_is_not_written_to():
    assert judge(requested(), None, EVERYONE) == Suppress("no_usable_address", {"channel": "email"})


def test_where_the_person_was_asked_for_the_verdict_names_what_was_read_of_them():
    known = nobody(IDENTITY, "u-1")
    verdict = judge(requested(address_hash=None), None, EVERYONE, recipient=known)
    assert verdict == Suppress("no_usable_address", {"channel": "email", "stream": str(known.stream), "version": "0"})


def test_i07_an_address_on_the_suppression_list_is_not_written_to_whatever_the_category():
    listed = suppressed(Reason.COMPLAINT)
    verdict = judge(requested(category=Category.SECURITY), "ada@example.com", EVERYONE, listed)
    assert verdict == Suppress(
        "suppressed_address",
        {
            "reason": "complaint",
            "since": at(0).isoformat(),
            "stream": str(listed.stream),
            "version": "1",
            "notification": str(BOUNCED),
        },
    )


def test_an_address_of_which_nothing_is_known_may_be_written_to():
    assert judge(requested(), "ada@example.com", EVERYONE, suppressed()) == Send()


def test_i18_who_is_not_allowed_here_is_named_by_a_hash():
    verdict = judge(requested(), "ada@example.com", NOBODY, suppressed())
    assert verdict == Suppress("not_allowed_here", {"address_hash": "ab" * 16})


def test_the_first_rule_that_forbids_decides():
    request = requested(template_version="", category=Category.MARKETING)
    verdicts = [
        judge(request, None, NOBODY),
        judge(requested(category=Category.MARKETING), None, NOBODY),
        judge(requested(), None, NOBODY),
    ]
    assert [verdict.rule for verdict in verdicts if isinstance(verdict, Suppress)] == [
        "no_template",
        "no_consent",
        "no_usable_address",
    ]


def test_an_sms_goes_only_to_the_countries_that_are_allowed():
    allowed = AllowList(frozenset({"*"}), frozenset({"GB", "FR"}))
    sms = requested(channel=Channel.SMS)
    assert judge(sms, "+442071838750", allowed, country="GB") == Send()
    assert judge(sms, "+12125552368", allowed, country="US") == Suppress("country_not_allowed", {"country": "US"})
    assert judge(sms, "+881612345678", allowed, country=None) == Suppress("country_not_allowed", {"country": "none"})
    assert judge(sms, "+881612345678", EVERYONE, country=None) == Send()
    assert judge(requested(channel=Channel.PUSH), "an-id", allowed) == Send()


@pytest.mark.parametrize(
    ("entry", "address", "allowed"),
    [
        ("*", "anyone@anywhere.example", True),
        ("ada@example.com", "Ada@Example.com", True),
        ("ada@example.com", "bob@example.com", False),
        ("example.com", "bob@example.com", True),
        ("example.com", "bob@sub.example.com", False),
        ("example.com", "bob@notexample.com", False),
        ("example.com", "bob@example.com@evil.example", False),
        ("+15005550001", "+15005550001", True),
    ],
)
def test_an_allow_list_holds_addresses_and_whole_domains(entry: str, address: str, *, allowed: bool):
    assert AllowList(frozenset({entry})).allows(address) is allowed
