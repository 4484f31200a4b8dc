"""The providers of each channel in their order, opened as the settings say: only here is one chosen."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from handlers.waiting import Reach, Reaching
from ledger.keys import Identity
from ledger.ledger import Ledger
from ledger.values import Channel, Lane
from ops.errors import SettingsError
from ops.reloading import AWS_CREDENTIALS, Reloading
from ops.settings import Settings
from providers import limits
from providers.contract import Provider
from providers.fcm import DEADLINE as FCM_DEADLINE
from providers.fcm import Fcm
from providers.google_access import service_account
from providers.guard import Gate, Route
from providers.limits import Connect
from providers.ses import DEADLINE as SES_DEADLINE
from providers.ses import Ses
from providers.smtp import DEADLINE as SMTP_DEADLINE
from providers.smtp import Smtp
from providers.twilio import DEADLINE as TWILIO_DEADLINE
from providers.twilio import Twilio

# What must not wait takes the next provider when the first is shut; the rest keeps its sender's good name at the first.
FAILOVER = frozenset({Lane.URGENT, Lane.HIGH})


def providers_of(settings: Settings) -> dict[Channel, list[str]]:
    """Name the providers of each channel in their order."""
    relay = ["smtp"] if settings.smtp_url else []
    return {Channel.EMAIL: ["ses", *relay], Channel.SMS: ["twilio"], Channel.PUSH: ["fcm"]}


def reaching(settings: Settings, ledger: Ledger) -> Reaching:
    """Return who says how far the providers of a channel and lane may be called, without opening them."""
    names = providers_of(settings)

    async def reach(channel: Channel, lane: Lane) -> Reach:
        turns = names[channel] if lane in FAILOVER else names[channel][:1]
        async with ledger.store.connection() as connection:
            known = [one for one in await limits.states(connection) if one.provider in turns]
        return Reach(
            shut=bool(known) and all(one.shut for one in known),
            shut_for=timedelta(seconds=min((one.shut_for for one in known), default=0)),
            spent=bool(known) and all(one.shut or one.spent for one in known),
        )

    return reach


async def open_route(
    channel: Channel, settings: Settings, ledger: Ledger, *, deadline: timedelta | None = None
) -> Route:
    """Open the providers of a channel in their order. A `deadline` takes the place of each provider's own."""
    open_gates: dict[Channel, Callable[[Settings, Connect, timedelta | None], Awaitable[list[Gate]]]] = {
        Channel.EMAIL: _email_gates,
        Channel.SMS: _sms_gates,
        Channel.PUSH: partial(_push_gates, ledger.identity),
    }
    return Route(await open_gates[channel](settings, ledger.store.connection, deadline), failover=FAILOVER)


def renew_by(reloading: Reloading, route: Route) -> None:
    """Let the providers of a route take over their changed secrets; calls under way end as they began."""
    for name in route.providers:
        _renew_by(reloading, route.provider(name))


def _renew_by(reloading: Reloading, provider: Provider | None) -> None:
    match provider:
        case Ses():
            reloading.on(AWS_CREDENTIALS, lambda _: provider.renew_credentials())
        case Smtp():
            reloading.on("smtp_url", lambda settings: provider.use_url(settings.smtp_url))
        case Twilio():
            reloading.on("twilio_auth_token", lambda settings: provider.use_token(settings.twilio_auth_tokens()[0]))
        case Fcm():
            _, project = service_account(reloading.settings.fcm_credentials)
            reloading.on("fcm_credentials", lambda settings: _use_key(provider, settings, project))


def _use_key(fcm: Fcm, settings: Settings, project: str) -> None:
    credentials, named = service_account(settings.fcm_credentials)
    if named != project:
        raise SettingsError(["FCM_CREDENTIALS is of another project: that takes a restart"])
    fcm.use_credentials(credentials)


async def _email_gates(settings: Settings, connect: Connect, deadline: timedelta | None) -> list[Gate]:
    """Open SES, then the relay where one is named."""
    ses = await Ses.open(
        region=settings.aws_region,
        endpoint_url=settings.ses_endpoint_url or None,
        configuration_set=settings.ses_configuration_set or None,
        deadline=deadline or SES_DEADLINE,
        max_connections=settings.delivery_slots,
    )
    gates = [Gate(ses, connect, rate=settings.ses_rate or None)]
    if settings.smtp_url:
        relay = await Smtp.open(settings.smtp_url, deadline=deadline or SMTP_DEADLINE)
        gates.append(Gate(relay, connect, rate=settings.smtp_rate or None))
    return gates


async def _sms_gates(settings: Settings, connect: Connect, deadline: timedelta | None) -> list[Gate]:
    twilio = await Twilio.open(
        account_sid=settings.twilio_account_sid,
        auth_token=settings.twilio_auth_tokens()[0],
        public_url=settings.public_url,
        base_url=settings.twilio_base_url or None,
        deadline=deadline or TWILIO_DEADLINE,
        max_connections=settings.delivery_slots,
    )
    return [Gate(twilio, connect, rate=settings.twilio_rate or None)]


async def _push_gates(
    identity: Identity, settings: Settings, connect: Connect, deadline: timedelta | None
) -> list[Gate]:
    """Open FCM; the receipts that go out with its pushes are signed by this installation."""
    credentials, project = service_account(settings.fcm_credentials)
    fcm = await Fcm.open(
        credentials,
        project=project,
        receipt=identity.receipt,
        base_url=settings.fcm_base_url or None,
        deadline=deadline or FCM_DEADLINE,
        max_connections=settings.delivery_slots,
    )
    return [Gate(fcm, connect, rate=settings.fcm_rate or None)]
