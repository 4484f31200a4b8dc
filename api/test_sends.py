"""POST /v1/test-sends: a template is tried on one address."""

from typing import Any

from litestar import Response, post

from api.auth import Scope
from api.bodies import object_in
from api.messages import REPEATED, Accepted, answer, idempotency_key
from api.parameters import Parameters
from api.problems import CONFLICT, MALFORMED, REJECTED, TEMPLATE_REFUSED, TOO_LARGE, malformed
from api.schemas import TestSend
from api.services import Call, Services, services_of
from api.templates import refused
from handlers.templates import NoSuchTemplateError, TemplateRefusedError
from handlers.test_sends import Trial
from ledger.errors import NoSuchVersionError
from ledger.values import Channel
from templates.addresses import is_email, read_phone
from templates.envelope import Fault, hash_of, is_identifier, shown
from templates.shapes import SCALARS, is_locale

_ADDRESSED = (Channel.EMAIL, Channel.SMS)
_IDENTIFIER = "must be 1 to 200 printable characters"


@post(
    "/v1/test-sends",
    status_code=202,
    scopes=[Scope.TEMPLATES],
    tags=["templates"],
    summary="Try a draft or version on one address of TEST_RECIPIENTS",
    body=TestSend,
    problems=[MALFORMED, REJECTED, CONFLICT, TOO_LARGE, TEMPLATE_REFUSED],
    responses=REPEATED,
)
async def post_test_send(request: Call) -> Response[Accepted]:
    Parameters.of_query(request.scope, known=()).done()
    services = services_of(request)
    trial = _read(await request.body(), services)
    key = idempotency_key(request)
    try:
        result = await services.send_test.send(trial, caller=request.user.subject, idempotency_key=key)
    except TemplateRefusedError as exc:
        raise refused(exc) from None
    except NoSuchTemplateError:
        raise malformed(Fault("template", "is none of the catalogue")) from None
    except NoSuchVersionError:
        raise malformed(Fault("version", "is none of this template")) from None
    return await answer(services, result)


def _read(body: bytes, services: Services) -> Trial:
    raw, faults = object_in(body)
    known = TestSend.__struct_fields__
    faults += [Fault(shown(name), f"is not known; known are {', '.join(known)}") for name in raw.keys() - set(known)]
    given: dict[str, Any] = {name: raw.get(name) for name in known}
    required = ("template", "channel", "address")
    faults += [Fault(name, "is required") for name in required if given[name] is None]
    for name in ("template", "version", "name"):
        if given[name] is not None and not is_identifier(given[name]):
            faults.append(Fault(name, _IDENTIFIER))
    if given["locale"] is not None and not is_locale(given["locale"]):
        faults.append(Fault("locale", SCALARS["locale"].expected))
    if not isinstance(given["data"], dict | None):
        faults.append(Fault("data", "must be an object"))
    if given["channel"] is not None and given["channel"] not in _ADDRESSED:
        faults.append(Fault("channel", f"must be {' or '.join(_ADDRESSED)}"))
    address = _address(given, services, faults)
    if faults:
        raise malformed(*faults)
    given |= {"address": address, "channel": Channel(given["channel"])}
    return Trial(**given, body_hash=hash_of("test_send", raw))


def _address(given: dict[str, Any], services: Services, faults: list[Fault]) -> str | None:
    value = given["address"]
    if value is None:
        return None
    address = value if is_email(value) else read_phone(value)
    if address is None or (given["channel"] == Channel.EMAIL) != is_email(value):
        faults.append(Fault("address", "must be an address of the channel"))
    elif not services.test_recipients.allows(address):
        faults.append(Fault("address", "is not among TEST_RECIPIENTS"))
    return address
