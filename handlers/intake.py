"""Taking a message in, once and only once: the same path for RabbitMQ and HTTP."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec
import structlog

from handlers.wording import Wording
from ledger import conflicts, notification
from ledger.decision import Decision, Intake, NewFact
from ledger.errors import KeyUnavailableError, Refusal, RefusedError, UnstorableError
from ledger.ids import notification_id
from ledger.ledger import Ledger
from ledger.notification import Origin, Source
from ledger.recipient import News, Recipient, learn
from ledger.set_aside import speakable
from ledger.store import Taken as Known
from ledger.values import Channel, Wanted
from templates.catalogue import Catalogue
from templates.direct import examine_request
from templates.envelope import Fault, MessageRejectedError, UnknownMessageError, examine

# A message for more people than this becomes several decisions, each with a key of its own.
CHUNK = 200
# So many of a message's notifications are named in the logs.
TOLD_AT_MOST = 20
# How a type is counted that the catalogue does not know: there is no end of them, and one may name a person.
UNKNOWN = "unknown"

_log = structlog.get_logger("handlers.intake")


class TakenIn(msgspec.Struct, frozen=True):
    """The message is on disk: these are its notifications. `repeated` = they were there before.

    `channels` holds the new ones alone: nobody needs to read back what was just written. `counted_as` is its type
    where the catalogue knows it.
    """

    counted_as: str
    notifications: tuple[UUID, ...]
    repeated: bool
    channels: dict[UUID, Channel] = {}


class Conflicting(msgspec.Struct, frozen=True):
    """The same key came with other content before: recorded, nothing sent (promise I3).

    `message_type` is whatever was sent; `counted_as` is the same where the catalogue knows it.
    """

    key: bytes
    source: str
    message_type: str
    message_id: str | None
    counted_as: str = UNKNOWN


class Would(msgspec.Struct, frozen=True):
    """What a message would ask for if it were taken in now, or say of a person; `repeats` = it was taken in before."""

    counted_as: str
    asks: tuple[notification.Requested, ...] | News
    repeats: bool


NotTaken = Conflicting | MessageRejectedError | UnknownMessageError
Result = TakenIn | NotTaken


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A message whose form is right. What it wants is resolved only when its key is new: a repeat is answered from
    the intake, whatever a newer catalogue would say of it (promise I2).
    """

    source: Source
    message_type: str
    counted_as: str
    parts: tuple[str, ...]
    body_hash: bytes
    resolve: Callable[[], list[Wanted] | News]
    by: str
    once: bool = True


