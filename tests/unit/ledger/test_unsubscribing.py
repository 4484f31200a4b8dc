"""The link of a mail: it says all by itself, is believed only as we made it, and names nobody."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, strategies

from ledger.keys import Identity
from ledger.unsubscribing import UNSUBSCRIBABLE, Links, Unsubscribing, read
from ledger.values import Category, Channel

IDENTITY, ANOTHER = Identity(bytes(range(32))), Identity(bytes(32))
SAID = Unsubscribing(
    notification=UUID(int=7),
    attempt=UUID(int=8),
    channel=Channel.EMAIL,
    address_hash="ab" * 16,
    category=Category.MARKETING,
)
# It lies in people's mailboxes: what was once given out must be understood for ever.
TOKEN = "AAAAAAAAAAAAAAAAAAAABwAAAAAAAAAAAAAAAAAAAAirq6urq6urq6urq6urq6urAANgi3GHK9L22T4StKU6hHNW"


def test_a_link_that_was_given_out_long_ago_still_says_the_same():
    assert SAID.token(IDENTITY) == TOKEN
    assert read(IDENTITY, TOKEN) == SAID


@given(
    strategies.builds(
        Unsubscribing,
        notification=strategies.uuids(),
        attempt=strategies.uuids(),
        channel=strategies.sampled_from(Channel),
        address_hash=strategies.binary(min_size=16, max_size=16).map(bytes.hex),
        category=strategies.sampled_from(Category),
    )
)
def test_whatever_a_link_says_is_read_as_it_was_said(said: Unsubscribing):
    assert read(IDENTITY, said.token(IDENTITY)) == said


@pytest.mark.parametrize("place", range(66))
def test_a_link_that_differs_in_any_byte_is_none_of_ours(place: int):
    given = bytearray(urlsafe_b64decode(TOKEN))
    given[place] ^= 1
    assert read(IDENTITY, urlsafe_b64encode(bytes(given)).decode()) is None


@pytest.mark.parametrize(
    "token", ["", "A" * 87, "A" * 88, "A" * 89, TOKEN + "=", TOKEN + "\n", "é" * 88, "\ud800" * 88]
)
def test_what_is_no_link_at_all_is_none_of_ours(token: str):
    assert read(IDENTITY, token) is None


def test_a_link_is_believed_by_the_installation_alone_that_made_it_and_is_no_receipt():
    assert read(ANOTHER, TOKEN) is None
    assert IDENTITY.read_receipt(TOKEN) is None


def test_only_mails_that_nobody_needs_may_be_unsubscribed_from():
    links = Links(IDENTITY, "https://notifications.shop.example/")
    assert links.of(SAID) == f"https://notifications.shop.example/unsubscribe/{TOKEN}"
    for category in Category:
        of_category = links.of(msgspec.structs.replace(SAID, category=category))
        assert (of_category is not None) == (category in UNSUBSCRIBABLE)
    assert Category.SECURITY not in UNSUBSCRIBABLE
    assert links.of(msgspec.structs.replace(SAID, channel=Channel.SMS)) is None
