"""/v1/recipients/{user_id}: what is known of a person, told by whoever keeps it; addresses never stand in a URL."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath

from api.auth import Scope
from api.bodies import members_in
from api.disclosure import record_read
from api.parameters import Parameters
from api.paths import user_id_in
from api.problems import MALFORMED, NEWER_RELEASE, NOT_FOUND, TOO_LARGE, ProblemError, malformed
from api.schemas import AsOf, ContactChange, DeviceRegistration
from api.services import Call, services_of
from api.views import initial, masked
from handlers.recipients import NoSuchDeviceError, remove_device, tell
from ledger.recipient import Device, Field, Platform, Recipient
from templates.envelope import Fault
from templates.people import read_contact, read_device

# Replaced by the time of the decision (handlers.recipients).
_NOW = datetime.min.replace(tzinfo=UTC)
_NAMES: Mapping[Field, str] = {field: field.value for field in Field}
_TAGS = ["recipients"]


class ShownDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device that pushes may go to. `id` stands for its installation id, which is shown to nobody."""

    id: str
    platform: Platform
    registered_at: datetime


class ShownRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a person. Addresses and name are masked (`a…@e…`) without scope `pii:read`.

    `version` counts the facts. A push goes first to the device that registered last, which stands first. All that is
    here was said after `erased_at`, where the person was forgotten once.
    """

    user_id: str
    email: str | None
    phone: str | None
    name: str | None
    locale: str | None
    time_zone: str | None
    devices: list[ShownDevice]
    changed_at: datetime
    erased_at: datetime | None
    version: int


@get(
    "/v1/recipients/{user_id:str}",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="What is known of a person, now or at any moment",
    query=AsOf,
    problems=[MALFORMED, NOT_FOUND, NEWER_RELEASE],
)
async def get_recipient(request: Call, user_id: FromPath[str]) -> ShownRecipient:
    at = moment_in(request)
    user = user_id_in(user_id)
    known, unmasked = await known_of(request, user, at=at), Scope.PII in request.user.scopes
    if unmasked and known.version:
        await record_read(request, "recipient", user, logged_as=str(known.stream))
    return shown(user, known, unmasked=unmasked)


def moment_in(request: Call) -> datetime | None:
    """Return the moment that a request asks for, None = now. Raises ProblemError."""
    asked = Parameters.of_query(request.scope, known={"at"})
    at = asked.time("at")
    asked.done()
    return at


async def known_of(request: Call, user_id: str, *, at: datetime | None) -> Recipient:
    """Read what is known of a person, or was at a moment."""
    ledger = services_of(request).ledger
    return await (ledger.recipient(user_id) if at is None else ledger.recipient_at(user_id, at))


@patch(
    "/v1/recipients/{user_id:str}",
    scopes=[Scope.RECIPIENTS],
    tags=_TAGS,
    summary="Tell how to reach a person: what is absent stays, null clears (RFC 7396)",
    body=ContactChange,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE, NEWER_RELEASE],
)
async def patch_recipient(request: Call, user_id: FromPath[str]) -> ShownRecipient:
    user, (raw, faults) = user_id_in(user_id), members_in(await request.body(), _NAMES.values())
    news = read_contact(raw, user, _NOW, faults, names=_NAMES)
    if not news.values and not faults:
        faults.append(Fault("", f"must hold at least one of {', '.join(_NAMES.values())}"))
    if faults:
        raise malformed(*faults)
    return shown(user, await tell(services_of(request).ledger, news, by=caller(request)), unmasked=False)


@post(
    "/v1/recipients/{user_id:str}/devices",
    status_code=200,
    scopes=[Scope.RECIPIENTS],
    tags=_TAGS,
    summary="Register a device of a person for pushes; again is the same as once",
    body=DeviceRegistration,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE, NEWER_RELEASE],
)
async def post_device(request: Call, user_id: FromPath[str]) -> ShownDevice:
    members = DeviceRegistration.__struct_fields__
    user, (raw, faults) = user_id_in(user_id), members_in(await request.body(), members)
    news = read_device(raw, user, _NOW, faults)
    if news is None or faults:
        raise malformed(*faults)
    ledger = services_of(request).ledger
    known = await tell(ledger, news, by=caller(request))
    device_id = ledger.identity.device_hash(news.address)
    return next(_device(device) for device in known.devices if device.address_hash == device_id)


@delete(
    "/v1/recipients/{user_id:str}/devices/{device_id:str}",
    scopes=[Scope.RECIPIENTS],
    tags=_TAGS,
    summary="Use a device of a person no more",
    problems=[NOT_FOUND, NEWER_RELEASE],
)
async def delete_device(request: Call, user_id: FromPath[str], device_id: FromPath[str]) -> None:
    try:
        await remove_device(services_of(request).ledger, user_id_in(user_id), device_id, by=caller(request))
    except NoSuchDeviceError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None


def shown(user_id: str, known: Recipient, *, unmasked: bool) -> ShownRecipient:
    """Show what is known of a person. Raises ProblemError for somebody nobody has spoken of."""
    if known.changed_at is None:
        raise unknown_person()
    contact = known.contact
    return ShownRecipient(
        user_id=user_id,
        email=contact.email if unmasked else masked(contact.email),
        phone=contact.phone if unmasked else masked(contact.phone),
        name=contact.name if unmasked else initial(contact.name),
        locale=known.locale,
        time_zone=known.time_zone,
        devices=[_device(device) for device in reversed(known.devices)],
        changed_at=known.changed_at,
        erased_at=known.erased_at,
        version=known.version,
    )


def unknown_person() -> ProblemError:
    """Return the error for somebody nobody has spoken of, or had by the moment that is asked for."""
    return ProblemError(NOT_FOUND, "nothing is known of this person")


def _device(device: Device) -> ShownDevice:
    return ShownDevice(id=device.address_hash, platform=device.platform, registered_at=device.said_at)


def caller(request: Call) -> str:
    """Name who asks, as facts do."""
    return f"api:{request.user.subject}"
