"""A template is tried on one address: a real notification by the real route, marked as a test."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec

from handlers.intake import Result, TakeIn
from handlers.templates import NoSuchTemplateError, Sample, TemplateRefusedError, Templates
from ledger.values import Category, Channel, DoubtPolicy, Lane, Personal, Wanted
from templates.catalogue import Catalogue
from templates.envelope import Fault, MessageRejectedError
from templates.samples import NAME, sample

# What is no kind of the catalogue: lists and status messages show by it that nobody was meant but the one who tried.
TYPE = "test_send"
_EXPIRES_AFTER = timedelta(hours=1)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried: a version or draft (None = the draft, else what is said), on one address, with these data
    (None = made-up ones) for a person of this name. `body_hash` is that of the request.
    """

    template: str
    version: str | None
    channel: Channel
    address: str
    locale: str | None
    name: str | None
    data: dict[str, Any] | None
    body_hash: bytes


class SendTest:
    """Sends templates to whom they may be tried on; whom that is, the caller has looked at."""

    def __init__(self, templates: Templates, take_in: TakeIn, catalogue: Catalogue) -> None:
        self._templates = templates
        self._take_in = take_in
        self._catalogue = catalogue

    async def send(self, trial: Trial, *, caller: str, idempotency_key: str | None) -> Result:
        """Take a test in; with an idempotency key once.

        Raises NoSuchTemplateError, NoSuchVersionError, or TemplateRefusedError for a draft that is not in order.
        """
        name = trial.template
        version = trial.version or await self._templates.latest(name)
        data, faults = self._data(trial)
        if faults:
            return MessageRejectedError("request", faults)
        person = trial.name if trial.data is not None else NAME
        vetted = await self._templates.vet(name, version, Sample(data=data, name=person))
        if vetted.faults:
            raise TemplateRefusedError(vetted.faults)
        wanted = Wanted(
            type=TYPE,
            channel=trial.channel,
            category=Category.OPERATIONAL,
            lane=Lane.HIGH,
            recipient=None,
            personal=Personal(trial.address, person, data),
            locale=trial.locale or self._catalogue.locale,
            template=name,
            template_version=await self._templates.keep(name, vetted.files),
            catalogue=self._catalogue.digest,
            doubt=DoubtPolicy.DROP,
            expires_after=_EXPIRES_AFTER,
        )
        return await self._take_in.exactly(
            wanted,
            source="test-send",
            caller=caller,
            parts=(TYPE, caller, idempotency_key or str(uuid4())),
            body_hash=trial.body_hash,
        )

    def _data(self, trial: Trial) -> tuple[dict[str, Any], list[Fault]]:
        """Return the data, as far as every kind of notification can read them that has this template."""
        kinds = [kind for kind in self._catalogue.kinds.values() if kind.template == trial.template]
        if not kinds:
            raise NoSuchTemplateError("no notification of the catalogue has such a template")
        if trial.data is None:
            return sample(kinds[0].data), []
        faults: list[Fault] = []
        data = kinds[0].data.read(trial.data, "data", faults)
        return data, faults
