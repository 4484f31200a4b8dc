"""The link that unsubscribes among the words of a mail: where it must stand, and what takes its place."""

from uuid import UUID

import pytest

from ledger.unsubscribing import UNSUBSCRIBABLE
from ledger.values import UNSUBSCRIBE_LINK, Channel, Mail, Personal
from providers.contract import Sending
from templates.catalogue import load
from templates.entries import Kind
from templates.rendering import Renderer
from templates.samples import sample

CATALOGUE = load()
MAILS = [kind for kind in CATALOGUE.kinds.values() if Channel.EMAIL in kind.channels]
URL = f"https://notifications.shop.example/unsubscribe/{'A' * 88}"


def rendered(kind: Kind, locale: str) -> Mail:
    renderer = Renderer(sender=CATALOGUE.sender)
    content = renderer.render(
        kind.template, Channel.EMAIL, locale=locale, personal=Personal(data=sample(kind.data))
    ).content
    assert isinstance(content, Mail)
    return content


@pytest.mark.parametrize("locale", ["en", "fr"])
@pytest.mark.parametrize("kind", MAILS, ids=lambda kind: kind.template)
def test_whoever_may_unsubscribe_is_told_so_in_the_words_and_nobody_else(kind: Kind, locale: str):
    mail = rendered(kind, locale)
    for words in (mail.html, mail.text):
        assert (UNSUBSCRIBE_LINK in words) == (kind.category in UNSUBSCRIBABLE)


def test_i26_the_link_of_an_attempt_is_in_what_the_provider_is_given_and_not_in_what_is_kept():
    kept = rendered(CATALOGUE.kinds["flash_sale"], "en")
    given = Sending(notification=UUID(int=1), attempt=UUID(int=2), address="a@b.example", content=kept, unsubscribe=URL)
    for words in (given.mail.html, given.mail.text):
        assert URL in words
        assert UNSUBSCRIBE_LINK not in words
    assert given.content.digest() == kept.digest()
    assert (given.mail.subject, given.mail.sender) == (kept.subject, kept.sender)
