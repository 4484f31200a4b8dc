"""Who a person is without saying so: golden vectors of everything that is derived, and the wrapping of keys."""

from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from ledger.errors import KeyUnavailableError
from ledger.ids import is_standing
from ledger.keys import DataKey, Identity, KeyEncryption, make_identity_key, normalise

IDENTITY = Identity(bytes(range(32, 64)))
OLD, NEW, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))

# Frozen: hashes in the log are made of the right side. A vector is never changed, only added.
NORMALISED = (
    ("ada@example.com", "ada@example.com"),
    ("  Ada.Lovelace@EXAMPLE.com\t", "ada.lovelace@example.com"),
    ("Ada.Löwe@BÜCHER.example", "ada.löwe@xn--bcher-kva.example"),
    ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
    ("ada@example.com.", "ada@example.com"),
    ("ada+tag@example.com", "ada+tag@example.com"),
    ("a.d.a@example.com", "a.d.a@example.com"),
    ("e\u0301va@example.com", "\u00e9va@example.com"),
    ("\u00c9VA@example.com", "\u00e9va@example.com"),
    ('"a@b"@Example.com', '"a@b"@example.com'),
    ("\uff21da@example.com", "\uff41da@example.com"),
    ("\u0130@example.com", "i\u0307@example.com"),
    ("ada@fa\u00df.example", "ada@fass.example"),
    ("ada@" + "x" * 64 + ".example", "ada@" + "x" * 64 + ".example"),
    ("ada@ex\ud800.example", "ada@ex\ud800.example"),
    ("+49 (0)30 / 123-456", "+49030123456"),
    ("+1 (500) 555-0001", "+15005550001"),
    ("0151 12345", "015112345"),
    ("\u0660\u0661+3", "+3"),
    ("no address", "no address"),
    ("", ""),
)


@pytest.mark.parametrize(("address", "normal"), NORMALISED)
def test_an_address_has_one_form_for_ever(address: str, normal: str):
    assert normalise(address) == normal


@pytest.mark.parametrize("normal", [normal for _, normal in NORMALISED])
def test_the_one_form_is_its_own(normal: str):
    assert normalise(normal) == normal


@for_all(st.text())
def test_any_text_has_a_form_and_a_hash(text: str):
    assert len(IDENTITY.address_hash(text)) == 32
    assert IDENTITY.address_hash(text) == IDENTITY.address_hash(f" {text} ")


def test_a_receipt_is_signed_as_it_always_was():
    notification, attempt = UUID(int=1), UUID(int=2)
    token = IDENTITY.receipt(notification, attempt)
    assert token == "AAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAKITWzqyfnvPQa7OF02htvX"
    assert IDENTITY.read_receipt(token) == (notification, attempt)


@for_all(st.uuids(), st.uuids(), st.integers(0, 63), st.sampled_from("AQgw_-"))
def test_a_receipt_with_another_letter_is_none_of_ours(notification: UUID, attempt: UUID, place: int, letter: str):
    token = IDENTITY.receipt(notification, attempt)
    changed = token[:place] + letter + token[place + 1 :]
    assert IDENTITY.read_receipt(changed) == ((notification, attempt) if changed == token else None)


@for_all(st.text())
def test_any_text_but_a_receipt_is_none_of_ours(text: str):
    assert IDENTITY.read_receipt(text) is None


def test_a_receipt_of_another_installation_is_none_of_ours():
    token = Identity(bytes(32)).receipt(UUID(int=1), UUID(int=2))
    assert IDENTITY.read_receipt(token) is None


def test_addresses_are_hashed_as_they_always_were():
    assert IDENTITY.address_hash("ada@example.com") == "73f8cacd39a460d4058119443697f28a"
    assert IDENTITY.address_hash(" ADA@Example.com.") == "73f8cacd39a460d4058119443697f28a"


def test_people_are_named_as_they_always_were():
    assert IDENTITY.recipient("u-1", "ada@example.com") == "user:u-1"
    assert IDENTITY.recipient(None, "Ada@example.com") == "address:73f8cacd39a460d4058119443697f28a"
    assert IDENTITY.recipient("", None) == "user:"


