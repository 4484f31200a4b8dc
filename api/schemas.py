"""What the routes take, as the OpenAPI document describes it; the reading itself is stricter and names every fault."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct, field

from ledger.bulk import Action
from ledger.recipient import Platform
from ledger.status import Status
from ledger.suppression import Reason
from ledger.values import Category, Channel

Identifier = Annotated[str, Meta(min_length=1, max_length=200)]
TimeOfDay = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Message(Struct, kw_only=True, rename="camel"):
    """A message of the platform, the same as on its broker. (sourceService, messageId) is taken in once."""

    message_id: Annotated[Identifier, Meta(examples=["0d9f7c52-3b1e-4c57-8a51-000000000001"])]
    message_type: Annotated[str, Meta(description="With or without a version.", examples=["OrderShippedEvent.v1"])]
    timestamp: Annotated[datetime, Meta(description="With an offset; within the last 90 days, at most 1 hour ahead.")]
    source_service: Annotated[Identifier, Meta(description="`source` does as well.", examples=["OrderService"])]
    payload: Annotated[dict[str, Any], Meta(description="What the catalogue reads for this type.")]
    correlation_id: Identifier | None = None
    partition_key: Annotated[Identifier, Meta(description="Accepted and ignored.")] | None = None
    envelope_version: Annotated[str, Meta(description="Accepted and ignored.")] | None = None


class Person(Struct, kw_only=True):
    """Who is to be told: a user of the platform, or an address for each channel."""

    user_id: Identifier | None = None
    email: Annotated[str, Meta(examples=["ada@example.com"])] | None = None
    phone: Annotated[str, Meta(examples=["+15005550001"])] | None = None
    name: str | None = None
    locale: Annotated[str, Meta(examples=["en-GB"])] | None = None


class NotificationRequest(Struct, kw_only=True):
    """A direct request for one notification, in the catalogue's names."""

    type: Annotated[str, Meta(description="A notification of the catalogue.", examples=["password_reset"])]
    recipient: Person
    data: Annotated[dict[str, Any], Meta(description="What the notification's template needs.")] = {}
    channels: Annotated[list[Channel], Meta(min_length=1)] | None = None
    send_at: Annotated[datetime, Meta(description="At most 8 weeks ahead.")] | None = None
    expires_at: Annotated[datetime, Meta(description="Not sent after this.")] | None = None


class Trying(Struct, kw_only=True):
    """Whether it is meant."""

    dry_run: Annotated[bool, Meta(description="Say what it would make, and store nothing.")] = False


class ContactChange(Struct, kw_only=True):
    """How to reach a person. What is absent stays as it is, null clears it (RFC 7396); at least one must be there."""

    email: Annotated[str, Meta(examples=["ada@example.com"])] | None = None
    phone: Annotated[str, Meta(examples=["+15005550001"])] | None = None
    name: str | None = None
    locale: Annotated[str, Meta(examples=["en-GB"])] | None = None
    time_zone: Annotated[str, Meta(description="Of the IANA database.", examples=["Europe/London"])] | None = None


class DeviceRegistration(Struct, kw_only=True):
    """An installation of an app, as it registered with Firebase."""

    fid: Annotated[str, Meta(description="The Firebase installation id.", max_length=64)]
    platform: Platform


class NewSuppression(Struct, kw_only=True):
    """An address that must not be used: for a category or for all, for a time or for good."""

    address: Annotated[str, Meta(examples=["ada@example.com"])]
    channel: Literal["email", "sms"]
    reason: Literal["manual", "legal"]
    note: Annotated[Identifier, Meta(description="Why; kept with it, so without personal data.")]
    category: Category | None = None
    expires_at: Annotated[datetime, Meta(description="With an offset; it holds until then.")] | None = None


