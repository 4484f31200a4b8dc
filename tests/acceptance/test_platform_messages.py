from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from ledger.status import Status
from ledger.values import Channel, Content, Mail, PushMessage, TextMessage
from providers.fakes.fcm import FakeFcm
from providers.fakes.fcm_log import Push
from providers.fakes.ses import FakeSes
from providers.fakes.ses_log import Request as MailRequest
from providers.fakes.twilio import ACCOUNT, TOKEN, FakeTwilio
from providers.fakes.twilio_log import Request as TextRequest
from templates.catalogue import load
from templates.rendering import Renderer
from tests.acceptance.audit import Audit
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import Message, declared, message, publish
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker
from tests.support.service import Service, until
from tests.unit.templates.samples import MEANINGS

NUMBER = "+15005550006"
SERVED = set(Channel)
ADA, PHONE = "6f1c2c1e-6f0e-4a55-9a64-0f6a0f3b7d10", "ada-phone"
CATALOGUE = load()
RENDERER = Renderer(sender=CATALOGUE.sender, sms_sender=NUMBER, segments=CATALOGUE.sms_segments)


class Providers(msgspec.Struct):
    """One of each channel; their requests are the oracle."""

    mails: FakeSes
    texts: FakeTwilio
    pushes: FakeFcm

    def seen(self) -> list[tuple[str, Content]]:
        """Return what each was asked to say, and to which address."""
        return [
            *((one.to, mail_of(one)) for one in self.mails.requests),
            *((one.to, text_of(one)) for one in self.texts.requests),
            *((one.fid, push_of(one)) for one in self.pushes.requests),
        ]


@pytest.fixture
async def providers(fake: FakeSes) -> AsyncIterator[Providers]:
    texts, pushes = await FakeTwilio.start(), await FakeFcm.start()
    yield Providers(fake, texts, pushes)
    await pushes.stop()
    await texts.stop()


@pytest.fixture
async def serving_all(
    database: Database, broker: Broker, providers: Providers, tmp_path: Path
) -> AsyncIterator[Service]:
    """The service on every channel, taking in and delivering."""
    settings = {
        "DATABASE_URL": database.url,
        "AMQP_URL": broker.url,
        "CHANNELS": ",".join(SERVED),
        "SES_ENDPOINT_URL": providers.mails.url,
        "SMS_SENDER": NUMBER,
        "SMS_COUNTRIES": "GB",
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "TWILIO_BASE_URL": providers.texts.url,
        "PUBLIC_URL": providers.texts.url,
        "FCM_BASE_URL": providers.pushes.url,
        "FCM_CREDENTIALS": providers.pushes.credentials,
    }
    await declared(broker.url)
    async with processes.running(tmp_path, **settings) as service:
        for role in ("ingest", "deliver"):
            await service.start(role)
        yield service


def expected(messages: list[Message]) -> tuple[Counter[Status], Counter[tuple[str, Content]]]:
    """Return the statuses that these messages end in, and what is said to which address."""
    statuses: Counter[Status] = Counter()
    said: Counter[tuple[str, Content]] = Counter()
    for one in messages:
        _, found = CATALOGUE.read(msgspec.json.encode(one), now=datetime.now(UTC), channels=SERVED)
        for wanted in found:
            forbidden = "marketing" in MEANINGS[one["messageType"]]
            statuses[Status.SUPPRESSED if forbidden else Status.DISPATCHED] += 1
            if not forbidden:
                rendered = RENDERER.render(
                    wanted.template, wanted.channel, locale=wanted.locale, personal=wanted.personal
                )
                said[wanted.personal.address or PHONE, rendered.content] += 1
    return statuses, said


def mail_of(request: MailRequest) -> Content:
    assert request.body is not None
    simple = request.body.content.simple
    assert simple.body.html is not None
    assert simple.body.text is not None
    return Mail(request.body.sender, simple.subject.data, simple.body.html.data, simple.body.text.data)


def text_of(request: TextRequest) -> Content:
    return TextMessage(request.form["From"], request.form["Body"])


def push_of(request: Push) -> Content:
    return PushMessage(request.said["title"], request.said["body"], request.data.get("link"))


def registered() -> Message:
    payload = {"userId": ADA, "fid": PHONE, "platform": "android"}
    return {**message("UserRegisteredEvent"), "messageType": "DeviceRegisteredEvent", "payload": payload}


async def test_i26_every_message_of_the_platform_is_said_once_to_whom_its_line_names_and_word_for_word(
    serving_all: Service, database: Database, broker: Broker, providers: Providers
):
    await take_in(database.url, [registered()])
    messages = [message(message_type) for message_type in MEANINGS]
    statuses, said = expected(messages)
    await publish(broker.url, messages)
    await until(lambda: Audit(database.url, providers.mails.requests).statuses() == statuses, f"{statuses}")
    await serving_all.stop_all()
    given = providers.seen()
    assert Counter(given) == said
    audit = Audit(database.url, providers.mails.requests)
    assert Counter(state.rendered for state in audit.states.values() if state.rendered) == Counter(
        content.digest() for _, content in given
    )
    assert Counter(type(content) for _, content in given) == {Mail: 14, TextMessage: 3, PushMessage: 2}


async def test_an_sms_to_a_country_that_is_not_allowed_is_suppressed_and_the_mail_beside_it_sent(
    serving_all: Service, database: Database, broker: Broker, providers: Providers
):
    await publish(broker.url, [message("OrderConfirmedEvent", userPhoneNumber="+1 (500) 555-0001")])
    wanted = Counter({Status.SUPPRESSED: 1, Status.DISPATCHED: 1})
    await until(lambda: Audit(database.url, providers.mails.requests).statuses() == wanted, f"{wanted}")
    await serving_all.stop_all()
    reasons = {state.reason for state in Audit(database.url, providers.mails.requests).states.values() if state.ended}
    assert (reasons, [type(content) for _, content in providers.seen()]) == ({"country_not_allowed"}, [Mail])
