"""A person: given what is known of them, when something is said, then what is recorded."""

from collections.abc import Sequence

from hypothesis import given, strategies

from ledger.keys import Identity
from ledger.recipient import (
    DEVICES_AT_MOST,
    STILL_THERE,
    Address,
    ContactChanged,
    ContactNews,
    DeviceDropped,
    DeviceNews,
    DeviceRegistered,
    DropReason,
    Facts,
    Field,
    News,
    Platform,
    Recipient,
    drop_device,
    fold,
    learn,
    nobody,
)
from ledger.values import Channel
from tests.unit.ledger.samples import at, origin

IDENTITY = Identity(bytes(range(32)))
ADA, EVA = "ada@example.com", "eva@example.com"
UNKNOWN = nobody(IDENTITY, "u-1")


def said(seconds: float = 0, **values: str | None) -> ContactNews:
    return ContactNews("u-1", at(seconds), {Field(name): value for name, value in values.items()})


def device(address: str = "fid-1", seconds: float = 0, platform: Platform = Platform.IOS) -> DeviceNews:
    return DeviceNews("u-1", at(seconds), address, platform)


def when(state: Recipient, news: News, *, seconds: float = 100) -> Facts:
    return learn(state, news, origin(seconds), IDENTITY)


def known(*news: News, state: Recipient = UNKNOWN) -> Recipient:
    for one in news:
        state = fold(state, when(state, one))
    return state


def reached(state: Recipient, channel: Channel = Channel.EMAIL) -> list[str]:
    return [address.address for address in state.addresses(channel)]


def fids(state: Recipient) -> list[str | None]:
    return [one.address for one in state.devices]


# -- contact ---------------------------------------------------------------------------------------------------------


def test_nobody_has_a_stream_all_the_same_and_no_address():
    assert UNKNOWN.version == 0
    assert UNKNOWN.stream.hex.startswith("f")
    assert UNKNOWN.stream == nobody(IDENTITY, "u-1").stream != nobody(IDENTITY, "u-2").stream
    assert [UNKNOWN.addresses(channel) for channel in Channel] == [(), (), ()]


def test_what_is_said_is_recorded_with_the_hashes_of_the_addresses():
    (fact,) = when(UNKNOWN, said(5, email=ADA, phone="+442071838750", locale="de", time_zone="Europe/Berlin"))
    assert isinstance(fact, ContactChanged)
    assert (fact.recipient, fact.said_at, fact.recorded_at) == ("user:u-1", at(5), at(100))
    assert fact.fields == (Field.EMAIL, Field.LOCALE, Field.PHONE, Field.TIME_ZONE)
    state = fold(UNKNOWN, [fact])
    assert state.addresses(Channel.EMAIL) == (Address(ADA, IDENTITY.address_hash(ADA)),)
    assert state.addresses(Channel.SMS) == (Address("+442071838750", IDENTITY.address_hash("+442071838750")),)
    assert (state.locale, state.time_zone, state.version) == ("de", "Europe/Berlin", 1)


def test_what_is_not_spoken_of_stays():
    state = known(said(1, email=ADA, name="Ada", locale="en"), said(2, locale="fr"))
    assert (reached(state), state.contact.name, state.locale) == ([ADA], "Ada", "fr")


def test_null_clears():
    state = known(said(1, email=ADA, phone="+442071838750"), said(2, email=None))
    assert (reached(state), state.email_hash) == ([], None)
    assert reached(state, Channel.SMS) == ["+442071838750"]


def test_the_same_message_again_is_no_news():
    state = known(said(1, email=ADA, locale="en"))
    assert when(state, said(1, email=ADA, locale="en")) == ()


def test_an_older_message_undoes_nothing():
    state = known(said(2, email=ADA))
    assert when(state, said(1, email=EVA)) == ()


def test_an_older_message_still_tells_what_no_later_one_has_spoken_of():
    (fact,) = when(known(said(2, email=ADA)), said(1, email=EVA, phone="+442071838750"))
    assert isinstance(fact, ContactChanged)
    assert fact.fields == (Field.PHONE,)
    assert fact.email_hash is None


def test_what_was_said_again_is_not_undone_by_a_message_that_lay_between():
    assert reached(known(said(1, email=ADA), said(3, email=ADA), said(2, email=EVA))) == [ADA]


def test_a_field_that_was_cleared_is_not_filled_by_an_older_message():
    assert reached(known(said(2, email=None), said(1, email=ADA))) == []


