"""The schema of each message against the service itself: whatever it takes fits, and what does not fit is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.values import Channel
from templates.catalogue import Catalogue, load
from templates.envelope import MessageRejectedError
from templates.message_schemas import message_schemas
from tests.support.json_schema_2020 import fits
from tests.unit.templates.samples import MEANINGS, NOW, body, sample
from tests.unit.templates.test_any_input import places, values

CATALOGUE = load()
SCHEMAS = message_schemas(CATALOGUE, channels=set(Channel))
ABOUT_PEOPLE: dict[str, dict[str, Any]] = {
    "UserContactChangedEvent": {"userId": "ada", "emailAddress": "ada@example.com", "phoneNumber": None},
    "DeviceRegisteredEvent": {"userId": "ada", "fid": "fid-1", "platform": "web"},
    "UserPreferencesChangedEvent": {
        "userId": "ada",
        "preferences": [{"category": "marketing", "channel": "email", "enabled": False}],
        "consents": [{"purpose": "offers", "granted": True, "wording": "w-1", "at": "2031-05-04T11:00:00Z"}],
        "quietHours": {"from": "22:00", "to": "07:00"},
    },
}
MESSAGES = {each: sample(each) for each in MEANINGS} | {
    each: {**sample("UserRegisteredEvent"), "messageType": each, "payload": payload}
    for each, payload in ABOUT_PEOPLE.items()
}


def is_taken(message: dict[str, Any], known: Catalogue = CATALOGUE, channels: frozenset[Channel] | None = None) -> bool:
    try:
        known.read(body(message), now=NOW, channels=channels or set(Channel))
    except MessageRejectedError:
        return False
    return True


def is_described(message: dict[str, Any], message_type: str) -> bool:
    return fits(message, SCHEMAS[f"{message_type}.v1"])


@pytest.mark.parametrize("message_type", MESSAGES)
def test_each_sample_of_the_platform_fits_the_schema_of_its_type_with_and_without_a_version(message_type: str):
    assert SCHEMAS.keys() == {f"{each}.v1" for each in MESSAGES}
    message = MESSAGES[message_type]
    assert is_taken(message)
    assert is_described(message, message_type)
    assert is_described({**message, "messageType": f"{message_type}.v1"}, message_type)
    assert not is_described({**message, "messageType": f"{message_type}.v2"}, message_type)


STRUCTURES: list[Any] = ["gone", None, "", True, [], {}, [None], 1e16]


def replaced(message_type: str, place: int, value: Any) -> dict[str, Any]:
    """A message in which something else stands in one place, or nothing."""
    message = copy.deepcopy(MESSAGES[message_type])
    found = [(container, key) for container, key in places(message) if key != "messageType"]
    container, key = found[place % len(found)]
    if value == "gone":
        del container[key]
    else:
        container[key] = copy.deepcopy(value)
    return message


@settings(max_examples=600)
@given(st.sampled_from(sorted(MESSAGES)), st.integers(0, 100), st.sampled_from(STRUCTURES))
def test_of_what_is_missing_or_of_another_kind_schema_and_service_say_the_same(
    message_type: str, place: int, value: Any
):
    message = replaced(message_type, place, value)
    assert is_described(message, message_type) == is_taken(message), message


@pytest.mark.parametrize("wording", [{}, {"wording": None}, {"wording": "w-1"}], ids=str)
@pytest.mark.parametrize("granted", [True, False])
def test_a_consent_that_is_granted_names_its_wording(wording: dict[str, Any], *, granted: bool):
    message = copy.deepcopy(MESSAGES["UserPreferencesChangedEvent"])
    del message["payload"]["consents"][0]["wording"]
    message["payload"]["consents"][0] |= {"granted": granted, **wording}
    is_proven = not granted or bool(wording.get("wording"))
    assert is_described(message, "UserPreferencesChangedEvent") == is_taken(message) == is_proven


NEARLY = st.sampled_from(
    ["ada@", "+44", "GBP ", "gbp", "2031-02-30", "2031-05-04T12:00:00", "2031-05-04T12:00:00Z", "https://x.example", 0]
)


@settings(max_examples=500)
@given(
    st.sampled_from(sorted(MESSAGES)),
    st.lists(st.tuples(st.integers(0, 100), values | NEARLY), min_size=1, max_size=4),
)
def test_what_does_not_fit_is_refused_whatever_it_is(message_type: str, mutations: list[tuple[int, Any]]):
    message = copy.deepcopy(MESSAGES[message_type])
    for place, value in mutations:
        found = [(container, key) for container, key in places(message) if key != "messageType"]
        container, key = found[place % len(found)]
        container[key] = value
    assert is_described(message, message_type) or not is_taken(message), message


@pytest.mark.parametrize(
    "changes",
    [
        {"orderId": "x" * 201},
        {"trackingLink": "javascript:alert(1)"},
        {"trackingLink": "https://user@shop.example"},
        {"estimatedDeliveryDate": "tomorrow"},
        {"userEmail": "ada"},
        {"userPhoneNumber": "020 7183"},
        {"itemsShipped": [{"productName": "Lamp"}]},
        {"itemsShipped": [{"productName": "Lamp", "quantity": 1}] * 201},
        {"locale": "english"},
        {"firstName": "Ada\nLovelace"},
    ],
    ids=", ".join,
)
def test_the_schema_refuses_what_it_can(changes: dict[str, Any]):
    message = sample("OrderShippedEvent", **changes)
    assert not is_taken(message)
    assert not is_described(message, "OrderShippedEvent")


def test_an_address_of_a_channel_that_is_not_served_is_not_looked_at():
    message = sample("TwoFactorAuthCodeEvent", phoneNumber="none")
    email = frozenset({Channel.EMAIL})
    schema = message_schemas(CATALOGUE, channels=email)["TwoFactorAuthCodeEvent.v1"]
    assert (is_taken(message, channels=email), fits(message, schema)) == (True, True)
    assert (is_taken(message), is_described(message, "TwoFactorAuthCodeEvent")) == (False, False)


# Everything that an expression can be: alternatives, nested, in a list, beside it, and what hangs on another value.
WRITTEN = """
sender: Example Shop <notifications@shop.example>
locale: en
notifications:
  welcome:
    category: transactional
    lane: normal
    doubt: resend
    channels: [email]
    data: {resetLink: link, "note?": {text: text, "more?": [line]}}
