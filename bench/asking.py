"""The HTTP side: messages posted, reports of the provider taken, histories read."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from bench import mails, processes
from bench.caller import Called, Calling, http
from bench.delivering import deliver, percentile
from bench.lab import Lab
from bench.processes import MeasurementError
from bench.service import TOPIC, Reference, Service
from bench.table import Row
from providers.fakes.sns import Seal, Topic

CALLERS = 64
MESSAGES = 5_000
REPORTS = 5_000
HISTORIES = 1_000


def measure(lab: Lab, service: Service, wanted: Collection[str]) -> Iterator[Row]:
    """Measure the rows that are wanted of this module's, on one process of the API."""
    if not {"reports", "history_p99"}.isdisjoint(wanted):
        _have_delivered(service, lab.count(REPORTS))
    with service.api() as port:
        if "reports" in wanted:
            yield _reports(lab, service, port)
        if "history_p99" in wanted:
            yield _histories(lab, service, port)
        if "post_messages" in wanted:
            yield _messages(lab, service, port)


def _have_delivered(service: Service, count: int) -> None:
    missing = count - len(service.references(count))
    if missing > 0:
        with service.workers():
            deliver(service, mails.SMALL, missing)


def _messages(lab: Lab, service: Service, port: int) -> Row:
    """Post messages that nobody has posted before, each by a caller that waits for its answer."""
    count, before = lab.count(MESSAGES), service.head()
    requests = [
        http("POST", "/v1/messages", token=service.token, body=mails.message(mails.SMALL, number))
        for number in range(count)
    ]
    called = _call(lab, port, requests, callers=CALLERS)
    _check(called, 202, count)
    _check_facts(service, before, "requested", count)
    return Row("post_messages", count / called.took, "requests/s")


def _reports(lab: Lab, service: Service, port: int) -> Row:
    """Post what SES says of mails that were delivered, signed beforehand by a key whose certificate the stub shows."""
    count, before = lab.count(REPORTS), service.head()
    seal = Seal()
    lab.stub.show(seal.path, seal.certificate)
    topic = Topic(TOPIC, origin=lab.stub.url, seal=seal)
    bodies = [topic.notification(_delivery(reference)) for reference in service.references(count)]
    requests = [http("POST", "/callbacks/ses", body=body, kind="text/plain") for body in bodies]
    called = _call(lab, port, requests, callers=CALLERS)
    _check(called, 204, count)
    _check_facts(service, before, "delivered", count)
    return Row("reports", count / called.took, "reports/s")


def _histories(lab: Lab, service: Service, port: int) -> Row:
    """Read one history after the other."""
    references = service.references(lab.count(HISTORIES))
    requests = [
        http("GET", f"/v1/notifications/{each.notification}/history", token=service.token) for each in references
    ]
    called = _call(lab, port, requests, callers=1)
    _check(called, 200, len(requests))
    return Row("history_p99", percentile(called.seconds, 0.99) * 1000, "ms")


def _delivery(reference: Reference) -> str:
    """Return the event of a delivered mail (SES developer guide, "Contents of event data")."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    mail = {
        "timestamp": now,
        "messageId": reference.reference,
        "source": "shop@bench.example",
        "sendingAccountId": "000000000000",
        "destination": ["person@bench.example"],
        "headersTruncated": False,
        "headers": [],
        "commonHeaders": {"to": ["person@bench.example"], "messageId": reference.reference},
        "tags": {"notification": [reference.notification], "attempt": [reference.attempt]},
    }
    delivery = {
        "timestamp": now,
        "processingTimeMillis": 500,
        "recipients": ["person@bench.example"],
        "smtpResponse": "250 2.6.0 Message received",
    }
    return msgspec.json.encode({"eventType": "Delivery", "mail": mail, "delivery": delivery}).decode()


def _call(lab: Lab, port: int, requests: Sequence[bytes], *, callers: int) -> Called:
    path = lab.folder / "requests"
    path.write_bytes(msgspec.msgpack.encode(requests))
    job = Calling("127.0.0.1", port, str(path), callers)
    with processes.prepared("bench.caller", job, result=Called, log=lab.log) as call:
        return call()


def _check(called: Called, status: int, count: int) -> None:
    if called.statuses != {status: count}:
        raise MeasurementError(f"of {count} requests: {called.statuses}")


def _check_facts(service: Service, before: int, topic: str, count: int) -> None:
    facts = service.facts(after=before)
    if facts != {f"notification.{topic}": count}:
        raise MeasurementError(f"of {count} {topic}: {facts}")
