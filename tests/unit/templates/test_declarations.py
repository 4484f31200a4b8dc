from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from ledger.values import Channel, FrequencyCap
from templates.catalogue import Catalogue, load
from templates.declarations import CatalogueError
from tests.unit.templates.samples import NOW, body, sample

GOOD = """
    sender: Shop <shop@shop.example>
    locale: en
    notifications:
      hello:
        category: transactional
        lane: normal
        doubt: resend
        channels: [email]
        data:
          place?: text
    messages:
      UserRegisteredEvent:
        - notification: hello
          recipient: payload.userId
          to: {email: payload.email | payload.emailAddress}
"""


def loaded(tmp_path: Path, text: str) -> Catalogue:
    path = tmp_path / "catalogue.yaml"
    path.write_text(dedent(text).lstrip())
    return load(path, messages=tmp_path)


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        loaded(tmp_path, text)
    return caught.value.faults


def test_a_small_catalogue_is_all_that_is_needed(tmp_path: Path):
    catalogue = loaded(tmp_path, GOOD)
    message = body(sample("UserRegisteredEvent", place="London"))
    _, (wanted,) = catalogue.read(message, now=NOW, channels={Channel.EMAIL})
    assert (wanted.personal.address, wanted.personal.data, wanted.locale) == (
        "ada@example.com",
        {"place": "London"},
        "en",
    )
    assert catalogue.sender == "Shop <shop@shop.example>"


def test_the_first_of_several_paths_that_is_present_wins(tmp_path: Path):
    message = body(sample("UserRegisteredEvent", email="first@example.com"))
    _, (wanted,) = loaded(tmp_path, GOOD).read(message, now=NOW, channels={Channel.EMAIL})
    assert wanted.personal.address == "first@example.com"


def test_a_version_of_its_own_has_rules_of_its_own(tmp_path: Path):
    text = GOOD + "      UserRegisteredEvent.v2: [{notification: hello, recipient: payload.userId}]\n"
    message = body({**sample("UserRegisteredEvent"), "messageType": "UserRegisteredEvent.v2"})
    _, (wanted,) = loaded(tmp_path, text).read(message, now=NOW, channels={Channel.EMAIL})
    assert wanted.personal.address is None


def test_another_catalogue_has_another_digest(tmp_path: Path):
    assert loaded(tmp_path, GOOD).digest != loaded(tmp_path, GOOD.replace("normal", "low")).digest


