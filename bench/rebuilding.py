"""notification_log is made anew from a log of a million facts while others are sent."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg

from bench import mails, processes
from bench.archiving import life
from bench.lab import Lab
from bench.processes import MeasurementError
from bench.publisher import Published, Publishing
from bench.service import Service
from bench.table import Row
from handlers.publish import OUTBOX
from ledger.follower import Reader
from ledger.ids import notification_id
from ops.rebuild import RebuiltView
from projections.views import all_views

NAME = "rebuild"
# Each of five facts.
NOTIFICATIONS = 200_000
# A second, beside it.
RATE = 50.0
_LASTS = 2.0
# How far the facts of notifications that are told one after the other lie apart: what happens at once, and what is
# reported later.
_APART = (0, 0, 0, 40, 400)
_COPY = """
COPY ledger.stored_events (originator_id, originator_version, topic, state, notification_id) FROM STDIN (FORMAT binary)
"""
_TYPES = ["uuid", "int8", "text", "bytea", "int8"]
_NEXT = "SELECT setval('ledger.stored_events_notification_id_seq', %s)"
# What is not measured begins behind the log.
_BEHIND = "INSERT INTO ledger.follower (name, version, position) VALUES (%s, %s, %s)"
_LISTED = "SELECT notification FROM views.notification_log ORDER BY notification DESC LIMIT 50"
_COMMAND = ("-m", "ops.cli", "rebuild", "notification_log", "--json")


def measure(lab: Lab, service: Service) -> Iterator[Row]:
    """Yield facts/s beside 50 notifications/s, and alone as its baseline.

    Raises MeasurementError when a notification was not sent once, a reader got an error or an empty page, or the rows
    are not those that the facts say.
    """
    _fill(service, lab.count(NOTIFICATIONS))
    alone = _rebuilt(lab, service)
    with service.workers():
        with _reading(service), _sending(lab, service) as sent:
            beside = _rebuilt(lab, service)
        if not sent:
            raise MeasurementError("the rebuild ended before anything was sent beside it")
        processes.until(lambda: service.folded() >= service.head(), "the end of the views", patience=300)
    compared = ("-m", "ops.cli", "rebuild", "notification_log", "--dry-run")
    with processes.running(*compared, log=lab.log, environment=service.settings()) as comparing:
        if comparing.wait():
            raise MeasurementError(f"the rows are not those of the facts: {lab.log.read_text()[-2000:]}")
    yield Row(NAME, beside, "facts/s", alone)


def _rebuilt(lab: Lab, service: Service) -> float:
    log = lab.folder / "rebuild.json"
    log.unlink(missing_ok=True)
    with processes.running(*_COMMAND, log=log, environment=service.settings()) as rebuilding:
        rebuilding.wait()
    said = log.read_text()
    if rebuilding.returncode:
        raise MeasurementError(f"the rebuild ended with {rebuilding.returncode}: {said[-2000:]}")
    told = msgspec.json.decode(said[said.index("{") :], type=RebuiltView)
    return told.facts / told.seconds


@contextlib.contextmanager
def _sending(lab: Lab, service: Service) -> Iterator[list[int]]:
    """Send while the block runs; yields how many were sent each time. Each must have made one request."""
    sent: list[int] = []
    ended = threading.Event()
    count = round(RATE * _LASTS)
    lab.stub.taken()
    before = service.facts(after=0).get("notification.requested", 0)

    def send() -> None:
        job = Publishing(lab.amqp_url, mails.SMALL, count, RATE)
        while not ended.is_set():
            with processes.prepared("bench.publisher", job, result=Published, log=lab.log) as publish:
                publish()
            sent.append(count)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield sent
    finally:
        ended.set()
        sending.join()
    processes.until(lambda: service.waiting()[0] == 0, "the end of the sending", patience=300)
    taken = lab.stub.taken()
    asked = service.facts(after=0)["notification.requested"] - before
    if not sum(sent) == asked == len(taken.arrivals) == taken.requests:
        raise MeasurementError(f"{sum(sent)} were published, {asked} asked for, {taken.requests} taken")


@contextlib.contextmanager
def _reading(service: Service) -> Iterator[None]:
    """Ask for the first page all the while the block runs: it must be full each time."""
    ended, faults = threading.Event(), []

    def read() -> None:
        with psycopg.connect(service.database.url, autocommit=True) as connection:
            while not ended.is_set():
                if len(connection.execute(_LISTED).fetchall()) < 50:
                    faults.append("a page was not full")
                time.sleep(0.02)

    def watched() -> None:
        try:
            read()
        except psycopg.Error as exc:
            faults.append(f"a reader got {type(exc).__name__}")

    reading = threading.Thread(target=watched)
    reading.start()
    try:
        yield
    finally:
        ended.set()
        reading.join()
    if faults:
        raise MeasurementError(faults[0])


def _fill(service: Service, count: int) -> None:
    """Have so many whole lives in the log, told one after the other."""
    since = datetime.now(UTC) - timedelta(hours=1)
    streams = sorted(notification_id(since + timedelta(hours=1) * number / count) for number in range(count))
    facts = life()
    with psycopg.connect(service.database.superuser_url, autocommit=True) as superuser:
        with superuser.cursor().copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for position, (number, version) in enumerate(_order(count, len(facts)), start=1):
                copy.write_row((streams[number], version, *facts[version - 1], position))
        superuser.execute(_NEXT, (count * len(facts),))
        superuser.execute("VACUUM (ANALYZE) ledger.stored_events")
        others: tuple[Reader, ...] = (*all_views(), OUTBOX)
        for reader in others:
            superuser.execute(_BEHIND, (reader.name, reader.version, count * len(facts)))


def _order(count: int, versions: int) -> list[tuple[int, int]]:
    """Return (number, version) in the order of the log."""
    every = itertools.product(range(count), range(1, versions + 1))
    return sorted(every, key=lambda one: (one[0] + _APART[one[1] - 1], *one))