def test_of_two_with_the_same_time_the_one_that_comes_later_holds():
    assert reached(known(said(1, email=ADA), said(1, email=EVA))) == [EVA]


VALUES = strategies.dictionaries(
    strategies.sampled_from(["email", "locale", "name"]), strategies.sampled_from(["a@b.example", "c@d.example", None])
)


@given(strategies.lists(VALUES, max_size=6), strategies.data())
def test_messages_about_a_contact_may_come_in_any_order_and_repeatedly(
    spoken: list[dict[str, str | None]], data: strategies.DataObject
):
    news = [said(second, **values) for second, values in enumerate(spoken)]
    shuffled = data.draw(strategies.permutations([*news, *news]))
    one, other = known(*news), known(*shuffled)
    assert (one.contact, one.locale, one.email_hash) == (other.contact, other.locale, other.email_hash)


# -- devices ---------------------------------------------------------------------------------------------------------


def test_a_device_is_registered_under_a_hash_of_its_own():
    (fact,) = when(UNKNOWN, device("fid-1", 7))
    assert isinstance(fact, DeviceRegistered)
    assert fact.address_hash == IDENTITY.device_hash("fid-1") != IDENTITY.address_hash("fid-1")
    assert (fact.platform, fact.said_at) == (Platform.IOS, at(7))
    assert known(device()).addresses(Channel.PUSH) == (Address("fid-1", IDENTITY.device_hash("fid-1")),)


def test_installation_ids_that_hold_the_same_digits_are_two_devices():
    assert fids(known(device("a1b"), device("c1d"))) == ["a1b", "c1d"]


def test_the_device_that_registered_last_goes_first():
    assert reached(known(device("a", 2), device("b", 3), device("c", 1)), Channel.PUSH) == ["b", "a", "c"]


def test_a_device_that_registers_at_each_start_is_news_once_a_month():
    state, month = known(device()), STILL_THERE.total_seconds()
    assert when(state, device(seconds=month - 1)) == ()
    (again,) = when(state, device(seconds=month))
    assert isinstance(again, DeviceRegistered)
    assert len(fold(state, [again]).devices) == 1


def test_a_device_that_runs_something_else_now_is_news_and_an_older_message_is_not():
    state = known(device(seconds=5))
    assert known(device(seconds=6, platform=Platform.WEB), state=state).devices[0].platform is Platform.WEB
    assert when(state, device(seconds=4, platform=Platform.WEB)) == ()


def test_of_too_many_devices_those_go_that_registered_first():
    state = known(*(device(f"fid-{number}", number) for number in range(DEVICES_AT_MOST)))
    gone, came = when(state, device("new", 100))
    assert isinstance(gone, DeviceDropped)
    assert (gone.address_hash, gone.reason) == (IDENTITY.device_hash("fid-0"), DropReason.DISPLACED)
    assert fids(fold(state, [gone, came])) == [*(f"fid-{number}" for number in range(1, DEVICES_AT_MOST)), "new"]


def test_a_device_that_would_go_at_once_does_not_come():
    state = known(*(device(f"fid-{number}", number + 10) for number in range(DEVICES_AT_MOST)))
    assert when(state, device("late", 1)) == ()


def test_a_device_is_dropped_once():
    state = known(device())
    (fact,) = dropped(state)
    assert isinstance(fact, DeviceDropped)
    assert fact.reason is DropReason.UNREGISTERED
    state = fold(state, [fact])
    assert state.devices == ()
    assert dropped(state) == ()


def test_a_device_that_nobody_registered_is_not_dropped():
    assert dropped(UNKNOWN) == ()


def test_a_late_message_does_not_bring_back_a_device_that_was_dropped_and_a_later_one_does():
    state = known(device(seconds=1))
    state = fold(state, dropped(state, seconds=50))
    assert when(state, device(seconds=49)) == ()
    assert fids(known(device(seconds=51), state=state)) == ["fid-1"]


def dropped(state: Recipient, *, seconds: float = 50) -> Facts:
    return drop_device(state, IDENTITY.device_hash("fid-1"), DropReason.UNREGISTERED, origin(seconds))


@given(strategies.lists(strategies.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789"), max_size=80))
def test_there_are_never_more_devices_than_may_be_nor_one_twice(registering: Sequence[str]):
    state = known(*(device(f"fid-{one}", second) for second, one in enumerate(registering)))
    assert len(state.devices) <= DEVICES_AT_MOST
    assert len({one.address_hash for one in state.devices}) == len(state.devices)
    assert state.version >= len(set(registering))
