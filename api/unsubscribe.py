"""GET and POST /unsubscribe/{token}: the POST ends mails of a category (RFC 8058), the GET asks first."""

import structlog
from litestar import MediaType, Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from api.pages import Words, page, words_for
from api.problems import MALFORMED, TOO_LARGE, AnyRequest, answer_unavailable, malformed
from api.services import services_of
from handlers.suppressions import unsubscribe
from ledger.unsubscribing import Unsubscribing, read
from templates.envelope import Fault

# A form of one field, however a mail provider wraps it.
LARGEST = 4096
NAME, VALUE = "List-Unsubscribe", "One-Click"
_TAGS = ["unsubscribe"]
_UNKNOWN = {
    404: ResponseSpec(
        str, description="A page: the link is not ours", media_type=MediaType.HTML, generate_examples=False
    )
}

_log = structlog.get_logger("api.unsubscribe")


@get(
    "/unsubscribe/{token:str}",
    media_type=MediaType.HTML,
    tags=_TAGS,
    summary="Ask whoever got a mail whether they want no more of its category; changes nothing",
    responses=_UNKNOWN,
)
async def get_unsubscribe(request: AnyRequest, token: FromPath[str]) -> Response[str]:
    words, said = words_for(request.headers.get("Accept-Language", "")), _said(request, token)
    if said is None:
        return _unknown(words)
    button = f'<form method="post"><input type="hidden" name="{NAME}" value="{VALUE}"><button>{words.button}</button>'
    return page(words, words.question.format(words.categories[said.category]), f"{button}</form>")


@post(
    "/unsubscribe/{token:str}",
    status_code=200,
    media_type=MediaType.HTML,
    request_max_body_size=LARGEST,
    # Our own trouble, of whatever kind, is no reason for a mail provider to give up.
    exception_handlers={Exception: answer_unavailable},
    tags=_TAGS,
    summary="End mails of a category to this address, at once (RFC 8058)",
    problems=[MALFORMED, TOO_LARGE],
    responses=_UNKNOWN,
)
async def post_unsubscribe(request: AnyRequest, token: FromPath[str]) -> Response[str]:
    words, said = words_for(request.headers.get("Accept-Language", "")), _said(request, token)
    if said is None:
        return _unknown(words)
    if await _field(request) != VALUE:
        raise malformed(Fault(NAME, f"must be {VALUE}, in a form"))
    services = services_of(request)
    is_new = await unsubscribe(services.ledger, said)
    _log.info("unsubscribed", notification_id=str(said.notification), category=said.category, is_new=is_new)
    return page(words, words.done.format(words.categories[said.category]))


async def _field(request: AnyRequest) -> object:
    try:
        return (await request.form()).get(NAME)
    except (LookupError, ValueError):
        # A part may name an encoding that nobody has, or that its bytes are not in.
        return None


def _said(request: AnyRequest, token: str) -> Unsubscribing | None:
    return read(services_of(request).ledger.identity, token)


def _unknown(words: Words) -> Response[str]:
    return page(words, words.unknown, status_code=404)
