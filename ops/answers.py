"""Answers for people at a terminal: what happened to a notification, fact by fact."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from api.views import readable, sent_twice
from handlers.explanation import explained
from handlers.intake import Conflicting, Result, TakenIn
from handlers.waiting import Reaching, Waiting, waiting
from ledger.archive import Archive
from ledger.errors import UnknownTopicError
from ledger.explaining import Decided, Explanation
from ledger.ledger import Ledger
from ledger.mapping import FactMapper
from ledger.set_aside import DeadLetter
from ledger.store import Row
from ledger.values import TextMessage, Wanted
from ops.errors import OperationError
from templates.envelope import MessageRejectedError
from templates.rendering import Renderer, RenderError
from templates.segments import segments_of

_SHOWN_APART = {"recorded_at", "cause", "by", "personal"}


class Told(msgspec.Struct, frozen=True):
    """The facts of a notification as they are shown, in words whether it may have been sent twice, and why it waits."""

    facts: list[dict[str, Any]]
    sent_twice: str | None
    waiting: Waiting | None


async def history(
    ledger: Ledger, reach: Reaching, notification: UUID, *, archive: Archive, at: datetime | None, version: int | None
) -> Told:
    """Return every fact of a notification in order, without personal data; up to a time or a version."""
    rows = await archive.facts(notification)
    if not rows:
        raise OperationError("there is no such notification")
    mapper = FactMapper()
    told = [_told(mapper, row) for row in rows if version is None or row.version <= version]
    facts = [fact for fact in told if at is None or fact["recorded_at"] is None or fact["recorded_at"] <= at]
    state = readable(rows) if version is None and at is None else None
    waits = None
    if state is not None:
        paused = await ledger.look_at_operations()
        waits = await waiting(ledger, notification, state, operations=paused, reach=reach)
    return Told(facts, sent_twice(rows[: len(facts)]), waits)


async def explanation(ledger: Ledger, reach: Reaching, notification: UUID, *, archive: Archive) -> Explanation:
    """Return why a notification stands as it does."""
    told = await explained(ledger, archive, reach, notification)
    if told is None:
        raise OperationError("there is no such notification")
    return told


def explanation_lines(told: Explanation) -> list[str]:
    """Write an explanation as lines for a terminal: the answer, then each decision with what it goes back to."""
    return [
        told.answer,
        *([told.sent_twice] if told.sent_twice else []),
        *(line for decided in told.decisions for line in _decision_lines(decided)),
    ]


def _decision_lines(decided: Decided) -> Iterator[str]:
    policy = f", policy {decided.policy}" if decided.policy else ""
    yield f"{decided.version:>3}  {_shown_time(decided.recorded_at)}  {decided.rule}{policy}: {decided.words}"
    if decided.differently:
        yield f"     Otherwise: {decided.differently}"
    for found in decided.evidence:
        yield f"     By version {found.version} of {found.stream}: {found.says}"


def _told(mapper: FactMapper, row: Row) -> dict[str, Any]:
    fields = _fields_of(mapper, row)
    return {
        "version": row.version,
        "position": row.position,
        "topic": row.topic,
        "recorded_at": _time(fields.get("recorded_at")),
        "cause": fields.get("cause"),
        "by": fields.get("by"),
        "data": {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in fields.items()
            if name not in _SHOWN_APART and value not in (None, {}, "")
        },
    }


def _fields_of(mapper: FactMapper, row: Row) -> dict[str, Any]:
    try:
        return msgspec.structs.asdict(mapper.decode(row.topic, row.state))
    except (UnknownTopicError, msgspec.ValidationError):
        # Written by a newer release: shown as it lies there.
        return msgspec.json.decode(row.state, type=dict[str, Any])


def _time(value: Any) -> datetime | None:
    try:
        at: datetime = msgspec.convert(value, Annotated[datetime, msgspec.Meta(tz=True)])
    except msgspec.ValidationError:
        return None
    return at


def as_lines(told: Told) -> list[str]:
    """Write a history as lines for a terminal."""
    lines = [
        f"{fact['version']:>3}  {_shown_time(fact['recorded_at']):<26}  {fact['topic']:<32} {_fields(fact['data'])}"
        for fact in told.facts
    ]
    waits = [] if told.waiting is None else [_waits(told.waiting)]
    return [*lines, *waits, *([] if told.sent_twice is None else [told.sent_twice])]


def _waits(waits: Waiting) -> str:
    until = f", until {waits.until:%Y-%m-%d %H:%M:%S} at the longest" if waits.until else ""
    return f"It waits: {waits.reason.replace('_', ' ')}{until}."


def _shown_time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f}" if at else "?"


def _fields(data: dict[str, Any]) -> str:
    return " ".join(f"{name}={msgspec.to_builtins(value)}" for name, value in data.items())


def of_letter(letter: DeadLetter) -> dict[str, Any]:
    """Describe a dead letter, without its body."""
    return msgspec.structs.asdict(letter)


def of_replay(result: Result) -> dict[str, Any]:
    """Describe what became of a replayed message."""
    if isinstance(result, TakenIn):
        return {"result": "repeated" if result.repeated else "taken", "notifications": list(result.notifications)}
    if isinstance(result, MessageRejectedError):
        return {"result": "rejected", "faults": result.faults}
    return {"result": "conflict" if isinstance(result, Conflicting) else "unknown type"}


def of_wanted(wanted: Wanted, renderer: Renderer) -> dict[str, Any]:
    """Describe what a message asks for, and what would be said: without an address, and in the words of the file."""
    fields = msgspec.structs.asdict(wanted)
    shown = {name: msgspec.to_builtins(value) for name, value in fields.items() if name != "personal" and value}
    try:
        said = renderer.render(wanted.template, wanted.channel, locale=wanted.locale, personal=wanted.personal)
    except RenderError as exc:
        return {**shown, "fault": exc.code}
    content = said.content
    segments = {"segments": segments_of(content.text)} if isinstance(content, TextMessage) else {}
    return {**shown, "says": {"locale": said.locale, **segments, **msgspec.structs.asdict(content)}}


def wanted_lines(told: dict[str, Any]) -> list[str]:
    """Write what a message asks for as lines for a terminal; the HTML of a mail is left to JSON."""
    said = {name: value for name, value in told.get("says", {}).items() if name not in {"sender", "html"} and value}
    fault = [f"    cannot be said: {told['fault']}"] if "fault" in told else []
    lines = [f"    {name}: {line}" for name, value in said.items() for line in str(value).splitlines()]
    return [as_words({name: value for name, value in told.items() if name not in {"says", "fault"}}), *fault, *lines]


def as_words(told: dict[str, Any]) -> str:
    """Write names and values on one line."""
    return " ".join(f"{name}={value}" for name, value in told.items())


def local_now() -> datetime:
    """Return this machine's time: for trying a message without a database."""
    return datetime.now(UTC)
