"""Given facts, when it is judged, then this verdict with this evidence: each rule, and their order."""

from datetime import time
from typing import Any

import pytest

from ledger.policy import RULES, AllowList, Considered, Defer, Send, Suppress, Verdict, judge
from ledger.preferences import Choice, ConsentChanged, PreferencesChanged, QuietHours, QuietHoursChanged
from ledger.recipient import ContactChanged, Erased, Field, RecipientFact, fold, nobody
from ledger.suppression import Listed, Reason, evolve, stream_of
from ledger.values import REDACTED, Category, Channel, Lane
from tests.unit.ledger.samples import at, origin, requested
from tests.unit.ledger.test_suppression import ADDRESS, BOUNCED, IDENTITY, suppressed

EVERYONE = AllowList(frozenset({"*"}))
NOBODY = AllowList(frozenset())
PERSON, LIST = str(nobody(IDENTITY, "u-1").stream), str(stream_of(IDENTITY, Channel.EMAIL, ADDRESS))
MARKETING: dict[str, Any] = {"category": Category.MARKETING}
AGREED = ConsentChanged(**origin(1).stamp(), said_at=at(0.5), purpose="marketing", granted=True)
WITHDREW = ConsentChanged(**origin(2).stamp(), said_at=at(1.5), purpose="marketing", granted=False)
MOVED = ContactChanged(
    **origin(3).stamp(),
    recipient="user:u-1",
    said_at=at(3),
    fields=(Field.TIME_ZONE,),
    time_zone="Europe/London",
)
# The samples are judged at 12:00:09 UTC, which in London is 13:00:09.
LUNCH = QuietHoursChanged(**origin(4).stamp(), said_at=at(4), quiet=QuietHours(time(13), time(14, 30)))


def wants(*, enabled: bool, category: Category = Category.TRANSACTIONAL) -> PreferencesChanged:
    choice = Choice(category, Channel.EMAIL, enabled)
    return PreferencesChanged(**origin(1).stamp(), said_at=at(0.5), choices=(choice,))


def erased(seconds: float) -> Erased:
    return Erased(**origin(seconds).stamp(), recipient="user:u-1", reason="she asked for it")


def considered(
    *facts: RecipientFact, listed: tuple[Reason | Listed, ...] = (), seen: dict[str, Any] | None = None, **said: Any
) -> Considered:
    """Return what is judged: a mail that is as usual but for what is `said`, and where `seen` says otherwise."""
    by_reports = suppressed(*(one for one in listed if isinstance(one, Reason)))
    for one in listed:
        by_reports = evolve(by_reports, one) if isinstance(one, Listed) else by_reports
    given: dict[str, Any] = {
        "requested": requested(**said),
        "recipient": fold(nobody(IDENTITY, "u-1"), facts),
        "address": "ada@example.com",
        "suppression": by_reports,
        "allowed": EVERYONE,
        "now": at(9),
    }
    return Considered(**given | (seen or {}))


def listed_for(category: Category, *, until: float | None = None) -> Listed:
    return Listed(
        **origin().stamp(),
        channel=Channel.EMAIL,
        address_hash=ADDRESS,
        reason=Reason.UNSUBSCRIBE,
        category=category,
        expires_at=None if until is None else at(until),
    )


SENT = {
    "what nothing forbids": considered(),
    "an address that nothing is known of": considered(seen={"suppression": None}),
    "what was asked for after the erasure": considered(erased(1), seconds=2),
    "a suppression of another category": considered(listed=(listed_for(Category.MARKETING),)),
    "a suppression that has ended": considered(listed=(listed_for(Category.TRANSACTIONAL, until=9),)),
    "marketing with consent": considered(AGREED, **MARKETING),
    "consent that was given again": considered(WITHDREW, AGREED, **MARKETING),
    "another purpose with its consent": considered(
        ConsentChanged(**origin().stamp(), said_at=at(0), purpose="surveys", granted=True), consent="surveys"
    ),
    "what the person wants": considered(wants(enabled=True)),
    "what is wanted by this channel": considered(wants(enabled=False), channel=Channel.SMS),
    "what is not of the category that is unwanted": considered(wants(enabled=False, category=Category.OPERATIONAL)),
    "security without consent": considered(WITHDREW, category=Category.SECURITY, consent="marketing"),
    "security that is unwanted": considered(
        wants(enabled=False, category=Category.SECURITY), category=Category.SECURITY
    ),
    "security in quiet hours": considered(MOVED, LUNCH, category=Category.SECURITY, quiet_hours=True),
    "what is urgent in quiet hours": considered(MOVED, LUNCH, lane=Lane.URGENT, quiet_hours=True),
    "what keeps no quiet hours": considered(MOVED, LUNCH),
    "what is not in quiet hours where the person is": considered(LUNCH, quiet_hours=True),
    "quiet hours that were taken back": considered(
        MOVED, LUNCH, QuietHoursChanged(**origin().stamp(), said_at=at(5), quiet=None), quiet_hours=True
    ),
    "a number of a country that is allowed": considered(
        channel=Channel.SMS, seen={"allowed": AllowList(frozenset("*"), frozenset({"GB"})), "country": "GB"}
    ),
    "a push, which has no country": considered(
        channel=Channel.PUSH, seen={"allowed": AllowList(frozenset("*"), frozenset({"GB"}))}
    ),
}

