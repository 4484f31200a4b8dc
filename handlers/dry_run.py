"""What a message would make, decided and said by the code that would do it; nothing is stored, and nobody is asked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from handlers.frequency import CEILING, Frequency
from handlers.judging import judged
from handlers.spending import Priced, Spending
from handlers.wording import Wording
from ledger.ledger import Ledger, Loaded, Person
from ledger.notification import Requested
from ledger.policy import AllowList, Send, Verdict
from ledger.preferences import PreferenceNews
from ledger.recipient import DeviceNews, News
from ledger.values import Channel, Personal
from templates.rendering import Rendered, Renderer, RenderError

# Of a message for thousands so many are looked at: who tries it wants to see what it makes, not to send it.
MOST = 20


class Carrier(msgspec.Struct, frozen=True):
    """Who would be asked first on a channel, and what that costs."""

    provider: str
    spending: Spending


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One notification as it would be: the verdict of the rules, what would be said, what it would cost.

    Without `rendered` there is a `fault`: why it cannot be said. `is_paused` = its kind is not sent just now.
    """

    requested: Requested
    person: Person
    verdict: Verdict
    rendered: Rendered | None
    fault: str | None
    carrier: str | None
    priced: Priced | None
    is_paused: bool


class DryRun:
    """Tries notifications that nobody has asked for."""

    def __init__(
        self,
        ledger: Ledger,
        renderer: Renderer,
        wording: Wording | None = None,
        *,
        allowed: AllowList,
        carriers: Mapping[Channel, Carrier],
        ceiling: int = CEILING,
    ) -> None:
        self._ledger = ledger
        self._renderer = renderer
        self._wording = wording
        self._allowed = allowed
        self._carriers = carriers
        self._frequency = Frequency(ledger.identity, ceiling)

    async def of(self, requested: Sequence[Requested]) -> list[Tried]:
        """Try the first of these, at most MOST. Raises what stands in the way of reading about one of them."""
        found = await self._ledger.imagined(requested[:MOST])
        return [await self._tried(loaded) for loaded in found]

    async def _tried(self, loaded: Loaded) -> Tried:
        requested, person = loaded.state.requested, loaded.person
        at = max(loaded.now(), requested.send_at or loaded.now())
        rendered, fault = await self._said(requested, loaded.personal, person)
        carrier = self._carriers.get(requested.channel)
        priced = None
        if carrier is not None and rendered is not None:
            priced = carrier.spending.price(carrier.provider, person.address or "", rendered.content)
        return Tried(
            requested=requested,
            person=person,
            verdict=await self._verdict(loaded, at),
            rendered=rendered,
            fault=fault,
            carrier=carrier.provider if carrier is not None else None,
            priced=priced,
            is_paused=loaded.operations.stopping(requested.type, requested.channel) is not None,
        )

    async def _said(
        self, requested: Requested, personal: Personal, person: Person
    ) -> tuple[Rendered | None, str | None]:
        named = msgspec.structs.replace(personal, name=person.name)
        try:
            if self._wording is None:
                return self._renderer.render(
                    requested.template, requested.channel, locale=person.locale, personal=named
                ), None
            return await self._wording.say(self._renderer, requested, named, locale=person.locale), None
        except RenderError as exc:
            return None, exc.code

    async def _verdict(self, loaded: Loaded, at: datetime) -> Verdict:
        """Return what the rules say, and the quotas that a first attempt would be taken from."""
        verdict = judged(loaded, self._allowed, at)
        if not isinstance(verdict, Send):
            return verdict
        (spent,) = await self._frequency.spent(self._ledger.store, [loaded.state], at)
        return spent or verdict


def of_news(news: News) -> dict[str, Any]:
    """Describe what a message says of a person, without personal data."""
    if isinstance(news, DeviceNews):
        return {"about": "device", "platform": news.platform.value}
    if isinstance(news, PreferenceNews):
        quiet = {} if news.quiet is msgspec.UNSET else {"quiet_hours": "given" if news.quiet else "cleared"}
        return {"about": "preferences", "choices": len(news.choices), "consents": len(news.consents), **quiet}
    said = {field.value: "cleared" if value is None else "given" for field, value in news.values.items()}
    return {"about": "contact", **said}