def test_messages_are_keyed_as_they_always_were():
    key = IDENTITY.intake_key("message", "orders", "m-1")
    assert key.hex() == "625780aefff0a0a315286e2c750d7fd52dfcc8468a637f0b00bf51c7354d7a4c"


def test_parts_that_read_the_same_together_have_other_keys():
    assert len({IDENTITY.intake_key(*parts) for parts in (("a", "bc"), ("ab", "c"), ("abc",), ("abc", ""))}) == 4


def test_standing_streams_are_named_as_they_always_were():
    assert str(IDENTITY.standing_stream("recipient", "user:u-1")) == "f16943fa-5886-89db-b1b0-472c02d01202"
    assert (
        str(IDENTITY.standing_stream("suppression", "email:ada@example.com")) == "fed2cc1d-6da0-8598-b152-2251404c13d9"
    )


@for_all(st.text(), st.text())
def test_a_standing_stream_is_a_uuid_8_that_starts_with_f(kind: str, name: str):
    stream = IDENTITY.standing_stream(kind, name)
    assert (stream.version, stream.variant, str(stream)[0]) == (8, "specified in RFC 4122", "f")
    assert is_standing(stream)


def test_another_identity_key_makes_other_names():
    other = Identity(make_identity_key())
    assert other.address_hash("ada@example.com") != IDENTITY.address_hash("ada@example.com")
    assert other.standing_stream("a", "b") != IDENTITY.standing_stream("a", "b")


def test_during_a_rotation_old_and_new_keys_open_and_the_new_one_wraps():
    wrapped_before = KeyEncryption([OLD]).wrap("user:u-1", b"k" * 32)
    rotating = KeyEncryption([NEW, OLD])
    wrapped_now = rotating.wrap("user:u-1", b"k" * 32)
    assert rotating.unwrap("user:u-1", wrapped_before) == rotating.unwrap("user:u-1", wrapped_now) == b"k" * 32
    assert KeyEncryption([NEW]).unwrap("user:u-1", wrapped_now) == b"k" * 32
    with pytest.raises(KeyUnavailableError):
        KeyEncryption([NEW]).unwrap("user:u-1", wrapped_before)
    with pytest.raises(KeyUnavailableError):
        KeyEncryption([OLD]).unwrap("user:u-1", wrapped_now)


def test_a_wrapped_key_opens_for_its_name_alone():
    wrapped = KeyEncryption([OLD]).wrap("user:u-1", b"k" * 32)
    with pytest.raises(KeyUnavailableError):
        KeyEncryption([OLD]).unwrap("user:u-2", wrapped)


@pytest.mark.parametrize("broken", [b"", b"\x00" * 60, b"short"])
def test_bytes_that_were_never_wrapped_do_not_open(broken: bytes):
    with pytest.raises(KeyUnavailableError):
        KeyEncryption([OLD]).unwrap("user:u-1", broken)


def test_a_wrapped_key_that_was_cut_short_does_not_open():
    wrapped = KeyEncryption([OLD]).wrap("user:u-1", b"k" * 32)
    for length in (4, 6, 17, len(wrapped) - 1):
        with pytest.raises(KeyUnavailableError):
            KeyEncryption([OLD]).unwrap("user:u-1", wrapped[:length])


def test_the_identity_key_is_wrapped_like_any_other():
    keys = KeyEncryption([OLD])
    assert keys.unwrap_identity(keys.wrap_identity(NEW)) == NEW


def test_i18_the_errors_of_keys_show_no_key_and_no_person():
    wrapped = KeyEncryption([OTHER]).wrap("user:ada@example.com", b"k" * 32)
    failing = (
        lambda: KeyEncryption([OLD, NEW]).unwrap("user:ada@example.com", wrapped),
        lambda: KeyEncryption([OTHER]).unwrap("user:else", wrapped),
        lambda: DataKey(OLD).open(DataKey(NEW).seal(b"Ada", bound_to=b"x"), bound_to=b"x"),
        lambda: Identity(b"secret"),
        lambda: KeyEncryption([]),
        lambda: KeyEncryption([b"secret"]),
    )
    for fail in failing:
        with pytest.raises(KeyUnavailableError) as caught:
            fail()
        text = str(caught.value)
        for secret in (OLD.hex(), NEW.hex(), OTHER.hex(), repr(OLD), "ada", "Ada", "secret"):
            assert secret not in text
