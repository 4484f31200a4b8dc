"""What one call of a provider costs by itself, beside the vendor's SDK as it comes."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import firebase_admin
import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from firebase_admin import messaging
from firebase_admin.credentials import Base
from google.auth.credentials import Credentials
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from bench.lab import Lab
from bench.processes import MeasurementError
from bench.stub import ACCOUNT, PROJECT, PUSHES
from bench.table import Row
from ledger.values import Accepted, Mail, PushMessage, TextMessage
from providers.contract import Sending
from providers.fcm import Fcm
from providers.ses import Ses
from providers.twilio import Twilio

CALLS, AT_ONCE, ROUNDS = 1_000, 32, 3
REGION = "eu-west-1"
SENDER, ADDRESS, SUBJECT = "shop@bench.example", "person@bench.example", "Your order is on its way"
# 1 kB of HTML and a quarter of it as text, as in the small mails.
NUMBER, CODE = "+15005550006", "Your code is 123 456"
HTML, TEXT = "<p>word</p>\n" * 83, "word word " * 25
DEVICE, LINK = "cXyz1234567890abcdefgh", "https://bench.example/orders/1"
PUSH_TEXT = "word " * 20

Call = Callable[[], Awaitable[None]]


def measure(lab: Lab, wanted: Collection[str]) -> Iterator[Row]:
    """Measure calls per second of CPU time of the calling process; ours and the bare SDK take turns."""
    if "ses_send" in wanted:
        ours, bare = uvloop.run(_ses(lab))
        yield Row("ses_send", ours, "calls/core-s", bare)
    if "sms_send" in wanted:
        ours, bare = uvloop.run(_sms(lab))
        yield Row("sms_send", ours, "calls/core-s", bare)
    if "push_send" in wanted:
        ours, bare = uvloop.run(_fcm(lab))
        yield Row("push_send", ours, "calls/core-s", bare)


async def _ses(lab: Lab) -> tuple[float, float]:
    key, secret = uuid4().hex, uuid4().hex
    ses = await Ses.open(region=REGION, endpoint_url=lab.stub.url, access_key_id=key, secret_access_key=secret)
    content = Mail(sender=SENDER, subject=SUBJECT, html=HTML, text=TEXT)

    async def ours() -> None:
        outcome = await ses.send(Sending(notification=uuid4(), attempt=uuid4(), address=ADDRESS, content=content))
        if not isinstance(outcome, Accepted):
            raise MeasurementError(f"the stub's answer was read as {outcome}")

    client = AioSession().create_client(
        "sesv2",
        region_name=REGION,
        endpoint_url=lab.stub.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=AioConfig(retries={"total_max_attempts": 1}, max_pool_connections=AT_ONCE),
    )
    async with client as sdk:

        async def bare() -> None:
            await sdk.send_email(
                FromEmailAddress=SENDER,
                Destination={"ToAddresses": [ADDRESS]},
                Content={
                    "Simple": {"Subject": {"Data": SUBJECT}, "Body": {"Html": {"Data": HTML}, "Text": {"Data": TEXT}}}
                },
                EmailTags=[{"Name": name, "Value": str(uuid4())} for name in ("notification", "attempt")],
            )

        try:
            return await _in_turn(ours, bare, lab.count(CALLS))
        finally:
            await ses.aclose()


async def _sms(lab: Lab) -> tuple[float, float]:
    token, content = uuid4().hex, TextMessage(sender=NUMBER, text=CODE)
    twilio = await Twilio.open(
        account_sid=ACCOUNT, auth_token=token, public_url="https://bench.example", base_url=lab.stub.url
    )

    async def ours() -> None:
        outcome = await twilio.send(Sending(notification=uuid4(), attempt=uuid4(), address=NUMBER, content=content))
        if not isinstance(outcome, Accepted):
            raise MeasurementError(f"the stub's answer was read as {outcome}")

    http = AsyncTwilioHttpClient()
    sdk = Client(ACCOUNT, token, http_client=http)
    sdk.api.base_url = lab.stub.url

    async def bare() -> None:
        callback = f"https://bench.example/callbacks/twilio?notification={uuid4()}&attempt={uuid4()}"
        await sdk.messages.create_async(to=NUMBER, from_=NUMBER, body=CODE, status_callback=callback)

    try:
        return await _in_turn(ours, bare, lab.count(CALLS))
    finally:
        await http.close()
        await twilio.aclose()


class _Granted(Credentials):
    """Credentials that need no token of anybody's."""

    def refresh(self, _: object) -> None:
        self.token = "bench"  # noqa: S105 - the stub asks for none


class _Key(Base):  # type: ignore[misc]  # firebase-admin ships no types
    def get_credential(self) -> Credentials:
        return _Granted()  # type: ignore[no-untyped-call]  # google-auth types its results only


async def _fcm(lab: Lab) -> tuple[float, float]:
    fcm = await Fcm.open(
        _Key().get_credential(),
        project=PROJECT,
        base_url=lab.stub.url,
        receipt=lambda notification, attempt: f"{notification.hex}{attempt.hex}",
    )

    async def ours() -> None:
        said = PushMessage(SUBJECT, PUSH_TEXT, LINK)
        outcome = await fcm.send(Sending(notification=uuid4(), attempt=uuid4(), address=DEVICE, content=said))
        if not isinstance(outcome, Accepted):
            raise MeasurementError(f"the stub's answer was read as {outcome}")

    app = firebase_admin.initialize_app(_Key(), {"projectId": PROJECT}, name="bench")
    service = messaging._get_messaging_service(app)  # noqa: SLF001 - the SDK has no setting for its address
    service._fcm_url = f"{lab.stub.url}{PUSHES}"  # noqa: SLF001 - likewise
    threads = ThreadPoolExecutor(AT_ONCE)

    def push() -> None:
        ids = {name: str(uuid4()) for name in ("notification_id", "attempt_id")}
        said = messaging.Notification(title=SUBJECT, body=PUSH_TEXT)
        messaging.send(messaging.Message(fid=DEVICE, notification=said, data=ids), app=app)

    async def bare() -> None:
        await asyncio.get_running_loop().run_in_executor(threads, push)

    try:
        return await _in_turn(ours, bare, lab.count(CALLS))
    finally:
        await fcm.aclose()
        threads.shutdown()
        # It runs a loop of its own to close its connections.
        await asyncio.to_thread(firebase_admin.delete_app, app)


async def _in_turn(first: Call, second: Call, count: int) -> tuple[float, float]:
    """Return the median calls per second of CPU of both; a warm-up goes before."""
    for call in (first, second):
        await _rate(call, AT_ONCE)
    rates = [(await _rate(first, count), await _rate(second, count)) for _ in range(ROUNDS)]
    return statistics.median(rate for rate, _ in rates), statistics.median(rate for _, rate in rates)


async def _rate(call: Call, count: int) -> float:
    turns = iter(range(count))

    async def caller() -> None:
        for _ in turns:
            await call()

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return count / (time.process_time() - began)