def test_spaces_and_comments_do_not_change_the_digest(tmp_path: Path):
    assert (
        loaded(tmp_path, GOOD).digest
        == loaded(tmp_path, GOOD.replace("    messages:", "\n    # why\n    messages:")).digest
    )


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("lane: normal", "lane: slow", "line 4: notifications.hello: Invalid enum value 'slow' - at `$.lane`"),
        ("lane: normal", "lanes: normal", "line 4: notifications.hello: Object contains unknown field `lanes`"),
        ("doubt: resend", "doubt: ask", "line 4: notifications.hello: Invalid enum value 'ask' - at `$.doubt`"),
        ("[email]", "[email, email]", "line 8: notifications.hello.channels: names a channel twice"),
        ("place?: text", "place?: string", "line 9: notifications.hello.data: a shape is one of"),
        ("place?: text", "name: text", "line 10: notifications.hello.data.name: is a name that every template has"),
        ("place?: text", "my-place: text", "line 9: notifications.hello.data: 'my-place' is no name that a template"),
        ("locale: en", "locale: English!", "line 2: locale: must be a language tag"),
        ("sender: Shop <shop@shop.example>", "sender: Shop", "line 1: sender: must be a From header"),
        ("notification: hello", "notification: bye", "notification: 'bye' is not among the notifications"),
        ("payload.userId", "user.userId", "[0].recipient: 'user.userId' must start with payload"),
        ("payload.userId", "item.userId", "[0].recipient: 'item.userId' must start with payload"),
        ("payload.userId", "payload[0]", "'payload[0]' is not a dotted path"),
        ("payload.userId", "payload.userId.upper()", "is not a dotted path"),
        ("{email:", "{sms:", "line 15: messages.UserRegisteredEvent[0].to.sms: hello has no channel sms"),
        ("          recipient: payload.userId\n          to:", "          when:", "[0].to: email needs an address"),
        ("UserRegisteredEvent", "User Registered", "messages.User Registered: is not a message type"),
        (
            "          recipient: payload.userId\n          to: {email: payload.email | payload.emailAddress}",
            '          to: {email: "payload.email?"}',
            "to.email: an address that may be absent needs a recipient",
        ),
        ("UserRegisteredEvent", "DeviceRegisteredEvent", "is a message about a person: it asks for no notification"),
        ("messages:", "mesages:", "mesages: is not a part of a catalogue"),
    ],
)
def test_a_fault_of_a_catalogue_is_named_with_its_line(tmp_path: Path, old: str, new: str, fault: str):
    assert any(fault in line for line in faults(tmp_path, GOOD.replace(old, new)))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("data: {time: payload.x}", "line 16: messages.UserRegisteredEvent[0].data.time: hello knows no such data"),
        ("for_each: item.x", "[0].for_each: 'item.x' must start with payload"),
        ("expires_in: payload.a\n          expires_at: payload.b", "expires_at and expires_in exclude each other"),
        ("locale: payload.locale | en", "[0].locale: 'payload.locale | en' must start with payload"),
        ("to: {email: payload.other}", "messages.UserRegisteredEvent[0].to: is written twice"),
    ],
)
def test_a_fault_of_a_rule_is_named(tmp_path: Path, line: str, fault: str):
    assert any(fault in found for found in faults(tmp_path, GOOD + f"          {line}\n"))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("expires_after: soon", "line 9: notifications.hello.expires_after: 'soon' is not a duration"),
        ("expires_after: 9w", "'9w' is not a duration such as 30m, 72h or 3d, of at most 8 weeks"),
        ("references: {order: orderId}", "references.order: 'orderId' is no id among the data"),
        ("references: {place: place}", "references.place: 'place' is no id among the data"),
        ("fallback: {channel: email, after: 5m}", "fallback.channel: is one of the channels already"),
        ("fallback: {channel: sms, after: x}", "fallback.after: 'x' is not a duration"),
        ("frequency_cap: {most: 0, window: 1d}", "notifications.hello: Expected `int` >= 1"),
        ("frequency_cap: {most: 2, window: daily}", "line 9: notifications.hello.frequency_cap.window: 'daily' is not"),
        ("consent: Not A Purpose", "notifications.hello: Expected `str` matching regex"),
        ("quiet_hours: sometimes", "notifications.hello: Expected `bool`, got `str` - at `$.quiet_hours`"),
        ("template: ../../etc", "notifications.hello: Expected `str` matching regex"),
    ],
)
def test_a_fault_of_a_notification_is_named(tmp_path: Path, line: str, fault: str):
    text = GOOD.replace("channels: [email]\n", f"channels: [email]\n        {line}\n")
    assert any(fault in found for found in faults(tmp_path, text))


@pytest.mark.parametrize(
    ("channels", "files", "faults_are"),
    [
        ("[email]", ["subject.txt", "body.html", "body.txt"], []),
        ("[email]", ["subject.txt", "body.txt"], ["email needs hello/en/body.html"]),
        ("[email, sms]", ["subject.txt", "body.html", "body.txt"], ["sms needs hello/en/sms.txt"]),
        ("[push]", ["push_title.txt"], ["push needs hello/en/push_body.txt"]),
        ("[push]", ["push_title.txt", "push_body.txt"], []),
        (
            "[push]\n    fallback: {channel: sms, after: 5m}",
            ["push_title.txt", "push_body.txt"],
            ["sms needs hello/en/"],
        ),
        ("[sms]", ["readme.md"], ["sms needs hello/en/sms.txt"]),
    ],
)
def test_a_template_that_has_words_has_them_for_every_channel(
    tmp_path: Path, channels: str, files: list[str], faults_are: list[str]
):
    folder = tmp_path / "hello" / "en"
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("Hello")
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        "sender: a@b.example\nlocale: en\nmessages: {}\nnotifications:\n  hello:\n    category: transactional\n"
        f"    lane: normal\n    doubt: resend\n    channels: {channels}\n"
    )
    try:
        load(path, messages=tmp_path)
        found = []
    except CatalogueError as error:
        found = error.faults
    assert len(found) == len(faults_are)
    for fault, part in zip(found, faults_are, strict=True):
        assert fault.startswith(f"line 9: notifications.hello.channels: {part}")


