import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from templates.envelope import MAX_BODY, Envelope, MessageRejectedError, examine, read_time, rejection
from tests.unit.templates.samples import NOW, body, sample


def parse(message: object) -> Envelope:
    read, found = examine(message if isinstance(message, bytes) else body(message), now=NOW)
    if found:
        raise rejection(read, "envelope", found)
    return read


def refusal(message: object) -> MessageRejectedError:
    with pytest.raises(MessageRejectedError) as caught:
        parse(message)
    return caught.value


def faults(message: object) -> list[str]:
    return [str(fault) for fault in refusal(message).faults]


def envelope(**changes: Any) -> dict[str, Any]:
    changed = {**sample("UserRegisteredEvent"), **changes}
    return {name: value for name, value in changed.items() if value is not None}


def test_a_sample_is_read_whole():
    read = parse(sample("UserRegisteredEvent"))
    assert read.message_id == "0d9f7c52-3b1e-4c57-8a51-000000000001"
    assert (read.message_type, read.version) == ("UserRegisteredEvent", 1)
    assert read.timestamp == datetime(2031, 5, 4, 11, 59, 0, 125000, tzinfo=UTC)
    assert (read.source, read.correlation_id, read.envelope_version) == ("UserService", "req-4001", "1.0")
    assert read.partition_key is None
    assert read.payload["firstName"] == "Ada"


def test_the_version_is_taken_off_the_type():
    assert parse(envelope(messageType="OrderShippedEvent.v2")).message_type == "OrderShippedEvent"
    assert parse(envelope(messageType="OrderShippedEvent.v2")).version == 2


def test_source_stands_in_for_source_service():
    assert parse(envelope(sourceService=None, source="Billing")).source == "Billing"
    assert parse(envelope(source="Billing")).source == "UserService"


def test_a_broken_envelope_version_loses_no_message():
    assert parse(envelope(envelopeVersion={"major": 1})).envelope_version is None


def test_times_become_utc():
    assert parse(envelope(timestamp="2031-05-04T17:00:00+05:30")).timestamp == datetime(2031, 5, 4, 11, 30, tzinfo=UTC)


def test_seven_digits_of_a_second_are_read():
    assert parse(envelope(timestamp="2031-05-04T11:00:00.1234567Z")).timestamp.microsecond == 123456


@pytest.mark.parametrize("age", [timedelta(days=90), timedelta(hours=-1)])
def test_the_borders_of_the_time_range_are_inside(age: timedelta):
    assert parse(envelope(timestamp=(NOW - age).isoformat())).timestamp == NOW - age


@pytest.mark.parametrize(
    ("timestamp", "fault"),
    [
        ((NOW - timedelta(days=90, seconds=1)).isoformat(), "timestamp must be within the last 90 days"),
        ((NOW + timedelta(hours=1, seconds=1)).isoformat(), "timestamp must be at most 1 hour ahead"),
        ("2031-05-04T12:00:00", "timestamp must be an ISO 8601 time with an offset"),
        ("2031-05-04", "timestamp must be an ISO 8601 time with an offset"),
        ("0001-01-01T00:00:00+14:00", "timestamp must be an ISO 8601 time with an offset"),
        ("9999-12-31T23:59:59-14:00", "timestamp must be an ISO 8601 time with an offset"),
        ("soon", "timestamp must be an ISO 8601 time with an offset"),
        (1936000000, "timestamp must be an ISO 8601 time with an offset"),
        (None, "timestamp is required"),
    ],
)
def test_a_timestamp_that_is_none_is_named(timestamp: object, fault: str):
    assert faults(envelope(timestamp=timestamp)) == [fault]


@pytest.mark.parametrize("place", [10, 19, 25])
@pytest.mark.parametrize("sign", ["\0", "x", "٣"])
def test_a_time_holds_no_character_that_is_none_of_its_own(place: int, sign: str):
    time = "2031-05-04T12:00:00+00:00"
    assert read_time(time) == NOW
    assert read_time(time[:place] + sign + time[place:]) is None
    assert read_time(time[:10] + sign + time[11:]) is None


@pytest.mark.parametrize("time", ["20310504T120000Z", "2031-W18-7T12:00Z", "2031-05-04 14:00:00,0+02:00"])
def test_a_time_may_be_written_in_any_way_of_iso_8601(time: str):
    assert read_time(time) == NOW


def test_every_fault_is_named_at_once():
    assert faults({"messageType": 7, "payload": [], "timestamp": True, "correlationId": {}, "partitionKey": "\n"}) == [
        "messageType must be a name like OrderShippedEvent or OrderShippedEvent.v1",
        "payload must be an object",
        "messageId is required",
        "timestamp must be an ISO 8601 time with an offset",
        "sourceService is required",
        "correlationId must be a string of 1 to 200 printable characters",
        "partitionKey must be a string of 1 to 200 printable characters",
    ]


def test_an_empty_object_lacks_everything():
    assert faults({}) == [
        f"{name} is required" for name in ("messageType", "payload", "messageId", "timestamp", "sourceService")
    ]


@pytest.mark.parametrize("value", ["", " ", "x" * 201, "a\x00b", "a\rb", 7, True, []])
def test_an_id_is_short_and_printable(value: object):
    assert [fault.path for fault in refusal(envelope(messageId=value)).faults] in (["messageId"], ["messageId"] * 2)


