"""`?dry_run=true`: what a message or a request would make, shown without anything being stored of it."""

from datetime import datetime
from typing import Any

import msgspec

from api import views
from handlers.dry_run import Tried, of_news
from handlers.intake import Would
from ledger.plain_words import said
from ledger.policy import VERSION, Defer, Send, Verdict
from ledger.values import Category, Channel, Content, Cost, Lane, Personal, TextMessage
from templates.segments import segments_of


class WouldSay(msgspec.Struct, frozen=True, kw_only=True):
    """What would be said: the digest that `rendered` would carry, in hex, and how long each part is, in characters.

    `segments` are those of an SMS. The words themselves are personal data: `content`, with scope `pii:read` alone.
    """

    sha256: str
    locale: str
    template_version: str
    lengths: dict[str, int]
    segments: int | None
    content: dict[str, Any] | None


class WouldBe(msgspec.Struct, frozen=True, kw_only=True):
    """One notification as it would be, by what is known now.

    `verdict`: `send`, `suppress` or `defer`, by which `rule` of which `policy` and on what `inputs`, in `words`, with
    what would have to differ; `until` of what would be put off. Without `says`, `fault` is why it cannot be said.
    `cost` is that of the first try, by `provider`; `paused`: nothing of its kind is sent just now.
    """

    type: str
    channel: Channel
    category: Category
    lane: Lane
    recipient: views.Recipient
    send_at: datetime | None
    expires_at: datetime
    verdict: str
    rule: str | None
    policy: str
    inputs: dict[str, str]
    until: datetime | None
    words: str | None
    differently: str | None
    says: WouldSay | None
    fault: str | None
    provider: str | None
    cost: Cost | None
    paused: bool


class DryRunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a message, which was not taken in: the first 20 of its `count` notifications.

    `repeats`: it was taken in before, so that nothing of this would be made. `tells` is what a message about a person
    says of them, without values.
    """

    notifications: list[WouldBe]
    count: int
    repeats: bool
    tells: dict[str, Any] | None


def shown(would: Would, tried: list[Tried], *, unmasked: bool) -> DryRunAnswer:
    """Show what would become of a message."""
    asks = would.asks
    return DryRunAnswer(
        notifications=[would_be(one, unmasked=unmasked) for one in tried],
        count=len(asks) if isinstance(asks, tuple) else 0,
        repeats=would.repeats,
        tells=None if isinstance(asks, tuple) else of_news(asks),
    )


def would_be(tried: Tried, *, unmasked: bool) -> WouldBe:
    """Show one notification as it would be."""
    requested, verdict = tried.requested, tried.verdict
    found = None if isinstance(verdict, Send) else said(verdict.rule, _inputs(verdict))
    person = Personal(tried.person.address, tried.person.name)
    return WouldBe(
        type=requested.type,
        channel=requested.channel,
        category=requested.category,
        lane=requested.lane,
        recipient=views.recipient(requested.user_id, person, unmasked=unmasked),
        send_at=requested.send_at,
        expires_at=requested.expires_at,
        verdict=type(verdict).__name__.lower(),
        rule=None if isinstance(verdict, Send) else verdict.rule,
        policy=VERSION,
        inputs=_inputs(verdict),
        until=verdict.until if isinstance(verdict, Defer) else None,
        words=found.words if found is not None else None,
        differently=found.differently if found is not None else None,
        says=_says(tried, unmasked=unmasked),
        fault=tried.fault,
        provider=tried.carrier,
        cost=tried.priced.cost if tried.priced is not None else None,
        paused=tried.is_paused,
    )


def _inputs(verdict: Verdict) -> dict[str, str]:
    return {} if isinstance(verdict, Send) else verdict.inputs


def _says(tried: Tried, *, unmasked: bool) -> WouldSay | None:
    rendered = tried.rendered
    if rendered is None:
        return None
    content = rendered.content
    return WouldSay(
        sha256=content.digest().hex(),
        locale=rendered.locale,
        template_version=rendered.template_version,
        lengths={name: len(text) for name, text in _parts(content).items()},
        segments=segments_of(content.text) if isinstance(content, TextMessage) else None,
        content=msgspec.structs.asdict(content) if unmasked else None,
    )


def _parts(content: Content) -> dict[str, str]:
    return {name: text for name, text in msgspec.structs.asdict(content).items() if isinstance(text, str)}
