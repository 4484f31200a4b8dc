"""From the catalogue as written to its entries: what is wrong with any of it is collected in the checker."""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

from ledger.policy import MARKETING
from ledger.values import Category, Channel, Fallback, FrequencyCap, Lane, Retention
from templates.declarations import (
    Checker,
    Document,
    NotificationDeclaration,
    RuleDeclaration,
    Where,
    duration,
    spelled,
)
from templates.entries import LONGEST, Field, Kind, Rule
from templates.expressions import Expression, compile_expression
from templates.files import GIVEN, missing, version_of
from templates.people import TYPES
from templates.shapes import SCALARS, Scalar, Shape, compile_record

_ADDRESSES = {Channel.EMAIL: SCALARS["email"], Channel.SMS: SCALARS["phone"]}
_OF_CATEGORY = {Category.SECURITY: Retention.SECURITY, Category.MARKETING: Retention.MARKETING}
_ID, _LINE, _LOCALE, _TIME = (SCALARS[name] for name in ("id", "line", "locale", "time"))


def _is_seconds(value: object) -> bool:
    return type(value) is int and 1 <= value <= LONGEST.total_seconds()


_SECONDS = Scalar(
    _is_seconds,
    "must be a whole number of seconds, at most 8 weeks",
    schema={"type": "integer", "minimum": 1, "maximum": int(LONGEST.total_seconds())},
)


def compile_kinds(document: Document, *, digest: str, messages: Path, checker: Checker) -> dict[str, Kind]:
    """Return the kinds of notification by name; `messages` is the folder of the templates."""
    kinds = {}
    for name, declared in document.notifications.items():
        where = ("notifications", name)
        _check_kind(where, declared, checker)
        _check_wishes(where, declared, checker)
        after = checker.attempt((*where, "expires_after"), duration, declared.expires_after)
        data = checker.attempt((*where, "data"), compile_record, declared.data)
        template = declared.template or name
        version = version_of(messages, template)
        if version:
            _check_words(where, declared, checker, folder=messages, template=template, locale=document.locale)
        if after is not None and data is not None:
            kinds[name] = Kind(
                type=name,
                category=declared.category,
                lane=declared.lane,
                doubt=declared.doubt,
                channels=tuple(declared.channels),
                fallback=_fallback(where, declared, checker),
                consent=declared.consent or (MARKETING if declared.category is Category.MARKETING else None),
                frequency_cap=_frequency_cap(where, declared, checker),
                quiet_hours=declared.quiet_hours,
                sms_segments=declared.sms_segments,
                expires_after=after,
                template=template,
                template_version=version,
                retention=declared.retention or _OF_CATEGORY.get(declared.category, Retention.STANDARD),
                data=data,
                references=tuple(declared.references.items()),
                catalogue=digest,
            )
    _check_windows(kinds, checker)
    return kinds


def compile_rules(
    document: Document, *, kinds: Mapping[str, Kind], checker: Checker
) -> dict[tuple[str, int], list[Rule]]:
    """Return what each (message type, version) asks for, in the order written."""
    rules: dict[tuple[str, int], list[Rule]] = {}
    for message, declarations in document.messages.items():
        key = _typed(message)
        if key[0] in TYPES:
            checker.fault(("messages", message), "is a message about a person: it asks for no notification")
        if key in rules:
            checker.fault(("messages", message), "is written twice, with a version and without")
        rules[key] = list(_rules(message, declarations, document, kinds=kinds, checker=checker))
    return rules


def _rules(
    message: str,
    declarations: Mapping[str, RuleDeclaration],
    document: Document,
    *,
    kinds: Mapping[str, Kind],
    checker: Checker,
) -> Iterator[Rule]:
    for index, declared in declarations.items():
        where = ("messages", message, index)
        if declared.notification in kinds:
            kind = kinds[declared.notification]
            yield _Compiler(where, declared, checker).rule(kind, locale=document.locale)
        elif declared.notification not in document.declared:
            checker.fault((*where, "notification"), f"{declared.notification!r} is not among the notifications")


def _typed(message: str) -> tuple[str, int]:
    name, _, version = message.rpartition(".v")
    return (name, int(version)) if name and version.isdecimal() else (message, 1)


def _check_kind(where: Where, declared: NotificationDeclaration, checker: Checker) -> None:
    if declared.fallback is not None:
        if declared.fallback.channel in declared.channels:
            checker.fault((*where, "fallback", "channel"), "is one of the channels already")
        if len(declared.channels) > 1:
            checker.fault((*where, "fallback"), "is for what has one channel: each of several would fall back")
    if len(set(declared.channels)) < len(declared.channels):
        checker.fault((*where, "channels"), "names a channel twice")
    for name in sorted(GIVEN & {name.removesuffix("?") for name in declared.data}):
        checker.fault((*where, "data", name), "is a name that every template has already")
    for name, source in declared.references.items():
        if "id" not in {str(declared.data.get(source)), str(declared.data.get(f"{source}?"))}:
            checker.fault((*where, "references", name), f"{source!r} is no id among the data")


def _check_wishes(where: Where, declared: NotificationDeclaration, checker: Checker) -> None:
    wishes = {
        "consent": declared.consent is not None,
        "frequency_cap": declared.frequency_cap is not None,
        "quiet_hours": declared.quiet_hours,
    }
    if declared.category is Category.SECURITY:
        for name in (name for name, given in wishes.items() if given):
            checker.fault((*where, name), "is not for security: that goes out whatever a person wishes")
    elif declared.quiet_hours and declared.lane is Lane.URGENT:
        checker.fault((*where, "quiet_hours"), "is not for what is urgent: that cannot wait")


