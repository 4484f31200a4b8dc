"""Whatever arrives, the answer is one of two errors, and none of them repeats what was in it."""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.values import Channel
from templates.catalogue import load
from templates.envelope import MessageRejectedError, UnknownMessageError
from templates.rendering import Renderer
from tests.unit.templates.samples import MEANINGS, NOW, body, sample

CATALOGUE = load()
RENDERER = Renderer(sender=CATALOGUE.sender)
SECRET = "Xylophone"

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        [SECRET, f"{SECRET}@", f"{SECRET}\0", "a@b.example", "2031-05-04T12:00:00", "https://x.example", ""]
    )
)
# What is said of people: there are no samples of the platform for it.
ABOUT_PEOPLE: dict[str, dict[str, Any]] = {
    "UserContactChangedEvent": {"userId": "u-1", "emailAddress": "a@b.example", "locale": "en", "timeZone": "UTC"},
    "DeviceRegisteredEvent": {"userId": "u-1", "fid": "fid-1", "platform": "ios"},
    "UserPreferencesChangedEvent": {
        "userId": "u-1",
        "preferences": [{"category": "marketing", "channel": "sms", "enabled": False}],
        "consents": [
            {"purpose": "offers", "granted": True, "wording": "w", "at": "2031-05-04T11:00:00Z", "where": "x"}
        ],
        "quietHours": {"from": "22:00", "to": "07:00"},
    },
}
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["productName", "userId", "x"]), inner),
    max_leaves=8,
)


def answer(text: bytes) -> str:
    """Return the text of the error, empty when there is none; what is wanted is rendered as well, in both languages."""
    try:
        _, found = CATALOGUE.read(text, now=NOW, channels=set(Channel))
    except (MessageRejectedError, UnknownMessageError) as error:
        return str(error)
    for wanted in found:
        for locale in (wanted.locale, "fr"):
            RENDERER.render(wanted.template, wanted.channel, locale=locale, personal=wanted.personal)
    return ""


def direct_answer(text: bytes) -> str:
    try:
        CATALOGUE.read_request(text, now=NOW, channels=set(Channel))
    except (MessageRejectedError, UnknownMessageError) as error:
        return str(error)
    return ""


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of every value of a message."""
    items = list(node.items() if isinstance(node, dict) else enumerate(node)) if isinstance(node, dict | list) else []
    return [(node, key) for key, _ in items] + [place for _, child in items for place in places(child)]


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(text: bytes):
    assert answer(text)


@given(values)
def test_any_json_is_answered(value: Any):
    answer(body(value))


@given(st.dictionaries(st.sampled_from(["messageType", "payload", "messageId", "timestamp", "source"]), values))
def test_any_envelope_is_answered(envelope: dict[str, Any]):
    assert SECRET not in answer(body(envelope)).replace(f"know {SECRET}", "")


@settings(max_examples=400)
@given(st.sampled_from(sorted(MEANINGS)), st.lists(st.tuples(st.integers(0, 60), values), min_size=1, max_size=4))
def test_i18_any_mutation_of_a_sample_is_answered_without_its_values(
    message_type: str, mutations: list[tuple[int, Any]]
):
    assert SECRET not in answer(body(mutated(sample(message_type), mutations)))


@settings(max_examples=400)
@given(st.sampled_from(sorted(ABOUT_PEOPLE)), st.lists(st.tuples(st.integers(0, 60), values), max_size=4))
def test_i18_any_mutation_of_what_is_said_of_people_is_answered_without_its_values(
    message_type: str, mutations: list[tuple[int, Any]]
):
    envelope = {**sample("UserRegisteredEvent"), "messageType": message_type}
    message = {**envelope, "payload": copy.deepcopy(ABOUT_PEOPLE[message_type])}
    said = answer(body(mutated(message, mutations)))
    assert SECRET not in said
    assert mutations or said == ""


def mutated(message: dict[str, Any], mutations: list[tuple[int, Any]]) -> dict[str, Any]:
    """Return the message with other values in some places of its payload."""
    for index, value in mutations:
        found = places(message["payload"])
        if found:
            container, key = found[index % len(found)]
            container[key] = value
    return message


@given(st.sampled_from(sorted(MEANINGS)), st.binary(max_size=4), st.integers(0, 2000))
def test_any_damage_to_the_bytes_is_answered(message_type: str, damage: bytes, position: int):
    text = body(sample(message_type))
    position %= len(text)
    answer(text[:position] + damage + text[position + len(damage) :])


@given(st.dictionaries(st.sampled_from(["type", "recipient", "data", "channels", "send_at", "expires_at"]), values))
def test_i18_any_direct_request_is_answered_without_its_values(request: dict[str, Any]):
    assert SECRET not in direct_answer(body({"type": "welcome", **request}))
