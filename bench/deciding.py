"""What one notification costs of thought: the policy's verdict on it, and the rendering of an order confirmation."""

import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from statistics import median

import msgspec

from bench.facts import request
from bench.table import Row
from handlers.judging import judged
from ledger import operations
from ledger.keys import Identity
from ledger.ledger import Loaded
from ledger.notification import Origin, evolve
from ledger.policy import AllowList, Send
from ledger.preferences import Choice, ConsentChanged, PreferencesChanged, QuietHours, QuietHoursChanged
from ledger.recipient import ContactChanged, Field, Recipient, fold, nobody
from ledger.suppression import nothing
from ledger.values import Category, Channel, Personal
from templates.catalogue import load
from templates.rendering import Renderer
from templates.samples import sample

NAMES = ("decide", "render")
# Time of this thread alone: another process that has the processor meanwhile costs nothing here.
_ROUNDS, _TIMES = 101, 20
_ADDRESS = "ada@shop.example"


def measure(wanted: Collection[str]) -> Iterator[Row]:
    """Measure the rows that are wanted of this module's."""
    catalogue = load()
    kind = catalogue.kinds["order_confirmed"]
    personal = Personal(_ADDRESS, "Ada", sample(kind.data))
    if "decide" in wanted:
        loaded = _loaded(personal)
        yield Row("decide", _microseconds(lambda: _sent(loaded)), "µs")
    if "render" in wanted:
        renderer = Renderer(sender=catalogue.sender, default_locale=catalogue.locale)
        rendered = _microseconds(
            lambda: renderer.render(kind.template, Channel.EMAIL, locale="en-GB", personal=personal)
        )
        yield Row("render", rendered, "µs")


def _sent(loaded: Loaded) -> None:
    if judged(loaded, AllowList(frozenset({"shop.example"})), loaded.read_at) != Send():
        raise AssertionError("what is measured goes by every rule")


def _microseconds(work: Callable[[], object]) -> float:
    took = []
    for _ in range(_ROUNDS):
        began = time.thread_time()
        for _ in range(_TIMES):
            work()
        took.append(time.thread_time() - began)
    return median(took) / _TIMES * 1e6


def _loaded(personal: Personal) -> Loaded:
    """Return what every rule has something to look at in, and nothing against: marketing, with wishes of all kinds."""
    identity, now = Identity(bytes(32)), datetime.now(UTC)
    address_hash = identity.address_hash(_ADDRESS)
    requested = msgspec.structs.replace(
        request(now),
        category=Category.MARKETING,
        consent="marketing",
        quiet_hours=True,
        address_hash=address_hash,
        personal=personal,
    )
    return Loaded(
        stream=identity.standing_stream("bench", "1"),
        state=evolve(None, requested),
        key=None,
        recipient=_person(identity, now),
        suppressions={address_hash: nothing(identity, Channel.EMAIL, address_hash)},
        operations=operations.empty(identity),
        read_at=now,
        clock=time.monotonic(),
    )


def _person(identity: Identity, now: datetime) -> Recipient:
    """Return a person who has agreed, wants it, and is left alone at another time of the day."""
    stamp = Origin(now=now, cause="bench", by="bench").stamp()
    wanted = (Choice(Category.MARKETING, Channel.EMAIL, enabled=True),)
    quiet = QuietHours((now + timedelta(hours=6)).time(), (now + timedelta(hours=12)).time())
    lives = ContactChanged(
        **stamp, recipient="user:1", said_at=now, fields=(Field.TIME_ZONE,), time_zone="Europe/London"
    )
    return fold(
        nobody(identity, "1"),
        (
            lives,
            ConsentChanged(**stamp, said_at=now, purpose="marketing", granted=True),
            PreferencesChanged(**stamp, said_at=now, choices=wanted),
            QuietHoursChanged(**stamp, said_at=now, quiet=quiet),
        ),
    )