class TakeIn:
    """Reads messages, resolves them by the catalogue, and appends what they ask for.

    Without `wording` the words are those that the catalogue was loaded with.
    """

    def __init__(
        self, ledger: Ledger, catalogue: Catalogue, *, channels: Collection[Channel], wording: Wording | None = None
    ) -> None:
        self._ledger = ledger
        self._wording = wording
        self._catalogue = catalogue
        self._channels = channels

    async def messages(self, bodies: Sequence[bytes], *, by: str) -> list[Result]:
        """Take in messages of the platform; one result each, in their order.

        Raises UnavailableError or OverloadedError: then the same bodies may be given again.
        """
        return await self._take([self._read(body, by) for body in bodies])

    async def request(self, body: bytes, *, caller: str, idempotency_key: str | None) -> Result:
        """Take in a direct request; without an idempotency key it is a new one each time. Raises as `messages`."""
        try:
            asked = self._read_request(body, caller, idempotency_key)
        except (MessageRejectedError, UnknownMessageError) as exc:
            return exc
        return (await self._take([asked]))[0]

    async def exactly(
        self, wanted: Wanted, *, source: str, caller: str, parts: tuple[str, ...], body_hash: bytes
    ) -> Result:
        """Take in one notification just as it is, in the very words that it names; once for the same `parts`.

        Raises as `messages`.
        """
        asked = _Asked(
            source=Source(source=source),
            message_type=wanted.type,
            counted_as=wanted.type,
            parts=parts,
            body_hash=body_hash,
            resolve=lambda: [wanted],
            by=f"api:{caller}",
        )
        return (await self._take([asked]))[0]

    def _pinned(self, asks: list[Wanted] | News) -> list[Wanted] | News:
        """Pin what is asked for to the words that are said now."""
        if self._wording is None or not isinstance(asks, list):
            return asks
        return [self._wording.pinned(wanted) for wanted in asks]

    async def would_take(self, body: bytes, *, by: str) -> Would | NotTaken:
        """Say what would become of a message of the platform, and take nothing in. Raises UnavailableError."""
        return await self._would(self._read(body, by))

    async def would_take_request(self, body: bytes, *, caller: str, idempotency_key: str | None) -> Would | NotTaken:
        """Say what would become of a direct request, and take nothing in. Raises UnavailableError."""
        try:
            return await self._would(self._read_request(body, caller, idempotency_key))
        except (MessageRejectedError, UnknownMessageError) as exc:
            return exc

    async def _would(self, asked: "_Asked | MessageRejectedError | UnknownMessageError") -> Would | NotTaken:
        if not isinstance(asked, _Asked):
            return asked
        row = await self._ledger.taken(self._key(asked))
        if row is not None and row.body_hash != asked.body_hash:
            return self._conflicting(asked)
        try:
            asks = asked.resolve()
        except (MessageRejectedError, UnknownMessageError) as exc:
            return exc
        repeats = row is not None
        if not isinstance(asks, list):
            return Would(asked.counted_as, asks, repeats)
        origin = Origin(now=self._ledger.clock.now(), cause="dry_run", by=asked.by)
        facts = (fact for wanted in asks for fact in self._requested(wanted, asked.source, origin))
        return Would(asked.counted_as, tuple(facts), repeats)

    def _read(self, body: bytes, by: str) -> "_Asked | MessageRejectedError | UnknownMessageError":
        now = self._ledger.clock.now()
        try:
            envelope, faults = examine(body, now=now)
            if faults:
                self._catalogue.read(body, now=now, channels=self._channels)
        except (MessageRejectedError, UnknownMessageError) as exc:
            return exc
        return _Asked(
            source=Source(
                source=envelope.source, message_id=envelope.message_id, correlation_id=envelope.correlation_id
            ),
            message_type=envelope.message_type,
            counted_as=envelope.message_type if envelope.message_type in self._catalogue.types else UNKNOWN,
            parts=("message", envelope.source, envelope.message_id),
            body_hash=envelope.body_hash,
            resolve=lambda: self._pinned(self._catalogue.asks(envelope, channels=self._channels)),
            by=by,
        )

    def _read_request(self, body: bytes, caller: str, idempotency_key: str | None) -> "_Asked":
        now = self._ledger.clock.now()
        request, faults = examine_request(body, now=now)
        if faults:
            self._catalogue.read_request(body, now=now, channels=self._channels)
        return _Asked(
            source=Source(source=f"api:{caller}"),
            message_type=request.type,
            counted_as=request.type if request.type in self._catalogue.kinds else UNKNOWN,
            parts=("request", caller, idempotency_key or str(uuid4())),
            body_hash=request.body_hash,
            resolve=lambda: self._pinned(self._catalogue.direct(request, channels=self._channels)),
            by=f"api:{caller}",
            once=idempotency_key is not None,
        )

    async def _take(self, read: Sequence["_Asked | MessageRejectedError | UnknownMessageError"]) -> list[Result]:
        asked = [one for one in read if isinstance(one, _Asked)]
        known: dict[bytes, Known] = {}
        keys = [self._key(one) for one in asked]
        if len(keys) == 1:
            found = await self._ledger.taken(keys[0])
            known = {keys[0]: found} if found else {}
        elif keys:
            known = await self._ledger.taken_many(keys)
        pairs = zip(asked, keys, strict=True)
        taken = iter(await asyncio.gather(*(self._one(one, known.get(key)) for one, key in pairs)))
        results = [next(taken) if isinstance(one, _Asked) else one for one in read]
        for one, result in zip(read, results, strict=True):
            _tell(one.source if isinstance(one, _Asked) else None, result)
        return results

    def _key(self, asked: "_Asked", chunk: int = 0) -> bytes:
        return self._ledger.identity.intake_key(*asked.parts, *([str(chunk)] if chunk else []))

    async def _one(self, asked: "_Asked", row: Known | None) -> Result:
        try:
            if row is None:
                asks = asked.resolve()
                return await (self._append(asked, asks) if isinstance(asks, list) else self._learn(asked, asks))
            if row.body_hash == asked.body_hash:
                return await self._repeated(asked, row)
            await self._ledger.append(Decision(intake=Intake(self._key(asked), asked.body_hash)))
        except (MessageRejectedError, UnknownMessageError) as exc:
            return exc
        except UnstorableError:
            return MessageRejectedError("unstorable", [Fault("", "holds what the database cannot store")])
        except KeyUnavailableError:
            # Waiting for the key would keep all others waiting, too.
            return _locked(asked)
        except RefusedError as exc:
            if exc.reason is not Refusal.CONFLICT:
                raise
        # It is recorded under a hash of id and source; who has the id alone is to find it, too.
        await conflicts.name(self._ledger.store, self._ledger.identity, asked.parts[-1], self._key(asked))
        return self._conflicting(asked)

    def _conflicting(self, asked: "_Asked") -> Conflicting:
        source = asked.source
        return Conflicting(self._key(asked), source.source, asked.message_type, source.message_id, asked.counted_as)

    async def _learn(self, asked: "_Asked", news: News) -> Result:
        """Record what is said of a person. That it was taken in is recorded with it, also where none of it is news."""
        key = self._key(asked)

        def decide(known: Recipient, now: datetime) -> Decision:
            origin = Origin(now=now, cause=f"intake:{key.hex()}", by=asked.by)
            facts = learn(known, news, origin, self._ledger.identity)
            return Decision(facts=known.next(facts), intake=Intake(key, asked.body_hash))

        try:
            await self._ledger.change_recipient(news.user_id, decide)
        except RefusedError as exc:
            if exc.reason is not Refusal.TAKEN_IN:
                raise
            return TakenIn(asked.counted_as, (), repeated=True)
        return TakenIn(asked.counted_as, (), repeated=False)

    async def _append(self, asked: "_Asked", wanted: Sequence[Wanted]) -> Result:
        """Append all chunks, the first of them last: where its key is known, the whole message was taken in."""
        chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)] or [()]
        taken: list[TakenIn] = []
        for number in reversed(range(len(chunks))):
            taken.insert(0, await self._append_chunk(asked, self._key(asked, number), chunks[number]))
        ids = tuple(notification for one in taken for notification in one.notifications)
        channels = {notification: channel for one in taken for notification, channel in one.channels.items()}
        return TakenIn(asked.counted_as, ids, taken[0].repeated, channels)

    async def _append_chunk(self, asked: "_Asked", key: bytes, chunk: Sequence[Wanted]) -> TakenIn:
        decision = self._decision(asked, key, chunk)
        try:
            await self._ledger.append(decision)
        except RefusedError as exc:
            if exc.reason is not Refusal.TAKEN_IN:
                raise
            rows = await self._ledger.taken_many([key])
            return TakenIn(asked.counted_as, tuple(rows[key].notifications), repeated=True)
        begun = ((new.stream, new.fact) for new in decision.facts)
        channels = {stream: fact.channel for stream, fact in begun if isinstance(fact, notification.Requested)}
        return TakenIn(asked.counted_as, tuple(channels), repeated=False, channels=channels)

    async def _repeated(self, asked: "_Asked", row: Known) -> TakenIn:
        ids, chunk = list(row.notifications), 0
        while len(ids) == CHUNK * (chunk + 1):
            chunk += 1
            key = self._key(asked, chunk)
            rows = await self._ledger.taken_many([key])
            ids += rows[key].notifications if key in rows else []
        return TakenIn(asked.counted_as, tuple(ids), repeated=True)

    def _decision(self, asked: "_Asked", key: bytes, chunk: Sequence[Wanted]) -> Decision:
        now = self._ledger.clock.now()
        origin = Origin(now=now, cause=f"intake:{key.hex()}", by=asked.by)
        facts = [
            NewFact(stream, version, fact)
            for stream, wanted in ((notification_id(now), wanted) for wanted in chunk)
            for version, fact in enumerate(self._requested(wanted, asked.source, origin), start=1)
        ]
        return Decision(facts=tuple(facts), intake=Intake(key, asked.body_hash) if asked.once else None)

    def _requested(self, wanted: Wanted, source: Source, origin: Origin) -> tuple[notification.Requested]:
        identity, address = self._ledger.identity, wanted.personal.address
        return notification.request(
            wanted,
            source,
            origin,
            recipient=identity.recipient(wanted.recipient, address),
            address_hash=identity.address_hash(address) if address else None,
        )