messages:
  Happened:
    - notification: welcome
      recipient: payload.user.id | payload.userId
      name: payload.user.name | payload.name ?
      send_at: payload.at?
      expires_in: payload.seconds?
      to:
        email: payload.user.email?
      when: {email: payload.flags.mail}
      data: {resetLink: payload.a.b | payload.c}
  Listed:
    - notification: welcome
      for_each: payload.deep.people
      recipient: item.id | item.other.id
      data: {resetLink: payload.link, note: item.note}
"""
PEOPLE = [{"id": "1", "note": {"text": "", "more": ["x"]}}, {"other": {"id": "2"}}]
OWN: dict[str, dict[str, Any]] = {
    "Happened": {
        "user": {"id": "u", "name": "Ada", "email": "ada@example.com"},
        "userId": "v",
        "name": "Eve",
        "at": "2031-05-05T12:00:00Z",
        "seconds": 60,
        "flags": {"mail": True},
        "a": {"b": "https://x.example/"},
        "c": "https://y.example/",
        "note": {"text": "hello", "more": []},
    },
    "Listed": {"deep": {"people": PEOPLE}, "link": "https://x.example/"},
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder: Path = tmp_path_factory.mktemp("catalogue")
    file = folder / "catalogue.yaml"
    file.write_text(WRITTEN)
    return load(file, messages=folder)


@settings(max_examples=1_000)
@given(
    name=st.sampled_from(sorted(OWN)),
    mutations=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(STRUCTURES)), max_size=4),
)
def test_any_catalogue_has_schemas_that_say_the_same_as_it_does(
    own: Catalogue, name: str, mutations: list[tuple[int, Any]]
):
    message = {**sample("UserRegisteredEvent"), "messageType": name, "payload": copy.deepcopy(OWN[name])}
    for place, value in mutations:
        found = places(message["payload"])
        container, key = found[place % len(found)] if found else (message["payload"], "x")
        if value != "gone":
            container[key] = copy.deepcopy(value)
        elif isinstance(container, dict):
            container.pop(key, None)
    schema = message_schemas(own, channels=set(Channel))[f"{name}.v1"]
    assert fits(message, schema) == is_taken(message, own), message
