"""Which message makes which notifications: the catalogue, loaded once and asked for every message and request."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from ledger.recipient import News
from ledger.values import Channel, Wanted
from templates import people
from templates.addresses import is_sender
from templates.compiling import compile_kinds, compile_rules
from templates.declarations import read_document, spelled
from templates.direct import DirectRequest, examine_request, wanted_directly
from templates.drafts import Draft
from templates.entries import Kind, Rule
from templates.envelope import Envelope, Fault, MessageRejectedError, UnknownMessageError, examine, rejection
from templates.files import MESSAGES, Files
from templates.shapes import SCALARS, as_written, is_locale

CATALOGUE = Path(__file__).parent / "catalogue.yaml"


class Catalogue:
    """What the service says, and to which messages.

    `digest` is the hex SHA-256 of its canonical form; `kinds` are the notifications by name, `rules` what each
    (message type, version) asks for, `sender` the From header of its mails.
    """

    def __init__(
        self,
        *,
        digest: str,
        sender: str,
        locale: str,
        kinds: Mapping[str, Kind],
        rules: Mapping[tuple[str, int], list[Rule]],
    ) -> None:
        self.digest = digest
        self.sender = sender
        self.locale = locale
        self.kinds = kinds
        self.rules = rules
        self._known = people.TYPES.union(message_type for message_type, _ in rules)

    @property
    def types(self) -> frozenset[str]:
        """The message types that it knows, without versions; those about people are among them."""
        return self._known

    @property
    def templates(self) -> frozenset[str]:
        """The templates that its kinds name, whether there are words for them or not."""
        return frozenset(kind.template for kind in self.kinds.values())

    @property
    def sms_segments(self) -> Mapping[str, int]:
        """How many segments an SMS may have, by template; the most that any kind with that template allows."""
        most: dict[str, int] = {}
        for kind in self.kinds.values():
            most[kind.template] = max(kind.sms_segments, most.get(kind.template, 0))
        return most

    def drafts(self, template: str, files: Files) -> list[Draft]:
        """Return files as drafts of a template: one for each kind of notification that is said by it."""
        return [
            Draft(
                name=template,
                files=dict(files),
                data=as_written(kind.data),
                channels=kind.every_channel,
                locale=self.locale,
                segments=kind.sms_segments,
                sender=self.sender,
            )
            for kind in self.kinds.values()
            if kind.template == template
        ]

    def asks(self, envelope: Envelope, *, channels: Collection[Channel]) -> list[Wanted] | News:
        """Return what a message asks for, or what it says of a person. Raises as `wanted` does."""
        faults: list[Fault] = []
        asked = self._asks(envelope, channels=channels, faults=faults)
        if faults:
            raise rejection(envelope, "payload", faults)
        return asked

    def wanted(self, envelope: Envelope, *, channels: Collection[Channel]) -> list[Wanted]:
        """Return what a message asks for on the channels that are served; nothing at all is an answer too.

        Raises UnknownMessageError, or MessageRejectedError with every fault of the payload.
        """
        asked = self.asks(envelope, channels=channels)
        return asked if isinstance(asked, list) else []

    def read(self, body: bytes, *, now: datetime, channels: Collection[Channel]) -> tuple[Envelope, list[Wanted]]:
        """Read a message and what it asks for, with the faults of envelope and payload in one error.

        Raises UnknownMessageError for a type that is not ours, whatever else is wrong with it; MessageRejectedError.
        """
        envelope, faults = examine(body, now=now)
        reason = "envelope" if faults else "payload"
        usable = envelope.message_type and not any(fault.path == "payload" for fault in faults)
        asked = self._asks(envelope, channels=channels, faults=faults) if usable else []
        if faults:
            raise rejection(envelope, reason, faults)
        return envelope, asked if isinstance(asked, list) else []

    def direct(self, request: DirectRequest, *, channels: Collection[Channel]) -> list[Wanted]:
        """Return what a direct request asks for. Raises UnknownMessageError, MessageRejectedError."""
        faults: list[Fault] = []
        wanted = wanted_directly(self._kind(request), request, channels=channels, locale=self.locale, faults=faults)
        if faults:
            raise MessageRejectedError("request", faults)
        return wanted

    def read_request(
        self, body: bytes, *, now: datetime, channels: Collection[Channel]
    ) -> tuple[DirectRequest, list[Wanted]]:
        """Read a direct request and what it asks for, with all faults in one error. Raises as `direct` does."""
        request, faults = examine_request(body, now=now)
        wanted: list[Wanted] = []
        if request.type:
            kind = self._kind(request)
            wanted = wanted_directly(kind, request, channels=channels, locale=self.locale, faults=faults)
        if faults:
            raise MessageRejectedError("request", list(dict.fromkeys(faults)))
        return request, wanted

    def _kind(self, request: DirectRequest) -> Kind:
        kind = self.kinds.get(request.type)
        if kind is None:
            raise UnknownMessageError(request.type)
        return kind

    def _asks(self, envelope: Envelope, *, channels: Collection[Channel], faults: list[Fault]) -> list[Wanted] | News:
        if (envelope.message_type, envelope.version) in people.MESSAGES:
            return people.read(envelope, faults) or []
        rules = self.rules.get((envelope.message_type, envelope.version))
        if rules is None:
            if envelope.message_type not in self._known:
                raise UnknownMessageError(envelope.message_type)
            # Ours, but newer than we are: kept as a dead letter, where a type that is not ours is only counted.
            faults.append(Fault("messageType", f"version {envelope.version} is not in the catalogue"))
            return []
        return [wanted for rule in rules for wanted in rule.wanted(envelope, channels=channels, faults=faults)]


def load(path: Path | None = None, *, messages: Path = MESSAGES) -> Catalogue:
    """Load a catalogue, ours by default, with the templates of a folder. Raises CatalogueError with every fault."""
    document, checker = read_document(path or CATALOGUE)
    digest = hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()
    if not is_locale(document.locale):
        checker.fault(("locale",), SCALARS["locale"].expected)
    if not is_sender(document.sender):
        checker.fault(("sender",), "must be a From header such as Example Shop <shop@shop.example>")
    kinds = compile_kinds(document, digest=digest, messages=messages, checker=checker)
    rules = compile_rules(document, kinds=kinds, checker=checker)
    checker.done()
    return Catalogue(digest=digest, sender=document.sender, locale=document.locale, kinds=kinds, rules=rules)


def describe(catalogue: Catalogue, *, channels: Collection[Channel]) -> list[str]:
    """Return one line per message type and notification: its channels, and which of them `channels` lacks."""
    return [
        f"{message_type}.v{version} -> {rule.kind.type}: {_served(rule.kind, channels)}"
        for (message_type, version), rules in sorted(catalogue.rules.items())
        for rule in rules
    ]


def _served(kind: Kind, channels: Collection[Channel]) -> str:
    said = [channel if channel in channels else f"{channel} (not in CHANNELS)" for channel in kind.channels]
    template = f"template {kind.template_version[:12]}" if kind.template_version else "no template yet: suppressed"
    if kind.fallback is not None:
        unserved = "" if kind.fallback.channel in channels else " (not in CHANNELS)"
        said.append(f"{kind.fallback.channel} after {spelled(kind.fallback.after)}{unserved}")
    return "; ".join([", ".join(said), *wishes(kind), template])


def wishes(kind: Kind) -> Iterator[str]:
    """Say which wishes of a person a kind is bound by, beyond their choices."""
    if kind.consent is not None:
        yield f"needs consent to {kind.consent}"
    if kind.frequency_cap is not None:
        yield f"at most {kind.frequency_cap.most} of {kind.category} in {spelled(kind.frequency_cap.window)}"
    if kind.quiet_hours:
        yield "waits for quiet hours to end"
