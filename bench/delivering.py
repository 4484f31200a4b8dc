"""The whole way, from a published message to a mail at the provider and its row in the list: speed, delay and cost."""

import asyncio
import math
import statistics
import time
from collections.abc import Collection, Iterator, Sequence

import msgspec
import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from bench import mails, processes
from bench.lab import Lab
from bench.processes import MeasurementError
from bench.publisher import Published, Publishing
from bench.service import Service
from bench.table import Row

SMALL, LARGE = 6_000, 3_000
# The provider's answer time in the row of that name, in seconds.
SLOW = 0.05
# Small and slow take turns, so that a busy moment of the machine hits both.
ROUNDS = 3
LATENCIES, RATE = 250, 10.0
WARM_UP = 300
BARE_CALLS, BARE_AT_ONCE = 2_000, 128
# What each notification leaves in the log when nothing goes wrong.
LIFE = ("requested", "rendered", "attempt_started", "dispatched")


class Run(msgspec.Struct, frozen=True):
    """Notifications a second from the first publish to the last row, and the CPU time of one in ms."""

    rate: float
    cpu: float


def measure(lab: Lab, service: Service, wanted: Collection[str]) -> Iterator[Row]:
    """Measure the rows that are wanted of this module's, on one set of workers."""
    with service.workers():
        deliver(service, mails.SMALL, lab.count(WARM_UP))
        if not {"end_to_end_small", "end_to_end_50ms", "cpu_per_notification"}.isdisjoint(wanted):
            yield from _small(lab, service, wanted)
        if "end_to_end" in wanted:
            bare = uvloop.run(_bare_calls(lab, lab.count(BARE_CALLS)))
            large = deliver(service, mails.LARGE, lab.count(LARGE))
            yield Row("end_to_end", large.rate, "notifications/s", bare)
        if not {"publish_to_provider_p50", "publish_to_provider_p99"}.isdisjoint(wanted):
            yield from _delays(lab, service, wanted)


def deliver(service: Service, kind: str, count: int) -> Run:
    """Publish messages, wait for the last row of the list, and make sure that each became one mail and four facts."""
    before = service.head()
    service.lab.stub.taken()
    job = Publishing(service.lab.amqp_url, kind, count)
    with processes.prepared("bench.publisher", job, result=Published, log=service.lab.log) as publish:
        cpu = processes.cpu_seconds()
        published = publish()
        _wait(service, before + count * len(LIFE), patience=30 + count / 20)
        took = time.monotonic() - published.began
        cpu = processes.cpu_seconds() - cpu
    _check(service, before, count)
    return Run(count / took, cpu / count * 1000)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed (nearest rank)."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _small(lab: Lab, service: Service, wanted: Collection[str]) -> Iterator[Row]:
    fast, slow = [], []
    for _ in range(ROUNDS if "end_to_end_50ms" in wanted else 1):
        fast.append(deliver(service, mails.SMALL, lab.count(SMALL)))
        if "end_to_end_50ms" in wanted:
            lab.stub.answer_after(SLOW)
            slow.append(deliver(service, mails.SMALL, lab.count(SMALL)))
            lab.stub.answer_after(0)
    rate = statistics.median(run.rate for run in fast)
    if "end_to_end_small" in wanted:
        yield Row("end_to_end_small", rate, "notifications/s")
    if slow:
        yield Row("end_to_end_50ms", statistics.median(run.rate for run in slow), "notifications/s", rate)
    if "cpu_per_notification" in wanted:
        yield Row("cpu_per_notification", statistics.median(run.cpu for run in fast), "ms")


def _delays(lab: Lab, service: Service, wanted: Collection[str]) -> Iterator[Row]:
    count, before = lab.count(LATENCIES), service.head()
    lab.stub.taken()
    job = Publishing(lab.amqp_url, mails.SMALL, count, RATE)
    with processes.prepared("bench.publisher", job, result=Published, log=lab.log) as publish:
        published = publish()
        _wait(service, before + count * len(LIFE), patience=30)
    arrivals = lab.stub.taken().arrivals
    ids = service.notifications(list(published.at))
    delays = [(arrivals[ids[message]] - at) * 1000 for message, at in published.at.items()]
    for share in (50, 99):
        if (name := f"publish_to_provider_p{share}") in wanted:
            yield Row(name, percentile(delays, share / 100), "ms")


def _wait(service: Service, head: int, *, patience: float) -> None:
    processes.until(lambda: service.head() >= head, f"position {head} of the log", patience=patience)
    processes.until(lambda: service.folded() >= head, f"position {head} in the views", patience=patience)


def _check(service: Service, before: int, count: int) -> None:
    """Raise MeasurementError unless every notification was sent once, recorded whole, and shown as dispatched."""
    taken = service.lab.stub.count()
    seen = {
        "requests at the provider": taken.requests,
        "attempts at the provider": taken.attempts,
        "rows of the list": service.dispatched(after=before),
        **service.facts(after=before),
    }
    expected = dict.fromkeys([*list(seen)[:3], *(f"notification.{name}" for name in LIFE)], count)
    if seen != expected:
        raise MeasurementError(f"of {count} notifications: {seen}")


async def _bare_calls(lab: Lab, count: int) -> float:
    """Return how many mails of 20 kB a second one process gets to the stub by the SDK alone, keeping nothing."""
    config = AioConfig(retries={"total_max_attempts": 1}, max_pool_connections=BARE_AT_ONCE)
    secrets = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench"}
    client = AioSession().create_client(
        "sesv2", region_name="eu-west-1", endpoint_url=lab.stub.url, config=config, **secrets
    )
    body = "".join(path.read_text() for path in lab.templates.glob("large/en/body.html"))
    mail = {
        "FromEmailAddress": "shop@bench.example",
        "Destination": {"ToAddresses": ["person@bench.example"]},
        "Content": {"Simple": {"Subject": {"Data": "Bare"}, "Body": {"Html": {"Data": body}}}},
    }
    turns = iter(range(count))

    async def call(ses: object) -> None:
        for _ in turns:
            await ses.send_email(**mail)  # type: ignore[attr-defined]  # made at run time from the SDK's description

    async with client as ses:
        began = time.monotonic()
        await asyncio.gather(*(call(ses) for _ in range(BARE_AT_ONCE)))
        return count / (time.monotonic() - began)
