"""Erasures: a person is forgotten, by user id or by address; addresses never stand in a URL."""

from typing import Any

from litestar import post
from litestar.params import FromPath

from api.auth import Scope
from api.parameters import Parameters
from api.paths import user_id_in
from api.problems import MALFORMED, NEWER_RELEASE, NOT_FOUND, TOO_LARGE, malformed
from api.reasons import reason_among
from api.schemas import AddressErasure, UserErasure
from api.services import Call, services_of
from handlers.erasures import Erased, erase_addresses, erase_user
from templates.addresses import is_email, read_phone
from templates.envelope import Fault

_MOST = 100
_TAGS = ["recipients"]


@post(
    "/v1/recipients/{user_id:str}/erasure",
    status_code=200,
    scopes=[Scope.RECIPIENTS],
    tags=_TAGS,
    summary="Forget a person, for good; again is the same as once",
    body=UserErasure,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE, NEWER_RELEASE],
)
async def post_erasure(request: Call, user_id: FromPath[str]) -> Erased:
    Parameters.of_query(request.scope, known=()).done()
    user, (addresses, reason) = user_id_in(user_id), _order(await request.body(), least=0)
    return await erase_user(services_of(request).ledger, user, addresses, by=_by(request), reason=reason)


@post(
    "/v1/erasures",
    status_code=200,
    scopes=[Scope.RECIPIENTS],
    tags=_TAGS,
    summary="Forget who is known by an address alone; again is the same as once",
    body=AddressErasure,
    problems=[MALFORMED, TOO_LARGE, NEWER_RELEASE],
)
async def post_address_erasure(request: Call) -> Erased:
    Parameters.of_query(request.scope, known=()).done()
    addresses, reason = _order(await request.body(), least=1)
    return await erase_addresses(services_of(request).ledger, addresses, by=_by(request), reason=reason)


def _order(body: bytes, *, least: int) -> tuple[list[str], str]:
    """Return the addresses and the reason of a body. Raises the problem that names every fault."""
    raw, reason, faults = reason_among(body, beside=("addresses",))
    given: Any = raw.get("addresses", [])
    if not isinstance(given, list) or not least <= len(given) <= _MOST:
        faults.append(Fault("addresses", f"must be a list of {least} to {_MOST} addresses"))
        given = []
    message = "must be an e-mail address, or a phone number that begins with +"
    faults += [
        Fault(f"addresses[{place}]", message)
        for place, one in enumerate(given)
        if not (is_email(one) or (isinstance(one, str) and read_phone(one.strip())))
    ]
    if faults:
        raise malformed(*faults)
    return given, reason


def _by(request: Call) -> str:
    return f"api:{request.user.subject}"
