"""What one call of a provider costs by itself, beside the vendor's SDK as it comes."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from uuid import uuid4

import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from bench.lab import Lab
from bench.processes import MeasurementError
from bench.table import Row
from ledger.values import Accepted, Mail
from providers.contract import Sending
from providers.ses import Ses

CALLS, AT_ONCE, ROUNDS = 1_000, 32, 3
REGION = "eu-west-1"
SENDER, ADDRESS, SUBJECT = "shop@bench.example", "person@bench.example", "Your order is on its way"
# 1 kB of HTML and a quarter of it as text, as in the small mails.
HTML, TEXT = "<p>word</p>\n" * 83, "word word " * 25

Call = Callable[[], Awaitable[None]]


def measure(lab: Lab, wanted: Collection[str]) -> Iterator[Row]:
    """Measure calls per second of CPU time of the calling process; ours and the bare SDK take turns."""
    if "ses_send" in wanted:
        ours, bare = uvloop.run(_ses(lab))
        yield Row("ses_send", ours, "calls/core-s", bare)


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