def test_what_can_be_read_of_a_broken_envelope_is_kept_for_the_dead_letter():
    error = refusal(envelope(timestamp="never", messageId="m-1"))
    assert (error.source, error.message_type, error.message_id) == ("UserService", "UserRegisteredEvent", "m-1")
    assert error.reason == "envelope"


def test_what_is_not_sane_is_not_kept():
    error = refusal(envelope(messageId="x" * 5000, sourceService=3, messageType="<script>"))
    assert (error.source, error.message_type, error.message_id) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "the body is not JSON (RFC 8259), or a string in it holds half a surrogate pair"),
        (b"hello", "the body is not JSON (RFC 8259), or a string in it holds half a surrogate pair"),
        (b'{"a": NaN}', "the body is not JSON (RFC 8259), or a string in it holds half a surrogate pair"),
        (b'{"a": "\\ud800"}', "the body is not JSON (RFC 8259), or a string in it holds half a surrogate pair"),
        (b'{"a": "\\udc00\\ud800"}', "the body is not JSON (RFC 8259), or a string in it holds half a surrogate pair"),
        (b'{"a": "\x00"}', "the body is not JSON (RFC 8259), or a string in it holds half a surrogate pair"),
        (b'{"a": "\xff"}', "the body is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "the body is not UTF-8"),
        (b'{"a": 1e999}', "the body holds a number out of range"),
        (b"[" * 10_000, "the body is nested deeper than 32 levels"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "the body is nested deeper than 32 levels"),
        (b"[]", "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
    ],
)
def test_what_is_no_json_object_is_refused(text: bytes, fault: str):
    error = refusal(text)
    assert (error.reason, [str(fault) for fault in error.faults]) == ("not_json", [fault])


def test_a_body_of_a_megabyte_is_refused_and_the_largest_one_is_taken():
    padding = MAX_BODY - len(body(envelope(payload={"padding": ""})))
    assert parse(envelope(payload={"padding": "x" * padding})).payload["padding"]
    error = refusal(envelope(payload={"padding": "x" * 1_000_000}))
    assert error.reason == "too_large"
    assert str(error.faults[0]).endswith(f"at most {MAX_BODY} are taken")


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


def test_nesting_ends_at_32_levels():
    assert parse(envelope(payload=nested(30))).payload
    assert faults(envelope(payload=nested(31))) == [f"payload{'.a' * 31} is nested deeper than 32 levels"]


def test_every_depth_is_answered_whatever_the_interpreter_can_still_read():
    text = body(envelope(payload={"a": "@"}))
    for depth in (33, 100, *range(900, 1001), 5000, 200_000):
        error = refusal(text.replace(b'"@"', b"[" * depth + b"]" * depth))
        assert "is nested deeper than 32 levels" in str(error)


def test_many_brackets_are_not_depth():
    assert parse(envelope(payload={"items": [{"n": [index]} for index in range(200)]})).payload


def test_nul_is_named_wherever_it_stands_and_only_there():
    payload = {"items": [{"ok": 1}, {"name": "a\0b"}], "k\0": 1, "plain": "\\u0000"}
    assert faults(envelope(payload=payload)) == [
        "payload has a key that holds a NUL character",
        "payload.items[1].name holds a NUL character",
    ]


def test_i18_a_key_that_may_be_an_address_is_not_repeated():
    error = refusal(envelope(payload={"ada@example.com": {"x" * 500: "secret\0word"}}))
    assert [fault.path for fault in error.faults] == ["payload.?.?"]
    assert "ada" not in str(error)


def test_many_faults_are_cut_short():
    error = refusal(envelope(payload={"items": ["\0"] * 1000}))
    assert len(error.faults) == 51
    assert str(error.faults[-1]) == "the body has 950 more faults"


def test_i02_the_hash_covers_type_and_payload_and_nothing_else():
    first = parse(sample("OrderConfirmedEvent")).body_hash
    again = {
        **sample("OrderConfirmedEvent"),
        "messageType": "OrderConfirmedEvent.v1",
        "timestamp": NOW.isoformat(),
        "messageId": "another",
        "sourceService": "Other",
        "correlationId": "other",
    }
    assert parse(again).body_hash == first
    assert len(first) == 32


@pytest.mark.parametrize(
    "changes", [{"firstName": "Bob"}, {"extra": 1}, {"extra": "1"}, {"orderDetails": {"totalAmount": 27.5}}]
)
def test_i03_another_payload_has_another_hash(changes: dict[str, Any]):
    first = parse(sample("OrderConfirmedEvent"))
    assert parse(sample("OrderConfirmedEvent", **changes)).body_hash != first.body_hash


def test_another_type_has_another_hash():
    assert parse(envelope()).body_hash != parse(envelope(messageType="UserRegisteredEvent.v2")).body_hash


def test_key_order_spaces_and_the_writing_of_numbers_do_not_change_the_hash():
    one = envelope(payload={"a": 27.0, "b": [2.50, 1e2], "c": "é"})
    text = json.dumps({**one, "payload": "@"}).replace('"@"', '{"c":"\\u00e9", "b": [2.5, 100], "a": 27}')
    assert parse(text.encode()).body_hash == parse(one).body_hash


def test_numbers_beyond_what_a_float_holds_keep_every_digit():
    read = parse(envelope(payload={"a": 12345678901234567890123, "b": -0.0}))
    assert read.payload == {"a": 12345678901234567890123, "b": 0}
