"""What a message says of what a person allows: what is read of it, and every fault at once."""

from datetime import UTC, datetime, time
from typing import Any

import msgspec
import pytest

from ledger.preferences import Choice, ConsentNews, PreferenceNews, QuietHours
from ledger.values import Category, Channel
from templates.catalogue import Catalogue, load
from tests.unit.templates.test_people import SAID_AT, about, asked, faults

TYPE = "UserPreferencesChangedEvent"
AGREED = {"purpose": "newsletter", "granted": True, "wording": "2031-05", "at": "2031-05-04T13:00:00+02:00"}
TAKEN_BACK = {"purpose": "offers", "granted": False, "at": "2031-05-04T11:00:00Z"}
OFF = {"category": "marketing", "channel": "sms", "enabled": False}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def said(**payload: Any) -> bytes:
    return about(TYPE, **payload)


def test_all_parts_are_read(catalogue: Catalogue):
    message = said(preferences=[OFF], consents=[AGREED, TAKEN_BACK], quietHours={"from": "22:00", "to": "07:30"})
    eleven = datetime(2031, 5, 4, 11, tzinfo=UTC)
    assert asked(catalogue, message) == PreferenceNews(
        user_id="u-1",
        said_at=SAID_AT,
        choices=(Choice(Category.MARKETING, Channel.SMS, enabled=False),),
        consents=(
            ConsentNews(purpose="newsletter", granted=True, at=eleven, wording="2031-05", where="UserService"),
            ConsentNews(purpose="offers", granted=False, at=eleven, where="UserService"),
        ),
        quiet=QuietHours(time(22), time(7, 30)),
    )


def test_where_somebody_agreed_is_what_the_message_says_of_it(catalogue: Catalogue):
    news = asked(catalogue, said(consents=[{**AGREED, "where": "checkout"}]))
    assert isinstance(news, PreferenceNews)
    assert news.consents[0].where == "checkout"


def test_what_is_absent_is_not_spoken_of_and_quiet_hours_of_null_are_cleared(catalogue: Catalogue):
    nothing = PreferenceNews(user_id="u-1", said_at=SAID_AT)
    assert asked(catalogue, said()) == asked(catalogue, said(preferences=None, consents=[])) == nothing
    assert asked(catalogue, said(quietHours=None)) == msgspec.structs.replace(nothing, quiet=None)


def test_every_fault_is_named_at_once_and_no_value(catalogue: Catalogue):
    message = said(
        userId=None,
        preferences=[{"category": "secret", "channel": ["sms"], "enabled": "yes"}, OFF, {}, 7, OFF],
        consents=[
            {"purpose": "secret", "granted": True, "at": "2031-05-04T12:59:01Z"},
            {"granted": 1, "at": "yesterday", "where": ""},
            {**TAKEN_BACK, "purpose": "secret"},
        ],
        quietHours={"from": "24:00"},
    )
    assert faults(catalogue, message) == [
        "payload.userId is required",
        "payload.preferences[0].category must be security or transactional or operational or marketing",
        "payload.preferences[0].channel must be email or sms or push",
        "payload.preferences[0].enabled must be true or false",
        "payload.preferences[2].category is required",
        "payload.preferences[2].channel is required",
        "payload.preferences[2].enabled is required",
        "payload.preferences[3] must be an object",
        "payload.preferences[4] repeats the category and channel of another",
        "payload.consents[1].purpose is required",
        "payload.consents[1].granted must be true or false",
        "payload.consents[1].where must be a string of 1 to 200 printable characters",
        "payload.consents[1].at must be an ISO 8601 time with an offset",
        "payload.consents[2] repeats the purpose of another",
        "payload.consents[0].wording is required where consent is granted",
        "payload.consents[0].at must be at most 1 hour ahead",
        "payload.quietHours.from must be a time of day such as 22:00",
        "payload.quietHours.to is required",
    ]


@pytest.mark.parametrize("part", ["preferences", "consents"])
def test_a_part_that_is_no_list_is_a_fault(catalogue: Catalogue, part: str):
    assert faults(catalogue, said(**{part: {}})) == [f"payload.{part} must be a list"]


def test_consent_says_when_it_was_given(catalogue: Catalogue):
    undated = {name: value for name, value in AGREED.items() if name != "at"}
    assert faults(catalogue, said(consents=[undated])) == ["payload.consents[0].at is required"]


def test_a_granted_consent_without_words_is_none(catalogue: Catalogue):
    unworded = {**AGREED, "wording": None}
    assert faults(catalogue, said(consents=[unworded])) == [
        "payload.consents[0].wording is required where consent is granted"
    ]


@pytest.mark.parametrize("value", ["22", "9:00", "22:60", "22:00:00", "²²:00", "22:00\n", 22, None])
def test_a_time_of_day_has_hours_and_minutes(catalogue: Catalogue, value: object):
    said_faults = faults(catalogue, said(quietHours={"from": value, "to": "07:00"}))
    expected = "is required" if value is None else "must be a time of day such as 22:00"
    assert said_faults == [f"payload.quietHours.from {expected}"]


def test_quiet_hours_that_would_be_none_or_all_day_are_refused(catalogue: Catalogue):
    assert faults(catalogue, said(quietHours={"from": "07:00", "to": "07:00"})) == [
        "payload.quietHours must end at another time than they begin"
    ]
