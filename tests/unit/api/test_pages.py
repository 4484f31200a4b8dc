"""The pages that people see: their language, as their browser wants it."""

import pytest

from api.pages import ENGLISH, FRENCH, KNOWN, words_for
from ledger.unsubscribing import UNSUBSCRIBABLE


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        ("", "en"),
        ("fr", "fr"),
        ("FR-ca", "fr"),
        ("fr-FR,fr;q=0.9,en;q=0.8", "fr"),
        ("en-GB,en;q=0.9,fr;q=0.8", "en"),
        ("de,fr;q=0.5", "fr"),
        ("de, en;q=0.1, fr; q=0.2", "fr"),
        ("de", "en"),
        ("*", "en"),
        ("fr;q=0", "en"),
        ("fr;q=oops", "en"),
        ("\0;;,,,", "en"),
        ("x," * 100_000 + "fr", "en"),
    ],
)
def test_people_are_spoken_to_in_the_language_that_their_browser_wants_most(accept_language: str, language: str):
    assert words_for(accept_language).language == language


def test_every_language_has_words_for_every_category_that_may_be_unsubscribed_from():
    for words in KNOWN.values():
        assert set(words.categories) == UNSUBSCRIBABLE
    assert ENGLISH.categories != FRENCH.categories
