"""Among a million notifications: what a caller says over HTTP, lists by filters and by two of them, and every page."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from bench import million, pages, processes
from bench.caller import Called, Calling, http
from bench.delivering import percentile
from bench.lab import Lab
from bench.processes import MeasurementError
from bench.service import Service, service
from bench.table import Row

NAMES = ("find_p99", "list_p99", "console_pages")
NOTIFICATIONS = 1_000_000
# So often each question is asked: the first time it reads what nobody has asked for in a long time.
_TIMES = 20
_NOBODY = "nobody@example.com"
# What a list is asked for: what is frequent, what is rare, and what is nowhere.
_FILTERS: dict[str, Sequence[str]] = {
    "user_id": (million.MANY.user_id, million.FEW.user_id),
    "channel": ("email", "push"),
    "status": ("delivered", "in_doubt", "expired"),
    "category": ("transactional", "operational"),
    "type": ("order_shipped", "low_stock"),
    "template_version": ("1" * 16, "2" * 16),
    "reference": (million.MANY.order, million.FEW.order),
    "correlation_id": (million.MANY.correlation_id,),
}


def measure(lab: Lab, wanted: Collection[str]) -> Iterator[Row]:
    """Fill the views of a service, and ask one question after the other."""
    with service(lab) as filled:
        led = asyncio.run(million.fill(filled.database, lab.count(NOTIFICATIONS)))
        with filled.api() as port:
            for name in [name for name in NAMES if name in wanted]:
                yield Row(name, _worst(lab, port, list(_QUESTIONS[name](filled, led))), "ms")


def _said(filled: Service, _led: Sequence[UUID]) -> Iterator[bytes]:
    """Yield a question for each thing that a caller may say, of somebody who is told much, little, or nothing."""
    words = [
        *(word for person in (million.MANY, million.FEW) for word in msgspec.structs.astuple(person)[:-1]),
        "m-1000",
        "ref-500",
        "order 17",
        _NOBODY,
    ]
    for word in words:
        body = msgspec.json.encode({"for": word})
        yield http("POST", "/v1/find", token=filled.token, body=body)


def _listed(filled: Service, _led: Sequence[UUID]) -> Iterator[bytes]:
    now = datetime.now(UTC)
    single = [{name: value} for name, values in _FILTERS.items() for value in values]
    single += [
        {"from": (now - timedelta(days=2)).isoformat()},
        {"to": (now - timedelta(days=million.DAYS - 1)).isoformat()},
    ]
    pairs = [{**one, **other} for one, other in combinations(single, 2) if one.keys() != other.keys()]
    for filters in ({}, *single, *pairs):
        yield http("GET", f"/v1/notifications?{urlencode(filters)}", token=filled.token)


def _worst(lab: Lab, port: int, questions: Sequence[bytes]) -> float:
    """Ask each question over and over, one after the other; of the slowest, returns the 99th percentile in ms."""
    path, times = lab.folder / "requests", lab.count(_TIMES)
    path.write_bytes(msgspec.msgpack.encode([each for each in questions for _ in range(times)]))
    job = Calling("127.0.0.1", port, str(path), 1)
    with processes.prepared("bench.caller", job, result=Called, log=lab.log) as call:
        called = call()
    if called.statuses != {200: len(questions) * times}:
        raise MeasurementError(f"of {len(questions) * times} questions: {called.statuses}")
    of_each = [called.seconds[start : start + times] for start in range(0, len(called.seconds), times)]
    return max(percentile(seconds, 0.99) for seconds in of_each) * 1000


_QUESTIONS: dict[str, Callable[[Service, Sequence[UUID]], Iterator[bytes]]] = {
    "find_p99": _said,
    "list_p99": _listed,
    "console_pages": pages.asked,
}
