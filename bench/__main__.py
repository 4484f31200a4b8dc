"""make bench: the speed table of this machine.

JSON=FILE also writes it as rows, ONLY=name,… picks rows, WORKERS names the roles of each process of the service
(`ingest+project deliver deliver`), SCALE=0.1 makes every measurement a tenth as long, to see that it works.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from bench import (
    appending,
    archiving,
    asking,
    channels,
    deciding,
    delivering,
    drills,
    finding,
    rebuilding,
    sending,
    table,
)
from bench.lab import Lab
from bench.processes import MeasurementError
from bench.service import service
from bench.table import Row
from ops import embedded
from tests.support import rabbitmq

APPENDING = ("append_1", "append_20", "append_200", "append_200_of_copy", "append_100_callers", "append_slow_commit")
DELIVERING = (
    "end_to_end_small",
    "end_to_end_50ms",
    "cpu_per_notification",
    "end_to_end",
    "publish_to_provider_p50",
    "publish_to_provider_p99",
)
SENDING = ("ses_send", "sms_send", "push_send")
CHANNELS = tuple(channels.KINDS)
DRILLS = ("outage_drained", "outage_excess", "codes_behind_backlog_p99")
ASKING = ("reports", "history_p99", "post_messages")
ARCHIVE = "archive_beside_traffic"
NAMES = (
    "fsync",
    *deciding.NAMES,
    *APPENDING,
    *SENDING,
    *CHANNELS,
    *DELIVERING,
    *ASKING,
    *DRILLS,
    ARCHIVE,
    *finding.NAMES,
    rebuilding.NAME,
    "worker_rss",
)


def main() -> int:
    """Measure and print; 1 when a measurement went wrong, 2 for an unknown name."""
    wanted = [name.strip() for name in os.environ.get("ONLY", "").split(",") if name.strip()] or list(NAMES)
    if unknown := sorted(set(wanted) - set(NAMES)):
        print(f"bench: no row is called {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)
    rows: list[Row] = []
    try:
        table.print_head()
        for row in _measured(wanted):
            table.print_row(row)
            rows.append(row)
    except (MeasurementError, embedded.PostgresStartError, rabbitmq.BrokerStartError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    if path := os.environ.get("JSON"):
        table.write(rows, Path(path))
    return 0


def _measured(wanted: Collection[str]) -> Iterator[Row]:
    home = Path(".data")
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=home) as folder, ExitStack() as stack:
        lab = Lab(Path(folder).resolve(), stack, scale=float(os.environ.get("SCALE") or 1))
        yield from appending.fsync(lab, wanted)
        yield from deciding.measure(wanted)
        yield from appending.measure(lab, wanted)
        yield from sending.measure(lab, wanted)
        yield from _of_the_channels(lab, wanted)
        yield from _of_the_service(lab, wanted)
        yield from _drilled(lab, wanted)
        if not set(finding.NAMES).isdisjoint(wanted):
            yield from finding.measure(lab, wanted)


def _of_the_channels(lab: Lab, wanted: Collection[str]) -> Iterator[Row]:
    if not set(CHANNELS).isdisjoint(wanted):
        with service(lab) as under_measurement:
            yield from channels.measure(lab, under_measurement, wanted)


def _of_the_service(lab: Lab, wanted: Collection[str]) -> Iterator[Row]:
    if not {*DELIVERING, *ASKING, "worker_rss"}.isdisjoint(wanted):
        with service(lab) as under_measurement:
            if not {*DELIVERING, "worker_rss"}.isdisjoint(wanted):
                yield from delivering.measure(lab, under_measurement, wanted)
            if not set(ASKING).isdisjoint(wanted):
                yield from asking.measure(lab, under_measurement, wanted)
        if "worker_rss" in wanted:
            yield Row("worker_rss", max(lab.resident), "MB")


def _drilled(lab: Lab, wanted: Collection[str]) -> Iterator[Row]:
    for name in ({"outage_drained", "outage_excess"}, {"codes_behind_backlog_p99"}):
        if not name.isdisjoint(wanted):
            with service(lab) as under_measurement:
                yield from drills.measure(lab, under_measurement, name & set(wanted))
    if ARCHIVE in wanted:
        with service(lab) as under_measurement:
            yield from archiving.measure(lab, under_measurement)
    if rebuilding.NAME in wanted:
        with service(lab) as under_measurement:
            yield from rebuilding.measure(lab, under_measurement)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
