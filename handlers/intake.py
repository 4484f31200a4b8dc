"""Taking a message in, once and only once: the same path for RabbitMQ and HTTP."""

import asyncio
from collections.abc import Collection, Sequence
from uuid import UUID, uuid4

import msgspec

from ledger import notification
from ledger.clock import Clock
from ledger.decision import Decision, Intake, NewFact
from ledger.errors import Refusal, RefusedError, UnstorableError
from ledger.ids import notification_id
from ledger.ledger import Ledger
from ledger.notification import Origin, Source
from ledger.store import Taken as Known
from ledger.values import Channel, Wanted
from templates.catalogue import Catalogue
from templates.envelope import Fault, MessageRejectedError, UnknownMessageError

# A message for more people than this becomes several decisions, each with a key of its own.
CHUNK = 200


class TakenIn(msgspec.Struct, frozen=True):
    """The message is on disk: these are its notifications. `repeated` = they were there before."""

    message_type: str
    notifications: tuple[UUID, ...]
    repeated: bool


class Conflicting(msgspec.Struct, frozen=True):
    """The same key came with other content before: recorded, nothing sent (promise I3)."""

    key: bytes
    source: str
    message_type: str
    message_id: str | None


Result = TakenIn | Conflicting | MessageRejectedError | UnknownMessageError


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was read: what it wants, in chunks, each under its own key. Not `once` = new each time."""

    source: Source
    message_type: str
    keys: list[bytes]
    body_hash: bytes
    chunks: list[list[Wanted]]
    by: str
    once: bool = True


class TakeIn:
    """Reads messages, resolves them by the catalogue, and appends what they ask for."""

    def __init__(self, ledger: Ledger, catalogue: Catalogue, clock: Clock, *, channels: Collection[Channel]) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._clock = clock
        self._channels = channels

    async def messages(self, bodies: Sequence[bytes], *, by: str) -> list[Result]:
        """Take in messages of the platform; one result each, in their order.

        Raises UnavailableError or OverloadedError: then the same bodies may be given again.
        """
        read = [self._read(body, by) for body in bodies]
        return await self._take(read)

    async def request(self, body: bytes, *, caller: str, idempotency_key: str | None) -> Result:
        """Take in a direct request; without an idempotency key it is a new one each time."""
        try:
            asked = self._read_request(body, caller, idempotency_key)
        except (MessageRejectedError, UnknownMessageError) as exc:
            return exc
        return (await self._take([asked]))[0]

    def _read(self, body: bytes, by: str) -> "_Asked | MessageRejectedError | UnknownMessageError":
        try:
            envelope, wanted = self._catalogue.read(body, now=self._clock.now(), channels=self._channels)
        except (MessageRejectedError, UnknownMessageError) as exc:
            return exc
        chunks = _chunks(wanted)
        return _Asked(
            source=Source(
                source=envelope.source, message_id=envelope.message_id, correlation_id=envelope.correlation_id
            ),
            message_type=envelope.message_type,
            keys=self._keys(("message", envelope.source, envelope.message_id), len(chunks)),
            body_hash=envelope.body_hash,
            chunks=chunks,
            by=by,
        )

    def _read_request(self, body: bytes, caller: str, idempotency_key: str | None) -> "_Asked":
        request, wanted = self._catalogue.read_request(body, now=self._clock.now(), channels=self._channels)
        chunks = _chunks(wanted)
        return _Asked(
            source=Source(source=f"api:{caller}"),
            message_type=request.type,
            keys=self._keys(("request", caller, idempotency_key or str(uuid4())), len(chunks)),
            body_hash=request.body_hash,
            chunks=chunks,
            by=f"api:{caller}",
            once=idempotency_key is not None,
        )

    def _keys(self, parts: tuple[str, ...], count: int) -> list[bytes]:
        intake_key = self._ledger.identity.intake_key
        return [intake_key(*parts, *([str(number)] if number else [])) for number in range(count)]

    async def _take(self, read: Sequence["_Asked | MessageRejectedError | UnknownMessageError"]) -> list[Result]:
        asked = [one for one in read if isinstance(one, _Asked)]
        known: dict[bytes, Known] = {}
        if asked:
            now, known = await self._ledger.store.taken([key for one in asked for key in one.keys])
            self._clock.set(now)
        taken = iter(await asyncio.gather(*(self._append(one, known) for one in asked)))
        return [next(taken) if isinstance(one, _Asked) else one for one in read]

    async def _append(self, asked: "_Asked", known: dict[bytes, Known]) -> Result:
        """Append every chunk that is not there yet; all of them are on disk when this returns."""
        try:
            taken = [
                await self._append_chunk(asked, key, chunk, known=known.get(key))
                for key, chunk in zip(asked.keys, asked.chunks, strict=True)
            ]
        except _ConflictError:
            return Conflicting(asked.keys[0], asked.source.source, asked.message_type, asked.source.message_id)
        except UnstorableError:
            return MessageRejectedError("unstorable", [Fault("", "holds what the database cannot store")])
        ids = tuple(notification for one in taken for notification in one.notifications)
        return TakenIn(asked.message_type, ids, all(one.repeated for one in taken))

    async def _append_chunk(self, asked: "_Asked", key: bytes, chunk: list[Wanted], *, known: Known | None) -> TakenIn:
        if known is not None and known.body_hash == asked.body_hash:
            return TakenIn(asked.message_type, tuple(known.notifications), repeated=True)
        decision = self._decision(asked, key, chunk)
        try:
            await self._ledger.append(decision)
        except RefusedError as exc:
            if exc.reason is Refusal.CONFLICT:
                raise _ConflictError from exc
            if exc.reason is not Refusal.TAKEN_IN:
                raise
            _, rows = await self._ledger.store.taken([key])
            return TakenIn(asked.message_type, tuple(rows[key].notifications), repeated=True)
        return TakenIn(asked.message_type, tuple(new.stream for new in decision.facts), repeated=False)

    def _decision(self, asked: "_Asked", key: bytes, chunk: list[Wanted]) -> Decision:
        now = self._clock.now()
        origin = Origin(now=now, cause=f"intake:{key.hex()}", by=asked.by)
        facts = [
            NewFact(stream, version, fact)
            for stream, wanted in ((notification_id(now), wanted) for wanted in chunk)
            for version, fact in enumerate(self._requested(wanted, asked.source, origin), start=1)
        ]
        return Decision(facts=tuple(facts), intake=Intake(key, asked.body_hash) if asked.once else None)

    def _requested(self, wanted: Wanted, source: Source, origin: Origin) -> notification.Facts:
        identity, address = self._ledger.identity, wanted.personal.address
        return notification.request(
            wanted,
            source,
            origin,
            recipient=identity.recipient(wanted.recipient, address),
            address_hash=identity.address_hash(address) if address else None,
        )


def _chunks(wanted: list[Wanted]) -> list[list[Wanted]]:
    """Split; a message that asks for nothing is still taken in once."""
    return [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)] or [[]]


class _ConflictError(Exception):
    """One chunk met other content under its key."""