def test_words_in_another_language_than_the_catalogues_are_not_enough(tmp_path: Path):
    folder = tmp_path / "hello" / "fr"
    folder.mkdir(parents=True)
    for name in ("subject.txt", "body.html", "body.txt"):
        (folder / name).write_text("Bonjour")
    assert len(faults(tmp_path, GOOD)) == 2
    assert loaded(tmp_path, GOOD.replace("locale: en", "locale: fr")).kinds["hello"].template_version


@pytest.mark.parametrize("segments", ["0", "11", "many"])
def test_an_sms_has_one_to_ten_segments(tmp_path: Path, segments: str):
    text = GOOD.replace("channels: [email]\n", f"channels: [email]\n        sms_segments: {segments}\n")
    assert "sms_segments" in faults(tmp_path, text)[0]


def test_all_faults_come_at_once_in_the_order_of_the_file(tmp_path: Path):
    text = GOOD.replace("locale: en", "locale: 7").replace("normal", "slow").replace("payload.userId", "x")
    lines = [int(line.split(":")[0].removeprefix("line ")) for line in faults(tmp_path, text + "    other: 1\n")]
    assert lines == sorted(lines)
    assert len(lines) >= 3


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: \x00", "just words"])
def test_what_is_no_catalogue_is_refused(tmp_path: Path, text: str):
    assert faults(tmp_path, text)


def test_a_catalogue_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(CatalogueError, match="cannot be read"):
        load(tmp_path / "missing.yaml")


@pytest.mark.parametrize("wish", ["consent: offers", "frequency_cap: {most: 1, window: 1d}", "quiet_hours: true"])
def test_what_is_for_security_is_bound_by_no_wish(tmp_path: Path, wish: str):
    text = GOOD.replace("transactional", "security").replace(
        "channels: [email]\n", f"channels: [email]\n        {wish}\n"
    )
    place = f"line 9: notifications.hello.{wish.partition(':')[0]}"
    assert faults(tmp_path, text) == [f"{place}: is not for security: that goes out whatever a person wishes"]


def test_what_is_urgent_does_not_wait(tmp_path: Path):
    text = GOOD.replace("lane: normal", "lane: urgent\n        quiet_hours: true")
    assert faults(tmp_path, text) == [
        "line 7: notifications.hello.quiet_hours: is not for what is urgent: that cannot wait"
    ]


def capped(window: str) -> str:
    kind = "{category: marketing, lane: low, doubt: drop, channels: [email], frequency_cap: {most: 1, window: %s}}"
    return GOOD.replace("    messages:", f"      sale: {kind % '1d'}\n      news: {kind % window}\n    messages:")


def test_kinds_of_a_category_are_counted_in_one_window(tmp_path: Path):
    assert loaded(tmp_path, capped("24h")).kinds["news"].frequency_cap == FrequencyCap(1, timedelta(days=1))
    assert faults(tmp_path, capped("1w")) == [
        "line 12: notifications.news.frequency_cap.window: marketing is counted together, and by 1d already (sale)"
    ]


def test_marketing_that_names_no_purpose_needs_consent_to_marketing(tmp_path: Path):
    kinds = loaded(tmp_path, capped("1d").replace("lane: low,", "lane: low, consent: offers,", 1)).kinds
    assert [kinds[name].consent for name in ("hello", "sale", "news")] == [None, "offers", "marketing"]