NOT_SENT: dict[str, tuple[Considered, Verdict]] = {
    "erased after it was asked for": (
        considered(AGREED, erased(5), personal=REDACTED),
        Suppress("erased", {"erased_at": at(5).isoformat(), "stream": PERSON, "version": "2"}),
    ),
    "erased, and only then stamped": (
        considered(erased(5), seconds=6, personal=REDACTED),
        Suppress("erased", {"erased_at": at(5).isoformat(), "stream": PERSON, "version": "1"}),
    ),
    "without words": (
        considered(template_version=""),
        Suppress("no_template", {"template": "order_shipped", "locale": "en"}),
    ),
    "a suppressed address, by its earliest reason": (
        considered(listed=(Reason.COMPLAINT, Reason.HARD_BOUNCE), category=Category.SECURITY),
        Suppress(
            "suppressed_address",
            {
                "reason": "complaint",
                "since": at(0).isoformat(),
                "stream": LIST,
                "version": "1",
                "notification": str(BOUNCED),
            },
        ),
    ),
    "an address that is suppressed for its category": (
        considered(listed=(listed_for(Category.TRANSACTIONAL, until=10),)),
        Suppress(
            "suppressed_address",
            {"reason": "unsubscribe", "since": at(0).isoformat(), "stream": LIST, "version": "1"},
        ),
    ),
    "marketing that nobody has spoken of": (
        considered(wants(enabled=True), **MARKETING),
        Suppress("no_consent", {"purpose": "marketing", "consent": "none recorded", "stream": PERSON, "version": "1"}),
    ),
    "marketing for another purpose than the one agreed to": (
        considered(AGREED, consent="partners", **MARKETING),
        Suppress("no_consent", {"purpose": "partners", "consent": "none recorded", "stream": PERSON, "version": "1"}),
    ),
    "consent that was withdrawn": (
        considered(AGREED, WITHDREW, MOVED, **MARKETING),
        Suppress(
            "no_consent",
            {
                "purpose": "marketing",
                "consent": "withdrawn",
                "since": at(1.5).isoformat(),
                "stream": PERSON,
                "version": "2",
            },
        ),
    ),
    "opted out": (
        considered(MOVED, wants(enabled=False), AGREED),
        Suppress(
            "opted_out",
            {
                "category": "transactional",
                "channel": "email",
                "since": at(0.5).isoformat(),
                "stream": PERSON,
                "version": "2",
            },
        ),
    ),
    "nowhere to go": (
        considered(AGREED, seen={"address": None}),
        Suppress("no_usable_address", {"channel": "email", "stream": PERSON, "version": "1"}),
    ),
    "not on the list of this installation": (
        considered(seen={"allowed": NOBODY}),
        Suppress("not_allowed_here", {"address_hash": ADDRESS}),
    ),
    "a country that is not allowed": (
        considered(
            channel=Channel.SMS, seen={"allowed": AllowList(frozenset("*"), frozenset({"GB"})), "country": "US"}
        ),
        Suppress("country_not_allowed", {"country": "US"}),
    ),
    "a number of no country": (
        considered(channel=Channel.SMS, seen={"allowed": AllowList(frozenset("*"), frozenset({"GB"}))}),
        Suppress("country_not_allowed", {"country": "none"}),
    ),
    "quiet hours where the person is": (
        considered(MOVED, LUNCH, quiet_hours=True),
        Defer(
            "quiet_hours",
            at(90 * 60),
            {
                "hours": "13:00-14:30",
                "time_zone": "Europe/London",
                "until": at(90 * 60).isoformat(),
                "stream": PERSON,
                "version": "2",
            },
        ),
    ),
    "quiet hours of a person who is nobody knows where": (
        considered(
            QuietHoursChanged(**origin().stamp(), said_at=at(0), quiet=QuietHours(time(11), time(13))),
            quiet_hours=True,
        ),
        Defer(
            "quiet_hours",
            at(3600),
            {
                "hours": "11:00-13:00",
                "time_zone": "UTC",
                "until": at(3600).isoformat(),
                "stream": PERSON,
                "version": "1",
            },
        ),
    ),
}


@pytest.mark.parametrize("case", SENT.values(), ids=SENT)
def test_it_is_sent(case: Considered):
    assert judge(case) == Send()


@pytest.mark.parametrize(("case", "verdict"), NOT_SENT.values(), ids=NOT_SENT)
def test_i07_it_is_not_sent_and_the_verdict_names_the_fact_that_decided(case: Considered, verdict: Verdict):
    assert judge(case) == verdict


def test_every_rule_has_a_case():
    assert {verdict.rule for _, verdict in NOT_SENT.values() if not isinstance(verdict, Send)} == {
        rule.name for rule in RULES
    }


def test_the_first_rule_that_finds_something_decides():
    said: dict[str, Any] = {"category": Category.MARKETING, "quiet_hours": True}
    unwanted = wants(enabled=False, category=Category.MARKETING)
    quiet = QuietHoursChanged(**origin().stamp(), said_at=at(0), quiet=QuietHours(time(11), time(13)))
    closed = {"address": None, "allowed": NOBODY}
    stopped = (Reason.STOP,)
    cases = [
        considered(WITHDREW, unwanted, quiet, erased(5), listed=stopped, seen=closed, template_version="", **said),
        considered(WITHDREW, unwanted, quiet, listed=stopped, seen=closed, template_version="", **said),
        considered(WITHDREW, unwanted, quiet, listed=stopped, seen=closed, **said),
        considered(WITHDREW, unwanted, quiet, seen=closed, **said),
        considered(AGREED, unwanted, quiet, seen=closed, **said),
        considered(AGREED, quiet, seen=closed, **said),
        considered(AGREED, quiet, seen={"allowed": NOBODY}, **said),
        considered(AGREED, quiet, **said),
    ]
    found = [verdict.rule for case in cases if not isinstance(verdict := judge(case), Send)]
    # An SMS alone has a country.
    assert found == [rule.name for rule in RULES if rule.name != "country_not_allowed"]


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