class SuppressionFilters(Struct, kw_only=True):
    """Which entries of the suppression list, and which page of them. All that are given must hold."""

    channel: Channel | None = None
    reason: Reason | None = None
    category: Annotated[Category, Meta(description="Entries for this one, not those for all.")] | None = None
    cursor: Annotated[str, Meta(description="That of the page before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class AddressSearch(Struct, kw_only=True):
    """An address, as it may stand in a body and in no URL."""

    address: Annotated[str, Meta(examples=["Ada@Example.com"])]
    channel: Literal["email", "sms"] | None = None


class Release(Struct, kw_only=True):
    """Why an address may be used again: whatever it was listed for, or in one respect alone."""

    reason: Annotated[Identifier, Meta(examples=["the mailbox is there again"])]
    listed_for: Annotated[Reason, Meta(description="Only this entry; absent = all.")] | None = None
    category: Annotated[Category, Meta(description="That of the entry; absent = the one for all.")] | None = None


class ChannelChoice(Struct, kw_only=True):
    """Whether a person wants what is of a category by a channel."""

    category: Category
    channel: Channel
    enabled: bool


class ConsentChange(Struct, kw_only=True):
    """A person agreed to a purpose, or took that back. Who agreed says to which words."""

    purpose: Annotated[Identifier, Meta(examples=["newsletter"])]
    granted: bool
    wording: (
        Annotated[Identifier, Meta(description="Required where consent is granted.", examples=["2026-05"])] | None
    ) = None
    at: Annotated[datetime, Meta(description="When the person said so; absent = now.")] | None = None
    where: Annotated[Identifier, Meta(description="Absent = the caller.", examples=["checkout"])] | None = None


class TimesOfDay(Struct, kw_only=True):
    """From when to when, in the time of where the person is; over midnight where `to` is before `from`."""

    start: Annotated[TimeOfDay, Meta(examples=["22:00"])] = field(name="from")
    end: Annotated[TimeOfDay, Meta(examples=["07:00"])] = field(name="to")


class PreferenceChange(Struct, kw_only=True):
    """What a person allows. What is absent stays as it is; at least one part must be there."""

    preferences: Annotated[list[ChannelChoice], Meta(description="Each category and channel once.")] = []
    consents: Annotated[list[ConsentChange], Meta(description="Each purpose once.")] = []
    quiet_hours: Annotated[TimesOfDay | None, Meta(description="null clears them.")] = None


class ListFilters(Struct, kw_only=True):
    """Which notifications, and which page of them. All that are given must hold."""

    user_id: Identifier | None = None
    channel: Channel | None = None
    status: Status | None = None
    category: Category | None = None
    type: Annotated[Identifier, Meta(description="A notification of the catalogue.")] | None = None
    template: Identifier | None = None
    template_version: Identifier | None = None
    reference: (
        Annotated[Identifier, Meta(description="An order or another number of the business.", examples=["O-4711"])]
        | None
    ) = None
    reference_name: (
        Annotated[Identifier, Meta(description="What it is the number of; only with `reference`.", examples=["order"])]
        | None
    ) = None
    correlation_id: Identifier | None = None
    message_id: Identifier | None = None
    provider_message_id: Annotated[Identifier, Meta(description="The provider's id of any attempt.")] | None = None
    since: Annotated[datetime, Meta(description="Created at this time or later.")] | None = field(
        name="from", default=None
    )
    until: Annotated[datetime, Meta(description="Created before this time.")] | None = field(name="to", default=None)
    cursor: Annotated[str, Meta(description="That of the page before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class SearchFilters(ListFilters, kw_only=True):
    """The same in a body, which may hold an address: addresses never stand in a URL."""

    recipient: Annotated[str, Meta(description="An address.", examples=["Ada@Example.com"])] | None = None


class _Counting(Struct, kw_only=True):
    """Which stretch of time, and how it is answered."""

    since: Annotated[datetime, Meta(description="The beginning; absent = 24 hours before the end.")] | None = field(
        name="from", default=None
    )
    until: Annotated[datetime, Meta(description="The end, at most 400 days later; absent = now.")] | None = field(
        name="to", default=None
    )
    format: (
        Annotated[Literal["json", "csv"], Meta(description="Absent = what `Accept` says; JSON where it says neither.")]
        | None
    ) = None
    channel: Channel | None = None
    type: Annotated[Identifier, Meta(description="A notification of the catalogue.")] | None = None
    category: Category | None = None
    provider: Annotated[Identifier, Meta(description="That of the last attempt.", examples=["ses"])] | None = None


class StatisticsFilters(_Counting, kw_only=True):
    """Notifications requested in whole hours (`from` is rounded down, `to` up), told apart by `by`."""

    by: (
        Annotated[
            str,
            Meta(
                description="Any, separated by commas, of hour, day, channel, type, category, template, "
                "template_version, provider, status, reason; absent = all together.",
                examples=["day,channel"],
            ),
        ]
        | None
    ) = None
    template: Identifier | None = None
    template_version: Identifier | None = None
    status: Status | None = None
    reason: Annotated[Identifier, Meta(description="The rule that suppressed it, or why it failed.")] | None = None


class CostFilters(_Counting, kw_only=True):
    """Attempts begun on whole days of UTC (`from` is rounded down, `to` up), told apart by `by`."""

    by: (
        Annotated[
            str,
            Meta(
                description="Any, separated by commas, of day, channel, provider, country, type, category, currency; "
                "currencies are always told apart.",
                examples=["day,country"],
            ),
        ]
        | None
    ) = None
    country: Annotated[str, Meta(description="ISO 3166, of a number.", examples=["GB"])] | None = None
    currency: Annotated[str, Meta(description="ISO 4217.", examples=["USD"])] | None = None


class FindText(Struct, kw_only=True):
    """Anything that a caller says: an address, a user, an order or other number, the id of a message or of anything."""

    text: Annotated[str, Meta(min_length=1, max_length=320, examples=["+44 20 7183 8750"])] = field(name="for")
    cursor: Annotated[str, Meta(description="That of the page before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class BulkAction(Struct, kw_only=True):
    """What is to be done to many. Either a dry run, or the confirmation of one: then `confirm` and `reason` alone."""

    dry_run: Annotated[bool, Meta(description="Show what would be done.")] = False
    action: Annotated[Action, Meta(description="With `dry_run`.")] | None = None
    filters: Annotated[SearchFilters, Meta(description="With `dry_run`; neither `cursor` nor `limit`.")] | None = None
    confirm: Annotated[UUID, Meta(description="The id that a dry run has given.")] | None = None
    reason: Annotated[Identifier, Meta(examples=["the mails were empty"])] | None = None


class Moment(Struct, kw_only=True):
    """As of when; at most one of them, neither = now."""

    at: Annotated[datetime, Meta(description="Only what was recorded by this time.")] | None = None
    version: Annotated[int, Meta(ge=1, description="Only the first so many facts.")] | None = None


class AsOf(Struct, kw_only=True):
    """As of when; absent = now."""

    at: Annotated[datetime, Meta(description="Only what was recorded by this time.")] | None = None


class StoryFilters(AsOf, kw_only=True):
    """As of when, and whether what was sent to the person is told, too."""

    include: Annotated[Literal["notifications"], Meta(description="Absent = only what is known of them.")] | None = None
    cursor: Annotated[str, Meta(description="That of the page of notifications before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=200, description="So many notifications a page.")] = 50


class LetterFilters(Struct, kw_only=True):
    """Which refused messages."""

    state: Annotated[str, Meta(pattern="^(waiting|replayed|discarded|any)$")] = "waiting"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class FeedRange(Struct, kw_only=True):
    """Which stretch of the log."""

    after: Annotated[int, Meta(ge=0, description="The `next` of the page before; 0 = from the beginning.")] = 0
    limit: Annotated[int, Meta(ge=1, le=500, description="So many facts are looked at, with a message or not.")] = 100


class Why(Struct, kw_only=True):
    """The reason for a decision, kept with it."""

    reason: Annotated[Identifier, Meta(examples=["the publisher has mended the payload"])]


class Resending(Why, kw_only=True):
    """Why it is sent again, and whether that is meant."""

    dry_run: Annotated[bool, Meta(description="Say what would be sent, and store nothing.")] = False


class Receipt(Struct, kw_only=True):
    """What the app saw of a push. The body may be absent: then it was opened."""

    kind: Literal["opened", "delivered"] = "opened"


class Pause(Struct, kw_only=True):
    """What is to be stopped: all that has each of the named properties, or everything; and why."""

    reason: Annotated[Identifier, Meta(examples=["the sale starts next week, not today"])]
    type: (
        Annotated[Identifier, Meta(description="A notification of the catalogue.", examples=["flash_sale"])] | None
    ) = None
    channel: Channel | None = None
    provider: Annotated[Identifier, Meta(examples=["twilio"])] | None = None
    all: Annotated[bool, Meta(description="Stop everything; then nothing else is named.")] = False


class MaybeWhy(Struct, kw_only=True):
    """The reason for a decision that needs none."""

    reason: Identifier | None = None


class TemplateDraft(Struct, kw_only=True):
    """Words that are proposed: all files of the template, and shared ones where they are to be others."""

    files: Annotated[
        dict[str, str],
        Meta(description="Texts by name.", examples=[{"en/subject.txt": "Your order {{ orderId }} is on its way"}]),
    ]


class PreviewRequest(Struct, kw_only=True):
    """What is to be shown, and with which data; nothing of it is kept."""

    version: Annotated[Identifier, Meta(description="A version or draft; absent = the draft, else what is said.")] | (
        None
    ) = None
    data: Annotated[dict[str, Any], Meta(description="Absent = made-up data.")] | None = None
    name: Annotated[Identifier, Meta(description="Of the person; only with data.")] | None = None
    channel: Annotated[Channel, Meta(description="Absent = each.")] | None = None
    locale: Annotated[Identifier, Meta(description="Absent = each that the template has.")] | None = None


class Publication(Struct, kw_only=True):
    """Which draft is to be said, and why. One that has been replaced since is refused."""

    draft: Identifier
    reason: Annotated[Identifier, Meta(examples=["a friendlier greeting"])]


class Rollback(Struct, kw_only=True):
    """Which version is to be said again, and why."""

    version: Identifier
    reason: Annotated[Identifier, Meta(examples=["the new greeting was misunderstood"])]


class Comparison(Struct, kw_only=True):
    """Two versions or drafts."""

    before: Annotated[Identifier, Meta(description="A version or draft.")] = field(name="from")
    after: Annotated[Identifier, Meta(description="Another one.")] = field(name="to")


class UserErasure(Struct, kw_only=True):
    """Why a person is to be forgotten; and addresses of theirs that no message gave together with their id."""

    reason: Annotated[Identifier, Meta(description="Kept, so it names nobody.", examples=["asked for by letter"])]
    addresses: Annotated[list[str], Meta(max_length=100)] = []


class AddressErasure(Struct, kw_only=True):
    """Who is to be forgotten that no user id is known of, and why."""

    reason: Annotated[Identifier, Meta(description="Kept, so it names nobody.", examples=["asked for by letter"])]
    addresses: Annotated[list[str], Meta(min_length=1, max_length=100, examples=[["ada@example.com"]])]


class TestSend(Struct, kw_only=True):
    """A template that is to be tried on one address, as a real notification of the type `test_send`."""

    template: Annotated[Identifier, Meta(examples=["order_shipped"])]
    channel: Literal["email", "sms"]
    address: Annotated[str, Meta(description="One of TEST_RECIPIENTS.", examples=["ada@shop.example"])]
    version: Annotated[Identifier, Meta(description="A version or draft; absent = the draft, else what is said.")] | (
        None
    ) = None
    locale: Annotated[str, Meta(description="Absent = the catalogue's.", examples=["fr"])] | None = None
    name: Annotated[Identifier, Meta(description="Of the person; only with data.")] | None = None
    data: Annotated[dict[str, Any], Meta(description="Absent = made-up data.")] | None = None