def _locked(asked: _Asked) -> MessageRejectedError:
    """Refuse a message that is not at fault: once the key is there, it can be taken in."""
    fault = Fault("", "is about a person whose data key does not open what it should")
    return MessageRejectedError(
        "key_unavailable",
        [fault],
        source=asked.source.source,
        message_type=asked.message_type,
        message_id=asked.source.message_id,
    )


def _tell(source: Source | None, result: Result) -> None:
    """Say what became of a message, by the names that its sender gave it."""
    match result:
        case TakenIn():
            made = [str(notification) for notification in result.notifications[:TOLD_AT_MOST]]
            told = {"repeated": result.repeated, "notifications": made, "count": len(result.notifications)}
            _log.info("message_taken_in", message_type=result.counted_as, **_named(source), **told)
        case Conflicting():
            _log.warning("message_conflicts", message_type=result.counted_as, **_named(source))
        case MessageRejectedError():
            names = {"source": result.source, "message_id": result.message_id, "message_type": result.message_type}
            shown = {name: speakable(given) for name, given in names.items() if given is not None}
            _log.info("message_refused", reason=result.reason, faults=len(result.faults), **shown)
        case UnknownMessageError():
            _log.info("unknown_message_type", message_type=speakable(result.message_type))


def _named(source: Source | None) -> dict[str, str | None]:
    """Return the names of a message; without a correlation id of its own it goes by that of the request."""
    if source is None:
        return {}
    names = msgspec.structs.asdict(source)
    return {name: speakable(given) for name, given in names.items() if given is not None}


def counted(result: Result) -> tuple[str, str]:
    """Return the labels that a result is counted under; a type that the catalogue does not know has none of its own."""
    match result:
        case TakenIn(repeated=repeated):
            return result.counted_as, "repeated" if repeated else "taken"
        case Conflicting():
            return result.counted_as, "conflict"
        case UnknownMessageError():
            return UNKNOWN, "unknown"
        case _:
            return UNKNOWN, "rejected"
