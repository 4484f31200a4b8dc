"""What must hold when it is not quiet: a provider that is away for a minute, codes behind a mountain of newsletters."""

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from bench import mails, processes
from bench.delivering import percentile
from bench.lab import Lab, StubClient
from bench.processes import MeasurementError
from bench.publisher import Published, Publishing
from bench.service import Service
from bench.table import Row
from tests.support import ports

# Mails a second that come in, those among them that must not wait, and the rate that SES allows.
COMING, CODES, ALLOWED = 90.0, 10.0, 400
BEFORE, AWAY, BEHIND = 10, 60, 40
# A block of the rate is a tenth of a second, and so is the burst (docs/decisions/0024).
BLOCK = ALLOWED // 10
LAYOUT, DELIVERING = "ingest+project deliver deliver deliver", 3
# Nobody who waits has waited for longer than this: the backlog is gone.
FRESH = 1.0
BACKLOG, ASKED, ASKED_RATE = 100_000, 200, 10.0


def measure(lab: Lab, service: Service, wanted: Collection[str]) -> Iterator[Row]:
    """Hold the drills that are wanted."""
    if not {"outage_drained", "outage_excess"}.isdisjoint(wanted):
        yield from (row for row in outage(lab, service) if row.name in wanted)
    if "codes_behind_backlog_p99" in wanted:
        yield codes_behind_backlog(lab, service)


def outage(lab: Lab, service: Service) -> Iterator[Row]:
    """Have SES refuse connections for a minute under 100 mails a second, a tenth of them codes.

    Yields the seconds from its return to the moment when nobody waits, and by how many calls its rate was exceeded in
    any window. Raises MeasurementError when a mail is lost, sent twice, or a code has waited for SES.
    """
    port, relay = ports.free(), ports.free()
    settings = {
        "SES_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "SES_RATE": str(ALLOWED),
        "SMTP_URL": f"smtp://127.0.0.1:{relay}?starttls=off",
    }
    before, length = service.head(), lab.scale * (BEFORE + AWAY + BEHIND)
    jobs = [
        Publishing(lab.amqp_url, mails.SMALL, round(COMING * length), COMING),
        Publishing(lab.amqp_url, mails.CODE, round(CODES * length), CODES),
    ]
    with (
        processes.running("-m", "bench.relay", str(relay), log=lab.log),
        contextlib.ExitStack() as first_ses,
        contextlib.ExitStack() as second_ses,
        service.workers(LAYOUT, **settings),
    ):
        stub = _ses(lab, port, first_ses)
        with _publishing(lab, jobs) as published:
            # The lengths of the traffic and of the outage are the drill itself, not waits for something.
            time.sleep(BEFORE * lab.scale)
            requests = stub.count().requests
            first_ses.close()
            time.sleep(AWAY * lab.scale)
            stub = _ses(lab, port, second_ses)
            back = time.monotonic()
            processes.until(lambda: service.waiting()[1] < FRESH, "the end of the backlog", patience=300)
            drained = time.monotonic() - back
            sent = [at for job in published for at in job.result().at.values()]
        processes.until(lambda: service.waiting()[0] == 0, "the end", patience=60)
        taken = stub.taken()
    _check(service, before, len(sent), requests + taken.requests)
    yield Row("outage_drained", drained, "s", AWAY * lab.scale)
    yield Row("outage_excess", excess(list(taken.arrivals.values()), ALLOWED), "calls", BLOCK + DELIVERING * BLOCK)


def excess(times: Sequence[float], rate: float) -> float:
    """Return how many calls above `rate` times its length the worst window holds; `times` are in seconds."""
    lowest, worst = float("inf"), 0.0
    for number, at in enumerate(sorted(times)):
        lowest = min(lowest, number - rate * at)
        worst = max(worst, number - rate * at - lowest + 1)
    return worst


def codes_behind_backlog(lab: Lab, service: Service) -> Row:
    """Publish a mountain of newsletters, then codes; the row is how long a code takes from publish to the provider."""
    mountain = Publishing(lab.amqp_url, mails.NEWSLETTER, lab.count(BACKLOG))
    codes = Publishing(lab.amqp_url, mails.CODE, lab.count(ASKED), ASKED_RATE)
    with service.workers():
        with processes.prepared("bench.publisher", mountain, result=Published, log=lab.log) as publish:
            publish()
        lab.stub.taken()
        with processes.prepared("bench.publisher", codes, result=Published, log=lab.log) as publish:
            published = publish()
        if not service.waiting()[0]:
            raise MeasurementError("the backlog was gone before the codes: they waited behind nothing")
        arrivals: dict[str, float] = {}
        ids: dict[str, str] = {}

        def all_there() -> bool:
            arrivals.update(lab.stub.taken().arrivals)
            ids.update(service.notifications(list(published.at)))
            return all(ids.get(message) in arrivals for message in published.at)

        processes.until(all_there, "every code at the provider and in the list", patience=600)
    delays = [(arrivals[ids[message]] - at) * 1000 for message, at in published.at.items()]
    return Row("codes_behind_backlog_p99", percentile(delays, 0.99), "ms")


def _ses(lab: Lab, port: int, stack: contextlib.ExitStack) -> StubClient:
    stack.enter_context(processes.running("-m", "bench.stub", str(port), log=lab.log))
    stub = StubClient(f"http://127.0.0.1:{port}")
    stack.callback(stub.close)
    processes.until(stub.answers, "SES")
    return stub


@contextlib.contextmanager
def _publishing(lab: Lab, jobs: Sequence[Publishing]) -> Iterator[list[Future[Published]]]:
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(jobs)) as pool:
        begin = [
            stack.enter_context(processes.prepared("bench.publisher", job, result=Published, log=lab.log))
            for job in jobs
        ]
        yield [pool.submit(publish) for publish in begin]


def _check(service: Service, before: int, published: int, requests: int) -> None:
    facts, carried = service.facts(after=before), service.carried(after=before)
    if facts.get("notification.attempt_in_doubt"):
        return  # what may have been sent twice is recorded; the counts below hold where nothing is in doubt
    if sum(carried.values()) != published or carried.get("ses") != requests:
        raise MeasurementError(f"of {published} mails the providers took {carried}, and SES saw {requests} requests")
    if not carried.get("smtp"):
        raise MeasurementError("no code went by the relay while SES was away")
