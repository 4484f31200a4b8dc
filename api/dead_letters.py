"""/v1/dead-letters: what was refused, looked at, replayed or discarded."""

import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from api.auth import Scope
from api.disclosure import record_read
from api.messages import REPEATED, Accepted, answer
from api.parameters import Parameters
from api.problems import (
    ALREADY_DECIDED,
    CONFLICT,
    MALFORMED,
    NOT_FOUND,
    REJECTED,
    TOO_LARGE,
    UNKNOWN_TYPE,
    ProblemError,
)
from api.reasons import reason_in
from api.schemas import LetterFilters, MaybeWhy, Why
from api.services import Call, services_of
from handlers.dead_letters import AlreadyDecidedError, NoSuchLetterError
from ledger.set_aside import DeadLetter

LIMIT = 100
MOST = 1000
_KEY = 32


class Waiting(StrEnum):
    """What became of a refused message; `any` lists all of them."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    ANY = "any"


class ShownLetter(DeadLetter, frozen=True, kw_only=True, omit_defaults=True):
    """A refused message. `body` is there only for scope `pii:read`, and only for a single one: the read is recorded."""

    body: str | None = None


class ShownLetters(msgspec.Struct, frozen=True):
    """Refused messages, the newest first."""

    dead_letters: list[ShownLetter]


@get(
    "/v1/dead-letters",
    scopes=[Scope.OPERATIONS],
    tags=["operations"],
    summary="List refused messages",
    query=LetterFilters,
    problems=[MALFORMED],
)
async def list_dead_letters(request: Call) -> ShownLetters:
    asked = Parameters.of_query(request.scope, known={"state", "limit"})
    state = asked.word("state", Waiting) or Waiting.WAITING
    limit = asked.whole("limit", least=1, most=MOST) or LIMIT
    asked.done()
    wanted = None if state is Waiting.ANY else state.value
    return ShownLetters(
        [_shown(each) for each in await services_of(request).set_aside.listed(state=wanted, limit=limit)]
    )


@get(
    "/v1/dead-letters/{key:str}",
    scopes=[Scope.OPERATIONS],
    tags=["operations"],
    summary="Show a refused message",
    problems=[MALFORMED, NOT_FOUND],
)
async def get_dead_letter(request: Call, key: FromPath[str]) -> ShownLetter:
    Parameters.of_query(request.scope, known=()).done()
    set_aside, wanted = services_of(request).set_aside, _key(key)
    letter = await set_aside.shown(wanted)
    if letter is None:
        raise _missing()
    if Scope.PII not in request.user.scopes:
        return _shown(letter)
    body = await set_aside.body_of(wanted)
    await record_read(request, "dead_letter", letter.key)
    return _shown(letter, body=body)


@post(
    "/v1/dead-letters/{key:str}/replay",
    status_code=202,
    scopes=[Scope.OPERATIONS],
    tags=["operations"],
    summary="Take a refused message in again",
    body=MaybeWhy,
    problems=[MALFORMED, REJECTED, NOT_FOUND, CONFLICT, ALREADY_DECIDED, TOO_LARGE, UNKNOWN_TYPE],
    responses=REPEATED,
)
async def replay_dead_letter(request: Call, key: FromPath[str]) -> Response[Accepted]:
    services = services_of(request)
    reason = reason_in(await request.body(), required=False)
    with _problems():
        result = await services.dead_letters.replay(_key(key), by=_by(request), reason=reason)
    return await answer(services, result)


@post(
    "/v1/dead-letters/{key:str}/discard",
    status_code=204,
    scopes=[Scope.OPERATIONS],
    tags=["operations"],
    summary="Decide that a refused message is not wanted",
    body=Why,
    problems=[MALFORMED, NOT_FOUND, ALREADY_DECIDED, TOO_LARGE],
)
async def discard_dead_letter(request: Call, key: FromPath[str]) -> None:
    reason = reason_in(await request.body(), required=True)
    with _problems():
        await services_of(request).dead_letters.discard(_key(key), by=_by(request), reason=reason)


@contextmanager
def _problems() -> Iterator[None]:
    try:
        yield
    except NoSuchLetterError:
        raise _missing() from None
    except AlreadyDecidedError as exc:
        raise ProblemError(ALREADY_DECIDED, str(exc)) from None


def _key(text: str) -> bytes:
    try:
        key = binascii.unhexlify(text)
    except ValueError:
        raise _missing() from None
    if len(key) != _KEY:
        raise _missing()
    return key


def _missing() -> ProblemError:
    return ProblemError(NOT_FOUND, "no such dead letter; they are kept for 30 days")


def _by(request: Call) -> str:
    return f"api:{request.user.subject}"


def _shown(letter: DeadLetter, *, body: bytes | None = None) -> ShownLetter:
    shown = None if body is None else body.decode(errors="backslashreplace")
    return ShownLetter(**msgspec.structs.asdict(letter), body=shown)
