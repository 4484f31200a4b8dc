"""The few words that we say to people in a browser, in their language, on a page that needs no script."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec
from litestar import MediaType, Response

from ledger.values import Category


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What is said in one language; `{}` stands for the name of a category."""

    language: str
    title: str
    question: str
    button: str
    done: str
    unknown: str
    categories: Mapping[Category, str]


ENGLISH: Final = Words(
    language="en",
    title="Unsubscribe",
    question="Do you want no more {} by e-mail at this address?",
    button="Unsubscribe",
    done="You will get no more {} by e-mail at this address.",
    unknown="This link is not complete. Please follow the one in your e-mail.",
    categories={Category.MARKETING: "offers and news"},
)
FRENCH: Final = Words(
    language="fr",
    title="Se désabonner",
    question="Ne plus recevoir {} par e-mail à cette adresse ?",
    button="Se désabonner",
    done="Vous ne recevrez plus {} par e-mail à cette adresse.",
    unknown="Ce lien est incomplet. Veuillez suivre celui qui se trouve dans votre e-mail.",
    categories={Category.MARKETING: "nos offres et actualités"},
)
KNOWN: Final = {words.language: words for words in (ENGLISH, FRENCH)}

_STYLE = (
    "body{font:1.125rem/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}"
    "button{font:inherit;padding:.75rem 1.5rem;border:0;border-radius:.25rem;color:#fff;background:#0b57a4}"
    "button:focus-visible{outline:3px solid #f5a623;outline-offset:2px}"
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'",
    # The address of the page is the right to unsubscribe: nobody else is to learn or to keep it.
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Language",
}
# A language of Accept-Language and how much it is wanted (RFC 9110, section 12.5.4).
_WANTED = re.compile(
    r"\s*(?P<language>[A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,40})?\s*(?:;\s*q=(?P<weight>[01](?:\.\d{0,3})?)\s*)?"
)


def words_for(accept_language: str) -> Words:
    """Return the words of the language that a browser wants most of those that we speak; English where it is none."""
    wanted = [match for part in accept_language[:500].split(",") if (match := _WANTED.fullmatch(part))]
    weights = [(float(match["weight"] or 1), match["language"].lower()) for match in wanted]
    spoken = [(weight, language) for weight, language in weights if language in KNOWN and weight > 0]
    return KNOWN[max(spoken, key=lambda each: each[0])[1]] if spoken else ENGLISH


def page(words: Words, text: str, form: str = "", *, status_code: int = 200) -> Response[str]:
    """Return a page: a title, one sentence, and perhaps a form (HTML)."""
    html = (
        f'<!doctype html><html lang="{words.language}"><head><meta charset="utf-8"><title>{words.title}</title>'
        f'<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f"<style>{_STYLE}</style></head><body><main><h1>{words.title}</h1><p>{text}</p>{form}</main></body></html>"
    )
    return Response(html, status_code=status_code, media_type=MediaType.HTML, headers=_HEADERS)