def _check_windows(kinds: Mapping[str, Kind], checker: Checker) -> None:
    """The kinds of a category are counted together, which takes one window."""
    first: dict[Category, Kind] = {}
    for name, kind in kinds.items():
        cap = kind.frequency_cap
        known = first.setdefault(kind.category, kind) if cap is not None else kind
        if cap is not None and known.frequency_cap is not None and known.frequency_cap.window != cap.window:
            window = spelled(known.frequency_cap.window)
            message = f"{kind.category} is counted together, and by {window} already ({known.type})"
            checker.fault(("notifications", name, "frequency_cap", "window"), message)


def _frequency_cap(where: Where, declared: NotificationDeclaration, checker: Checker) -> FrequencyCap | None:
    if declared.frequency_cap is None:
        return None
    window = checker.attempt((*where, "frequency_cap", "window"), duration, declared.frequency_cap.window)
    return FrequencyCap(declared.frequency_cap.most, window) if window is not None else None


def _fallback(where: Where, declared: NotificationDeclaration, checker: Checker) -> Fallback | None:
    if declared.fallback is None:
        return None
    after = checker.attempt((*where, "fallback", "after"), duration, declared.fallback.after)
    return Fallback(declared.fallback.channel, after) if after is not None else None


def _check_words(
    where: Where, declared: NotificationDeclaration, checker: Checker, *, folder: Path, template: str, locale: str
) -> None:
    """A kind without any words is on its way, and ends as suppressed; one with words for half its channels is wrong."""
    fallback = [declared.fallback.channel] if declared.fallback is not None else []
    for channel in (*declared.channels, *fallback):
        for file in missing(folder, template, channel, locale=locale):
            checker.fault((*where, "channels"), f"{channel} needs {template}/{locale}/{file}, which is not there")


class _Compiler:
    """Compiles one rule; what it returns is of use only when the checker found nothing."""

    def __init__(self, where: Where, declared: RuleDeclaration, checker: Checker) -> None:
        self._where = where
        self._declared = declared
        self._checker = checker
        self._roots = {"payload", "item"} if declared.for_each else {"payload"}

    def rule(self, kind: Kind, *, locale: str) -> Rule:
        declared = self._declared
        self._check(kind)
        return Rule(
            kind=kind,
            locale_default=locale,
            for_each=self._for_each(),
            recipient=self._field(declared.recipient, _ID, "recipient"),
            name=self._field(declared.name, _LINE, "name"),
            locale=self._field(declared.locale, _LOCALE, "locale"),
            to={
                channel: field
                for channel, source in declared.to.items()
                if (field := self._field(source, _ADDRESSES.get(channel, _ID), "to", channel))
            },
            when={
                channel: expression
                for channel, source in declared.when.items()
                if (expression := self._expression(source, "when", channel))
            },
            data=tuple(self._data(kind)),
            send_at=self._field(declared.send_at, _TIME, "send_at"),
            expires_at=self._field(declared.expires_at, _TIME, "expires_at"),
            expires_in=self._field(declared.expires_in, _SECONDS, "expires_in"),
            expires_from_timestamp=declared.expires_from == "timestamp",
        )

    def _data(self, kind: Kind) -> Iterator[tuple[str, Field]]:
        for name, shape, required in kind.data.members:
            source = self._declared.data.get(name, f"payload.{name}").removesuffix("?")
            field = self._field(source if required else f"{source}?", shape, "data", name)
            if field is not None:
                yield name, field

    def _for_each(self) -> Expression | None:
        source = self._declared.for_each
        return self._expression(source, "for_each", roots={"payload"}) if source is not None else None

    def _field(self, source: str | None, shape: Shape, *place: str) -> Field | None:
        expression = self._expression(source, *place) if source is not None else None
        return Field(expression, shape) if expression is not None else None

    def _expression(self, source: str, *place: str, roots: Collection[str] = ()) -> Expression | None:
        compiler = partial(compile_expression, roots=roots or self._roots)
        return self._checker.attempt((*self._where, *place), compiler, source)

    def _check(self, kind: Kind) -> None:
        declared = self._declared
        for part, named in (("to", declared.to), ("when", declared.when)):
            for channel in sorted(named.keys() - set(kind.every_channel)):
                self._fault(f"{kind.type} has no channel {channel}", part, channel)
        for channel in kind.every_channel:
            self._check_address(channel)
        for name in sorted(declared.data.keys() - kind.data.names):
            self._fault(f"{kind.type} knows no such data", "data", name)
        if declared.expires_at and declared.expires_in:
            self._fault("expires_at and expires_in exclude each other", "expires_in")

    def _check_address(self, channel: Channel) -> None:
        if channel in self._declared.to and channel not in _ADDRESSES:
            self._fault("a message holds no address of this channel", "to", channel)
        declared = self._declared
        if channel not in declared.to and declared.recipient is None:
            self._fault(f"{channel} needs an address or a recipient", "to")
        if _may_be_absent(declared.to.get(channel)) and (
            declared.recipient is None or _may_be_absent(declared.recipient)
        ):
            self._fault("an address that may be absent needs a recipient who may not", "to", channel)

    def _fault(self, message: str, *place: str) -> None:
        self._checker.fault((*self._where, *place), message)


def _may_be_absent(source: str | None) -> bool:
    return source is not None and source.rstrip().endswith("?")
