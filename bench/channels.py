"""What one notification of each channel costs the process that delivers it, from its claim to its recorded outcome."""

from collections.abc import Collection, Iterator

import msgspec

from bench import mails, processes
from bench.lab import Lab
from bench.processes import MeasurementError
from bench.publisher import Published, Publishing
from bench.service import Service
from bench.stub import ACCOUNT, PROJECT
from bench.table import Row
from providers.fakes.fcm_access import PATH, Account

KINDS = {"mail_delivered": mails.SMALL, "sms_delivered": mails.TEXT, "push_delivered": mails.PUSH}
COUNT, WARM_UP = 3_000, 300


def measure(lab: Lab, service: Service, wanted: Collection[str]) -> Iterator[Row]:
    """Measure notifications a second of CPU time of one `deliver`, beside an `ingest` that feeds it."""
    lab.stub.show(PATH, msgspec.json.encode({"access_token": "bench", "expires_in": 3600}))
    settings = {
        "AMQP_URL": lab.amqp_url,
        "CHANNELS": "email,sms,push",
        "SMS_SENDER": "+15005550006",
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": "bench",
        "TWILIO_BASE_URL": lab.stub.url,
        "PUBLIC_URL": "https://bench.example",
        "FCM_CREDENTIALS": Account(PROJECT).credentials(lab.stub.url),
        "FCM_BASE_URL": lab.stub.url,
    }
    with service.process(["ingest", "project"], **settings), service.process(["deliver"], **settings) as deliver:
        if "push_delivered" in wanted:
            _publish(service, Publishing(lab.amqp_url, mails.DEVICE, mails.PEOPLE))
            processes.until(lambda: service.devices() == mails.PEOPLE, "everybody's device", patience=120)
        for name, kind in KINDS.items():
            if name in wanted:
                _deliver(service, kind, lab.count(WARM_UP))
                count = lab.count(COUNT)
                before = processes.cpu_seconds_of(deliver)
                _deliver(service, kind, count)
                yield Row(name, count / (processes.cpu_seconds_of(deliver) - before), "per core-s")


def _deliver(service: Service, kind: str, count: int) -> None:
    before = service.head()
    service.lab.stub.taken()
    _publish(service, Publishing(service.lab.amqp_url, kind, count))
    processes.until(lambda: sum(service.carried(after=before).values()) >= count, f"{count} of {kind}", patience=120)
    taken = service.lab.stub.count()
    if (taken.requests, taken.attempts) != (count, count):
        raise MeasurementError(f"of {count} notifications the provider saw {taken.requests} requests")


def _publish(service: Service, job: Publishing) -> None:
    with processes.prepared("bench.publisher", job, result=Published, log=service.lab.log) as publish:
        publish()
