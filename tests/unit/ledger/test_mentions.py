"""Whom a refused message speaks of: seen by what it holds, whatever became of its form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.keys import Identity
from ledger.mentions import LONGEST, MOST, people_in, text, texts_in
from ledger.recipient import nobody_named, stream_of

IDENTITY = Identity(bytes(range(32)))
ADA = "ada.lovelace@example.com"
PHONE = "+447400990457"


def at(address: str) -> object:
    return nobody_named(IDENTITY, IDENTITY.recipient(None, address)).stream


@pytest.mark.parametrize(
    "body",
    [
        {"payload": {"emailAddress": ADA}},
        {"payload": [{"to": [f"Ada <{ADA.upper()}>; somebody@example.com"]}]},
        {ADA: 1},
        f"Dear {ADA}, your parcel",
        [[[[ADA]]]],
    ],
)
def test_i19_an_address_is_seen_wherever_it_stands(body: object):
    assert at(ADA) in people_in(json.dumps(body).encode(), IDENTITY)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"to": "{ADA}", '.encode(),
        f"to={ADA}&x=\xff".encode("latin-1"),
        b"\xff\xfe" + ADA.encode(),
        b"[" * 5_000 + ADA.encode(),
    ],
)
def test_i19_so_it_is_in_what_is_no_json(body: bytes):
    assert at(ADA) in people_in(body, IDENTITY)


@pytest.mark.parametrize("written", [PHONE, "+44 7400 990457", "+44 (7400) 990-457", "447400990457", 447400990457])
def test_i19_a_phone_number_is_seen_however_it_is_written(written: object):
    assert at(PHONE) in people_in(json.dumps({"payload": {"phone": written}}).encode(), IDENTITY)


@pytest.mark.parametrize("body", ['{"payload": {"userId": "u-1"}}', '{"user_id": "u-1"', '{"a": [{"USERID": "u-1"}]}'])
def test_i19_a_user_is_seen_by_their_id(body: str):
    assert stream_of(IDENTITY, "u-1") in people_in(body.encode(), IDENTITY)


def test_of_two_people_each_is_seen_and_nobody_else():
    body = json.dumps({"userId": "u-1", "emailAddress": ADA, "order": "A-17", "paid": True, "name": "Ada"}).encode()
    assert set(people_in(body, IDENTITY)) == {at(ADA), stream_of(IDENTITY, "u-1")}


def test_no_body_names_so_many_that_they_could_not_be_kept():
    body = json.dumps([f"person-{number}@example.com" for number in range(2 * MOST)]).encode()
    assert len(people_in(body, IDENTITY)) == MOST


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_looked_through(body: bytes):
    assert people_in(body, IDENTITY) == sorted(people_in(body, IDENTITY))


@pytest.mark.parametrize("said", ["o-17", "17", "a b", "Müller & Söhne", "ada", "x" * LONGEST])
@pytest.mark.parametrize("form", ['{"payload": [{"said": %s}]}', '{"said": %s, ', "said: %s"])
def test_a_body_is_found_by_each_text_and_each_word_of_it(said: str, form: str):
    is_json = form.endswith("}")
    body = (form % json.dumps(said, ensure_ascii=False)).encode()
    found = texts_in(body, IDENTITY)
    for word in {said, *said.split()} if is_json else said.split():
        assert text(IDENTITY, word) in found
    assert text(IDENTITY, "o-1") not in found


def test_a_body_is_found_by_a_number_of_json_too():
    assert text(IDENTITY, "4711") in texts_in(b'{"orderId": 4711, "is": true}', IDENTITY)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_the_texts_of_any_bytes_are_counted_and_kept_within_bounds(body: bytes):
    assert len(texts_in(body, IDENTITY)) <= MOST


def test_a_body_of_many_words_is_found_by_so_many_of_them():
    assert len(texts_in(" ".join(map(str, range(2 * MOST))).encode(), IDENTITY)) == MOST
